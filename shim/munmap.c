/* SPDX-License-Identifier: Apache-2.0 */
/* munmap: of the whole, the head, the middle, longer than the mapping, from any thread. */
#include "edge.h"

#include <sys/mman.h>

#include "../lib/page.h"
#include "../lib/taken.h"
#include "../lib/usage.h"
#include "real.h"

/* Unmaps a range in which memory of ours may lie. Async-signal-safe; may take a thread of the pool.
 */
static int unmap(uintptr_t start, size_t length)
{
	uintptr_t end = start + stn_round_up(length, stn_page_size());
	struct stn_region found;
	struct stn_taken taken;
	int rc;

	/* What the kernel is going to refuse must not cost us our records. */
	if (start % stn_page_size() || end < start || !stn_region_find(start, end, &found))
		return stn_real.munmap((void *)start, length);
	stn_usage_judge(start, end);
	stn_taken_collect(&taken, start, end);
	rc = stn_real.munmap((void *)start, length);
	stn_taken_settle(&taken, rc == 0);
	return rc;
}

STN_EXPORT int munmap(void *address, size_t length)
{
	if (stn_region_none())
		return stn_real.munmap(address, length);
	return unmap((uintptr_t)address, length);
}
