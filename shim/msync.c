/* SPDX-License-Identifier: Apache-2.0 */
/*
 * msync. Nothing of ours is ever written to a file; the kernel checks the arguments and the range
 * of anonymous memory as it does for a file, and succeeds.
 */
#include "edge.h"

#include <sys/mman.h>

#include "real.h"

STN_EXPORT int msync(void *address, size_t length, int flags)
{
	return stn_real.msync(address, length, flags);
}
