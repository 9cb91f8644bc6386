/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a sweep reads ahead (ahead.h) and nobody may ever use: it is held, block by block, where the
 * program does not see it, until it goes into the tensor. As long as it is held other mappings of
 * the same file can copy it, as the file has it, instead of reading it again: a loader that makes
 * all tensors, drops half of them and maps the file anew for each of those when its turn comes.
 *
 * The first touch of a tensor is no use of it: a copy of one unit is placed, and the block stays
 * held, unless there are many such copies by now. When the block is placed after that, what is
 * there is moved out, put into the block, and all of it moved in as one: the program may have
 * stored into it, and a huge page has room only where there is nothing. Nothing of this happens
 * while the process forks.
 */
#include "lazy_engine.h"

#include <errno.h>
#include <string.h>

#include "process.h"
#include "region.h"
#include "sys.h"
#include "tensors.h"
#include "uffd.h"

/* Of a block: */
#define HOLDS	1u /* its place among what is held has the whole of it, or is being read into */
#define BUSY	2u /* a thread reads, copies or places it, and looks at it again then */
#define ENTERED 4u /* it is not to be held any more */

#define CERTAIN 16  /* tensors in a row: more than most layers have */
#define COPIES	512 /* units that are there and held as well, of all mappings: 32 MiB */

static uintptr_t address_of(const struct stn_lazy *lazy, uint32_t block)
{
	return (uintptr_t)lazy->plan.memory + block * STN_LAZY_BLOCK;
}

static char *held_at(const struct stn_lazy *lazy, uint32_t block)
{
	return lazy->held + block * STN_LAZY_BLOCK;
}

/* Where the pages of a block are moved while the rest of it comes. */
static char *aside_at(const struct stn_lazy *lazy, uint32_t block)
{
	return held_at(lazy, block) + stn_round_up(lazy->plan.length, STN_LAZY_BLOCK);
}

static uint32_t units_of(const struct stn_lazy *lazy, uint32_t block)
{
	return (uint32_t)stn_min(STN_LAZY_UNITS, lazy->units - block * STN_LAZY_UNITS);
}

char *stn_lazy_hold_take(struct stn_lazy *lazy, uint32_t first, uint32_t count)
{
	uint32_t block = first / STN_LAZY_UNITS, end = (first + count) / STN_LAZY_UNITS;

	/* The last block is held only if the file has all of it. */
	if (!lazy->held || first % STN_LAZY_UNITS || count % STN_LAZY_UNITS ||
	    stn_lazy_bytes(lazy, first, count) != count * STN_AHEAD_UNIT)
		return NULL;
	for (uint32_t i = block; i < end; i++)
		if (lazy->blocks[i])
			return NULL;
	memset(lazy->blocks + block, HOLDS | BUSY, end - block);
	return held_at(lazy, block);
}

bool stn_lazy_is_held(const struct stn_lazy *lazy, const struct stn_lazy_piece *piece)
{
	return lazy->held && piece->block == lazy->held + piece->first * STN_AHEAD_UNIT;
}

/* True if one of a block's units is in a state. Pool lock held. */
static bool has(const struct stn_lazy *lazy, uint32_t block, enum stn_unit state)
{
	return memchr(lazy->unit + block * STN_LAZY_UNITS, state, units_of(lazy, block)) != NULL;
}

/* Gives pages back, also those that mlockall has locked. */
static void discard(char *memory, size_t size)
{
	if (stn_sys_madvise(memory, size, MADV_DONTNEED) == 0)
		return;
	stn_sys_munlock(memory, size);
	stn_sys_madvise(memory, size, MADV_DONTNEED);
}

/* What is held of a block is held no more. Pool lock held. */
static void let_go(struct stn_lazy *lazy, uint32_t block)
{
	discard(held_at(lazy, block), STN_LAZY_BLOCK);
	lazy->blocks[block] &= (uint8_t) ~(HOLDS | BUSY);
}

