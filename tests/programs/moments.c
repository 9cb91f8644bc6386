/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forks at random moments while maps of files are read and stored into: moments SEED FORKS FILE...
 * Each file is mapped writable, FORKS children of it compare every byte with a copy that the
 * program keeps. One child in eight comes from _Fork, one from clone: those may get SIGSEGV.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

#define LIMIT 30 /* seconds a child may take */

enum kind { BY_FORK, BY_UNDERSCORE_FORK, BY_CLONE, KINDS };

static unsigned char *map, *copy;
static size_t size;
static atomic_bool over;
static unsigned right[KINDS], killed[KINDS], wrong[KINDS];

/* What the file holds, and afterwards what the program has stored, by plain reads of its start to
 * its end. */
static void read_copy(const char *path)
{
	FILE *stream = fopen(path, "r");

	if (!stream || fread(copy, 1, size, stream) != size)
		fail("cannot read %s", path);
	fclose(stream);
}

/* Reads a byte of one page after the other, at random, until told to stop. */
static void *touch(void *seed)
{
	unsigned state = *(unsigned *)seed;
	unsigned sum = 0;

	while (!atomic_load(&over)) {
		sum += map[(size_t)rand_r(&state) % size];
		usleep((useconds_t)(rand_r(&state) % 200));
	}
	return (void *)(uintptr_t)sum;
}

/* Stores into a page at random, of the map and of the copy. */
static void store(unsigned *state)
{
	size_t at = (size_t)rand_r(state) % size;

	map[at] ^= 0xff;
	copy[at] ^= 0xff;
}

static pid_t make_child(enum kind kind)
{
	if (kind == BY_CLONE)
		return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	return kind == BY_UNDERSCORE_FORK ? _Fork() : fork();
}

static void judge(enum kind kind, pid_t child)
{
	int status;

	if (waitpid(child, &status, 0) != child)
		fail("waitpid");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		right[kind]++;
	else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV && kind != BY_FORK)
		killed[kind]++;
	else
		wrong[kind]++;
}

static void fork_once(unsigned *state)
{
	unsigned choice = (unsigned)rand_r(state) % 8;
	enum kind kind = choice == 1 ? BY_UNDERSCORE_FORK : choice == 2 ? BY_CLONE : BY_FORK;
	pid_t child;

	usleep((useconds_t)(rand_r(state) % 1000));
	store(state);
	child = make_child(kind);
	if (child < 0)
		fail("fork");
	if (child == 0) {
		alarm(LIMIT);
		_exit(memcmp(map, copy, size) != 0);
	}
	store(state);
	judge(kind, child);
}

static void use_file(const char *path, int forks, unsigned *state)
{
	unsigned seed = (unsigned)rand_r(state);
	pthread_t thread;

	size = file_size(path);
	copy = malloc(size);
	read_copy(path);
	map = map_write(path);
	atomic_store(&over, false);
	if (pthread_create(&thread, NULL, touch, &seed) != 0)
		fail("pthread_create");
	for (int i = 0; i < forks; i++)
		fork_once(state);
	atomic_store(&over, true);
	pthread_join(thread, NULL);
	say("parent: %s", memcmp(map, copy, size) ? "wrong" : "right");
	munmap(map, size);
	free(copy);
}

int main(int argc, char **argv)
{
	static const char *const names[KINDS] = {"fork", "_Fork", "clone"};
	unsigned state;

	if (argc < 4)
		fail("usage: %s SEED FORKS FILE...", argv[0]);
	state = (unsigned)atoi(argv[1]);
	for (int i = 3; i < argc; i++)
		use_file(argv[i], atoi(argv[2]), &state);
	for (int kind = 0; kind < KINDS; kind++)
		say("%s: right %u, killed %u, wrong %u", names[kind], right[kind], killed[kind],
		    wrong[kind]);
	return 0;
}
