/* SPDX-License-Identifier: Apache-2.0 */
/* What is read next for lazy fill. */
#include "lazy_engine.h"

#include <string.h>

#include "config.h"
#include "sys.h"

/* The first unit in a state, from where the last read began. lazy->units if there is none. */
static uint32_t find_unit(const struct stn_lazy *lazy, enum stn_unit state)
{
	const uint8_t *units = lazy->unit, *found;

	found = memchr(units + lazy->cursor, state, lazy->units - lazy->cursor);
	if (!found)
		found = memchr(units, state, lazy->cursor);
	return found ? (uint32_t)(found - units) : lazy->units;
}

/* Widens [*first, *end) as far as the block goes on with units in one of two states. */
static void widen(const struct stn_lazy *lazy, enum stn_unit one, enum stn_unit other,
		  uint32_t *first, uint32_t *end)
{
	uint32_t start = *first - *first % STN_LAZY_UNITS, limit = start + STN_LAZY_UNITS;

	while (*first > start && (lazy->unit[*first - 1] == one || lazy->unit[*first - 1] == other))
		--*first;
	while (*end < limit && *end < lazy->units &&
	       (lazy->unit[*end] == one || lazy->unit[*end] == other))
		++*end;
}

/* True if a whole block of units waits to be read, and none of them is a marker. */
static bool is_wanted_whole(const struct stn_lazy *lazy, uint32_t first)
{
	uint64_t from = first * STN_AHEAD_UNIT;

	if (first + STN_LAZY_UNITS > lazy->units ||
	    stn_ahead_marked(&lazy->ahead, from, from + STN_LAZY_BLOCK))
		return false;
	for (uint32_t i = first; i < first + STN_LAZY_UNITS; i++)
		if (lazy->unit[i] != STN_UNIT_WANTED)
			return false;
	return true;
}

/* The most bytes of a read that nobody waits for. What is copied into its place is there twice
 * until then. */
static uint64_t most_bytes(const struct stn_lazy *lazy)
{
	uint64_t block = lazy->moves ? stn_config.block : STN_LAZY_BLOCK;

	return lazy->pace ? stn_pace_piece(lazy->pace, block) : block;
}

/* The units to read together with one that is asked for, of the same block: as many as will be read
 * anyway, for a huge page is filled at once or not at all; but no marker with what is awaited. */
static void find_piece(const struct stn_lazy *lazy, enum stn_unit state, uint32_t *first,
		       uint32_t *count)
{
	uint64_t most = most_bytes(lazy);
	uint32_t end;

	*first = find_unit(lazy, state);
	end = *first + 1;
	widen(lazy, state, state, first, &end);
	if (state == STN_UNIT_QUEUED) {
		uint32_t from = *first, to = end;

		widen(lazy, STN_UNIT_QUEUED, STN_UNIT_WANTED, &from, &to);
		if (!stn_ahead_marked(&lazy->ahead, from * STN_AHEAD_UNIT, to * STN_AHEAD_UNIT)) {
			*first = from;
			end = to;
		}
	}
	*count = end - *first;
	if (state == STN_UNIT_WANTED && *first % STN_LAZY_UNITS == 0 &&
	    is_wanted_whole(lazy, *first))
		while (*count * STN_AHEAD_UNIT + STN_LAZY_BLOCK <= most &&
		       is_wanted_whole(lazy, *first + *count))
			*count += STN_LAZY_UNITS;
}

/* Takes staging blocks for a piece, which is cut short if they are not to be had. */
static char *take_blocks(struct stn_lazy_engine *engine, const struct stn_lazy *lazy,
			 uint32_t first, uint32_t *count)
{
	bool whole = *count >= STN_LAZY_UNITS &&
		     stn_lazy_bytes(lazy, first, *count) == *count * STN_AHEAD_UNIT;
	char *block = stn_staging_take(&engine->staging, lazy->plan.huge && whole,
				       stn_lazy_blocks(*count));

	if (block || *count <= STN_LAZY_UNITS)
		return block;
	*count = STN_LAZY_UNITS;
	return stn_staging_take(&engine->staging, lazy->plan.huge && whole, 1);
}

/* True if a mapping is to be read after another one: a file of the same model, mapped behind it and
 * not touched yet. */
static bool follows(struct stn_lazy *next, const struct stn_lazy *lazy)
{
	const struct stn_model *model = lazy->plan.model, *other = next->plan.model;

	return other != model && other->family.key == model->family.key &&
	       other->family.count > 1 && (int32_t)(next->id - lazy->id) > 0 &&
	       next->plan.prot == lazy->plan.prot && !next->surrendered && !next->ahead.touches &&
	       !next->ahead.all && stn_lazy_is_published(next);
}

/*
 * When all that is left of a mapping is being read: who goes through all of one file of a model,
 * and has mapped the next one, will want that too. Only as long as there is twice the memory for
 * it, since nobody has asked.
 */
