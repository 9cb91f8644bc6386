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
#ifndef STN_READBLOCK_H
#define STN_READBLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "range.h"

/* Blocks in a process, and bytes of the smallest and the largest one. */
#define STN_READBLOCKS	    8
#define STN_READBLOCK_LEAST ((uint64_t)64 << 10)
#define STN_READBLOCK_MOST  ((uint64_t)1 << 20)

/* One block and its reader, who may have needed no bytes in memory so far. Pool lock. */
struct stn_readblock {
	struct stn_identity identity; /* size 0: nobody's */
	uint64_t offset, length;      /* of the bytes in memory */
	uint64_t next;		      /* where the reader is expected */
	uint64_t size;		      /* of the last read for it */
	uint64_t mapped;	      /* bytes of memory */
	uint64_t last_use;	      /* for replacing the oldest */
	uint32_t users;		      /* threads that copy from it or fill it */
	char *memory;
};

struct stn_readblocks {
	uint64_t uses;
	struct stn_readblock blocks[STN_READBLOCKS];
};

/*
 * How much to read when length bytes are wanted at offset: twice as much as last time for the
 * reader of this block, the least for another one. Where that is no more than what is wanted, it
 * need not go through a block. Pure.
 */
uint64_t stn_readblock_size(const struct stn_readblock *block, uint64_t offset, uint64_t length);

/*
 * Copies what a block has of a range, from done bytes of it on. Bytes, 0 if no block has the next
 * one, or -errno (-EFAULT: the program's memory is bad). No lock held.
 */
int64_t stn_readblock_copy(const struct stn_range *range, uint64_t done);

/*
 * Reads a block that has the bytes of a range from done on. False if there is none afterwards:
 * reading them directly is better, or it has failed. Blocks as the file system does. No lock held.
 */
bool stn_readblock_fetch(struct stn_range *range, uint64_t done);

#endif
