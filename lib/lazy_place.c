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

#define PAGES ((size_t)512) /* looked at in one go */

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

/* Copies into holes, or without anything to copy makes a touch of them a SIGBUS. */
static int put_some(const struct stn_lazy *lazy, uintptr_t to, const char *from, size_t size,
		    size_t *done)
{
	return from ? stn_uffd_copy(lazy->uffd, (void *)to, from, size, done)
		    : stn_uffd_poison(lazy->uffd, (void *)to, size, done);
}

/*
 * Copies into the holes of [to, to + size), or with from NULL poisons them. Pages that are there
 * already stay as they are; what is not ours any more, unmapped or covered behind our back, is
 * passed over. The kernel copies into one area at a time, hence the halves. 0 or -errno.
 */
static int copy(const struct stn_lazy *lazy, uintptr_t to, const char *from, size_t size)
{
	size_t page = stn_page_size(), at = 0, length = size;

	while (at < size) {
		size_t done = 0;
		int rc = put_some(lazy, to + at, from ? from + at : NULL, length, &done);

		at += done;
		if (rc < 0 && rc != -EAGAIN && rc != -EEXIST && rc != -ENOENT &&
		    (rc != -EINVAL || !from))
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
static int put(const struct stn_lazy *lazy, uintptr_t to, char *from, size_t size, bool moves)
{
	size_t at = 0, done = size;
	int rc = moves ? -EAGAIN : 0;

	while (rc == -EAGAIN && at < size && done) {
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
				 region.end - region.start, lazy->moves && !piece->held);
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

void stn_lazy_look(uintptr_t start, size_t count, bool *there)
{
	const uint64_t present_or_swapped = (uint64_t)3 << 62;
	size_t page = stn_page_size();
	unsigned char resident[PAGES];
	uint64_t entries[PAGES];
	ssize_t size = (ssize_t)(count * sizeof(entries[0])), got;
	int fd = stn_sys_open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	got = fd < 0 ? fd
		     : stn_sys_pread(fd, entries, (size_t)size, start / page * sizeof(entries[0]));
	if (fd >= 0)
		stn_sys_close(fd);
	memset(resident, 0, sizeof(resident));
	if (got != size)
		stn_sys_mincore((void *)start, count * page, resident);
	for (size_t i = 0; i < count; i++)
		there[i] = got == size ? entries[i] & present_or_swapped : resident[i] & 1;
}

/* A replacement for memory that cannot be had: an empty file, all of which is behind its end. A
 * touch is a SIGBUS, whatever access the program gives it. */
static int close_off(const struct stn_region *piece, int prot)
{
	int fd = (int)stn_sys_call(SYS_memfd_create, (long)"stnommap", 0, 0, 0, 0, 0);
	void *there;

	if (fd < 0)
		return fd;
	there = stn_sys_mmap((void *)piece->start, piece->end - piece->start, prot,
			     MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd, 0);
	stn_sys_close(fd);
	return stn_sys_failed(there) ? (int)(intptr_t)there : 0;
}

/* As stn_region_replace; the program may change the access meanwhile. */
static bool replace(const struct stn_lazy *lazy, struct stn_region *region,
		    stn_region_replacement *replacement, int prot)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask;

	if (!stn_region_replace(region->start, region->end, replacement, prot, region))
		return false;
	mask = stn_lock_enter(&process->pool_lock);
	stn_lazy_restore_access(lazy, region->start, region->end);
	stn_lock_leave(&process->pool_lock, mask);
	return true;
}

/*
 * Puts the file's own mapping in the place of what is registered of missing pages that are one area
 * to the kernel; if that cannot be done a touch of them is a SIGBUS. Records may be cut at any
 * time. False if the kernel refuses that too.
 */
static bool give_missing(struct stn_lazy *lazy, uintptr_t start, uintptr_t end, int prot)
{
	struct stn_region region, left;
	bool given = true;

	lazy->returned_bytes += end - start;
	for (; stn_region_find(start, end, &region); start = region.end) {
		if (region.lazy == lazy->id && !replace(lazy, &region, stn_area_give_back, prot) &&
		    copy(lazy, region.start, NULL, region.end - region.start) < 0 &&
		    !replace(lazy, &region, close_off, prot))
			given &= !stn_region_find(region.start, region.end, &left);
	}
	return given;
}

/* The same for an area in which some pages may be there, with what the program has stored: they
 * stay. */
static bool give_holes(struct stn_lazy *lazy, uintptr_t start, uintptr_t end, int prot)
{
	bool there[PAGES], given = true;
	size_t page = stn_page_size();

	while (start < end) {
		size_t count = stn_min((end - start) / page, PAGES), first;

		stn_lazy_look(start, count, there);
		for (size_t i = 0; i < count; i++) {
			first = i;
			while (i < count && !there[i])
				i++;
			if (i > first)
				given &= give_missing(lazy, start + first * page, start + i * page,
						      prot);
		}
		start += count * page;
	}
	return given;
}

/*
 * Gives what is missing of a registered piece to the file, or of its first part that is one area to
 * the kernel. What has been unmapped or covered behind our back is passed over. *stop is set to
 * where it stopped. False if something is still missing.
 */
static bool give_piece(struct stn_lazy *lazy, const struct stn_region *region, uintptr_t *stop)
{
	struct stn_maps_area area = {
		.start = region->start, .end = region->end, .prot = lazy->plan.prot, .ours = true};
	int rc = stn_maps_find(region->start, region->end, &area);

	*stop = rc == -ENOENT ? region->end : area.end;
	if (rc == -ENOENT || !area.ours)
		return true;
	return lazy->mixed ? give_holes(lazy, area.start, area.end, area.prot)
			   : give_missing(lazy, area.start, area.end, area.prot);
}

/* Gives what is missing of a range of units to the file. False if something still is. */
static bool give(struct stn_lazy *lazy, uint32_t first, uint32_t count)
{
	uintptr_t start = address_of(lazy, first), end = end_of(lazy, first, count), at = start;
	struct stn_region region;
	bool given = true;

	while (stn_region_find(at, end, &region))
		if (region.lazy == lazy->id)
			given &= give_piece(lazy, &region, &at);
		else
			at = region.end;
	stn_uffd_wake(lazy->uffd, (void *)start, end - start);
	return given;
}

/* What the program has stored must not be the file's bytes again: a touch of that is a SIGBUS. */
static void refuse_stored(const struct stn_lazy *lazy, const struct stn_lazy_piece *piece)
{
	for (uint32_t i = 0; i < piece->count && i < STN_LAZY_UNITS; i++)
		if (piece->stored >> i & 1)
			copy(lazy, address_of(lazy, piece->first + i), NULL, STN_AHEAD_UNIT);
}

void stn_lazy_place(struct stn_lazy_engine *engine, struct stn_lazy *lazy,
		    const struct stn_lazy_piece *piece)
{
	struct stn_process *process = stn_process_peek();
	int rc = put_piece(lazy, piece);
	enum stn_unit now = piece->held ? STN_UNIT_PEEKED : STN_UNIT_PRESENT;
	uint64_t mask;

	if (rc < 0) {
		refuse_stored(lazy, piece);
		/* Some of it may be there, and stored into. */
		lazy->mixed = true;
		now = give(lazy, piece->first, piece->count) ? STN_UNIT_PRESENT : STN_UNIT_LOST;
	}
	mask = stn_lock_enter(&process->pool_lock);
	if (!stn_lazy_is_held(lazy, piece))
		stn_staging_put(&engine->staging, piece->block, stn_lazy_blocks(piece->count));
	stn_lazy_turn(lazy, piece->first, piece->count, STN_UNIT_PLACING, now);
	stn_lazy_tell(engine, lazy);
	stn_lock_leave(&process->pool_lock, mask);
	/* Not before that: a page may have been dropped again already, which is then repaired. */
	stn_lazy_wake(lazy, piece->first, piece->count);
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

void stn_lazy_return_units(struct stn_lazy *lazy, uint32_t first, uint32_t count)
{
	static const enum stn_unit states[] = {STN_UNIT_READING, STN_UNIT_AWAITED, STN_UNIT_GONE};
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	enum stn_unit now;

	/* What has been given to the file is not seen in the registry later. */
	stn_lazy_is_published(lazy);
	stn_lock_leave(&process->pool_lock, mask);
	/* What is left of them in the registry then is there. */
	now = give(lazy, first, count) ? STN_UNIT_PRESENT : STN_UNIT_LOST;
	mask = stn_lock_enter(&process->pool_lock);
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++)
		stn_lazy_turn(lazy, first, count, states[i], now);
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
		stn_lazy_hold_enter(lazy, 0, lazy->units);
	}
	stn_lock_leave(&process->pool_lock, mask);
	if (!first)
		return;
	stn_lazy_place_kept(engine, lazy);
	stn_lazy_hold_settle(engine, lazy, 0, lazy->units);
	/* The program may end as soon as it goes on. The thread that serves faults does not wait
	 * for a file. */
	if (why != STN_ABANDONED_TIMEOUT && why != STN_DECLINED_NO_THREAD)
		stn_lazy_record(lazy);
	for (uint32_t i = 0; i < lazy->units; i++) {
		uint32_t from = i;

		while (i < lazy->units && lazy->unit[i] == STN_UNIT_GONE)
			i++;
		if (i > from)
			stn_lazy_return_units(lazy, from, i - from);
	}
	mask = stn_lock_enter(&process->pool_lock);
	lazy->surrendering = false;
	lazy->to_record = true;
	stn_lazy_tell(engine, lazy);
	stn_lock_leave(&process->pool_lock, mask);
}
