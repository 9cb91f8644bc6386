/* SPDX-License-Identifier: Apache-2.0 */
/* Does the GPU of this host use the CPU's memory? Asked of the vendors' libraries, once a boot. */
#ifndef STSHIM_PROBE_H
#define STSHIM_PROBE_H

#include <limits.h>
#include <stdbool.h>

#include "child.h"
#include "probe_table.h"
#include "uma.h"

#define PROBE_MOST_LIBRARIES 8

/* How the process that asked a library ended. */
enum probe_end { PROBE_ENDED, PROBE_EXITED, PROBE_CRASHED, PROBE_LATE };

/* Everything that was found out. */
struct probe_result {
	bool unified;
	const char *why; /* constant string */
	struct stn_uma_facts facts;
	struct {
		struct probe_answer answer;
		enum probe_end end;
		int signal; /* of PROBE_CRASHED */
	} asked[PROBE_MOST_LIBRARIES];
};

/* Asks the kernel and all libraries of the table; takes less than two seconds. */
void probe_ask(struct probe_result *result);

/* The verdict of the cache that the library reads: 1 yes, 0 no, -1 none of this boot. */
int probe_cached(void);

/*
 * Writes the verdict where the library looks for it: /run for root, else the user's run-time
 * directory. path is set to the file; 0, or -errno with path set to what could not be written (""
 * if there is no run-time directory).
 */
int probe_cache_write(const struct probe_result *result, char path[PATH_MAX]);

/* Yes or no, from the cache or asked now and then cached. */
bool probe_unified(void);

#endif
