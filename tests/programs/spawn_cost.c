/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measures what a preloaded library adds to the start of a process.
 *
 *   spawn_cost ROUNDS PROGRAM LIBRARY...
 *
 * Starts the program and waits for its end, with each library in turn, ROUNDS times, and prints the
 * median in microseconds for each library.
 */
#include <errno.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

/* Starts the program with one library and waits; returns nanoseconds. */
static uint64_t spawn_once(const char *program, const char *library)
{
	char variable[4096], *argv[] = {(char *)program, NULL}, *env[] = {variable, NULL};
	struct timespec start, end;
	int status = 0;
	pid_t child;

	snprintf(variable, sizeof(variable), "LD_PRELOAD=%s", library);
	clock_gettime(CLOCK_MONOTONIC, &start);
	if (posix_spawn(&child, program, NULL, NULL, argv, env) != 0)
		fail("cannot run %s", program);
	if (waitpid(child, &status, 0) != child || status != 0)
		fail("%s failed under %s", program, library);
	clock_gettime(CLOCK_MONOTONIC, &end);
	return (uint64_t)(end.tv_sec - start.tv_sec) * 1000000000u + (uint64_t)end.tv_nsec -
	       (uint64_t)start.tv_nsec;
}

static int compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;

	return a < b ? -1 : a > b;
}

int main(int argc, char **argv)
{
	size_t rounds = argc > 3 ? strtoul(argv[1], NULL, 10) : 0, libraries = (size_t)argc - 3;
	uint64_t *times;

	if (rounds == 0)
		fail("usage: %s ROUNDS PROGRAM LIBRARY...", argv[0]);
	times = calloc(rounds * libraries, sizeof(*times));
	for (size_t round = 0; round < rounds; round++)
		for (size_t i = 0; i < libraries; i++)
			times[i * rounds + round] = spawn_once(argv[2], argv[3 + i]);
	for (size_t i = 0; i < libraries; i++) {
		qsort(times + i * rounds, rounds, sizeof(*times), compare);
		say("%.1f %s", (double)times[i * rounds + rounds / 2] / 1000, argv[3 + i]);
	}
	return 0;
}
