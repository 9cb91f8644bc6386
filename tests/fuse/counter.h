/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTFS_COUNTER_H
#define TESTFS_COUNTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Bytes of the largest READ that is not a large one. */
#define COUNTER_LARGE ((uint64_t)512 << 10)

/* The counters of one file. Owned by the caller, zeroed before use, registered once. */
struct counter_file {
	struct counter_file *next;
	const char *name;
	uint64_t bytes;
	uint64_t requests;
	uint64_t buffered_requests;
	uint64_t opens;
	uint64_t distinct_bytes;
	struct counter_range {
		uint64_t start;
		uint64_t end;
	} * ranges; /* sorted, disjoint, not adjacent */
	size_t range_count;
	size_t range_room;
};

void counter_register(struct counter_file *file, const char *name);
void counter_meta(void);
void counter_seek(void);
void counter_open(struct counter_file *file, bool direct);
void counter_release(void);
void counter_read_begin(struct counter_file *file, bool direct, uint64_t size);
void counter_read_end(struct counter_file *file, bool direct, uint64_t offset, uint64_t size);
void counter_reset(void);
void counter_print(FILE *out);

#endif
