/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that stops being ours because the program unmaps it or maps over it. It is taken out of
 * the registry before the program's call, so that a mapping made at the same address right after it
 * is not mistaken for it, and put back if the call fails.
 */
#ifndef STN_TAKEN_H
#define STN_TAKEN_H

#include <stddef.h>
#include <stdint.h>

#include "region.h"

#define STN_TAKEN_PIECES 16

struct stn_taken {
	unsigned count;
	struct stn_region pieces[STN_TAKEN_PIECES];
};

/*
 * Takes what is registered in [start, end). Beyond the first STN_TAKEN_PIECES pieces the keepers
 * are freed at once and cannot be put back. Async-signal-safe.
 */
void stn_taken_collect(struct stn_taken *taken, uintptr_t start, uintptr_t end);

/* After the program's call: frees the pieces' keepers if it succeeded, else registers them again.
 */
void stn_taken_settle(struct stn_taken *taken, bool succeeded);

#endif
