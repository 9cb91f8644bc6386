/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lazily filled mappings and fork. The memory is not inherited (MADV_DONTFORK) while it has holes,
 * for a child would read them as zeros. Just before a fork the filled parts are made heritable, and
 * marked; in the child everything else is filled up with pieces of the keeper. Nothing is locked
 * meanwhile: what is filled after the marks were set the child takes from the file.
 */
#include "lazy_engine.h"

#include <errno.h>
#include <string.h>

#include "area.h"
#include "process.h"
#include "region.h"
#include "sys.h"

#define PAUSES 2000 /* of a millisecond */

struct stn_lazy *stn_lazy_fork_table[STN_LAZIES];

static bool refused; /* the kernel did, since this was last looked at; pool lock */

/* "Replacements" that leave memory and record as they are: what is called with regions_lock held
 * cannot be unmapped, or become the file's own mapping, in between. */
static int inherit(const struct stn_region *piece, int id)
{
	if ((int)piece->lazy == id)
		refused |= stn_sys_madvise((void *)piece->start, piece->end - piece->start,
					   MADV_DOFORK) < 0;
	return -EAGAIN;
}

static int withhold(const struct stn_region *piece, int id)
{
	if ((int)piece->lazy == id)
		stn_sys_madvise((void *)piece->start, piece->end - piece->start, MADV_DONTFORK);
	return -EAGAIN;
}

/* Calls one of these for what is registered of units [first, end). False if the kernel has refused
 * it for some of that. Pool lock held. */
static bool advise(const struct stn_lazy *lazy, uint32_t first, uint32_t end,
		   stn_region_replacement *how)
{
	uintptr_t at = (uintptr_t)lazy->plan.memory + first * STN_AHEAD_UNIT;
	uintptr_t limit =
		at + stn_round_up(stn_lazy_bytes(lazy, first, end - first), stn_page_size());
	struct stn_region region;

	refused = false;
	for (; stn_region_find(at, limit, &region); at = region.end)
		stn_region_replace(region.start, region.end, how, (int)lazy->id, &region);
	return !refused;
}

/* True if a unit is where the program may have stored into it. */
static bool is_filled(const struct stn_lazy *lazy, uint32_t unit)
{
	return lazy->unit[unit] == STN_UNIT_PRESENT || lazy->unit[unit] == STN_UNIT_PEEKED;
}

/* Makes the filled units heritable, then marks them. Pool lock held. */
static void prepare(struct stn_lazy *lazy)
{
	for (uint32_t i = 0; !lazy->plain && i < lazy->units; i++) {
		uint32_t first = i;

		while (i < lazy->units && is_filled(lazy, i))
			i++;
		if (i == first)
			continue;
		/* With too many areas: a child has the file's bytes for what nobody can have stored
		 * into, and for the rest nothing. */
		if (!advise(lazy, first, i, inherit) && !(lazy->plan.prot & PROT_WRITE) &&
		    !lazy->accesses)
			continue;
		for (uint32_t unit = first; unit < i; unit++)
			lazy->inherited[unit / 8] |= (uint8_t)(1 << unit % 8);
	}
}

/*
 * True if a unit is being placed, the first at or after the given place: *index in the table and
 * *unit are set to it.
 */
static bool find_placing(struct stn_process *process, uint32_t *index, uint32_t *unit)
{
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	const uint8_t *found = NULL;

	for (; !found && *index < STN_LAZIES; *unit = 0, ++*index) {
		const struct stn_lazy *lazy = process->lazy->lazies[*index];

		if (lazy && lazy->counts[STN_UNIT_PLACING] && *unit < lazy->units)
			found = memchr(lazy->unit + *unit, STN_UNIT_PLACING, lazy->units - *unit);
		if (!found)
			continue;
		*unit = (uint32_t)(found - lazy->unit);
		break;
	}
	stn_lock_leave(&process->pool_lock, mask);
	return found != NULL;
}

/*
 * Waits until what is being placed has been marked as present: the caller may have stored into it
 * already, and its child must see that. What is placed from now on behind the place that has been
 * looked at is not waited for. Placing waits for no server. No lock held.
 */
static void await_placed(struct stn_process *process)
{
	const uint64_t pause = 10000000;
	uint32_t index = 0, unit = 0;

	for (;;) {
		uint32_t seen = __atomic_load_n(&process->lazy->news, __ATOMIC_ACQUIRE);

		if (!find_placing(process, &index, &unit))
			return;
		stn_sys_futex_wait(&process->lazy->news, seen, pause);
	}
}

