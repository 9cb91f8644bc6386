/* SPDX-License-Identifier: Apache-2.0 */
/* Taking from other mappings of a file what they hold of it (lazy_hold.c). */
#include "lazy_engine.h"

#include <string.h>

#include "process.h"
#include "source.h"

/* One block that is lent. */
struct loan {
	struct stn_lazy *owner;
	uint32_t block;
	const char *from; /* where the first byte of the range is */
	size_t size;	  /* bytes from there on */
};

/* True if another mapping holds something of the same version of the file. */
static bool may_lend(const struct stn_lazy *owner, const struct stn_lazy *lazy)
{
	return owner && owner != lazy && owner->held && owner->counts[STN_UNIT_HELD] &&
	       stn_identity_equal(&owner->plan.record.identity, &lazy->plan.record.identity);
}

/* Finds who holds the byte at an offset in the file, and has it lend the block. False if nobody
 * does: *gap is cut to where another block begins. Pool lock held. */
static bool find_loan(const struct stn_lazy_engine *engine, const struct stn_lazy *lazy,
		      uint64_t offset, size_t *gap, struct loan *loan)
{
	for (uint32_t i = 0; i < STN_LAZIES; i++) {
		struct stn_lazy *owner = engine->lazies[i];
		uint64_t at, within;

		if (!may_lend(owner, lazy) || offset < owner->plan.offset)
			continue;
		at = offset - owner->plan.offset;
		within = at % STN_LAZY_BLOCK;
		if (at >= owner->plan.length)
			continue;
		*loan = (struct loan){owner, (uint32_t)(at / STN_LAZY_BLOCK), NULL,
				      STN_LAZY_BLOCK - within};
		loan->from = stn_lazy_hold_lend(owner, loan->block);
		if (loan->from) {
			loan->from += within;
			return true;
		}
		*gap = stn_min(*gap, loan->size);
	}
	return false;
}

/* True if the file is the version that it was when it was mapped. The server is asked, once. No
 * lock held. */
static bool is_same(struct stn_lazy *lazy)
{
	if (__atomic_load_n(&lazy->checked, __ATOMIC_ACQUIRE))
		return lazy->borrows;
	lazy->borrows = stn_source_is_current(lazy->file, &lazy->plan.record.identity);
	__atomic_store_n(&lazy->checked, true, __ATOMIC_RELEASE);
	return lazy->borrows;
}

/* True if any mapping could lend something. Pool lock not held. */
static bool is_any(const struct stn_lazy_engine *engine, const struct stn_lazy *lazy)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	bool any = false;

	for (uint32_t i = 0; i < STN_LAZIES && !any; i++)
		any = may_lend(engine->lazies[i], lazy);
	stn_lock_leave(&process->pool_lock, mask);
	return any;
}

size_t stn_lazy_borrow(struct stn_lazy_engine *engine, struct stn_lazy *lazy, char *memory,
		       uint64_t at, uint64_t bytes, size_t *gap)
{
	struct stn_process *process = stn_process_peek();
	struct loan loan;
	uint64_t mask;
	size_t size;
	bool found;

	*gap = bytes;
	if (!is_any(engine, lazy) || !is_same(lazy))
		return 0;
	mask = stn_lock_enter(&process->pool_lock);
	found = find_loan(engine, lazy, lazy->plan.offset + at, gap, &loan);
	stn_lock_leave(&process->pool_lock, mask);
	if (!found)
		return 0;
	size = stn_min(loan.size, bytes);
	memcpy(memory, loan.from, size);
	stn_lazy_hold_return(engine, loan.owner, loan.block);
	__atomic_fetch_add(&lazy->borrowed_bytes, size, __ATOMIC_RELAXED);
	return size;
}
