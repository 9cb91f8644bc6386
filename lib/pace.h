/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many reads at a time a mount takes well. Most take them in any order; some (rclone without a
 * cache, archives) wait for the one that would be in order, or start anew for each that is not, and
 * are many times slower with two readers than with one. Such a mount is recognised by its first
 * large reads and read in order by one thread. Some do so for each open file: until reads of one
 * have come as soon together as alone, more than three at a time, and all large ones, are to be
 * made by open files of their own. Pure bookkeeping; the caller guards it.
 */
#ifndef STN_PACE_H
#define STN_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "request.h"

/* What is known of a mount. */
enum stn_pace_state {
	STN_PACE_UNKNOWN,  /* a few pieces at once, until one, or several small reads, have come */
	STN_PACE_DRAINING, /* that was slow: nothing new until all of them have come */
	STN_PACE_TRYING,   /* one at a time, to compare */
	STN_PACE_PARALLEL, /* as many as are wished for; for good if that has been tried */
	STN_PACE_IN_ORDER, /* one at a time, for good */
};

struct stn_pace {
	uint64_t device;   /* as in stn_identity; 0: unused */
	uint64_t latency;  /* nanoseconds of the first read, 0: none yet */
	uint64_t moved_at; /* clock of the last begin or end */
	uint64_t begun;	   /* clock of the first large read in this state */
	uint64_t bytes;	   /* that large reads have brought in this state */
	uint64_t rate;	   /* bytes a second with several readers */
	enum stn_pace_state state;
	bool tried;	  /* the comparison has been made */
	bool shares;	  /* reads by one descriptor do not wait for each other */
	uint32_t slow;	  /* slow large reads in a row */
	uint32_t quick;	  /* small reads by a shared descriptor that were as quick as one alone */
	uint32_t running; /* reads */
	uint32_t large;	  /* of them large ones */
	uint32_t pieces;  /* large reads that have ended in this state */
	struct stn_request *request; /* how large requests it takes best; NULL: not asked */
};

/* True if another read of so many bytes may begin now; urgent: the program waits for it. It does
 * not wait for long behind a read that hangs. */
bool stn_pace_allows(const struct stn_pace *pace, uint64_t bytes, bool urgent, uint64_t now);

/* The most bytes of a read that nobody waits for, if block is what is wished for: few until the
 * mount is known. */
uint64_t stn_pace_piece(const struct stn_pace *pace, uint64_t block);

/* True if another read of so many bytes is to be made by a descriptor of its own rather than by one
 * that others already read by. */
bool stn_pace_apart(const struct stn_pace *pace, uint64_t bytes, uint32_t others);

/* A read by a descriptor by which others read elsewhere at the same time has taken so many
 * nanoseconds. */
void stn_pace_shared(struct stn_pace *pace, uint64_t bytes, uint64_t elapsed);

/* A read begins, or has ended after elapsed nanoseconds. now: nanoseconds. */
void stn_pace_begin(struct stn_pace *pace, uint64_t bytes, uint64_t now);
void stn_pace_end(struct stn_pace *pace, uint64_t bytes, uint64_t elapsed, uint64_t now);

#endif
