/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small shards of a model that are read before the program opens them. A program that takes one
 * after the other waits for at least two answers of the server for each, and some megabytes keep no
 * server busy: so while it has one in hand the next two are read.
 *
 * What was read is handed out once, to the mapping of the shard with that number if it is the same
 * version of the same file. Only a model whose shards are taken in the order of their numbers has
 * others read, and no longer once it has passed one by.
 */
#ifndef STN_PREFETCH_H
#define STN_PREFETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "names.h"

#define STN_PREFETCH_MOST ((uint64_t)8 << 20) /* bytes of a shard */

/*
 * Writes the path of the shard with another number to out. False if path is not that of a shard or
 * there is no room. Pure.
 */
bool stn_prefetch_path(const char *path, uint64_t number, char *out, size_t size);

/*
 * The program has mapped a model that is so large. True if it has gone through the shards in order,
 * so that the next ones should be read. Takes the pool lock.
 */
bool stn_prefetch_follows(const struct stn_model *model, uint64_t size);

/* Has the shards behind a model be read, of which path is one, on a FUSE file system or not. Does
 * not wait. Takes the pool lock. */
void stn_prefetch_start(const struct stn_model *model, const char *path, bool fuse);

/* A range of a mapping that is to be read. */
struct stn_prefetch_want {
	const struct stn_model *model;
	const struct stn_identity *identity; /* the version that the mapping is of */
	uint64_t called;		     /* clock when it was mapped: which mapping it is */
	int fd;				     /* its file, in the calling thread's table */
	uint64_t offset, length;	     /* in the file, bytes */
};

/*
 * Copies the range if it was read in advance; waits for a read that is under way, a second at most.
 * Returns its length, or 0: it is to be read. No lock held; on a thread of the pool.
 */
size_t stn_prefetch_take(const struct stn_prefetch_want *want, void *memory);

#endif
