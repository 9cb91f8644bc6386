/* SPDX-License-Identifier: Apache-2.0 */
#include "giveback.h"

#include <errno.h>

#include "area.h"
#include "journal.h"
#include "maps.h"
#include "pool.h"
#include "region.h"
#include "sys.h"

static void record_return(uint64_t bytes)
{
	const struct stn_record record = {
		.event = "return",
		.path = "",
		.decision = STN_RETURNED_ADVICE,
		.bytes = bytes,
		.returned_bytes = bytes,
		.note = "",
	};

	if (bytes && stn_journal_wants(STN_RETURNED_ADVICE))
		stn_journal_write(&record);
}

/* Forgets the records of [start, end): something else is mapped there, or nothing. */
static void forget(uintptr_t start, uintptr_t end)
{
	struct stn_region stale;

	while (start < end && stn_region_take(start, end, &stale))
		if (stale.keeper)
			stn_sys_munmap((void *)stale.keeper, stale.end - stale.start);
}

/* Gives one piece back whose memory is ours. */
static int give_back(uintptr_t start, uintptr_t end, int prot)
{
	struct stn_region piece;
	int rc;

	if (!stn_region_take(start, end, &piece))
		return 0;
	rc = stn_area_give_back(&piece, prot);
	if (rc < 0)
		stn_region_add(&piece);
	return rc;
}

int stn_giveback(uintptr_t start, uintptr_t end)
{
	struct stn_region piece;
	uint64_t bytes = 0;
	int result = 0;

	while (start < end && stn_region_find(start, end, &piece)) {
		struct stn_maps_area area;
		int rc = 0;

		if (stn_maps_find(piece.start, piece.end, &area) < 0)
			area = (struct stn_maps_area){.start = piece.end, .end = piece.end};
		forget(piece.start, area.start);
		if (!area.ours)
			forget(area.start, area.end);
		else
			rc = give_back(area.start, area.end, area.prot);
		if (area.ours && rc == 0)
			bytes += area.end - area.start;
		if (rc < 0)
			result = rc;
		start = area.end;
	}
	record_return(bytes);
	stn_pool_settle_down();
	return result;
}
