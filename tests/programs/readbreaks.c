/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Things that happen to a program while it reads a file of words of 8 bytes, each the number of its
 * place: signals, descriptors that are closed, changed credentials, ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

#define WORD sizeof(uint64_t)

static struct {
	int fd;
	size_t size;
	uint64_t *to;
	atomic_bool over;
	atomic_uint handled, bad;
	const char *path;
} state;

/* Opens the file and makes room for all of it. */
static void prepare(const char *path)
{
	state.path = path;
	state.fd = open_file(path);
	state.size = file_size(path) & ~(WORD - 1);
	state.to = (uint64_t *)(void *)map_anonymous(state.size, 0);
}

/* The number of words of the memory that are not those of the file. */
static size_t wrong_words(const uint64_t *words, size_t count, size_t first)
{
	size_t wrong = 0;

	for (size_t i = 0; i < count; i++)
		wrong += words[i] != first + i;
	return wrong;
}

/* Prints what one read of the whole file gave. */
static void print_whole(const char *what, ssize_t got)
{
	int error = errno;
	size_t words = got > 0 ? (size_t)got / WORD : 0;

	say("%s: %zd %s, wrong words %zu", what, got, got < 0 ? strerrorname_np(error) : "",
	    wrong_words(state.to, words, 0));
}

/* Has a signal sent again and again, every so many microseconds. */
static void start_timer(long microseconds, bool restart, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = restart ? SA_RESTART : 0};
	struct itimerval timer = {{0, microseconds}, {0, microseconds}};

	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
}

static void stop_timer(void)
{
	setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL);
}

/* Reads in the handler, which read and pread allow. */
static void on_alarm(int number)
{
	int error = errno;
	uint64_t words[64];
	size_t at = atomic_fetch_add(&state.handled, 1) * 7919u % (state.size / WORD - 64);

	(void)number;
	if (pread(state.fd, words, sizeof(words), (off_t)(at * WORD)) != sizeof(words) ||
	    wrong_words(words, 64, at) != 0)
		atomic_fetch_add(&state.bad, 1);
	errno = error;
}

/* Signals whose handler reads the same file, during large and small reads. */
static void signals(const char *path)
{
	prepare(path);
	for (int restart = 0; restart < 2; restart++) {
		size_t at = 0;
		ssize_t got;

		start_timer(4000, restart, on_alarm);
		print_whole("large", pread(state.fd, state.to, state.size, 0));
		lseek(state.fd, 0, SEEK_SET);
		memset(state.to, 0, state.size);
		while ((got = read(state.fd, state.to + at / WORD, 1000 * WORD)) > 0)
			at += (size_t)got;
		stop_timer();
		print_whole("small", (ssize_t)at);
	}
	say("handled: %d, bad: %u", state.handled > 0, state.bad);
}

static sigjmp_buf away;

static void on_alarm_leave(int number)
{
	siglongjmp(away, number);
}

/* A handler that leaves a read: nothing is written to the memory afterwards. */
static void leave(const char *path)
{
	volatile size_t changed = 0;

	prepare(path);
	if (sigsetjmp(away, 1) == 0) {
		start_timer(30000, false, on_alarm_leave);
		for (;;)
			if (read(state.fd, state.to, state.size) <= 0)
				lseek(state.fd, 0, SEEK_SET);
	}
	stop_timer();
	memset(state.to, 0xee, state.size);
	sleep_ms(700);
	for (size_t i = 0; i < state.size / WORD; i++)
		changed = changed + (state.to[i] != 0xeeeeeeeeeeeeeeeeu);
	say("written afterwards: %zu words", changed);
	print_whole("again", pread(state.fd, state.to, state.size, 0));
}

/* Closes the descriptor and gives its number to another file. */
static void *close_soon(void *argument)
{
	const int *number = argument;

	sleep_ms(60);
	close(*number);
	if (open("/dev/zero", O_RDONLY) != *number)
		atomic_store(&state.bad, 1);
	return NULL;
}

