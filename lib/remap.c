/* SPDX-License-Identifier: Apache-2.0 */
#include "remap.h"

#include <errno.h>

#include "giveback.h"
#include "lazy.h"
#include "maps.h"
#include "page.h"
#include "region.h"
#include "sys.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define MOST_SEGMENTS 64 /* of one call; more are refused for want of memory */

/* One area of the old range that moves as a whole. */
struct segment {
	uintptr_t start;
	size_t size;
	size_t more; /* bytes that it grows by: the last one of a growing mapping */
	int prot;
	bool ours;
	struct stn_region region; /* if ours; out of the registry while it moves */
	char *place;		  /* where it goes */
};

/* The areas of one call. */
struct segments {
	unsigned count;
	struct segment list[MOST_SEGMENTS];
};

static void *failure(int error)
{
	return (void *)(intptr_t)error;
}

bool stn_remap_shortens(const struct stn_remap_call *call)
{
	return call->new_size <= call->old_size &&
	       !(call->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP));
}

/* True if the kernel refuses these arguments whatever is mapped: then it may say so itself. */
static bool is_malformed(const struct stn_remap_call *call)
{
	const int known = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
	bool must_move = call->flags & (MREMAP_FIXED | MREMAP_DONTUNMAP);
	uintptr_t to = (uintptr_t)call->to;
	bool overlaps = call->flags & MREMAP_FIXED && to < call->old + call->old_size &&
			call->old < to + call->new_size;

	return call->old % stn_page_size() || call->flags & ~known || call->new_size == 0 ||
	       call->new_size >> 47 || overlaps || (must_move && !(call->flags & MREMAP_MAYMOVE)) ||
	       to % stn_page_size() ||
	       (call->flags & MREMAP_DONTUNMAP && call->old_size != call->new_size);
}

/* Reserves the addresses that the mapping is to have: in place if that will do and they are free.
 */
static char *find_place(const struct stn_remap_call *call)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	char *end = (char *)call->old + call->old_size, *more;

	if (call->flags & MREMAP_FIXED)
		return stn_sys_mmap(call->to, call->new_size, PROT_NONE, flags | MAP_FIXED, -1, 0);
	if (!(call->flags & MREMAP_DONTUNMAP)) {
		more = stn_sys_mmap(end, call->new_size - call->old_size, PROT_NONE,
				    flags | MAP_FIXED_NOREPLACE, -1, 0);
		if (more == end)
			return (char *)call->old;
		if (!stn_sys_failed(more))
			stn_sys_munmap(more, call->new_size - call->old_size);
	}
	if (!(call->flags & MREMAP_MAYMOVE))
		return failure(-ENOMEM);
	return stn_sys_mmap(NULL, call->new_size, PROT_NONE, flags, -1, 0);
}

static int move_to(void *from, size_t size, size_t new_size, int flags, char *place)
{
	void *moved =
		stn_sys_mremap(from, size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED | flags, place);

	return stn_sys_failed(moved) ? (int)(intptr_t)moved : 0;
}

/* Gives a piece of a keeper access and puts it at place. */
static int move_keeper(char *keeper, size_t size, int prot, char *place)
{
	int rc = stn_sys_mprotect(keeper, size, prot);

	return rc < 0 ? rc : move_to(keeper, size, size, 0, place);
}

/* Puts the file's own mapping behind a segment of ours that has been moved. */
static int grow_ours(struct segment *segment)
{
	size_t size = segment->size;
	char *keeper;

	if (!segment->region.keeper)
		return -EFAULT;
	keeper = stn_sys_mremap((void *)segment->region.keeper, size, size + segment->more,
				MREMAP_MAYMOVE, NULL);
	if (stn_sys_failed(keeper))
		return (int)(intptr_t)keeper;
	segment->region.keeper = (uintptr_t)keeper;
	return move_keeper(keeper + size, segment->more, segment->prot, segment->place + size);
}

/* Moves memory of ours, which is not copied or read again, and its record with it. */
static int move_ours(struct segment *segment, bool leave_file)
{
	char *old = (char *)segment->start;
	int rc = 0;

	if (segment->place != old)
		rc = move_to(old, segment->size, segment->size, 0, segment->place);
	if (rc == 0) {
		segment->region.start = (uintptr_t)segment->place;
		segment->region.end = segment->region.start + segment->size;
	}
	if (rc == 0 && segment->more)
		rc = grow_ours(segment);
	if (rc == 0 && leave_file && segment->region.keeper) {
		rc = move_keeper((char *)segment->region.keeper, segment->size, segment->prot, old);
		segment->region.keeper = 0;
	}
	stn_region_add(&segment->region);
	return rc;
}

