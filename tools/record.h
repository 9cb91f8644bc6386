/* SPDX-License-Identifier: Apache-2.0 */
/* One line of STSHIM_STATS, as far as the tables need it; see libstnommap(7), STATISTICS. */
#ifndef STSHIM_RECORD_H
#define STSHIM_RECORD_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

struct record {
	const char *path, *file_system, *decision; /* of the line; decision without the reason */
	char name[64];				   /* "declined:memory" */
	double time, pid;
	bool engaged;
	/* A map that is filled lazily has two lines: one when it begins, with nothing read yet, and
	 * one when it is complete or gone, if the process lives to see that. Only the first is
	 * counted, unless the second has another decision. */
	bool begins, lazy, counted;
	double seconds; /* of the call; if lazy until all was there, or the map gone; 0 if it begins
			 */
	uint64_t size;
	uint64_t bytes;	 /* of the file that the map shows; if lazy those that were read for it */
	uint64_t memory; /* of these, what is memory of ours */
	uint64_t direct, buffered, returned, huge, cache_before, cache_after; /* bytes */
};

/* Reads a line. Returns the name of the first field that is missing or not what it should be, or
 * NULL. The strings live as long as the line. */
const char *record_read(const cJSON *line, struct record *out);

#endif
