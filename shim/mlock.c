/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mlock family. An engaged mapping is filled before the program has its address, so locking it
 * is the kernel's business; keepers, which hold nothing, must not be charged as locked memory.
 */
#include "edge.h"

#include <errno.h>
#include <sys/mman.h>

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

STN_EXPORT int mlock(const void *address, size_t length)
{
	return stn_real.mlock(address, length);
}

STN_EXPORT int mlock2(const void *address, size_t length, unsigned flags)
{
	return stn_real.mlock2(address, length, flags);
}

STN_EXPORT int mlockall(int flags)
{
	int rc = stn_real.mlockall(flags);

	if (rc == 0 && !stn_region_none())
		unlock_keepers();
	return rc;
}
