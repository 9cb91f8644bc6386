/* SPDX-License-Identifier: Apache-2.0 */
/* Putting bytes, or the file's own mapping, where lazy fill has holes. */
#include "lazy_engine.h"

#include <errno.h>
#include <string.h>

#include "area.h"
#include "maps.h"
#include "process.h"
#include "region.h"
#include "sys.h"
#include "uffd.h"

static uintptr_t address_of(const struct stn_lazy *lazy, uint32_t unit)
{
	return (uintptr_t)lazy->plan.memory + unit * STN_AHEAD_UNIT;
}

/* Where a piece ends, in pages. */
static uintptr_t end_of(const struct stn_lazy *lazy, uint32_t first, uint32_t count)
{
	return address_of(lazy, first) +
	       stn_round_up(stn_lazy_bytes(lazy, first, count), stn_page_size());
}

/*
 * Copies into the holes of [to, to + size). Pages that are there already stay as they are; what is
 * not ours any more, unmapped or covered behind our back, is passed over. The kernel copies into
 * one area at a time, hence the halves. 0 or -errno.
 */
static int copy(const struct stn_lazy *lazy, uintptr_t to, const char *from, size_t size)
{
	size_t page = stn_page_size(), at = 0, length = size;

	while (at < size) {
		size_t done = 0;
		int rc = stn_uffd_copy(lazy->uffd, (void *)(to + at), from + at, length, &done);

		at += done;
		if (rc < 0 && rc != -EAGAIN && rc != -EEXIST && rc != -ENOENT && rc != -EINVAL)
			return rc;
		if ((rc == -ENOENT || rc == -EINVAL) && length > page)
			length = stn_round_up(length / 2, page);
		else if (rc == 0 || rc == -EAGAIN)
			length = size - at;
		else
			at += page;
		length = stn_min(length, size - at);
	}
	return 0;
}

/* Fills the holes of [to, to + size), by moving the pages if that can be done. 0 or -errno. */
static int put(const struct stn_lazy *lazy, uintptr_t to, char *from, size_t size)
{
	size_t at = 0, done;
	int rc = lazy->moves ? -EAGAIN : 0;

	while (rc == -EAGAIN && at < size) {
		rc = stn_uffd_move(lazy->uffd, (void *)(to + at), from + at, size - at, &done);
		at += done;
	}
	/* Another access by now, a page that the kernel holds, an older kernel. */
	return at < size ? copy(lazy, to + at, from + at, size - at) : 0;
}

/* Places what is still registered of a piece. 0 or -errno. */
static int put_piece(const struct stn_lazy *lazy, const struct stn_lazy_piece *piece)
{
	uintptr_t start = address_of(lazy, piece->first);
	uintptr_t end = end_of(lazy, piece->first, piece->count), at = start;
	struct stn_region region;
	int rc = 0;

	for (; rc == 0 && stn_region_find(at, end, &region); at = region.end)
		if (region.lazy == lazy->id)
			rc = put(lazy, region.start, piece->block + (region.start - start),
				 region.end - region.start);
	stn_uffd_wake(lazy->uffd, (void *)start, end - start);
	return rc;
}

void stn_lazy_wake(const struct stn_lazy *lazy, uint32_t first, uint32_t count)
{
	uintptr_t start = address_of(lazy, first);

	stn_uffd_wake(lazy->uffd, (void *)start, end_of(lazy, first, count) - start);
}

void stn_lazy_tell(struct stn_lazy_engine *engine, struct stn_lazy *lazy)
{
	lazy->moved_at = stn_sys_clock(CLOCK_MONOTONIC);
	__atomic_fetch_add(&engine->news, 1, __ATOMIC_RELEASE);
	stn_sys_futex_wake(&engine->news, INT32_MAX);
}

void stn_lazy_place(struct stn_lazy_engine *engine, struct stn_lazy *lazy,
		    const struct stn_lazy_piece *piece)
{
	struct stn_process *process = stn_process_peek();
	int rc = put_piece(lazy, piece);
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	stn_staging_put(&engine->staging, piece->block);
	stn_lazy_turn(lazy, piece->first, piece->count, STN_UNIT_PLACING,
		      rc < 0 ? STN_UNIT_READING : STN_UNIT_PRESENT);
	stn_lazy_tell(engine, lazy);
	stn_lock_leave(&process->pool_lock, mask);
	if (rc < 0)
		stn_lazy_return_units(lazy, piece->first, piece->count);
}

