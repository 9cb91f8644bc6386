/* SPDX-License-Identifier: Apache-2.0 */
#include "giveback.h"

#include <errno.h>

#include "area.h"
#include "journal.h"
#include "lazy.h"
#include "maps.h"
#include "pool.h"
#include "region.h"
#include "sys.h"

#define UNKNOWN (-1) /* access of memory that could not be looked at */

/* Says that a piece has become the file's own mapping. */
static void record_return(const struct stn_region *piece)
{
	char path[4096];
	struct stn_record record = {
		.event = "return",
		.path = path,
		.decision = STN_RETURNED_ADVICE,
		.file_system = piece->file_system,
		.bytes = piece->end - piece->start,
		.returned_bytes = piece->end - piece->start,
		.note = "",
	};

	if (!stn_journal_wants(STN_RETURNED_ADVICE))
		return;
	stn_maps_path(piece->start, path, sizeof(path));
	stn_journal_write(&record);
}

/* Gives the first piece of an area of ours back. 0 or -errno. */
static int give_back(const struct stn_maps_area *area, bool locked_too)
{
	const int mlock_on_fault = 1;
	struct stn_region piece;

	if (area->prot == UNKNOWN)
		return -EAGAIN;
	if (area->locked && !locked_too)
		return -EINVAL;
	if (!stn_region_find(area->start, area->end, &piece))
		return 0;
	if (!piece.keeper)
		return -ENODEV;
	if (!stn_region_replace(piece.start, piece.end, stn_area_give_back, area->prot, &piece))
		return stn_region_find(piece.start, piece.end, &piece) ? -ENOMEM : 0;
	stn_lazy_cut(piece.lazy, piece.start, piece.end);
	if (area->locked)
		stn_sys_call(SYS_mlock2, (long)piece.start, (long)(piece.end - piece.start),
			     mlock_on_fault, 0, 0, 0);
	record_return(&piece);
	return 0;
}

/*
 * Finds the first memory of ours in [start, end), forgetting stale records on the way. True if
 * there is some: *area is the part of it that the kernel holds as one piece.
 */
static bool next_of_ours(uintptr_t start, uintptr_t end, struct stn_maps_area *area)
{
	struct stn_region piece;

	while (start < end && stn_region_find(start, end, &piece)) {
		int rc = stn_maps_find(piece.start, piece.end, area);

		/* Nothing can be found out without a thread: such a record is taken at its word. */
		if (rc < 0 && rc != -ENOENT)
			*area = (struct stn_maps_area){.start = piece.start,
						       .end = piece.end,
						       .prot = UNKNOWN,
						       .ours = true};
		else if (rc < 0)
			*area = (struct stn_maps_area){.start = piece.end, .end = piece.end};
		stn_region_forget(piece.start, area->start);
		if (area->ours)
			return true;
		stn_region_forget(area->start, area->end);
		start = area->end;
	}
	return false;
}

bool stn_giveback_prune(uintptr_t start, uintptr_t end)
{
	struct stn_maps_area area;
	bool found = false;

	while (next_of_ours(start, end, &area)) {
		found = true;
		start = area.end;
	}
	stn_pool_settle_down();
	return found;
}

int stn_giveback(uintptr_t start, uintptr_t end, bool locked_too)
{
	struct stn_maps_area area;
	int result = 0;

	while (next_of_ours(start, end, &area)) {
		int rc = give_back(&area, locked_too);

		if (rc < 0)
			result = rc;
		start = rc == -EINVAL ? end : area.end;
	}
	stn_pool_settle_down();
	return result;
}
