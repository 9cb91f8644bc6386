/* SPDX-License-Identifier: Apache-2.0 */
/* Starts a program several times at once, waits for all, prints how they ended: ranks N PROGRAM
 * ARGUMENT... */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

int main(int argc, char **argv)
{
	int count = argc > 2 ? atoi(argv[1]) : 0, go[2];
	pid_t children[64];
	char byte;

	if (count < 1 || count > 64 || pipe(go) < 0)
		fail("usage: %s N PROGRAM ARGUMENT...", argv[0]);
	for (int i = 0; i < count; i++) {
		children[i] = fork();
		if (children[i] == 0) {
			close(go[1]);
			if (read(go[0], &byte, 1) != 0)
				_exit(126);
			close(go[0]);
			execv(argv[2], argv + 2);
			_exit(127);
		}
	}
	close(go[1]);
	for (int i = 0; i < count; i++)
		print_end("rank", children[i]);
	return 0;
}
