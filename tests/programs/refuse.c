/* SPDX-License-Identifier: Apache-2.0 */
/*
 * refuse NUMBER ERRNO PROGRAM ARGUMENT...: runs a program to which the kernel answers one system
 * call, by its number, with an error, as the filter of a container may.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common.h"

int main(int argc, char **argv)
{
	unsigned number = argc > 3 ? (unsigned)atoi(argv[1]) : 0;
	unsigned error = argc > 3 ? (unsigned)atoi(argv[2]) : 0;
	struct sock_filter program[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error & SECCOMP_RET_DATA)),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {sizeof(program) / sizeof(program[0]), program};

	if (argc < 4)
		fail("usage: %s NUMBER ERRNO PROGRAM ARGUMENT...", argv[0]);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
		fail("prctl: %s", strerror(errno));
	execv(argv[3], argv + 3);
	fail("%s: %s", argv[3], strerror(errno));
}
