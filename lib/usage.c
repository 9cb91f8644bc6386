/* SPDX-License-Identifier: Apache-2.0 */
#include "usage.h"

#include "maps.h"
#include "names.h"
#include "region.h"
#include "sys.h"

bool stn_usage_clear(char *memory, size_t size)
{
	return stn_sys_madvise(memory, size, MADV_COLD) == 0;
}

/* Bytes of [start, end) that were used; all of them if that cannot be told. */
static uint64_t used_bytes(uintptr_t start, uintptr_t end)
{
	struct stn_maps_area area;
	uint64_t used = 0;

	for (uintptr_t at = start; at < end; at = area.end) {
		if (stn_maps_find(at, end, &area) < 0 || !area.ours)
			return end - start;
		used += area.used_bytes;
	}
	return used;
}

void stn_usage_judge(uintptr_t start, uintptr_t end)
{
	struct stn_region region;

	if (!stn_region_find(start, end, &region) || !region.watched ||
	    region.watcher != (uint32_t)stn_sys_getpid())
		return;
	if (used_bytes(region.start, region.end) < (region.end - region.start) / 2)
		atomic_store(&region.watched->little_used, true);
}
