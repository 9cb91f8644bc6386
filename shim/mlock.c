/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mlock family. Engaged memory is filled, if it is not yet, and locked by the kernel; keepers,
 * which hold nothing, must not be charged as locked memory.
 */
#include "edge.h"

#include <errno.h>
#include <sys/mman.h>

#include "../lib/lazy.h"
#include "../lib/page.h"
#include "../lib/region.h"
#include "../lib/sys.h"
#include "real.h"

/* Takes the lock off all keepers. */
static void unlock_keepers(void)
{
	struct stn_region piece;
	uintptr_t at = 0;

	while (stn_region_find(at, UINTPTR_MAX, &piece)) {
		if (piece.keeper)
			stn_sys_munlock((void *)piece.keeper, piece.end - piece.start);
		at = piece.end;
	}
}

/* What is locked is filled first: from the kernel's own faults it would come a page at a time. */
static void fill(const void *address, size_t length)
{
	uintptr_t start = (uintptr_t)address;
	int saved = errno;

	if (stn_lazy_any())
		stn_lazy_fill(start, start + stn_round_up(length, stn_page_size()), true);
	errno = saved;
}

static void fill_all(void)
{
	int saved = errno;

	stn_lazy_fill(0, UINTPTR_MAX, true);
	errno = saved;
}

STN_EXPORT int mlock(const void *address, size_t length)
{
	fill(address, length);
	return stn_real.mlock(address, length);
}

STN_EXPORT int mlock2(const void *address, size_t length, unsigned flags)
{
	if (!(flags & MLOCK_ONFAULT))
		fill(address, length);
	return stn_real.mlock2(address, length, flags);
}

STN_EXPORT int mlockall(int flags)
{
	int rc;

	if (flags & MCL_CURRENT && !(flags & MCL_ONFAULT) && stn_lazy_any())
		fill_all();
	rc = stn_real.mlockall(flags);
	if (rc == 0)
		stn_lazy_expect_locked(flags & MCL_FUTURE);
	if (rc == 0 && !stn_region_none())
		unlock_keepers();
	return rc;
}
