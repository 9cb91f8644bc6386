/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several threads and processes that read one file of words of 8 bytes, each the number of its
 * place, so that what a call gave says where it came from.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

#define WORD	sizeof(uint64_t)
#define MOST	((size_t)3 << 20) /* bytes of one read */
#define THREADS 5

/* What the threads of a case share. */
static struct {
	int fd;
	FILE *stream;
	size_t words;	    /* in the file */
	atomic_uchar *seen; /* for each word: how often it was read */
	atomic_ulong wrong; /* words that are not what follows from the first one */
	atomic_bool over;
} shared;

/* Opens the file and makes room for what is seen of it. */
static void share(const char *path)
{
	shared.fd = open_file(path);
	shared.stream = fopen(path, "rb");
	shared.words = file_size(path) / WORD;
	shared.seen = calloc(shared.words, 1);
	if (!shared.stream || !shared.seen)
		fail("no memory");
}

/* Counts the words of one read, which must follow each other. */
static void count_words(const uint64_t *words, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (words[i] != words[0] + i || words[i] >= shared.words)
			atomic_fetch_add(&shared.wrong, 1);
		else
			atomic_fetch_add(&shared.seen[words[i]], 1);
	}
}

/* A number of bytes to ask for: whole words, small and large. */
static size_t some_bytes(unsigned *random)
{
	size_t limit = (size_t)1 << (4 + rand_r(random) % 19);

	return ((size_t)rand_r(random) % limit % MOST + WORD) & ~(WORD - 1);
}

/* Reads to the end through the descriptor that all share. */
static void *read_shared(void *argument)
{
	unsigned random = (unsigned)(uintptr_t)argument;
	uint64_t *to = malloc(MOST + WORD);
	ssize_t got;

	while ((got = read(shared.fd, to, some_bytes(&random))) > 0)
		count_words(to, (size_t)got / WORD);
	free(to);
	return NULL;
}

/* The same with two places in each call. */
static void *read_shared_places(void *argument)
{
	unsigned random = (unsigned)(uintptr_t)argument;
	unsigned char *to = malloc(MOST + WORD);
	ssize_t got;

	do {
		size_t length = some_bytes(&random), first = (size_t)rand_r(&random) % length;
		struct iovec places[2] = {{to, first}, {to + first, length - first}};

		got = readv(shared.fd, places, 2);
		if (got > 0)
			count_words((uint64_t *)(void *)to, (size_t)got / WORD);
	} while (got > 0);
	free(to);
	return NULL;
}

/* The same through a stream. */
static void *read_stream(void *argument)
{
	unsigned random = (unsigned)(uintptr_t)argument;
	uint64_t *to = malloc(MOST + WORD);
	size_t got;

	while ((got = fread(to, WORD, some_bytes(&random) / WORD, shared.stream)) > 0)
		count_words(to, got);
	free(to);
	return NULL;
}

/* Runs so many threads to their end. */
static void run_threads(void *(*body)(void *))
{
	pthread_t threads[THREADS];

	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, body, (void *)(i + 1)) != 0)
			fail("no thread");
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

/* Prints how many words were read once, not at all, and more than once. */
static void print_seen(void)
{
	size_t once = 0, never = 0;

	for (size_t i = 0; i < shared.words; i++) {
		once += shared.seen[i] == 1;
		never += shared.seen[i] == 0;
	}
	say("once %zu, never %zu, more %zu, wrong %lu", once, never, shared.words - once - never,
	    atomic_load(&shared.wrong));
	say("offset %ld of %zu", (long)lseek(shared.fd, 0, SEEK_CUR), shared.words * WORD);
}

/* Threads that read one description get every word once. */
static void offsets(const char *path)
{
	share(path);
	run_threads(read_shared);
	print_seen();
}

static void offsets_places(const char *path)
{
	share(path);
	run_threads(read_shared_places);
	print_seen();
}

static void stream(const char *path)
{
	share(path);
	run_threads(read_stream);
	print_seen();
}

/* Children that share the description with threads of the parent. */
static void offsets_children(const char *path)
{
	unsigned long sums[3];
	pid_t pids[3];
	int pipes[2];

	share(path);
	if (pipe(pipes) != 0)
		fail("pipe");
	for (unsigned i = 0; i < 3; i++) {
		pids[i] = fork();
		if (pids[i] != 0)
			continue;
		read_shared((void *)(uintptr_t)(i + 10));
		for (size_t n = sums[0] = 0; n < shared.words; n++)
			sums[0] += shared.seen[n];
		if (write(pipes[1], sums, sizeof(sums[0])) != sizeof(sums[0]))
			_exit(1);
		_exit(atomic_load(&shared.wrong) ? 2 : 0);
	}
	run_threads(read_shared);
	for (unsigned i = 0; i < 3; i++)
		if (read(pipes[0], &sums[i], sizeof(sums[i])) != sizeof(sums[i]))
			fail("pipe");
	for (size_t n = 0; n < shared.words; n++)
		sums[0] += shared.seen[n];
	say("words %zu, read %lu, wrong %lu", shared.words, sums[0] + sums[1] + sums[2],
	    atomic_load(&shared.wrong));
	for (unsigned i = 0; i < 3; i++)
		print_end("child", pids[i]);
}

