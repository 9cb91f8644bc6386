/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that load many files while others load, fork, take signals or map memory of their own.
 * The files part-00.safetensors to part-15.safetensors lie beside the one named.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

#define PARTS 16

static char part_paths[PARTS][4096];
static uint64_t part_sums[PARTS];
static atomic_ulong wrong, handled;

/* Adds up the parts by reading them, which is no mapping. */
static void read_parts(const char *path)
{
	static unsigned char buffer[4 << 20];
	char copy[2048];

	for (size_t i = 0; i < PARTS; i++) {
		ssize_t length;
		int fd;

		snprintf(copy, sizeof(copy), "%s", path);
		snprintf(part_paths[i], sizeof(part_paths[i]), "%s/part-%02zu.safetensors",
			 dirname(copy), i);
		fd = open_file(part_paths[i]);
		length = pread(fd, buffer, sizeof(buffer), 0);
		if (length <= 0 || (size_t)length == sizeof(buffer))
			fail("read %s", part_paths[i]);
		part_sums[i] = sum_bytes(buffer, (size_t)length);
		close(fd);
	}
}

/* Loads every part once and counts the wrong ones. */
static void *load_parts(void *unused)
{
	for (size_t i = 0; i < PARTS; i++)
		if (load_sum(part_paths[i]) != part_sums[i])
			atomic_fetch_add(&wrong, 1);
	return unused;
}

/* Opens, maps, reads, unmaps and closes a piece of a file inside a signal handler. */
static void on_alarm(int number)
{
	int saved = errno, fd = open(part_paths[handled % PARTS], O_RDONLY);
	volatile unsigned char *p;

	(void)number;
	p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
	if (fd < 0 || p == MAP_FAILED)
		_exit(8);
	if (p[0] == 0 && p[1] == 0 && p[2] == 0 && p[3] == 0)
		atomic_fetch_add(&wrong, 1);
	munmap((void *)p, 4096);
	close(fd);
	atomic_fetch_add(&handled, 1);
	errno = saved;
}

/* A thousand signals a second whose handler maps, while threads load. */
static void signals(const char *path)
{
	struct itimerval timer = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	pthread_t threads[2];

	read_parts(path);
	sigaction(SIGALRM, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	for (size_t i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, load_parts, NULL) != 0)
			fail("no thread");
	for (size_t i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	load_parts(NULL);
	setitimer(ITIMER_REAL, &off, NULL);
	say("wrong: %lu, signals: %s", wrong, handled > 20 ? "many" : "few");
}

/* Threads load while the main thread forks; every child loads, too, and ends in time. */
static void forks(const char *path)
{
	pthread_t threads[4];
	unsigned bad = 0;

	read_parts(path);
	for (size_t i = 0; i < 4; i++)
		if (pthread_create(&threads[i], NULL, load_parts, NULL) != 0)
			fail("no thread");
	for (size_t i = 0; i < 60; i++) {
		pid_t child = i % 2 ? fork() : _Fork();
		int status;

		if (child == 0) {
			alarm(10);
			_exit(load_sum(part_paths[i % PARTS]) != part_sums[i % PARTS]);
		}
		bad += waitpid(child, &status, 0) != child || status != 0;
	}
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	say("wrong: %lu, bad children: %u", wrong, bad);
}

/* Threads that load the same files at the same time. */
static void together(const char *path)
{
	pthread_t threads[8];

	read_parts(path);
	for (size_t i = 0; i < 8; i++)
		if (pthread_create(&threads[i], NULL, load_parts, NULL) != 0)
			fail("no thread");
	for (size_t i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	say("wrong: %lu", wrong);
}

static atomic_int churned;

/* Maps, fills, checks and unmaps memory of its own until told to stop. */
static void *churn_memory(void *unused)
{
	unsigned seed = (unsigned)syscall(SYS_gettid);

	while (!atomic_load(&churned)) {
		size_t length = (1 + rand_r(&seed) % 1200) * page_size();
		unsigned char value = (unsigned char)(1 + rand_r(&seed) % 255);
		unsigned char *p = map_anonymous(length, value);

		for (size_t at = 0; at < length; at += page_size())
			if (p[at] != value)
				atomic_fetch_add(&wrong, 1);
		munmap(p, length);
	}
	return unused;
}

/* Threads map and unmap memory of their own while others load: neither gets the other's. */
static void churn(const char *path)
{
	pthread_t threads[2];

	read_parts(path);
	for (size_t i = 0; i < 2; i++)
		if (pthread_create(&threads[i], NULL, churn_memory, NULL) != 0)
			fail("no thread");
	load_parts(NULL);
	load_parts(NULL);
	atomic_store(&churned, 1);
	for (size_t i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	say("wrong: %lu", wrong);
}

static const struct test_case cases[] = {
	{"signals", signals},
	{"forks", forks},
	{"together", together},
	{"churn", churn},
};
CASES_MAIN(cases)
