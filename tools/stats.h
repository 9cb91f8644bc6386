/* SPDX-License-Identifier: Apache-2.0 */
/* The lines of STSHIM_STATS, added up. */
#ifndef STSHIM_STATS_H
#define STSHIM_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* All that the lines say of one file, by its path. */
struct stats_file {
	char *path, *file_system;
	uint64_t size;						   /* as the last line has it */
	uint64_t engaged, declined, abandoned, returned, observed; /* lines */
	uint64_t bytes;						   /* engaged */
	double seconds;						   /* of the engaged calls */
	uint64_t direct, buffered, given_back, huge,
		cached; /* bytes; cached: afterwards, the last */
};

/* Lines with the same decision and reason. */
struct stats_decision {
	char *name; /* "declined:memory" */
	uint64_t lines, bytes;
	char *example; /* the path of the first */
};

/* Bytes that were read between two moments, seconds since the Epoch. */
struct stats_fill {
	double start, end;
	uint64_t bytes;
};

/* A line that could not be used. */
struct stats_broken {
	uint64_t line;
	char *problem;
};

#define STATS_BROKEN 100 /* kept; all are counted */

struct stats {
	uint64_t lines, broken_count;
	struct stats_broken broken[STATS_BROKEN];
	struct stats_file *files; /* in the order of their first lines */
	size_t file_count;
	struct stats_decision *decisions; /* likewise */
	size_t decision_count;
	struct stats_fill *fills;
	size_t fill_count;
	size_t process_count;
	double first, last;				/* moments of the first and last line */
	void *file_tree, *decision_tree, *process_tree; /* of tsearch(3) */
};

/* Engaged bytes a second, 0 if there are none. */
double stats_rate(const struct stats_file *file);

/* Reads all lines; false with errno set if reading fails. Ends the program if memory is refused. */
bool stats_read(struct stats *stats, FILE *stream);

/* Adds one line, without its newline. */
void stats_line(struct stats *stats, const char *line, size_t length);

/*
 * Bytes a second, in equal steps from the start of the first fill to the end of the last; count
 * steps. Returns the seconds of a step, 0 if nothing was read.
 */
double stats_throughput(const struct stats *stats, double *rates, size_t count);

/* The moment at which the first fill began. */
double stats_start(const struct stats *stats);

/* Write what was found to stdout. */
void stats_print(const struct stats *stats, const char *path);
void stats_print_json(const struct stats *stats, const char *path);

#endif
