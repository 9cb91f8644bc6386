/* SPDX-License-Identifier: Apache-2.0 */
#include "staging.h"

#include <string.h>

#include "page.h"
#include "sys.h"

#define ARENA (STN_STAGING_SLOTS * STN_STAGING_BLOCK)

/* Maps the slots of both kinds next to each other, aligned to a block. */
int stn_staging_reserve(struct stn_staging *staging)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	size_t size = 2 * ARENA + STN_STAGING_BLOCK;
	char *base;
	int rc;

	if (staging->huge)
		return 0;
	base = stn_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (stn_sys_failed(base))
		return (int)(intptr_t)base;
	rc = stn_sys_madvise(base, size, MADV_DONTFORK);
	if (rc < 0) {
		stn_sys_munmap(base, size);
		return rc;
	}
	stn_sys_madvise(base, size, MADV_DONTDUMP);
	staging->huge = (char *)stn_round_up((uintptr_t)base, STN_STAGING_BLOCK);
	staging->small = staging->huge + ARENA;
	stn_sys_madvise(staging->huge, ARENA, MADV_HUGEPAGE);
	stn_sys_madvise(staging->small, ARENA, MADV_NOHUGEPAGE);
	return 0;
}

char *stn_staging_take(struct stn_staging *staging, bool huge, unsigned blocks)
{
	uint8_t *used = huge ? staging->huge_used : staging->small_used;
	char *base = huge ? staging->huge : staging->small;

	for (unsigned first = 0, end = 0; end < STN_STAGING_SLOTS; end++) {
		if (used[end])
			first = end + 1;
		if (end + 1 - first < blocks)
			continue;
		memset(used + first, 1, blocks);
		return base + first * STN_STAGING_BLOCK;
	}
	return NULL;
}

void stn_staging_put(struct stn_staging *staging, char *first, unsigned blocks)
{
	size_t slot;

	if (!first)
		return;
	slot = (size_t)(first - staging->huge) / STN_STAGING_BLOCK;
	if (slot < STN_STAGING_SLOTS)
		memset(staging->huge_used + slot, 0, blocks);
	else
		memset(staging->small_used + slot - STN_STAGING_SLOTS, 0, blocks);
	staging->soiled = true;
}

/* Drops runs of free slots. */
static void clean(char *base, const uint8_t *used)
{
	for (unsigned first = 0, end; first < STN_STAGING_SLOTS; first = end + 1) {
		for (end = first; end < STN_STAGING_SLOTS && !used[end];)
			end++;
		if (end > first)
			stn_sys_madvise(base + first * STN_STAGING_BLOCK,
					(end - first) * STN_STAGING_BLOCK, MADV_DONTNEED);
	}
}

void stn_staging_clean(struct stn_staging *staging)
{
	if (!staging->soiled)
		return;
	staging->soiled = false;
	clean(staging->huge, staging->huge_used);
	clean(staging->small, staging->small_used);
}
