/* SPDX-License-Identifier: Apache-2.0 */
#include "engage.h"

#include <errno.h>
#include <string.h>

#include "config.h"
#include "engagement.h"
#include "fs.h"
#include "page.h"
#include "prefetch.h"
#include "process.h"
#include "progress.h"
#include "region.h"
#include "sys.h"
#include "text.h"
#include "usage.h"

#define NOT_SCARCE    ((uint64_t)256 << 20) /* bytes left that are enough to read ahead into */
#define WATCHED_LEAST ((uint64_t)16 << 20)  /* bytes; to read less twice is no great matter */

static bool restores_cache(const struct stn_engagement *e)
{
	return stn_config.cache == STN_CACHE_RESTORE ||
	       (stn_config.cache == STN_CACHE_AUTO && !e->survey->unified);
}

bool stn_engagement_drops_cache(const struct stn_engagement *e)
{
	/* On unified memory cached pages count as used: the model must leave none behind. */
	return stn_config.cache == STN_CACHE_DROP ||
	       (stn_config.cache == STN_CACHE_AUTO && e->survey->unified);
}

/* Plans to fill the area with length bytes of the file from offset. */
static void plan_fill(const struct stn_engagement *e, uint64_t offset, uint64_t length,
		      struct stn_fill_plan *plan)
{
	const struct stn_area *area = &e->area;

	*plan = (struct stn_fill_plan){
		.identity = e->record.identity,
		.model = e->model,
		.called = e->begun,
		.memory = area->memory,
		.keeper = area->keeper ? area->keeper + (offset - e->call->offset) : NULL,
		.offset = offset,
		.length = length,
		.owned = area->memory,
		.owned_size = area->size,
		.block = stn_config.block,
		.timeout = stn_config.timeout,
		.threads = (unsigned)stn_config.threads,
		.way = {.direct = stn_config.io != STN_IO_BUFFERED,
			.buffered = stn_config.io != STN_IO_DIRECT,
			.fuse = e->facts.file_system == STN_FS_FUSE},
		.owned_file = e->owned,
		.restore_cache = restores_cache(e),
		.drop_cache = stn_engagement_drops_cache(e),
	};
	memcpy(plan->path, e->survey->descriptor, sizeof(plan->path));
}

/* Notes where a fill that was abandoned stood. */
static void note_stuck(struct stn_engagement *e, const struct stn_fill *fill)
{
	struct stn_text text;

	stn_text_start(&text, e->note, sizeof(e->note));
	stn_text_add(&text, "stopped at offset ");
	stn_text_add_number(&text, stn_fill_stuck_at(fill));
}

/* Notes what could not be read and is the file's own mapping therefore. */
static void note_holes(struct stn_engagement *e, const struct stn_fill *fill)
{
	struct stn_text text;

	e->record.returned_bytes += fill->hole_bytes;
	stn_text_start(&text, e->note, sizeof(e->note));
	stn_text_add(&text, "io-error at offset ");
	stn_text_add_number(&text, fill->holes[0].offset);
	stn_text_add(&text, ", left to the kernel: ");
	stn_text_add_bytes(&text, fill->hole_bytes);
}

/*
 * In a child that a signal handler of this thread has forked while it waited: the area and its
 * keeper are the parent's, and not mapped here.
 */
static void forget_parents(struct stn_engagement *e)
{
	e->area.memory = NULL;
	e->area.keeper = NULL;
	e->planned = 0;
}

int stn_engagement_fill(struct stn_engagement *e, uint64_t offset, uint64_t length,
			struct stn_fill **out)
{
	struct stn_fill_plan plan;
	struct stn_fill *fill;
	int rc;

	plan_fill(e, offset, length, &plan);
	fill = *out = stn_fill_make(&plan, stn_budget_left(&e->survey->view));
	if (!fill)
		return -ENOMEM;
	rc = stn_fill_run(fill, stn_config.progress ? stn_progress_tick : NULL);
	if (stn_config.progress)
		stn_progress_end(fill);
	if (rc < 0)
		note_stuck(e, fill);
	if (rc == -ESTALE)
		atomic_fetch_add(&e->model->changes, 1);
	if (fill->job.abandoned)
		e->area.memory = NULL;
	if (rc == -ECHILD)
		forget_parents(e);
	e->got += fill->settled;
	e->record.threads = fill->most_running;
	e->record.direct_bytes += fill->direct_bytes;
	e->record.buffered_bytes += fill->buffered_bytes;
	if (rc == 0 && fill->hole_count)
		note_holes(e, fill);
	return rc;
}

