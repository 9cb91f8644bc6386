/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small reads on FUSE, served from a few blocks that are read ahead. The kernel would serve them
 * through the page cache, and one such read can hang and then hold up all others of the file.
 *
 * A block belongs to a version of a file and to one reader who goes through it from front to back:
 * who reads on where a block ended gets the next one twice as long, up to 1 MiB; anybody else
 * begins with 64 KiB. A block is good for a read only if the descriptor shows the same version
 * then.
 */
#ifndef STN_AHEAD_H
#define STN_AHEAD_H

#include <stdint.h>

#include "range.h"

#define STN_AHEAD_NOT INT64_MIN /* not for us: read it directly */

/* Blocks in a process, and bytes of the smallest and the largest one. */
#define STN_AHEAD_BLOCKS 8
#define STN_AHEAD_LEAST	 ((uint64_t)64 << 10)
#define STN_AHEAD_MOST	 ((uint64_t)1 << 20)

/* One block, or what is known of a reader who needed none so far. Pool lock. */
struct stn_block {
	struct stn_identity identity; /* size 0: free */
	uint64_t offset, length;      /* of the bytes in memory */
	uint64_t next;		      /* where its reader is expected */
	uint64_t size;		      /* bytes of its last read */
	uint64_t mapped;	      /* bytes of memory, 0 = none */
	uint64_t last_use;	      /* for replacing the oldest */
	uint32_t users;		      /* threads that copy from it or fill it */
	char *memory;
};

struct stn_ahead {
	uint64_t uses;
	struct stn_block blocks[STN_AHEAD_BLOCKS];
};

/*
 * The size of the read that serves length bytes at offset for the reader of this block: the whole
 * block. Pure.
 */
uint64_t stn_ahead_size(const struct stn_block *block, uint64_t offset, uint64_t length);

/* As stn_range_read for a range on FUSE, or STN_AHEAD_NOT. */
int64_t stn_ahead_read(struct stn_range *range);

#endif