static void follow(const struct stn_lazy_engine *engine, const struct stn_lazy *lazy)
{
	struct stn_lazy *next = NULL;

	for (uint32_t i = 0; i < STN_LAZIES; i++) {
		struct stn_lazy *each = engine->lazies[i];

		if (each && follows(each, lazy) && (!next || (int32_t)(each->id - next->id) < 0))
			next = each;
	}
	if (!next ||
	    __atomic_load_n(&engine->budget_left, __ATOMIC_RELAXED) / 2 < next->plan.length)
		return;
	next->ahead.all = true;
	next->ahead.swept = lazy->ahead.swept;
	stn_lazy_turn(next, 0, next->units, STN_UNIT_EMPTY, STN_UNIT_WANTED);
}

/* True if the mapping's mount takes another read of so many bytes. */
static bool may_read(const struct stn_lazy *lazy, uint64_t bytes, enum stn_unit state)
{
	return !lazy->pace || stn_pace_allows(lazy->pace, bytes, state == STN_UNIT_QUEUED,
					      stn_sys_clock(CLOCK_MONOTONIC));
}

/* Cuts a read of units in a state off a mapping. */
static bool cut_read(struct stn_lazy_engine *engine, struct stn_lazy *lazy, enum stn_unit state,
		     struct stn_step *step)
{
	uint32_t first, count;
	char *block;

	find_piece(lazy, state, &first, &count);
	if (!may_read(lazy, stn_lazy_bytes(lazy, first, count), state))
		return false;
	if (lazy->ahead.swept && !lazy->held_tried)
		stn_lazy_hold_begin(lazy);
	block = stn_lazy_hold_take(lazy, first, count);
	if (!block)
		block = take_blocks(engine, lazy, first, &count);
	if (!block)
		return false;
	if (lazy->pace)
		stn_pace_begin(lazy->pace, stn_lazy_bytes(lazy, first, count),
			       stn_sys_clock(CLOCK_MONOTONIC));
	stn_lazy_turn(lazy, first, count, STN_UNIT_QUEUED, STN_UNIT_AWAITED);
	stn_lazy_turn(lazy, first, count, STN_UNIT_WANTED, STN_UNIT_READING);
	lazy->cursor = first;
	lazy->running++;
	if (lazy->running > lazy->most_running)
		lazy->most_running = lazy->running;
	engine->running++;
	if (lazy->ahead.all && !lazy->counts[STN_UNIT_WANTED] && !lazy->counts[STN_UNIT_QUEUED])
		follow(engine, lazy);
	step->kind = STN_LAZY_READ;
	step->lane = lazy->index;
	step->offset = first;
	step->length = count;
	step->detail = (uintptr_t)block;
	return true;
}

/* True if more of a mapping is to be read. */
static bool is_read_on(const struct stn_lazy *lazy)
{
	return lazy && !lazy->surrendered && !lazy->changed;
}

bool stn_lazy_has_reads(const struct stn_lazy_engine *engine)
{
	if (engine->running - engine->stuck >= stn_config.threads)
		return false;
	for (uint32_t i = 0; i < STN_LAZIES; i++) {
		const struct stn_lazy *lazy = engine->lazies[i];

		if (is_read_on(lazy) &&
		    ((lazy->counts[STN_UNIT_QUEUED] && may_read(lazy, 0, STN_UNIT_QUEUED)) ||
		     (lazy->counts[STN_UNIT_WANTED] &&
		      may_read(lazy, STN_LAZY_BLOCK, STN_UNIT_WANTED))))
			return true;
	}
	return false;
}

bool stn_lazy_claim_read(struct stn_lazy_engine *engine, struct stn_step *step)
{
	static const enum stn_unit states[] = {STN_UNIT_QUEUED, STN_UNIT_WANTED};

	if (!stn_lazy_has_reads(engine))
		return false;
	for (int s = 0; s < 2; s++)
		for (uint32_t i = 0; i < STN_LAZIES; i++) {
			uint32_t at = (engine->turn + i) % STN_LAZIES;
			struct stn_lazy *lazy = engine->lazies[at];

			if (!is_read_on(lazy) || !lazy->counts[states[s]])
				continue;
			if (!cut_read(engine, lazy, states[s], step))
				continue;
			engine->turn = at + 1;
			return true;
		}
	return false;
}

void stn_lazy_settle_read(struct stn_lazy_engine *engine, const struct stn_step *step)
{
	struct stn_lazy *lazy = engine->lazies[step->lane];

	engine->running--;
	lazy->running--;
	lazy->moved_at = stn_sys_clock(CLOCK_MONOTONIC);
	if (lazy->pace)
		stn_pace_end(lazy->pace,
			     stn_lazy_bytes(lazy, (uint32_t)step->offset, (uint32_t)step->length),
			     step->elapsed, lazy->moved_at);
	if (lazy->surrendered)
		engine->stuck--;
	if (engine->running == engine->stuck && !stn_lazy_has_reads(engine))
		stn_staging_clean(&engine->staging);
}