/* Lets go of a block that nothing is missing of. Pool lock held. */
static void drop(struct stn_lazy *lazy, uint32_t block)
{
	if ((lazy->blocks[block] & (HOLDS | BUSY)) != HOLDS || has(lazy, block, STN_UNIT_HELD) ||
	    has(lazy, block, STN_UNIT_AWAITED))
		return;
	stn_lazy_turn(lazy, block * STN_LAZY_UNITS, units_of(lazy, block), STN_UNIT_PEEKED,
		      STN_UNIT_PRESENT);
	let_go(lazy, block);
}

void stn_lazy_hold_forget(struct stn_lazy *lazy, uint32_t first, uint32_t count)
{
	uint32_t end = (first + count + STN_LAZY_UNITS - 1) / STN_LAZY_UNITS;

	for (uint32_t block = first / STN_LAZY_UNITS; lazy->held && block < end; block++)
		drop(lazy, block);
}

void stn_lazy_hold_enter(struct stn_lazy *lazy, uint32_t first, uint32_t count)
{
	uint32_t end = (first + count + STN_LAZY_UNITS - 1) / STN_LAZY_UNITS;

	for (uint32_t block = first / STN_LAZY_UNITS; block < end; block++)
		lazy->blocks[block] |= ENTERED;
	lazy->release |= lazy->counts[STN_UNIT_HELD] != 0;
}

/*
 * The program goes into the tensor that a unit lies in: marks its blocks. After many tensors in a
 * row those that follow will be wanted too: an eighth as many. Pool lock held.
 */
static void enter_tensor(struct stn_lazy *lazy, uint32_t unit)
{
	const struct stn_tensors *tensors = lazy->ahead.tensors;
	uint32_t first = stn_tensors_start(tensors, unit), end = stn_tensors_next(tensors, unit);
	bool on = first >= lazy->entered_to && first - lazy->entered_to <= STN_LAZY_UNITS;
	uint32_t more;

	lazy->entered = on ? lazy->entered + 1 : 1;
	more = lazy->entered < CERTAIN ? 0 : lazy->entered / 8;
	for (; more && end < lazy->units; more--) {
		end = stn_tensors_next(tensors, end);
		lazy->entered++;
	}
	lazy->entered_to = end = (uint32_t)stn_min(end, lazy->units);
	for (uint32_t i = first / STN_LAZY_UNITS; i <= (end - 1) / STN_LAZY_UNITS; i++)
		lazy->blocks[i] |= ENTERED;
}

/* True if as much memory is there twice as may be. Pool lock held. */
static bool is_enough(const struct stn_lazy_engine *engine)
{
	uint32_t copies = 0;

	for (uint32_t i = 0; i < STN_LAZIES; i++)
		if (engine->lazies[i])
			copies += engine->lazies[i]->counts[STN_UNIT_PEEKED];
	return copies >= COPIES;
}

bool stn_lazy_hold_touch(const struct stn_lazy_engine *engine, struct stn_lazy *lazy, uint32_t unit)
{
	if (!lazy->held)
		return false;
	if (lazy->ahead.tensors && !stn_tensors_begins(lazy->ahead.tensors, unit))
		enter_tensor(lazy, unit);
	else if (!lazy->ahead.tensors || is_enough(engine))
		lazy->blocks[unit / STN_LAZY_UNITS] |= ENTERED;
	stn_lazy_turn(lazy, unit, 1, STN_UNIT_HELD, STN_UNIT_AWAITED);
	return lazy->blocks[unit / STN_LAZY_UNITS] & (HOLDS | ENTERED);
}

bool stn_lazy_hold_is_busy(const struct stn_lazy *lazy, uint32_t unit)
{
	return lazy->blocks[unit / STN_LAZY_UNITS] & BUSY;
}

/* What is to be done next with a block. */
enum step {
	NOTHING,
	PEEK,  /* place a copy of one unit */
	PLACE, /* place all of it */
};

/* Takes the units of which a copy is there, if all of the block can be made one. Pool lock held. */
static void take_peeked(const struct stn_lazy_engine *engine, struct stn_lazy *lazy,
			struct stn_lazy_piece *piece)
{
	const uint8_t *unit = lazy->unit + piece->first;

