/* SPDX-License-Identifier: Apache-2.0 */
/* A FUSE server that passes a directory tree through, read-only, with latency, counters and
 * faults: the mounts that the tests run on. */
#include "control.h"
#include "ops.h"
#include "read.h"

#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* The connection is gone: unmounted or aborted by someone else. */
#define SIGNAL_LOST SIGUSR1

#define STACK_SIZE (256U << 10)

static struct fuse_session *session;

/* Serves requests until the connection ends. */
static void *serve_requests(void *unused)
{
	struct fuse_buf buffer = {0};

	/* The default slack of 50 us would be added to each delay. */
	prctl(PR_SET_TIMERSLACK, 1000UL);
	while (!fuse_session_exited(session)) {
		int size = fuse_session_receive_buf(session, &buffer);

		if (size == -EINTR)
			continue;
		if (size <= 0)
			break;
		fuse_session_process_buf(session, &buffer);
		if (ops_first_since_init()) {
			puts("ready");
			fflush(stdout);
		}
	}
	kill(getpid(), SIGNAL_LOST);
	return unused;
}

/* Asks for the end when standard input ends: whoever started the server is gone. */
static void *watch_input(void *unused)
{
	char byte;

	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	kill(getpid(), SIGTERM);
	return unused;
}

/* Starts a detached thread. Returns 0 or -1 after a message. */
static int start_thread(void *(*function)(void *))
{
	pthread_attr_t attributes;
	pthread_t thread;
	int error;

	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, STACK_SIZE);
	error = pthread_create(&thread, &attributes, function, NULL);
	pthread_attr_destroy(&attributes);
	if (error != 0)
		fprintf(stderr, "stn-testfs: thread: %s\n", strerror(error));
	return error == 0 ? 0 : -1;
}

/* Starts everything that serves. Returns 0 or -1. */
static int start_threads(const struct options *options)
{
	if (options->until_eof && start_thread(watch_input) != 0)
		return -1;
	for (unsigned i = 0; i < options->threads; i++)
		if (start_thread(serve_requests) != 0)
			return -1;
	return 0;
}

/* Puts the mount options together, allocated. Others may use root's mount, within the modes. */
static char *make_flags(const struct options *options)
{
	char *flags = NULL;

	if (asprintf(&flags, "ro,nosuid,nodev,default_permissions,fsname=%s,subtype=%s%s",
		     options->fsname, options->subtype, geteuid() == 0 ? ",allow_other" : "") < 0)
		abort();
	return flags;
}

/* Makes the session and mounts it. Returns 0 or -1. */
static int start_session(const struct options *options)
{
	char *flags = make_flags(options);
	char name[] = "stn-testfs", option[] = "-o";
	char *arguments[] = {name, option, flags, NULL};
	struct fuse_args args = FUSE_ARGS_INIT(3, arguments);

	session = fuse_session_new(&args, &OPS, sizeof(OPS), NULL);
	if (session == NULL)
		return -1;
	return fuse_session_mount(session, options->mountpoint);
}

/* Each file looked up keeps one descriptor, each file opened two. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

/* Starts all parts in order. Returns 0, or -1 after a message. */
static int start(const struct options *options)
{
	struct inode *root = inode_open_root(options->source);
	int error;

	if (root == NULL) {
		perror(options->source);
		return -1;
	}
	if (options->control != NULL && (error = control_start(options->control)) != 0) {
		fprintf(stderr, "stn-testfs: %s: %s\n", options->control, strerror(-error));
		return -1;
	}
	inode_start(options->repeat);
	ops_start(options, root);
	if (start_session(options) != 0)
		return -1;
	read_start(options, session);
	return start_threads(options);
}

int main(int argc, char **argv)
{
	struct options options;
	sigset_t signals;
	int signal = 0;

	if (options_parse(&options, argc, argv) != 0)
		return 2;
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGNAL_LOST);
	sigaddset(&signals, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);
	sigdelset(&signals, SIGPIPE);
	raise_file_limit();
	if (start(&options) != 0)
		return 1;
	sigwait(&signals, &signal);
	if (signal != SIGNAL_LOST)
		fuse_session_unmount(session);
	_exit(0);
}
