/* SPDX-License-Identifier: Apache-2.0 */
/* Says "ready" with its signal mask and what it ignores, then the name of each signal that comes;
 * ends with 3 at SIGTERM. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void show(int number)
{
	char line[32];
	int length = snprintf(line, sizeof(line), "signal %d\n", number);

	if (write(1, line, (size_t)length) < 0 || number == SIGTERM)
		_exit(number == SIGTERM ? 3 : 4);
}

int main(void)
{
	sigset_t mask;
	int blocked = 0;

	sigprocmask(SIG_BLOCK, NULL, &mask);
	for (int number = 1; number < NSIG; number++)
		blocked += sigismember(&mask, number) == 1;
	signal(SIGTERM, show);
	signal(SIGUSR1, show);
	signal(SIGHUP, show);
	printf("ready %d blocked, parent %d\n", blocked, getppid());
	fflush(stdout);
	for (;;)
		pause();
}
