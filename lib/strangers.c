/* SPDX-License-Identifier: Apache-2.0 */
#include "strangers.h"

#include <stdatomic.h>

#define NUMBERS 1024u /* descriptors from here on are looked at each time */
#define READS	0xffu /* bits of an entry: reads left; the era is in those above */

static _Atomic uint32_t entries[NUMBERS];
static _Atomic uint32_t era = 1;

bool stn_stranger_known(int fd)
{
	uint32_t entry;

	if ((unsigned)fd >= NUMBERS)
		return false;
	entry = atomic_load_explicit(&entries[fd], memory_order_relaxed);
	if (!(entry & READS) || entry >> 8 != stn_stranger_era())
		return false;
	atomic_store_explicit(&entries[fd], entry - 1, memory_order_relaxed);
	return true;
}

uint32_t stn_stranger_era(void)
{
	return atomic_load_explicit(&era, memory_order_acquire) & (UINT32_MAX >> 8);
}

void stn_stranger_note(int fd, uint32_t seen)
{
	if ((unsigned)fd < NUMBERS)
		atomic_store_explicit(&entries[fd], seen << 8 | STN_STRANGER_READS,
				      memory_order_relaxed);
}

void stn_strangers_forget(void)
{
	atomic_fetch_add_explicit(&era, 1, memory_order_acq_rel);
}
