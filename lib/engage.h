/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a mapping from the program's mmap to its bytes: decide, keep, fill, publish. */
#ifndef STN_ENGAGE_H
#define STN_ENGAGE_H

#include "area.h"

/* What the caller of stn_engage_map has to do. */
enum stn_outcome {
	STN_OUTCOME_KERNEL,	    /* make the program's call, unchanged */
	STN_OUTCOME_KERNEL_COUNTED, /* that, and tell stn_engage_count where the mapping is */
	STN_OUTCOME_DONE,	    /* return the address */
	STN_OUTCOME_FAILED,	    /* fail with the error */
};

/*
 * Decides about one mapping and, if it is engaged, makes it; returns when it is filled. *address is
 * set for STN_OUTCOME_DONE, *error (positive) for STN_OUTCOME_FAILED. Nothing of it is seen by the
 * program before that. May take as long as reading takes; signals are delivered meanwhile. No lock
 * may be held.
 */
enum stn_outcome stn_engage_map(const struct stn_map_call *call, void **address, int *error);

/*
 * Registers a mapping of a model that was left to the kernel for want of memory: on unified memory
 * its copy for the device is still to come.
 */
void stn_engage_count(void *address, size_t length);

/*
 * True if fd is a model file that would be engaged because of where it is: then nothing may start
 * reading it through the page cache. One fstat, and none while no model was opened.
 */
bool stn_engage_covers(int fd);

#endif
