/* SPDX-License-Identifier: Apache-2.0 */
/* The vendors' libraries: one table of what to call and what it means, and how it is called. */
#ifndef STSHIM_PROBE_TABLE_H
#define STSHIM_PROBE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#define PROBE_MOST_DEVICES 16

/* Whose GPUs a library knows; libraries of one vendor describe the same GPUs. */
enum probe_vendor { PROBE_NVIDIA, PROBE_AMD, PROBE_INTEL, PROBE_VENDORS };

/* What became of asking one library. */
enum probe_state {
	PROBE_STARTED,	 /* nothing has come back: it crashed, hung or ended the process */
	PROBE_ABSENT,	 /* not installed */
	PROBE_MISSING,	 /* it lacks the symbol */
	PROBE_FAILED,	 /* the symbol returned status */
	PROBE_NO_DEVICE, /* it works and there is no GPU */
	PROBE_DONE
};

/* What can be known of a GPU: bits. */
enum probe_fact {
	PROBE_INTEGRATED = 1,  /* it has no memory of its own */
	PROBE_PAGEABLE = 2,    /* it can read memory that is not registered with it */
	PROBE_HOST_TABLES = 4, /* and does so through the CPU's page tables */
};

/* The answer of one library; written by a process that may crash at any point. */
struct probe_answer {
	uint32_t state; /* enum probe_state */
	int32_t status; /* of the last call */
	uint32_t devices;
	uint32_t known[PROBE_MOST_DEVICES]; /* facts that the library could tell */
	uint32_t holds[PROBE_MOST_DEVICES]; /* and those that are so */
	char library[64];
	char symbol[64]; /* the last one that was called or looked for */
};

/* Libraries in the table; their names for people; their vendors. */
unsigned probe_table_size(void);
const char *probe_table_name(unsigned library);
enum probe_vendor probe_table_vendor(unsigned library);

/*
 * Loads the library and makes its calls. May crash, hang, or not return: to be called in a process
 * of its own only.
 */
void probe_table_ask(unsigned library, struct probe_answer *answer);

#endif
