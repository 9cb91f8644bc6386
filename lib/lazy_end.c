/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a lazily filled mapping: nothing is missing of it any more. */
#include "lazy_engine.h"

#include "region.h"
#include "source.h"
#include "sys.h"

/*
 * Children inherit it from now on; a fork comes before all of this or after it. The descriptor is
 * closed, which ends the registration of this mapping's memory only: UFFDIO_UNREGISTER would take
 * the addresses for what they are, and they may be another mapping's by now.
 */
void stn_lazy_make_plain(struct stn_lazy_engine *engine, struct stn_lazy *lazy)
{
	struct stn_process *process = stn_process_peek();
	uintptr_t start = (uintptr_t)lazy->plan.memory;
	uintptr_t end = start + stn_round_up(lazy->plan.length, stn_page_size());
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	struct stn_region region;
	int uffd = lazy->uffd;

	for (uintptr_t at = start; stn_region_find(at, end, &region); at = region.end)
		if (region.lazy == lazy->id)
			stn_sys_madvise((void *)region.start, region.end - region.start,
					MADV_DOFORK);
	stn_region_settle(start, end, lazy->id);
	lazy->plain = true;
	if (!lazy->running && !lazy->lent)
		stn_lazy_hold_end(lazy);
	lazy->uffd = -1;
	stn_lazy_tell(engine, lazy);
	stn_lock_leave(&process->pool_lock, mask);
	stn_sys_close(uffd);
}

void stn_lazy_end(struct stn_lazy_engine *engine, struct stn_lazy *lazy)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	/* Somebody may have begun to write its record. */
	if (lazy->running || lazy->lent) {
		stn_lock_leave(&process->pool_lock, mask);
		return;
	}
	stn_lazy_unlink(engine, lazy);
	for (uint32_t i = 0; i < STN_LAZIES; i++)
		if (!engine->ended[i]) {
			engine->ended[i] = lazy;
			break;
		}
	stn_lazy_tell(engine, lazy);
	stn_lock_leave(&process->pool_lock, mask);
}

bool stn_lazy_has_ended(const struct stn_lazy_engine *engine)
{
	for (uint32_t i = 0; i < STN_LAZIES; i++)
		if (engine->ended[i])
			return true;
	return false;
}

bool stn_lazy_has_news(const struct stn_lazy_engine *engine)
{
	for (uint32_t i = 0; i < STN_LAZIES; i++)
		if (engine->lazies[i] && engine->lazies[i]->to_record)
			return true;
	return stn_lazy_has_ended(engine);
}

bool stn_lazy_claim_end(struct stn_lazy_engine *engine, struct stn_step *step)
{
	for (uint32_t i = 0; i < STN_LAZIES; i++) {
		if (!engine->ended[i])
			continue;
		step->kind = STN_LAZY_END;
		step->detail = (uintptr_t)engine->ended[i];
		engine->ended[i] = NULL;
		engine->ending++;
		return true;
	}
	return false;
}

void stn_lazy_run_end(struct stn_lazy *lazy)
{
	/* What follows may wait for the file's server. */
	stn_lazy_record(lazy);
	if (lazy->plan.drop_cache)
		stn_source_drop_cache(lazy->file, lazy->plan.offset, lazy->plan.length);
	stn_lazy_free(lazy);
}
