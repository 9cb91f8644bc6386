/* SPDX-License-Identifier: Apache-2.0 */
/* What the program's threads ask of lazy fill: see lazy.h. */
#include "lazy_engine.h"

#include <errno.h>
#include <string.h>

#include "process.h"
#include "region.h"
#include "sys.h"

/* The units that [start, end), a part of the mapping, touches. */
static void units_of(const struct stn_lazy *lazy, uintptr_t start, uintptr_t end, uint32_t *first,
		     uint32_t *count)
{
	uint64_t from = start - (uintptr_t)lazy->plan.memory;
	uint64_t to = end - (uintptr_t)lazy->plan.memory;

	*first = (uint32_t)(from / STN_AHEAD_UNIT);
	*count =
		(uint32_t)stn_min((to + STN_AHEAD_UNIT - 1) / STN_AHEAD_UNIT, lazy->units) - *first;
}

/* True if part of a unit still is in the registry. */
static bool is_registered(const struct stn_lazy *lazy, uint32_t unit)
{
	uintptr_t at = (uintptr_t)lazy->plan.memory + unit * STN_AHEAD_UNIT;
	uintptr_t end = at + stn_round_up(stn_lazy_bytes(lazy, unit, 1), stn_page_size());
	struct stn_region piece;

	for (; stn_region_find(at, end, &piece); at = piece.end)
		if (piece.lazy == lazy->id)
			return true;
	return false;
}

/* Nobody waits any more for units that have left the registry. Pool lock held. */
static void cut(struct stn_lazy *lazy, uint32_t first, uint32_t count)
{
	static const enum stn_unit unread[] = {STN_UNIT_EMPTY,	 STN_UNIT_WANTED,  STN_UNIT_QUEUED,
					       STN_UNIT_READING, STN_UNIT_AWAITED, STN_UNIT_HELD};

	if (count && is_registered(lazy, first)) {
		first++;
		count--;
	}
	if (count && is_registered(lazy, first + count - 1))
		count--;
	for (size_t i = 0; i < sizeof(unread) / sizeof(unread[0]); i++)
		stn_lazy_turn(lazy, first, count, unread[i], STN_UNIT_GONE);
	stn_lazy_turn(lazy, first, count, STN_UNIT_PEEKED, STN_UNIT_PRESENT);
	stn_lazy_hold_forget(lazy, first, count);
	lazy->flush |= lazy->counts[STN_UNIT_KEPT] != 0;
}

void stn_lazy_cut(uint32_t id, uintptr_t start, uintptr_t end)
{
	struct stn_process *process = id ? stn_process_peek() : NULL;
	struct stn_lazy_engine *engine = process ? process->lazy : NULL;
	struct stn_lazy *lazy;
	uint64_t mask;

	if (!engine)
		return;
	mask = stn_lock_enter(&process->pool_lock);
	lazy = stn_lazy_find(engine, id);
	if (lazy) {
		uint32_t first, count;

		units_of(lazy, start, end, &first, &count);
		cut(lazy, first, count);
		lazy->published = true;
		if (lazy->wake_from == lazy->wake_to)
			lazy->wake_from = first;
		lazy->wake_from = (uint32_t)stn_min(lazy->wake_from, first);
		lazy->wake_to = (uint32_t)stn_max(lazy->wake_to, first + count);
	}
	stn_lock_leave(&process->pool_lock, mask);
	if (lazy)
		stn_lazy_ring(engine);
}

/* True while a unit of a part of a mapping is being placed. */
static bool is_placing(struct stn_process *process, uint32_t id, uintptr_t start, uintptr_t end)
{
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	const struct stn_lazy *lazy = stn_lazy_find(process->lazy, id);
	uint32_t first, count = 0;
	bool is;

	if (lazy && lazy->counts[STN_UNIT_PLACING])
		units_of(lazy, start, end, &first, &count);
	is = count && memchr(lazy->unit + first, STN_UNIT_PLACING, count);
	stn_lock_leave(&process->pool_lock, mask);
	return is;
}

