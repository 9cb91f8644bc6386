/* SPDX-License-Identifier: Apache-2.0 */
#include "standin.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool standin_is(const char *variable, const char *word)
{
	const char *value = getenv(variable);

	return value && strcmp(value, word) == 0;
}

/* Waits for ever and cannot be ended by anything but SIGKILL. */
__attribute__((noreturn)) static void hang(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (;;)
		pause();
}

/* Leaves a process in a session of its own, whose id goes to the file STANDIN_PID. */
static void leave_stray(void)
{
	int fd = open(getenv("STANDIN_PID"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	pid_t stray = fork();

	if (stray == 0) {
		setsid();
		hang();
	}
	dprintf(fd, "%d\n", (int)stray);
	close(fd);
}

static void ignore(int number)
{
	(void)number;
}

/* Handlers for everything, then a crash that they swallow again and again. */
__attribute__((noreturn)) static void handle_and_crash(void)
{
	for (int number = 1; number < NSIG; number++)
		signal(number, ignore);
	for (;;)
		raise(SIGSEGV);
}

void standin_begin(const char *variable)
{
	if (standin_is(variable, "crash"))
		raise(SIGSEGV);
	if (standin_is(variable, "abort"))
		abort();
	if (standin_is(variable, "hang"))
		hang();
	if (standin_is(variable, "exit"))
		exit(0);
	if (standin_is(variable, "fork"))
		fork();
	if (standin_is(variable, "stray"))
		leave_stray();
	if (standin_is(variable, "handlers"))
		handle_and_crash();
	if (standin_is(variable, "print")) {
		puts("noise on stdout");
		fflush(stdout);
		fputs("noise on stderr\n", stderr);
	}
}

/* A library may hang before anything of it is called. */
__attribute__((constructor)) static void begin(void)
{
	if (getenv("STANDIN_LOAD"))
		standin_begin("STANDIN_LOAD");
}