/* Moves an area that is the file's own mapping, as the kernel does. */
static int move_file(const struct segment *segment, bool leave_file)
{
	size_t size = segment->size, new_size = size + segment->more;
	char *old = (char *)segment->start;

	if (segment->place != old)
		return move_to(old, size, new_size, leave_file ? MREMAP_DONTUNMAP : 0,
			       segment->place);
	if (!segment->more)
		return 0;
	stn_sys_munmap(old + size, segment->more);
	return stn_sys_failed(stn_sys_mremap(old, size, new_size, 0, NULL)) ? -ENOMEM : 0;
}

/* Finds the area that begins at address and is one piece for the kernel and for us. 0 or -EFAULT.
 */
static int next_segment(uintptr_t address, uintptr_t end, struct segment *segment)
{
	struct stn_maps_area area;
	struct stn_region *region = &segment->region;

	if (stn_maps_find(address, end, &area) < 0 || area.start != address)
		return -EFAULT;
	segment->start = address;
	segment->prot = area.prot;
	segment->ours = area.ours && stn_region_find(address, area.end, region) &&
			region->start == address && region->kind == STN_REGION_ENGAGED;
	if (segment->ours)
		area.end = region->end;
	else if (area.ours && stn_region_find(address, area.end, region))
		area.end = region->start;
	segment->size = area.end - address;
	return 0;
}

/*
 * Looks at everything before anything is moved: the areas of the old range that are kept. 0 or
 * -errno: a gap, too many areas, nothing to make the mapping longer with.
 */
static int survey(const struct stn_remap_call *call, struct segments *segments)
{
	uintptr_t start = call->old, end = call->old + stn_min(call->old_size, call->new_size);
	bool grows = call->new_size > call->old_size;

	segments->count = 0;
	while (start < end) {
		struct segment *segment = &segments->list[segments->count];
		int rc;

		if (segments->count++ == MOST_SEGMENTS)
			return -ENOMEM;
		rc = next_segment(start, end, segment);
		if (rc < 0)
			return rc;
		start += segment->size;
		segment->more = start == end && grows ? call->new_size - call->old_size : 0;
		if (segment->more && segment->ours && !segment->region.keeper)
			return -ENOMEM;
	}
	return 0;
}

/* Moves all areas to place. 0, or -errno with some moved: the kernel had no memory for its own
 * tables. */
static int move_all(const struct stn_remap_call *call, struct segments *segments, char *place)
{
	bool leave_file = (call->flags & MREMAP_DONTUNMAP) != 0;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < segments->count; i++) {
		struct segment *segment = &segments->list[i];
		uintptr_t end = segment->start + segment->size;

		segment->place = place + (segment->start - call->old);
		if (segment->ours && !stn_region_take(segment->start, end, &segment->region))
			return -ENOMEM;
		rc = segment->ours ? move_ours(segment, leave_file)
				   : move_file(segment, leave_file);
	}
	return rc;
}

/* Forgets and unmaps what a shortening move leaves behind. */
static void drop_tail(const struct stn_remap_call *call)
{
	uintptr_t start = call->old + call->new_size, end = call->old + call->old_size;

	if (start >= end)
		return;
	stn_region_forget(start, end);
	stn_sys_munmap((void *)start, end - start);
}

/* The address or the error of a call whose old range holds memory of ours. */
static void *remap(const struct stn_remap_call *call)
{
	struct segments segments;
	char *place;
	int rc = survey(call, &segments);

	if (rc < 0)
		return failure(rc);
	place = find_place(call);
	if (stn_sys_failed(place))
		return place;
	rc = move_all(call, &segments, place);
	if (rc < 0)
		return failure(rc);
	drop_tail(call);
	return place;
}

bool stn_remap(const struct stn_remap_call *call, void **address)
{
	uintptr_t end = call->old + stn_max(call->old_size, stn_page_size());
	struct stn_region piece;

	if (is_malformed(call) || stn_remap_shortens(call) ||
	    !stn_region_find(call->old, end, &piece) || !stn_giveback_prune(call->old, end))
		return false;
	/* What moves is served no longer. */
	stn_lazy_complete(call->old, end);
	if (call->old_size) {
		*address = remap(call);
		return true;
	}
	/* Duplicating works for shared maps only, which hold nothing but the file's bytes. */
	if (piece.shared)
		stn_giveback(call->old, end, true);
	return false;
}