	/* Nothing that is there may be missing for a moment while the process forks. And where
	 * units are there in part nobody knows which have been stored into. */
	if (engine->forks || lazy->mixed || piece->count < STN_LAZY_UNITS)
		return;
	for (uint32_t i = 0; i < piece->count; i++)
		if (unit[i] != STN_UNIT_PLACING && unit[i] != STN_UNIT_PEEKED)
			return;
	for (uint32_t i = 0; i < piece->count; i++)
		piece->stored |= unit[i] == STN_UNIT_PEEKED ? 1u << i : 0;
	stn_lazy_turn(lazy, piece->first, piece->count, STN_UNIT_PEEKED, STN_UNIT_PLACING);
}

/* Takes the next step of a block, whose units are marked for it. Pool lock held. */
static enum step take_step(const struct stn_lazy_engine *engine, struct stn_lazy *lazy,
			   uint32_t block, struct stn_lazy_piece *piece)
{
	uint32_t first = block * STN_LAZY_UNITS, count = units_of(lazy, block);
	const uint8_t *awaited = memchr(lazy->unit + first, STN_UNIT_AWAITED, count);

	if ((lazy->blocks[block] & (HOLDS | BUSY)) != HOLDS)
		return NOTHING;
	*piece = (struct stn_lazy_piece){first, count, held_at(lazy, block), false, 0};
	if (lazy->blocks[block] & ENTERED && (awaited || has(lazy, block, STN_UNIT_HELD))) {
		stn_lazy_turn(lazy, first, count, STN_UNIT_AWAITED, STN_UNIT_PLACING);
		stn_lazy_turn(lazy, first, count, STN_UNIT_HELD, STN_UNIT_PLACING);
		take_peeked(engine, lazy, piece);
	} else if (awaited) {
		piece->first = (uint32_t)(awaited - lazy->unit);
		piece->count = 1;
		piece->block += (piece->first - first) * STN_AHEAD_UNIT;
		piece->held = true;
		stn_lazy_turn(lazy, piece->first, 1, STN_UNIT_AWAITED, STN_UNIT_PLACING);
	} else {
		drop(lazy, block);
		return NOTHING;
	}
	lazy->blocks[block] |= BUSY;
	return piece->held ? PEEK : PLACE;
}

/* Moves what is there of a unit into what is held of it. False if not all of it could be. */
static bool move_out(const struct stn_lazy *lazy, uint32_t block, uint32_t unit)
{
	const int again = -EAGAIN;
	size_t within = unit * STN_AHEAD_UNIT, at = 0, done = 1;
	char *aside = aside_at(lazy, block) + within, *held = held_at(lazy, block) + within;
	uintptr_t there = address_of(lazy, block) + within;
	int rc = again;

	while (rc == again && at < STN_AHEAD_UNIT && done) {
		rc = stn_uffd_move(lazy->uffd, aside + at, (void *)(there + at),
				   STN_AHEAD_UNIT - at, &done);
		at += done;
	}
	memcpy(held, aside, at);
	discard(aside, STN_AHEAD_UNIT);
	return at == STN_AHEAD_UNIT;
}

/* A "replacement" that has the kernel free the page table of what is missing as a whole: with
 * regions_lock held it cannot become anybody else's meanwhile. */
static int free_table(const struct stn_region *piece, int id)
{
	if ((int)piece->lazy == id)
		stn_sys_madvise((void *)piece->start, piece->end - piece->start, MADV_DONTNEED);
	return -EAGAIN;
}

/* Makes a block that is held, and of which a part is there, one. What cannot be moved stays there
 * and is passed over when the rest is placed. */
static void merge(const struct stn_lazy *lazy, uint32_t block, uint32_t stored)
{
	uintptr_t start = address_of(lazy, block);
	struct stn_region region;
	bool all = true;

	/* A part of it may be the program's own, or the file's. */
	if (!stn_region_find(start, start + STN_LAZY_BLOCK, &region) || region.lazy != lazy->id ||
	    region.start != start || region.end != start + STN_LAZY_BLOCK)
		return;
	for (uint32_t i = 0; i < STN_LAZY_UNITS; i++)
		if (stored >> i & 1)
			all &= move_out(lazy, block, i);
	if (all)
		stn_region_replace(start, start + STN_LAZY_BLOCK, free_table, (int)lazy->id,
				   &region);
}

