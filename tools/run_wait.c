/* SPDX-License-Identifier: Apache-2.0 */
#include "run_wait.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* In the child: becomes the program, or says why not. */
__attribute__((noreturn)) static void become(char **argv, const sigset_t *mask, int errors)
{
	int error;

	sigprocmask(SIG_SETMASK, mask, NULL);
	execvp(argv[0], argv);
	error = errno;
	if (write(errors, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

/* Starts the program with the given signal mask. 0, or why it could not be started. */
static int start(char **argv, const sigset_t *mask, pid_t *pid)
{
	int ends[2], error = 0;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return errno;
	*pid = fork();
	if (*pid == 0)
		become(argv, mask, ends[1]);
	if (*pid < 0)
		error = errno;
	close(ends[1]);
	if (*pid > 0 && read(ends[0], &error, sizeof(error)) > 0)
		waitpid(*pid, NULL, 0);
	close(ends[0]);
	return error;
}

/* Looks at what has become of the program; true if it has ended. Stops when it has stopped. */
static bool has_ended(pid_t pid, int *status)
{
	pid_t found;

	while ((found = waitpid(pid, status, WNOHANG | WUNTRACED)) == pid) {
		if (!WIFSTOPPED(*status))
			return true;
		kill(getpid(), SIGSTOP);
	}
	return found < 0 && errno != EINTR;
}

/* Waits for signals and hands on those that the program has not got by itself. */
static void pass_signals(pid_t pid, const sigset_t *all, int *status)
{
	siginfo_t info;

	while (!has_ended(pid, status)) {
		int signal_number = sigwaitinfo(all, &info);

		/* SI_KERNEL: from the terminal, and the program is in the same process group. */
		if (signal_number > 0 && signal_number != SIGCHLD && info.si_code != SI_KERNEL)
			kill(pid, signal_number);
	}
}

int run_wait(char **argv, int *status)
{
	sigset_t all, mask;
	pid_t pid = 0;
	int error;

	/* Where SIGCHLD is ignored there is no status to wait for. */
	signal(SIGCHLD, SIG_DFL);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &mask);
	error = start(argv, &mask, &pid);
	if (error == 0)
		pass_signals(pid, &all, status);
	return error;
}

void run_end_like(int status)
{
	const struct rlimit no_core = {0, 0};
	sigset_t one;

	if (WIFEXITED(status))
		exit(WEXITSTATUS(status));
	setrlimit(RLIMIT_CORE, &no_core);
	signal(WTERMSIG(status), SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, WTERMSIG(status));
	raise(WTERMSIG(status));
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	_exit(128 + WTERMSIG(status));
}