/* Reads at random places until the others have done so often enough. */
static void *read_places(void *argument)
{
	unsigned random = (unsigned)(uintptr_t)argument;
	uint64_t *to = malloc(MOST + WORD);

	for (unsigned i = 0; i < 60; i++) {
		size_t at = (size_t)rand_r(&random) % shared.words, length = some_bytes(&random);
		ssize_t got = pread(shared.fd, to, length, (off_t)(at * WORD));

		if (got <= 0 || to[0] != at)
			atomic_fetch_add(&shared.wrong, 1);
		else
			count_words(to, (size_t)got / WORD);
	}
	free(to);
	return NULL;
}

static void places(const char *path)
{
	unsigned long total = 0;

	share(path);
	run_threads(read_places);
	for (size_t i = 0; i < shared.words; i++)
		total += shared.seen[i];
	say("wrong %lu, some were read: %d", atomic_load(&shared.wrong), total > 0);
}

/* Reads the whole file again and again into the same memory. */
static void *read_over(void *argument)
{
	uint64_t *to = argument;

	while (!atomic_load(&shared.over)) {
		ssize_t got = pread(shared.fd, to, shared.words * WORD, 0);

		for (size_t i = 0; i < shared.words; i++)
			if (got != (ssize_t)(shared.words * WORD) || to[i] != i)
				atomic_fetch_add(&shared.wrong, 1);
		memset(to, 0, shared.words * WORD);
	}
	return NULL;
}

/* What a child does with the memory that its parent reads into. */
static void spoil(uint64_t *to)
{
	memset(to, 0xff, shared.words * WORD);
	if (pread(shared.fd, to, shared.words * WORD, 0) != (ssize_t)(shared.words * WORD))
		_exit(1);
	for (size_t i = 0; i < shared.words; i++)
		if (to[i] != i)
			_exit(2);
	_exit(0);
}

/* Forks while a thread reads; the children write to their copies of its memory, and read. */
static void fork_during(const char *path)
{
	unsigned bad = 0;
	uint64_t *to;
	pthread_t thread;

	share(path);
	to = (uint64_t *)(void *)map_anonymous(shared.words * WORD, 0);
	pthread_create(&thread, NULL, read_over, to);
	for (unsigned i = 0; i < 12; i++) {
		pid_t child = i % 3 ? fork() : _Fork();
		int status;

		if (child == 0)
			spoil(to);
		sleep_ms(3 * i);
		bad += waitpid(child, &status, 0) != child || status != 0;
	}
	atomic_store(&shared.over, true);
	pthread_join(thread, NULL);
	say("wrong words %lu, bad children %u", atomic_load(&shared.wrong), bad);
}

static void body_of_child(void *argument)
{
	uint64_t *to = argument;
	ssize_t got = read(shared.fd, to, shared.words * WORD);

	if (got > 0)
		count_words(to, (size_t)got / WORD);
	_exit(atomic_load(&shared.wrong) ? 1 : (int)(got >> 20));
}

/* Children of all kinds read. */
static void children(const char *path)
{
	uint64_t *to;
	pid_t child;

	share(path);
	to = (uint64_t *)(void *)map_anonymous(shared.words * WORD, 0);
	say("parent: %zd", read(shared.fd, to, 100 * WORD));
	in_child("fork", body_of_child, to);
	lseek(shared.fd, 0, SEEK_SET);
	child = _Fork();
	if (child == 0)
		body_of_child(to);
	print_end("_Fork", child);
	lseek(shared.fd, 0, SEEK_SET);
	child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0)
		body_of_child(to);
	print_end("clone", child);
	lseek(shared.fd, 0, SEEK_SET);
	child = vfork();
	if (child == 0)
		_exit(read(shared.fd, to, 4096) == 4096 && to[511] == 511 ? 0 : 1);
	print_end("vfork", child);
	say("offset %ld", (long)lseek(shared.fd, 0, SEEK_CUR));
}

static const struct test_case cases[] = {
	{"offsets", offsets},	{"offsets-places", offsets_places},
	{"stream", stream},	{"offsets-children", offsets_children},
	{"places", places},	{"fork-during", fork_during},
	{"children", children},
};
CASES_MAIN(cases)
