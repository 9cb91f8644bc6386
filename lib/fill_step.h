/* SPDX-License-Identifier: Apache-2.0 */
/* Inside a fill: what its steps do on the pool's threads. Used by fill.c and fill_step.c only. */
#ifndef STN_FILL_STEP_H
#define STN_FILL_STEP_H

#include "fill.h"

#define STN_FILL_FIRST_BLOCK ((uint64_t)2 << 20) /* bytes of a lane's first read on FUSE */

enum stn_fill_step_kind {
	STN_FILL_NOTHING, /* ends a fill that has failed before it began; then those of opening.h */
	STN_FILL_OPEN_COPY = STN_OPENING_KINDS, /* opens what cached blocks are copied through */
	STN_FILL_READ,	   /* reads a block; detail: bit i, piece i of it could not be read */
	STN_FILL_CHECK,	   /* checks that the file is still the same version */
	STN_FILL_FIND_END, /* if it is shorter, and on FUSE: has the kernel find the end anew */
};

/* Does a step and sets its result. No lock held; blocks as the file system does. */
void stn_fill_step_run(struct stn_job *job, struct stn_step *step);

/* The size of the pieces, at most 63, that a block of this length falls into after an error. */
uint64_t stn_fill_piece(uint64_t length);

/* The descriptor's number that a lane reads through. */
static inline uint32_t stn_fill_descriptor(const struct stn_fill *fill, uint32_t lane)
{
	return lane < fill->opening.needed ? lane : 0;
}

#endif