/* Marks what is held of all mappings, to be placed. False if there is nothing. Pool lock held. */
static bool enter_all(const struct stn_lazy_engine *engine)
{
	bool any = false;

	for (uint32_t i = 0; i < STN_LAZIES; i++) {
		struct stn_lazy *lazy = engine->lazies[i];

		if (!lazy || !lazy->counts[STN_UNIT_HELD])
			continue;
		stn_lazy_hold_enter(lazy, 0, lazy->units);
		any = true;
	}
	return any;
}

/* Has what is held placed, for the child: it would have to take it from the file, and gets the
 * right bytes all the same if this takes too long. No lock held. */
static void release_held(struct stn_process *process)
{
	const uint64_t pause = 1000000;
	struct stn_lazy_engine *engine = process->lazy;
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	uint32_t begun = engine->looks_begun;
	bool waits = enter_all(engine);

	stn_lock_leave(&process->pool_lock, mask);
	if (waits)
		stn_lazy_ring(engine);
	/* Until a look has ended that has begun since. */
	for (uint32_t i = 0; waits && i < PAUSES; i++) {
		mask = stn_lock_enter(&process->pool_lock);
		waits = (int32_t)(engine->looks_ended - begun) <= 0;
		stn_lock_leave(&process->pool_lock, mask);
		if (waits)
			stn_sys_sleep(pause);
	}
}

void stn_lazy_fork_prepare(void)
{
	struct stn_process *process = stn_lazy_any() ? stn_process_get() : NULL;
	uint64_t mask;

	if (!process)
		return;
	if (!process->lazy) {
		stn_lazy_forget_all();
		return;
	}
	release_held(process);
	/* From here on nothing that is there goes away for a moment, to be put back. */
	mask = stn_lock_enter(&process->pool_lock);
	process->lazy->forks++;
	stn_lock_leave(&process->pool_lock, mask);
	await_placed(process);
	mask = stn_lock_enter(&process->pool_lock);
	for (uint32_t i = 0; i < STN_LAZIES; i++)
		if (process->lazy->lazies[i])
			prepare(process->lazy->lazies[i]);
	stn_lock_leave(&process->pool_lock, mask);
}

/* Takes the marks off a mapping and makes all of it unheritable. Pool lock held. */
static void restore(struct stn_lazy *lazy)
{
	advise(lazy, 0, lazy->units, withhold);
	memset(lazy->inherited, 0, (lazy->units + 7) / 8);
}

void stn_lazy_fork_parent(void)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask;

	/* The engine is there if there was one before the fork. */
	if (!process || !process->lazy || !process->lazy->forks)
		return;
	mask = stn_lock_enter(&process->pool_lock);
	if (--process->lazy->forks == 0)
		for (uint32_t i = 0; i < STN_LAZIES; i++)
			if (process->lazy->lazies[i])
				restore(process->lazy->lazies[i]);
	stn_lock_leave(&process->pool_lock, mask);
}

/* Fills [start, end), which the child has not inherited, up with the file's own mapping. */
static void fill_up(const struct stn_lazy *lazy, uintptr_t start, uintptr_t end)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
	struct stn_region piece;

	for (; stn_region_find(start, end, &piece); start = piece.end) {
		size_t size = piece.end - piece.start;
		void *place;

		if (piece.lazy != lazy->id)
			continue;
		/* What is mapped there already has been filled since the marks were set, or is a
		 * stranger's. */
		place = stn_sys_mmap((void *)piece.start, size, PROT_NONE, flags, -1, 0);
		if (place == (void *)piece.start &&
		    stn_region_replace(piece.start, piece.end, stn_area_give_back, lazy->plan.prot,
				       &piece))
			stn_lazy_restore_access(lazy, piece.start, piece.end);
		else if (place != (void *)piece.start && !stn_sys_failed(place))
			stn_sys_munmap(place, size);
	}
}

/* In the child: fills up all that is not marked. */
static void complete(const struct stn_lazy *lazy)
{
	uintptr_t start = (uintptr_t)lazy->plan.memory;
	uintptr_t end = start + stn_round_up(lazy->plan.length, stn_page_size());

	for (uint32_t i = 0; i < lazy->units; i++) {
		uint32_t first = i;

		while (i < lazy->units && !(lazy->inherited[i / 8] >> i % 8 & 1))
			i++;
		if (i > first)
			fill_up(lazy, start + first * STN_AHEAD_UNIT,
				stn_min(start + i * STN_AHEAD_UNIT, end));
	}
	stn_region_settle(start, end, lazy->id);
}

void stn_lazy_fork_child(void)
{
	if (!stn_lazy_any())
		return;
	for (uint32_t i = 0; i < STN_LAZIES; i++) {
		struct stn_lazy *lazy = stn_lazy_fork_table[i];

		if (!lazy)
			continue;
		stn_lazy_fork_table[i] = NULL;
		complete(lazy);
		stn_sys_munmap(lazy, lazy->mapped);
	}
	stn_lazy_forget_all();
}