/* Takes a piece that is kept back, to be placed; false if there is none. */
static bool take_kept(struct stn_lazy *lazy, struct stn_lazy_piece *piece)
{
	for (uint32_t i = 0; i < STN_LAZY_KEPT; i++) {
		if (!lazy->kept[i].block)
			continue;
		*piece = lazy->kept[i];
		lazy->kept[i].block = NULL;
		stn_lazy_turn(lazy, piece->first, piece->count, STN_UNIT_KEPT, STN_UNIT_PLACING);
		return true;
	}
	return false;
}

void stn_lazy_place_kept(struct stn_lazy_engine *engine, struct stn_lazy *lazy)
{
	struct stn_process *process = stn_process_peek();
	struct stn_lazy_piece piece;
	bool found = true;

	while (found) {
		uint64_t mask = stn_lock_enter(&process->pool_lock);

		found = take_kept(lazy, &piece);
		stn_lock_leave(&process->pool_lock, mask);
		if (found)
			stn_lazy_place(engine, lazy, &piece);
	}
}

/*
 * Puts the file's own mapping in the place of a registered piece, or of its first part that is one
 * area to the kernel; if that cannot be done a touch of it is a SIGBUS. What has been unmapped or
 * covered behind our back is passed over. Returns where it stopped.
 */
static uintptr_t give_piece(struct stn_lazy *lazy, const struct stn_region *region)
{
	struct stn_maps_area area = {region->start, region->end, lazy->plan.prot, false, true, 0};
	struct stn_region piece;
	int rc = stn_maps_find(region->start, region->end, &area);

	if (rc == -ENOENT || !area.ours)
		return rc == -ENOENT ? region->end : area.end;
	lazy->returned_bytes += area.end - area.start;
	if (!stn_region_replace(area.start, area.end, stn_area_give_back, area.prot, &piece))
		stn_uffd_poison(lazy->uffd, (void *)area.start, area.end - area.start);
	return area.end;
}

/* Gives what is registered of a range of units to the file. */
static void give(struct stn_lazy *lazy, uint32_t first, uint32_t count)
{
	uintptr_t start = address_of(lazy, first), end = end_of(lazy, first, count), at = start;
	struct stn_region region;

	while (stn_region_find(at, end, &region))
		at = region.lazy == lazy->id ? give_piece(lazy, &region) : region.end;
	stn_uffd_wake(lazy->uffd, (void *)start, end - start);
}

void stn_lazy_return_units(struct stn_lazy *lazy, uint32_t first, uint32_t count)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask;

	give(lazy, first, count);
	mask = stn_lock_enter(&process->pool_lock);
	stn_lazy_turn(lazy, first, count, STN_UNIT_READING, STN_UNIT_GONE);
	stn_lazy_turn(lazy, first, count, STN_UNIT_AWAITED, STN_UNIT_GONE);
	stn_lazy_tell(process->lazy, lazy);
	stn_lock_leave(&process->pool_lock, mask);
}

/* The offset in the file of the first byte that is being read, those first that the program waits
 * for. Pool lock held. */
static uint64_t find_awaited(const struct stn_lazy *lazy)
{
	const uint8_t *unit = memchr(lazy->unit, STN_UNIT_AWAITED, lazy->units);

	if (!unit)
		unit = memchr(lazy->unit, STN_UNIT_READING, lazy->units);
	return lazy->plan.offset + (unit ? (uint64_t)(unit - lazy->unit) * STN_AHEAD_UNIT : 0);
}

void stn_lazy_surrender(struct stn_lazy_engine *engine, struct stn_lazy *lazy,
			enum stn_decision why)
{
	static const enum stn_unit unread[] = {STN_UNIT_EMPTY, STN_UNIT_WANTED, STN_UNIT_QUEUED,
					       STN_UNIT_READING, STN_UNIT_AWAITED};
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	bool first = !lazy->surrendered;

	if (first) {
		lazy->surrendered = lazy->surrendering = true;
		lazy->outcome = why;
		lazy->stuck_at = find_awaited(lazy);
		engine->stuck += lazy->running;
		for (size_t i = 0; i < sizeof(unread) / sizeof(unread[0]); i++)
			stn_lazy_turn(lazy, 0, lazy->units, unread[i], STN_UNIT_GONE);
	}
	stn_lock_leave(&process->pool_lock, mask);
	if (!first)
		return;
	stn_lazy_place_kept(engine, lazy);
	for (uint32_t i = 0; i < lazy->units; i++) {
		uint32_t from = i;

		while (i < lazy->units && lazy->unit[i] == STN_UNIT_GONE)
			i++;
		if (i > from)
			give(lazy, from, i - from);
	}
	mask = stn_lock_enter(&process->pool_lock);
	lazy->surrendering = false;
	lazy->to_record = true;
	stn_lazy_tell(engine, lazy);
	stn_lock_leave(&process->pool_lock, mask);
}
