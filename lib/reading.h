/* SPDX-License-Identifier: Apache-2.0 */
/*
 * read() and its like on a model file: decided as mappings are, read by the pool, with the kernel's
 * own results.
 */
#ifndef STN_READING_H
#define STN_READING_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* What the program asked for. */
struct stn_read_call {
	int fd;
	bool positioned;	    /* at offset, as pread; else where the descriptor stands */
	bool trusted;		    /* pieces is memory of ours, not the program's */
	int64_t offset;		    /* bytes */
	const struct iovec *pieces; /* where to */
	int count;
	void (*about_to)(void); /* called before the first byte is read by us; may be NULL */
};

/*
 * Serves a read. False: make the program's call, unchanged. True: it is done, *result is the number
 * of bytes or -errno. May take as long as reading takes; signals are delivered meanwhile. Without a
 * model open it costs one relaxed load, for a descriptor of another file one statx of what the
 * kernel has cached. Async-signal-safe but for a decision that goes to the journal. No lock held.
 */
bool stn_reading_serve(const struct stn_read_call *call, ssize_t *result);

/*
 * True if reads of this descriptor are served, at least those that are large enough. False with
 * STSHIM_MODE=observe, and the journal knows what would be. Not for signal handlers.
 */
bool stn_reading_covers(int fd);

#endif