/* The last part of a path. */
static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Locks what was filled, as STSHIM_MLOCK and MAP_LOCKED ask. 0 or -errno. */
static int lock_area(const struct stn_engagement *e)
{
	bool asked = (e->call->flags & MAP_LOCKED) != 0;
	int rc;

	if (stn_config.mlock == STN_MLOCK_OFF && !asked)
		return 0;
	rc = stn_sys_mlock(e->area.memory, e->area.data);
	return stn_config.mlock == STN_MLOCK_TRY && !asked ? 0 : rc;
}

/* Maps the keeper; a refusal that reading the file does not care about is no obstacle. */
static int keep(struct stn_engagement *e, bool needed)
{
	int rc = stn_area_keep(&e->area, e->call);
	struct stn_text text;

	if (needed || (rc != -ENODEV && rc != -EINVAL))
		return rc;
	stn_text_start(&text, e->note, sizeof(e->note));
	stn_text_add(&text, "the kernel itself cannot map this file");
	return 0;
}

/* Maps the keeper and the area of the whole mapping. 0 or -errno. */
static int reserve_whole(struct stn_engagement *e, uint64_t bytes)
{
	size_t page = stn_page_size();
	size_t size = stn_round_up(e->call->length, page), data = stn_round_up(bytes, page);
	size_t huge = stn_config.huge_pages == STN_HUGE_OFF ? 0 : e->survey->huge_page;
	int rc = keep(e, size > data);

	/* A huge page must not be larger than what one read fills (512 MiB with 64 KiB pages). */
	if (huge > stn_config.block)
		huge = 0;
	if (rc == 0)
		rc = stn_area_reserve(&e->area, e->call->address, size, data, huge);
	if (rc == 0 && stn_journal_stats())
		e->record.cache_before = stn_area_cached(&e->area, data);
	return rc;
}

/*
 * Has an eye on what the program uses of a whole file. Not of one that is mapped for its header: a
 * header is all that is used of it.
 */
static void watch(struct stn_engagement *e)
{
	bool whole = stn_policy_bytes(&e->facts) == e->facts.file_size;

	if (whole && e->area.data >= WATCHED_LEAST && e->survey->huge_page &&
	    stn_config.huge_pages != STN_HUGE_OFF && !e->facts.unified && !e->facts.header_reader &&
	    stn_usage_clear(e->area.memory, e->area.data))
		e->area.watched = e->model;
}

/* Gives the program the filled area. 0 or -errno. */
static int publish(struct stn_engagement *e, const struct stn_fill *fill)
{
	bool shared = (e->call->flags & MAP_TYPE) != MAP_PRIVATE;

	if (stn_journal_stats()) {
		e->record.cache_after = stn_area_cached(&e->area, e->area.data);
		e->record.huge_bytes = stn_area_huge(&e->area);
	}
	watch(e);
	return stn_area_publish(&e->area, fill, e->call->prot, shared, base_name(e->survey->path));
}

/*
 * After a failure: the program gets the keeper, which is the mapping that it asked for. Its
 * descriptor may be another file's by now, if another thread has closed it while we read.
 */
static enum stn_outcome fall_back(struct stn_engagement *e, void **address)
{
	*address =
		e->call->flags & MAP_LOCKED ? NULL : stn_area_open_keeper(&e->area, e->call->prot);
	stn_area_drop(&e->area);
	return *address ? STN_OUTCOME_DONE : STN_OUTCOME_KERNEL;
}

static enum stn_outcome engage_whole(struct stn_engagement *e, void **address, int *error)
{
	uint64_t bytes = stn_policy_bytes(&e->facts);
	struct stn_fill *fill = NULL;
	bool lock_failed = false;
	int rc = reserve_whole(e, bytes);

