/* SPDX-License-Identifier: Apache-2.0 */
/* A range of a model file that is to get into a program's memory: by a transfer, from a block that
 * was read ahead, or by the kernel where we fail. */
#ifndef STN_RANGE_H
#define STN_RANGE_H

#include <stdbool.h>
#include <stdint.h>

#include "names.h"
#include "process.h"
#include "transfer.h"

struct stn_range {
	struct stn_process *process;  /* of the caller */
	int fd;			      /* the program's */
	struct stn_identity identity; /* of the file, as the descriptor showed it for this call */
	struct stn_model *model;      /* what is known of the file; may be NULL */
	bool fuse;		      /* a FUSE file system */
	bool unified;		      /* CPU and GPU share memory */
	char *memory;		      /* the program's; may be bad */
	uint64_t offset, length;      /* bytes; all before the end of the file */
	uint64_t mask;		      /* the program's signal mask */
	bool patient;		      /* of the signals those with handlers are blocked, not all */
	unsigned owner;		      /* the user who owns the file */
	char path[96];		      /* of fd below /proc, when it was needed */
	uint64_t direct_bytes, buffered_bytes; /* out: added up */
	unsigned threads;		       /* out: most that read at once */
	uint64_t waiting;		       /* out: clock when the first wait began, 0 = none */
	bool broken;			       /* out: there was an I/O error */
	uint64_t end;			       /* where the file ends; UINT64_MAX: not known */
	int failure;			       /* out: -errno for which the kernel had to go on */
};

/* True if the process's user owns the file. */
bool stn_range_owned(const struct stn_range *range);

/*
 * Reads the range. Returns bytes, fewer at the end of the file or before an error or a bad page of
 * memory, or -errno if there are none. Blocks as the file system does. All signals are blocked
 * before; after a wait only those that have handlers are, see signals.h. No lock held.
 */
int64_t stn_range_read(struct stn_range *range);

/* Transfers [offset, offset + length) to memory, see stn_transfer_run for owned, the result and
 * *error. *lost: the transfer has been given up and keeps the memory. */
uint64_t stn_range_transfer(struct stn_range *range, char *memory, uint64_t offset, uint64_t length,
			    bool owned, int *error, bool *lost);

#endif
