/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A transfer: the pool reads a range of a file into memory that is somebody's already, for a
 * program's read(), or into a block of ours.
 *
 * It differs from a fill (fill.h) in what it may touch and what it says. Not a byte outside of the
 * range is written. The memory may be bad, which is an error and no crash. What counts is how many
 * bytes were had from the beginning on, and the error of the first one that was not. A transfer
 * into the caller's memory never outlives its caller: a server that answers late must not write
 * into memory that has become something else.
 *
 * Where the caller's memory is bad in the middle, what lies behind that must not be written: reads
 * stop there when they come one after the other, so that is how such memory is read.
 *
 * Whole pages of the caller's memory are written by direct reads; the pieces of a page at both ends
 * go through pages of ours and are copied: what shares the page with them is not ours, and a page
 * that is written by a direct read and by the program at once can lose one of the two if the
 * process forks meanwhile (open(2), NOTES).
 */
#ifndef STN_TRANSFER_H
#define STN_TRANSFER_H

#include <stdbool.h>
#include <stdint.h>

#include "opening.h"
#include "pool.h"

/* What to read, where to, and how. */
struct stn_transfer_plan {
	char path[96];		      /* the program's descriptor below /proc */
	struct stn_identity identity; /* the file version that it must be */
	struct stn_model *model;      /* what is known of the file; may be NULL */
	char *memory;
	uint64_t offset, length;   /* in the file, bytes; all before its end */
	bool owned;		   /* memory is a mapping of ours of length rounded up to pages */
	uint64_t block;		   /* bytes of one read */
	uint64_t timeout;	   /* nanoseconds without progress; 0 = wait for ever */
	unsigned threads;	   /* at most so many */
	bool huge_pages;	   /* ask for them where memory is much */
	struct stn_source_way way; /* how it may be read; on FUSE direct reads need no alignment */
	bool owned_file;    /* the process owns the file: residency of its pages can be asked for */
	bool restore_cache; /* after buffered reads drop what they brought in */
	bool drop_cache;    /* drop the range from the page cache */
};

/* One contiguous range being read; positions are relative to the plan's offset. Pool lock. */
struct stn_transfer_lane {
	uint64_t cursor;  /* next byte to read */
	uint64_t reading; /* first byte of the block being read, while busy */
	uint64_t end;	  /* exclusive */
	uint64_t block;	  /* bytes of the next read */
	bool busy;	  /* a thread reads for it */
};

struct stn_transfer {
	struct stn_job job;
	struct stn_transfer_plan plan; /* constant while it runs */
	struct stn_opening opening;
	uint32_t running;	 /* steps being run; pool lock */
	uint32_t most_running;	 /* pool lock */
	uint64_t stop;		 /* the first position that cannot be had; pool lock */
	int error;		 /* why, 0 = the end of the file; pool lock */
	bool doubtful;		 /* the file ended sooner than it should, on FUSE; atomic */
	bool end_sought;	 /* and where it does has been looked for; pool lock */
	uint64_t end;		 /* that, in the file; UINT64_MAX: not known; pool lock */
	uint64_t direct_bytes;	 /* pool lock */
	uint64_t buffered_bytes; /* pool lock */
	bool unchecked;		 /* the memory must be looked at first; pool lock */
	bool checking;		 /* a thread looks at it; pool lock */
	bool aligned;		 /* direct reads have turned out to need alignment; atomic */
	char *edges;		 /* two pages, for the ends of the caller's memory */
	char *bounce;		 /* for each lane STN_TRANSFER_BOUNCE bytes, or NULL */
	uint64_t bounce_size;
	uint32_t lane_count;
	struct stn_transfer_lane lanes[STN_SOURCE_FDS];
};

#define STN_TRANSFER_BOUNCE ((uint64_t)1 << 20) /* bytes of a read that goes through our memory */

/* Makes a transfer; NULL if memory is refused. */
struct stn_transfer *stn_transfer_make(const struct stn_transfer_plan *plan);

/*
 * Reads and waits; without progress for the time limit a transfer into owned memory is abandoned,
 * one into the caller's memory waits on for the reads that are under way. Signals are delivered
 * meanwhile. Returns the bytes that were had from the beginning on and sets *error: 0 (all of them,
 * or the end of the file), -EIO or -EFAULT (what the kernel would say of the next byte), or
 * another, for which the kernel should be asked itself: those of stn_pool_run, -ESTALE, -ENOENT...
 * After -ESTALE on FUSE nothing is had: where a server delivers less than it has reported, and
 * several read at once, the kernel can take zeros for bytes of the file. The transfer's end says
 * how much the kernel may be asked for then.
 */
uint64_t stn_transfer_run(struct stn_transfer *transfer, int *error);

/* Gives it back; see owned for what becomes of memory after -ETIMEDOUT: it is the transfer's. */
void stn_transfer_put(struct stn_transfer *transfer);

/*
 * Before a fork: no new read into callers' memory begins, and those under way are waited for, a
 * second at most. After it, in the parent: they go on.
 */
void stn_transfer_hold(void);
void stn_transfer_resume(void);

#endif