	if (rc == 0)
		rc = stn_engagement_fill(e, e->call->offset, bytes, &fill);
	if (rc == 0) {
		rc = lock_area(e);
		lock_failed = rc < 0;
	}
	if (rc == 0)
		rc = publish(e, fill);
	if (fill)
		stn_fill_put(fill);
	stn_engagement_record(e, "fill", rc == 0 ? STN_ENGAGED : stn_engagement_error(rc));
	if (rc == 0) {
		*address = e->area.memory;
		return STN_OUTCOME_DONE;
	}
	*error = -rc;
	if (lock_failed && stn_config.mlock == STN_MLOCK_REQUIRE) {
		stn_area_drop(&e->area);
		return STN_OUTCOME_FAILED;
	}
	return fall_back(e, address);
}

/* What the program is told to do about a mapping that stays the kernel's. */
static enum stn_outcome decline(struct stn_engagement *e, enum stn_decision decision)
{
	stn_engagement_record(e, "map", decision);
	return decision == STN_DECLINED_MEMORY && e->facts.unified ? STN_OUTCOME_KERNEL_COUNTED
								   : STN_OUTCOME_KERNEL;
}

/* Decides without lazy fill, which did not work out. */
static enum stn_decision decide_again(struct stn_engagement *e)
{
	stn_engagement_settle(e);
	e->planned = 0;
	e->not_lazy = true;
	return stn_engagement_decide(e);
}

/* Has the next shards read where the program goes through small ones. What is in the page cache is
 * near enough. */
static void look_ahead(const struct stn_engagement *e)
{
	uint64_t size = e->facts.file_size;

	if (stn_budget_left(&e->survey->view) > NOT_SCARCE && stn_config.ahead == STN_AHEAD_AUTO &&
	    stn_config.io != STN_IO_BUFFERED && stn_prefetch_follows(e->model, size) &&
	    !(e->owned && stn_fs_cached(e->call->fd, size)))
		stn_prefetch_start(e->model, e->survey->path, e->facts.file_system == STN_FS_FUSE);
}

enum stn_outcome stn_engage_map(const struct stn_map_call *call, void **address, int *error)
{
	struct stn_engagement e = {.call = call, .begun = stn_sys_clock(CLOCK_MONOTONIC)};
	enum stn_decision decision;
	enum stn_outcome outcome;

	if (!stn_engagement_look(&e) || !stn_process_get())
		return STN_OUTCOME_KERNEL;
	e.area.file_system = (uint32_t)e.facts.file_system;
	decision = stn_engagement_decide(&e);
	if (stn_decision_engaged(decision) && e.facts.lazy && stn_config.mode != STN_MODE_OBSERVE) {
		outcome = STN_OUTCOME_DONE;
		if (stn_engagement_lazy(&e, address))
			goto over;
		decision = decide_again(&e);
	}
	e.record.bytes = e.facts.offset < e.facts.file_size ? stn_policy_bytes(&e.facts) : 0;
	if (!stn_decision_engaged(decision) || stn_config.mode == STN_MODE_OBSERVE)
		outcome = decline(&e, decision);
	else if (decision == STN_ENGAGED_PEEK)
		outcome = stn_engagement_peek(&e, address);
	else
		outcome = engage_whole(&e, address, error);
over:
	if (outcome == STN_OUTCOME_DONE)
		look_ahead(&e);
	if (decision == STN_ENGAGED || decision == STN_DECLINED_MEMORY)
		stn_family_mapped(e.model, e.record.bytes);
	stn_engagement_settle(&e);
	if (e.survey)
		stn_survey_put(e.survey);
	stn_pool_settle_down();
	return outcome;
}

void stn_engage_count(void *address, size_t length)
{
	struct stn_region region = {
		.start = (uintptr_t)address,
		.end = (uintptr_t)address + stn_round_up(length, stn_page_size()),
		.kind = STN_REGION_DECLINED,
	};

	stn_region_add(&region);
}

bool stn_engage_covers(int fd)
{
	struct stn_map_call call = {.fd = fd, .length = 1, .prot = PROT_READ, .flags = MAP_SHARED};
	struct stn_engagement e = {.call = &call};

	return !stn_names_empty() && stn_config.mode != STN_MODE_OBSERVE &&
	       stn_engagement_look(&e) && stn_policy_screen(&e.facts) == STN_ENGAGED;
}
