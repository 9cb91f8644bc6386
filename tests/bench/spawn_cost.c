/* SPDX-License-Identifier: Apache-2.0 */
/*
 * spawn_cost ROUNDS LIBRARY_A LIBRARY_B PROGRAM [ARGUMENT...]
 *
 * What a preloaded library costs at start-up: runs the program in turn under A and under B and
 * prints the medians and the median of the paired differences in microseconds, as JSON.
 */
#include <err.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

/* Microseconds of the monotonic clock. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

/* Runs the program once with the library preloaded; returns microseconds from spawn to end. */
static double run_once(const char *library, char **argv)
{
	char preload[4200];
	char *env[] = {preload, NULL};
	double start = now();
	int status;
	pid_t pid;

	snprintf(preload, sizeof preload, "LD_PRELOAD=%s", library);
	if (posix_spawn(&pid, argv[0], NULL, NULL, argv, env) != 0)
		err(1, "%s", argv[0]);
	if (waitpid(pid, &status, 0) != pid || status != 0)
		errx(1, "%s under %s: status %d", argv[0], library, status);
	return now() - start;
}

/* Orders two doubles for qsort. */
static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The middle of n values, which it sorts. */
static double median(double *values, int n)
{
	qsort(values, (size_t)n, sizeof *values, compare);
	return values[n / 2];
}

int main(int argc, char **argv)
{
	int rounds = argc > 4 ? atoi(argv[1]) : 0;
	double *a, *b, *difference;

	if (rounds < 1)
		errx(2, "usage: spawn_cost ROUNDS LIBRARY_A LIBRARY_B PROGRAM [ARGUMENT...]");
	a = calloc((size_t)rounds, sizeof *a);
	b = calloc((size_t)rounds, sizeof *b);
	difference = calloc((size_t)rounds, sizeof *difference);
	if (!a || !b || !difference)
		err(1, "calloc");
	for (int i = -10; i < rounds; i++) {
		int first = i & 1;
		double x = run_once(argv[first ? 3 : 2], argv + 4);
		double y = run_once(argv[first ? 2 : 3], argv + 4);

		if (i < 0)
			continue;
		a[i] = first ? y : x;
		b[i] = first ? x : y;
		difference[i] = b[i] - a[i];
	}
	printf("{\"a_us\": %.1f, \"b_us\": %.1f, \"difference_us\": %.1f}\n", median(a, rounds),
	       median(b, rounds), median(difference, rounds));
	return 0;
}