/* A block is at rest again. Pool lock held. */
static void rest(struct stn_lazy *lazy, uint32_t block)
{
	lazy->blocks[block] &= (uint8_t)~BUSY;
	drop(lazy, block);
}

static void settle_block(struct stn_lazy_engine *engine, struct stn_lazy *lazy, uint32_t block)
{
	struct stn_process *process = stn_process_peek();
	struct stn_lazy_piece piece;
	enum step step = PEEK;

	while (step != NOTHING) {
		uint64_t mask = stn_lock_enter(&process->pool_lock);

		step = take_step(engine, lazy, block, &piece);
		stn_lock_leave(&process->pool_lock, mask);
		if (step == NOTHING)
			return;
		if (piece.stored)
			merge(lazy, block, piece.stored);
		stn_lazy_place(engine, lazy, &piece);
		mask = stn_lock_enter(&process->pool_lock);
		if (step == PLACE) {
			stn_lazy_turn(lazy, block * STN_LAZY_UNITS, units_of(lazy, block),
				      STN_UNIT_PEEKED, STN_UNIT_PRESENT);
			let_go(lazy, block);
		} else {
			rest(lazy, block);
		}
		stn_lock_leave(&process->pool_lock, mask);
	}
}

void stn_lazy_hold_settle(struct stn_lazy_engine *engine, struct stn_lazy *lazy, uint32_t first,
			  uint32_t count)
{
	uint32_t end = (first + count + STN_LAZY_UNITS - 1) / STN_LAZY_UNITS;

	for (uint32_t block = first / STN_LAZY_UNITS; lazy->held && block < end; block++)
		if (lazy->blocks[block] & HOLDS)
			settle_block(engine, lazy, block);
}

void stn_lazy_hold_serve(struct stn_lazy_engine *engine, struct stn_lazy *lazy, uint32_t unit)
{
	uint32_t block = unit / STN_LAZY_UNITS, first;

	/* What the program waits for before the rest. */
	settle_block(engine, lazy, block);
	if (!lazy->ahead.tensors || !(lazy->blocks[block] & ENTERED))
		return;
	first = stn_tensors_start(lazy->ahead.tensors, unit);
	if (lazy->entered_to > first)
		stn_lazy_hold_settle(engine, lazy, first, lazy->entered_to - first);
}

void stn_lazy_hold_finish(struct stn_lazy_engine *engine, struct stn_lazy *lazy,
			  const struct stn_lazy_piece *piece)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	stn_lazy_turn(lazy, piece->first, piece->count, STN_UNIT_READING, STN_UNIT_HELD);
	for (uint32_t i = 0; i < piece->count; i += STN_LAZY_UNITS)
		rest(lazy, (piece->first + i) / STN_LAZY_UNITS);
	stn_lazy_tell(engine, lazy);
	stn_lock_leave(&process->pool_lock, mask);
	stn_lazy_hold_settle(engine, lazy, piece->first, piece->count);
	/* What has gone meanwhile. */
	stn_lazy_wake(lazy, piece->first, piece->count);
}

void stn_lazy_hold_fail(struct stn_lazy *lazy, const struct stn_lazy_piece *piece)
{
	for (uint32_t i = 0; i < piece->count; i += STN_LAZY_UNITS)
		let_go(lazy, (piece->first + i) / STN_LAZY_UNITS);
}

const char *stn_lazy_hold_lend(struct stn_lazy *lazy, uint32_t block)
{
	if (!lazy->held || (lazy->blocks[block] & (HOLDS | BUSY)) != HOLDS)
		return NULL;
	lazy->blocks[block] |= BUSY;
	lazy->lent++;
	return held_at(lazy, block);
}

void stn_lazy_hold_return(struct stn_lazy_engine *engine, struct stn_lazy *lazy, uint32_t block)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	rest(lazy, block);
	stn_lock_leave(&process->pool_lock, mask);
	settle_block(engine, lazy, block);
	mask = stn_lock_enter(&process->pool_lock);
	lazy->lent--;
	stn_lock_leave(&process->pool_lock, mask);
}