/* The descriptor is closed and its number used again during a read. */
static void closed_during(const char *path)
{
	pthread_t thread;
	ssize_t got;

	prepare(path);
	lseek(state.fd, 4096, SEEK_SET);
	pthread_create(&thread, NULL, close_soon, &state.fd);
	got = read(state.fd, state.to, state.size);
	pthread_join(thread, NULL);
	say("read %zd, wrong words %zu", got, wrong_words(state.to, (size_t)got / WORD, 512));
	say("other descriptor: %d", state.bad);
	got = read(state.fd, state.to, WORD);
	say("its bytes: %zd, %d", got, state.to[0] == 0);
}

/* Reads until told to stop. */
static void *read_on(void *unused)
{
	uint64_t *to = malloc(state.size);

	while (!atomic_load(&state.over)) {
		ssize_t got = pread(state.fd, to, state.size, 0);

		if (got != (ssize_t)state.size || wrong_words(to, state.size / WORD, 0) != 0)
			atomic_fetch_add(&state.bad, 1);
	}
	free(to);
	return unused;
}

/* Another user from here on, in all threads, while one of them reads. */
static void credentials(const char *path)
{
	pthread_t thread;

	prepare(path);
	pthread_create(&thread, NULL, read_on, NULL);
	sleep_ms(40);
	print_rc("setgid", setgid(65534));
	print_rc("setuid", setuid(65534));
	sleep_ms(100);
	atomic_store(&state.over, true);
	pthread_join(thread, NULL);
	say("bad reads: %u", state.bad);
	print_whole("afterwards", pread(state.fd, state.to, state.size, 0));
}

/* Canceled in the middle of its reading, a thread ends. */
static void canceled(const char *path)
{
	pthread_t thread;
	void *result = NULL;

	prepare(path);
	pthread_create(&thread, NULL, read_on, NULL);
	sleep_ms(50);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	say("canceled: %d, bad reads: %u", result == PTHREAD_CANCELED, state.bad);
	print_whole("afterwards", pread(state.fd, state.to, state.size, 0));
}

static void *read_whole(void *unused)
{
	print_whole("small stack", pread(state.fd, state.to, state.size, 0));
	print_whole("again", read(state.fd, state.to, state.size));
	return unused;
}

/* A thread with the smallest stack there is. */
static void small_stack(const char *path)
{
	pthread_attr_t attributes;
	pthread_t thread;

	prepare(path);
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 16384);
	if (pthread_create(&thread, &attributes, read_whole, NULL) != 0)
		fail("no thread");
	pthread_join(thread, NULL);
}

/* The process ends while a thread reads. */
static void end_during(void (*end)(void))
{
	start_thread(read_on, NULL);
	sleep_ms(40);
	end();
}

static void end_by_exit(void)
{
	exit(7);
}

static void end_by_exec(void)
{
	execl("/proc/self/exe", "readbreaks", state.path, "small-stack", (char *)NULL);
	_exit(1);
}

static void exit_during(const char *path)
{
	prepare(path);
	end_during(end_by_exit);
}

static void exec_during(const char *path)
{
	prepare(path);
	end_during(end_by_exec);
}

/* A signal with the default action ends the process at once, also during a read. */
static void killed_during(const char *path)
{
	pid_t child = fork();

	if (child == 0) {
		prepare(path);
		read_on(NULL);
	}
	sleep_ms(100);
	kill(child, SIGTERM);
	print_end("child", child);
}

static const struct test_case cases[] = {
	{"signals", signals},
	{"leave", leave},
	{"closed-during", closed_during},
	{"credentials", credentials},
	{"canceled", canceled},
	{"small-stack", small_stack},
	{"exit-during", exit_during},
	{"exec-during", exec_during},
	{"killed-during", killed_during},
};
CASES_MAIN(cases)
