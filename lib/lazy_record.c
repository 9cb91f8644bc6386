/* SPDX-License-Identifier: Apache-2.0 */
/* What lazy fill says of itself: the journal and the progress bar. */
#include "lazy_engine.h"

#include "config.h"
#include "maps.h"
#include "process.h"
#include "progress.h"
#include "sys.h"
#include "text.h"

#define SECOND 1000000000u

/* What is said besides the figures. */
static void note(const struct stn_lazy *lazy, char *out, size_t size)
{
	struct stn_text text;

	stn_text_start(&text, out, size);
	stn_text_add(&text, "lazy");
	if (lazy->read_bytes < lazy->plan.length) {
		stn_text_add(&text, ", read: ");
		stn_text_add_bytes(&text, lazy->read_bytes);
	}
	if (lazy->borrowed_bytes) {
		stn_text_add(&text, ", from another map: ");
		stn_text_add_bytes(&text, lazy->borrowed_bytes);
	}
	if (lazy->outcome == STN_ABANDONED_TIMEOUT) {
		stn_text_add(&text, ", stopped at offset ");
		stn_text_add_number(&text, lazy->stuck_at);
	}
	if (lazy->outcome == STN_DECLINED_NO_THREAD) {
		stn_text_add(&text, ", error ");
		stn_text_add_number(&text, (uint64_t)-stn_lazy_engine_peek()->error);
	}
	if (!lazy->failed_at)
		return;
	stn_text_add(&text, ", io-error at offset ");
	stn_text_add_number(&text, lazy->failed_at - 1);
	stn_text_add(&text, ", left to the kernel: ");
	stn_text_add_bytes(&text, lazy->returned_bytes);
}

static void write_record(const struct stn_lazy *lazy)
{
	struct stn_record record = lazy->plan.record;
	uintptr_t start = (uintptr_t)lazy->plan.memory;
	struct stn_maps_area area;
	char words[160];

	record.event = "end";
	record.path = lazy->plan.path;
	record.decision = lazy->outcome;
	record.bytes = lazy->plan.length;
	record.elapsed = stn_sys_clock(CLOCK_MONOTONIC) - lazy->begun;
	record.threads = lazy->most_running;
	record.buffered_bytes = stn_min(lazy->copied_bytes, lazy->read_bytes);
	record.direct_bytes = lazy->read_bytes - record.buffered_bytes;
	record.direct_bytes -= stn_min(lazy->borrowed_bytes, record.direct_bytes);
	record.returned_bytes = lazy->returned_bytes;
	if (lazy->surrendered)
		record.returned_bytes =
			stn_min(lazy->counts[STN_UNIT_GONE] * STN_AHEAD_UNIT, lazy->plan.length);
	note(lazy, words, sizeof(words));
	record.note = words;
	if (stn_journal_stats() && stn_maps_find(start, start + lazy->plan.length, &area) == 0)
		record.huge_bytes = area.huge_bytes;
	stn_journal_write(&record);
}

void stn_lazy_record_failure(const struct stn_lazy *lazy, uint64_t offset, uint64_t bytes)
{
	struct stn_record record = lazy->plan.record;
	struct stn_text text;
	char words[64];

	if (!stn_journal_wants(STN_RETURNED_IO_ERROR))
		return;
	stn_text_start(&text, words, sizeof(words));
	stn_text_add(&text, "at offset ");
	stn_text_add_number(&text, lazy->plan.offset + offset);
	record.event = "return";
	record.path = lazy->plan.path;
	record.decision = STN_RETURNED_IO_ERROR;
	record.bytes = record.returned_bytes = bytes;
	record.note = words;
	stn_journal_write(&record);
}

void stn_lazy_record(struct stn_lazy *lazy)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	bool first = !lazy->recorded;

	lazy->recorded = true;
	stn_lock_leave(&process->pool_lock, mask);
	if (first && stn_journal_wants(lazy->outcome))
		write_record(lazy);
}

bool stn_lazy_claim_record(struct stn_lazy_engine *engine, struct stn_step *step)
{
	for (uint32_t i = 0; i < STN_LAZIES; i++) {
		struct stn_lazy *lazy = engine->lazies[i];

		if (!lazy || !lazy->to_record)
			continue;
		lazy->to_record = false;
		/* As a reader does, so that the mapping does not end meanwhile. */
		lazy->running++;
		engine->running++;
		engine->stuck++;
		step->kind = STN_LAZY_RECORD;
		step->lane = i;
		return true;
	}
	return false;
}

void stn_lazy_draw(struct stn_lazy *lazy)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask, done;
	bool goes_on;

	if (!stn_config.progress || stn_sys_clock(CLOCK_MONOTONIC) - lazy->begun < SECOND)
		return;
	mask = stn_lock_enter(&process->pool_lock);
	done = stn_min(lazy->counts[STN_UNIT_PRESENT] * STN_AHEAD_UNIT, lazy->plan.length);
	goes_on = lazy->running && !lazy->surrendered;
	stn_lock_leave(&process->pool_lock, mask);
	if (!goes_on && !lazy->drawn)
		return;
	lazy->drawn = goes_on;
	stn_progress_draw(done, lazy->plan.length, !goes_on);
}
