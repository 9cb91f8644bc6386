/* SPDX-License-Identifier: Apache-2.0 */
/* Inside a transfer: its steps. Used by transfer.c and transfer_step.c only. */
#ifndef STN_TRANSFER_STEP_H
#define STN_TRANSFER_STEP_H

#include "transfer.h"

enum {
	STN_TRANSFER_CHECK = STN_OPENING_KINDS, /* looks at the memory; result: 1 if all is good */
	STN_TRANSFER_READ, /* reads a block; result: bytes, detail: errno of the next one or 0 */
	STN_TRANSFER_FIND_END, /* after an early end: result: where in the file that is */
};

/* Does a step. No lock held; blocks as the file system does. */
void stn_transfer_step_run(struct stn_job *job, struct stn_step *step);

/* The descriptor's number that a lane reads through. */
static inline uint32_t stn_transfer_descriptor(const struct stn_transfer *transfer, uint32_t lane)
{
	return lane < transfer->opening.needed ? lane : 0;
}

#endif
