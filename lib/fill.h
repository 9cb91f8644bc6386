/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Eager fill: the pool reads a piece of a file into memory that nobody sees yet.
 *
 * The piece is cut into lanes, contiguous ranges of it, each read from front to back through a
 * descriptor of its own (servers recognise sequential reading per open file); a lane that is done
 * takes the second half of what the longest one has left. All descriptors are open before the first
 * read, because opening a FUSE file drops its cached pages, and one is enough for files up to 64
 * MiB.
 */
#ifndef STN_FILL_H
#define STN_FILL_H

#include <stdbool.h>
#include <stdint.h>

#include "opening.h"
#include "pool.h"
#include "request.h"
#include "source.h"

#define STN_FILL_HOLES 32

/* What to read, where to, and how. */
struct stn_fill_plan {
	char path[96];		      /* the program's descriptor below /proc, to be opened anew */
	struct stn_identity identity; /* the file version that it must be */
	struct stn_model *model;      /* whose it is, for what was read in advance; or NULL */
	uint64_t called;	      /* clock of the program's call, for the same */
	char *memory;	     /* page-aligned, writable; room for length rounded up to a page */
	char *keeper;	     /* a mapping of the same bytes of the file, or NULL */
	uint64_t offset;     /* in the file; a page multiple */
	uint64_t length;     /* bytes, all before the end of the file */
	char *owned;	     /* the area around memory, unmapped if the fill outlives its caller */
	uint64_t owned_size; /* bytes of it */
	uint64_t block;	     /* bytes of one read */
	uint64_t timeout;    /* nanoseconds without progress; 0 = wait for ever */
	unsigned threads;    /* at most so many */
	struct stn_source_way way; /* how it may be read */
	bool owned_file;    /* the process owns the file: residency of its pages can be asked for */
	bool restore_cache; /* after buffered reads drop what they brought in */
	bool drop_cache;    /* drop the whole range from the page cache at the end */
};

/* A piece that could not be read: offset in the file and length, page multiples but at the file's
 * end. */
struct stn_fill_hole {
	uint64_t offset, length;
};

/* One contiguous range being read. Pool lock. */
struct stn_fill_lane {
	uint64_t cursor;  /* next byte to read, offset in the file */
	uint64_t reading; /* first byte of the block being read, while busy */
	uint64_t end;	  /* exclusive */
	uint64_t block;	  /* bytes of the next read */
	bool busy;	  /* a thread reads for it */
};

struct stn_fill {
	struct stn_job job;
	struct stn_fill_plan plan; /* constant while it runs */
	struct stn_opening opening;
	struct stn_request *request; /* how large requests its mount takes best; NULL off FUSE and
				      * if there are too many mounts; pool lock */
	uint32_t running;	     /* steps being run; pool lock */
	uint32_t most_running;	     /* for the statistics; pool lock */
	uint32_t lane_count;
	bool checked;		 /* the version was checked after the last read; pool lock */
	int error;		 /* -errno that ended it; pool lock */
	bool shorter;		 /* the file ends before its size; pool lock */
	bool end_found;		 /* by the kernel, after that; pool lock */
	uint64_t settled;	 /* bytes read or given up; pool lock */
	uint64_t direct_bytes;	 /* pool lock */
	uint64_t buffered_bytes; /* pool lock */
	uint64_t copied_bytes;	 /* of direct_bytes, from the page cache; atomic */
	bool cached;		 /* some of it is in the page cache */
	uint64_t budget_left;	 /* what the last look at the budget left; racy on purpose */
	uint64_t unchecked;	 /* bytes since that look */
	bool turn;		 /* a thread has the turn, see fill_step.c; atomic */
	uint64_t begun;		 /* clock at the first tick of a progress bar; caller only */
	bool drawn;		 /* the bar has been drawn; caller only */
	uint64_t hole_bytes;	 /* in holes; pool lock */
	uint32_t hole_count;	 /* pool lock */
	struct stn_fill_hole holes[STN_FILL_HOLES];
	struct stn_fill_lane lanes[STN_SOURCE_FDS];
};

/* Makes a fill; NULL if memory is refused. budget_left: see stn_budget_left. */
struct stn_fill *stn_fill_make(const struct stn_fill_plan *plan, uint64_t budget_left);

/*
 * Reads it all and waits. 0: the memory has the file's bytes but for the holes, zeros behind the
 * end of the file in its last page. -errno: -ETIMEDOUT (threads may still write to owned memory,
 * which then belongs to the fill), -ENOMEM (the budget), -ESTALE (another version, or shorter),
 * -EIO and others (the file cannot be read), or those of stn_pool_run. No lock held.
 */
int stn_fill_run(struct stn_fill *fill, stn_job_tick *tick);

/* The lowest offset that is being read or waits to be read: where a stuck fill is stuck. */
uint64_t stn_fill_stuck_at(const struct stn_fill *fill);

/* Gives it back; with -ETIMEDOUT it frees itself, and its owned memory, when its last read has
 * returned. */
void stn_fill_put(struct stn_fill *fill);

#endif