void stn_lazy_await_placed(uint32_t id, uintptr_t start, uintptr_t end)
{
	const uint64_t pause = 10000000;
	struct stn_process *process = id ? stn_process_peek() : NULL;

	while (process && process->lazy) {
		uint32_t seen = __atomic_load_n(&process->lazy->news, __ATOMIC_ACQUIRE);

		if (!is_placing(process, id, start, end))
			return;
		stn_sys_futex_wait(&process->lazy->news, seen, pause);
	}
}

/* Asks for the units of [start, end). Pool lock held. */
static void ask(struct stn_lazy *lazy, uintptr_t start, uintptr_t end, bool urgent)
{
	uint32_t first, count;

	units_of(lazy, start, end, &first, &count);
	if (lazy->surrendered)
		return;
	stn_lazy_turn(lazy, first, count, STN_UNIT_EMPTY,
		      urgent ? STN_UNIT_QUEUED : STN_UNIT_WANTED);
	if (urgent)
		stn_lazy_turn(lazy, first, count, STN_UNIT_WANTED, STN_UNIT_QUEUED);
	/* Nothing of it must be kept back when it has been read. */
	stn_ahead_unmark(&lazy->ahead, first * STN_AHEAD_UNIT, (first + count) * STN_AHEAD_UNIT);
	stn_lazy_turn(lazy, first, count, STN_UNIT_READING, STN_UNIT_AWAITED);
	lazy->flush |= lazy->counts[STN_UNIT_KEPT] != 0;
	stn_lazy_hold_enter(lazy, first, count);
}

/* Units of [start, end) that are neither there nor somebody else's. Pool lock held. */
static bool is_missing(const struct stn_lazy *lazy, uintptr_t start, uintptr_t end)
{
	uint32_t first, count;

	units_of(lazy, start, end, &first, &count);
	for (uint32_t i = first; i < first + count; i++)
		if (lazy->unit[i] < STN_UNIT_PEEKED)
			return true;
	return lazy->surrendering;
}

/* Asks for a part of a mapping; false if there is nothing to wait for. */
static bool ask_piece(struct stn_process *process, const struct stn_region *piece, bool urgent)
{
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	struct stn_lazy *lazy = stn_lazy_find(process->lazy, piece->lazy);
	bool missing = lazy && is_missing(lazy, piece->start, piece->end);

	if (missing)
		ask(lazy, piece->start, piece->end, urgent);
	stn_lock_leave(&process->pool_lock, mask);
	return missing;
}

/* Waits until nothing of a part of a mapping is missing. */
static void await_piece(struct stn_process *process, const struct stn_region *piece)
{
	const uint64_t pause = 100000000;
	struct stn_lazy_engine *engine = process->lazy;

	for (;;) {
		uint32_t seen = __atomic_load_n(&engine->news, __ATOMIC_ACQUIRE);

		if (!ask_piece(process, piece, true))
			return;
		if (stn_sys_futex_wait(&engine->news, seen, pause) == -ETIMEDOUT)
			stn_lazy_ring(engine);
	}
}

void stn_lazy_fill(uintptr_t start, uintptr_t end, bool wait)
{
	struct stn_process *process = stn_lazy_any() ? stn_process_get() : NULL;
	struct stn_region piece;
	bool missing = false;

	if (!process || !process->lazy)
		return;
	for (uintptr_t at = start; stn_region_find(at, end, &piece); at = piece.end)
		missing |= piece.lazy && ask_piece(process, &piece, wait);
	if (!missing)
		return;
	stn_lazy_ring(process->lazy);
	for (uintptr_t at = start; wait && stn_region_find(at, end, &piece); at = piece.end)
		if (piece.lazy)
			await_piece(process, &piece);
}

/* The whole of the mapping that a piece is a part of, while it is not plain memory. */
static bool whole_of(struct stn_process *process, const struct stn_region *piece, uintptr_t *start,
		     uintptr_t *end)
{
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	struct stn_lazy *lazy = stn_lazy_find(process->lazy, piece->lazy);

	bool found = lazy && !lazy->plain;

	if (found) {
		*start = (uintptr_t)lazy->plan.memory;
		*end = *start + stn_round_up(lazy->plan.length, stn_page_size());
	}
	stn_lock_leave(&process->pool_lock, mask);
	return found;
}

