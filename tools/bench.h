/* SPDX-License-Identifier: Apache-2.0 */
/* stshim bench: one file read in several ways, each in a process of its own. */
#ifndef STSHIM_BENCH_H
#define STSHIM_BENCH_H

#include <stdbool.h>
#include <stdint.h>

enum bench_way { BENCH_DIRECT, BENCH_LIBRARY, BENCH_MMAP, BENCH_READ };

/* "direct", "library", "mmap", "read". */
const char *bench_way_name(enum bench_way way);

enum bench_status {
	BENCH_DONE,
	BENCH_FAILED,
	BENCH_TIMEOUT, /* killed */
	BENCH_STUCK,   /* killed, and still there: it waits in the kernel */
	BENCH_SKIPPED
};

/* One way, and what became of it. */
struct bench_run {
	enum bench_way way;
	unsigned threads; /* of the direct way */
	enum bench_status status;
	uint64_t bytes; /* read, or so far */
	double seconds;
	uint64_t sum;	/* of the bytes; meaningful with BENCH_DONE */
	int64_t cached; /* bytes in the page cache before; -1 = the kernel does not tell us */
	char note[256]; /* why not, or what the library did */
};

#define BENCH_RUNS 8

/* Everything that is asked and found. */
struct bench {
	const char *path;
	char library[4096];  /* or "" */
	uint64_t size;	     /* bytes of the file */
	uint64_t bytes;	     /* to be read: a prefix */
	const char *limited; /* why not all of it, or NULL */
	uint64_t device, file_system;
	unsigned timeout; /* seconds a way */
	bool drop_caches;
	struct bench_run runs[BENCH_RUNS];
};

/* The child's part: reads the file in one way and reports on descriptor 1. Returns an exit status.
 */
int bench_child(const char *way, const char *path, uint64_t bytes, unsigned threads);

/* Reports of a child, one a line: bytes so far; the result; what is wrong. */
#define BENCH_PROGRESS "at %" SCNu64
#define BENCH_RESULT   "done %" SCNu64 " %lf %" SCNx64 " %" SCNd64
#define BENCH_ERROR    "error "

/* Runs one way and fills in the run. Draws a bar on a terminal. */
void bench_run(const struct bench *bench, struct bench_run *run);

/* True for a run that has read its bytes from the page cache to a part that counts. */
bool bench_warm(const struct bench_run *run);

/* Bytes a second in units of 10^9; 0 unless done. */
double bench_rate(const struct bench_run *run);

/* Write what was found to stdout. False if the ways did not see the same bytes. */
bool bench_print(const struct bench *bench);
bool bench_print_json(const struct bench *bench);

#endif
