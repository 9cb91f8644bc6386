/* SPDX-License-Identifier: Apache-2.0 */
/* deny NUMBER[:kill] ... -- PROGRAM ...: a seccomp filter that refuses these system calls with
 * EPERM, as Docker's default profile does, or kills for them. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define MOST 16

int main(int argc, char **argv)
{
	struct sock_filter filter[2 * MOST + 2];
	struct sock_fprog program = {.filter = filter};
	unsigned short length = 0;
	int i;

	filter[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
							offsetof(struct seccomp_data, nr));
	for (i = 1; i < argc && i <= MOST && strcmp(argv[i], "--") != 0; i++) {
		unsigned number = (unsigned)strtoul(argv[i], NULL, 10);
		unsigned action = strstr(argv[i], ":kill") ? SECCOMP_RET_KILL_PROCESS
							   : SECCOMP_RET_ERRNO | EPERM;

		filter[length++] =
			(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
		filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action);
	}
	filter[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	program.len = length;
	if (i + 1 >= argc)
		return 125;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
		perror("deny");
		return 125;
	}
	execvp(argv[i + 1], argv + i + 1);
	perror(argv[i + 1]);
	return 127;
}
