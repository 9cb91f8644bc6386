/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A job's hold on the open descriptors of one file version in its crew's table: opens what is
 * missing and closes another file's where there is no room. The steps for that come before the
 * job's own.
 */
#ifndef STN_OPENING_H
#define STN_OPENING_H

#include <stdbool.h>
#include <stdint.h>

#include "pool.h"
#include "source.h"

/* Kinds of steps; a job's own begin behind them. */
enum { STN_OPENING_CLOSE = 1, STN_OPENING_OPEN, STN_OPENING_KINDS };

struct stn_opening {
	char path[96];		      /* the program's descriptor below /proc, to be opened anew */
	struct stn_identity identity; /* the file version that it must be */
	uint32_t needed;	      /* descriptors */
	struct stn_source_way way;    /* how it may be read */
	struct stn_source *source;    /* pool lock */
	struct stn_source *victim;    /* being closed to make room; pool lock */
	int error;		      /* why it cannot be had; pool lock */
};

enum stn_opening_state {
	STN_OPENING_READY,  /* the descriptors are open */
	STN_OPENING_STEP,   /* do this step first */
	STN_OPENING_WAIT,   /* another thread's step must end first */
	STN_OPENING_FAILED, /* see error */
};

/* Finds out what is to be done next; fills in *step for STN_OPENING_STEP. Pool lock held. */
enum stn_opening_state stn_opening_claim(struct stn_opening *opening, struct stn_crew *crew,
					 struct stn_step *step);

/* Does such a step. No lock held; blocks as the file system does. */
void stn_opening_run(const struct stn_opening *opening, struct stn_step *step);

/* Takes its result, also after the job was abandoned. Pool lock held. */
void stn_opening_settle(struct stn_opening *opening, const struct stn_step *step);

/* Gives the descriptors up for others to use. Pool lock held. */
void stn_opening_leave(struct stn_opening *opening);

/* True if all of the descriptors read past the page cache. Pool lock held, state READY. */
bool stn_opening_direct(const struct stn_opening *opening);

#endif
