/* SPDX-License-Identifier: Apache-2.0 */
/* mprotect: a shared map of a file that was opened for reading must not become writable. */
#include "edge.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "../lib/giveback.h"
#include "../lib/lazy.h"
#include "../lib/page.h"
#include "../lib/region.h"
#include "real.h"

/* True if part of [start, end) stands for a shared map and still is memory of ours. */
static bool forbids_writing(uintptr_t start, uintptr_t end)
{
	struct stn_region piece;

	while (start < end && stn_region_find(start, end, &piece)) {
		if (piece.kind == STN_REGION_ENGAGED && piece.shared &&
		    stn_giveback_prune(piece.start, piece.end))
			return true;
		start = piece.end;
	}
	return false;
}

/* Answers for memory of ours; true if the call is the kernel's to make. */
static bool allows(void *address, size_t length, int prot)
{
	uintptr_t start = (uintptr_t)address;
	int saved = errno;
	bool forbidden;

	if (stn_region_none() || !(prot & PROT_WRITE))
		return true;
	forbidden = forbids_writing(start, start + stn_round_up(length, stn_page_size()));
	errno = forbidden ? EACCES : saved;
	return !forbidden;
}

/* Lets lazy fill know of the access that is asked for: before the kernel, lest what becomes the
 * file's own mapping just then keeps the old one. */
static void announce(void *address, size_t length, int prot)
{
	uintptr_t start = (uintptr_t)address;

	if (stn_lazy_any())
		stn_lazy_reprotect(start, start + stn_round_up(length, stn_page_size()), prot);
}

STN_EXPORT int mprotect(void *address, size_t length, int prot)
{
	if (!allows(address, length, prot))
		return -1;
	announce(address, length, prot);
	return stn_real.mprotect(address, length, prot);
}

STN_EXPORT int pkey_mprotect(void *address, size_t length, int prot, int key)
{
	if (!allows(address, length, prot))
		return -1;
	announce(address, length, prot);
	return stn_real.pkey_mprotect(address, length, prot, key);
}