void stn_lazy_complete(uintptr_t start, uintptr_t end)
{
	const uint64_t pause = 20000000;
	struct stn_process *process = stn_lazy_any() ? stn_process_get() : NULL;
	struct stn_region piece;
	uintptr_t from, to;

	if (!process || !process->lazy)
		return;
	for (uintptr_t at = start; stn_region_find(at, end, &piece); at = piece.end)
		while (piece.lazy && whole_of(process, &piece, &from, &to)) {
			uint32_t seen = __atomic_load_n(&process->lazy->news, __ATOMIC_ACQUIRE);

			stn_lazy_fill(from, to, true);
			if (whole_of(process, &piece, &from, &to) &&
			    stn_sys_futex_wait(&process->lazy->news, seen, pause) == -ETIMEDOUT)
				stn_lazy_ring(process->lazy);
		}
}

bool stn_lazy_fails_calls(uintptr_t start, uintptr_t end)
{
	struct stn_region piece;

	if (!stn_lazy_any() || stn_lazy_kind() != STN_LAZY_USER_ONLY)
		return false;
	for (; stn_region_find(start, end, &piece); start = piece.end)
		if (piece.lazy)
			return true;
	return false;
}

/* Tells the mapping of each lazily filled piece of [start, end). */
static void
tell_pieces(uintptr_t start, uintptr_t end,
	    void (*tell)(struct stn_lazy *lazy, const struct stn_region *piece, int what), int what)
{
	struct stn_process *process = stn_lazy_any() ? stn_process_get() : NULL;
	struct stn_region piece;

	for (; process && stn_region_find(start, end, &piece); start = piece.end) {
		uint64_t mask = stn_lock_enter(&process->pool_lock);
		struct stn_lazy *lazy = stn_lazy_find(process->lazy, piece.lazy);

		if (lazy)
			tell(lazy, &piece, what);
		stn_lock_leave(&process->pool_lock, mask);
	}
}

static void note_random(struct stn_lazy *lazy, const struct stn_region *piece, int random)
{
	(void)piece;
	lazy->ahead.random = random != 0;
}

void stn_lazy_expect_random(uintptr_t start, uintptr_t end, bool random)
{
	tell_pieces(start, end, note_random, random);
}

/* Remembers another access of a part, instead of those that it covers. The oldest goes if there is
 * no room. Pool lock held. */
static void note_access(struct stn_lazy *lazy, const struct stn_region *piece, int prot)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < lazy->accesses; i++) {
		const struct stn_lazy_access *old = &lazy->access[i];

		if (old->start < piece->start || old->end > piece->end)
			lazy->access[kept++] = *old;
	}
	if (kept == STN_LAZY_ACCESSES)
		memmove(lazy->access, lazy->access + 1, --kept * sizeof(lazy->access[0]));
	lazy->access[kept++] = (struct stn_lazy_access){piece->start, piece->end, prot};
	lazy->accesses = kept;
}

void stn_lazy_restore_access(const struct stn_lazy *lazy, uintptr_t start, uintptr_t end)
{
	for (uint32_t i = 0; i < lazy->accesses; i++) {
		const struct stn_lazy_access *access = &lazy->access[i];
		uintptr_t from = stn_max(start, access->start), to = stn_min(end, access->end);

		if (from < to)
			stn_sys_mprotect((void *)from, to - from, access->prot);
	}
}

void stn_lazy_reprotect(uintptr_t start, uintptr_t end, int prot)
{
	tell_pieces(start, end, note_access, prot);
}

static _Atomic bool locked_ahead;

void stn_lazy_expect_locked(bool locked)
{
	atomic_store(&locked_ahead, locked);
}

bool stn_lazy_will_be_locked(void)
{
	return atomic_load(&locked_ahead);
}

uint64_t stn_lazy_holes(void)
{
	struct stn_lazy_engine *engine = stn_lazy_engine_peek();
	uint64_t bytes = 0;

	for (uint32_t i = 0; engine && engine->count && i < STN_LAZIES; i++)
		if (engine->lazies[i])
			bytes += stn_lazy_unread(engine->lazies[i]) * STN_AHEAD_UNIT;
	return bytes;
}
