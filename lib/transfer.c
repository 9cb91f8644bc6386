/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer.h"

#include <errno.h>

#include "crew.h"
#include "page.h"
#include "process.h"
#include "sys.h"
#include "transfer_step.h"

#define KIB		      ((uint64_t)1 << 10)
#define MIB		      ((uint64_t)1 << 20)
#define LANE_LEAST	      (512 * KIB)	  /* a request of 4 MiB is in flight eight times */
#define FIRST_BLOCK	      (2 * MIB)		  /* of a lane on FUSE, see fill.c */
#define ONE_FD_UP_TO	      (64 * MIB)	  /* requests up to this size use one descriptor */
#define FAST		      (uint64_t)250000000 /* ns: a block read faster than this may double */
#define SLOW		      (uint64_t)2000000000 /* ns: a block read slower than this is halved */
#define BOUNCED_LANES	      16		   /* most lanes that have memory of ours */
#define BUFFERED_FUSE_READERS 2			   /* see fill.c */
#define NOTHING		      0			   /* step that ends what cannot begin */

static struct stn_transfer *transfer_of(struct stn_job *job)
{
	return (struct stn_transfer *)(void *)job;
}

/*
 * The last place at or before position where reads may be cut: where direct reads need no
 * alignment, between pages of the memory, so that no page is written by two of them; else between
 * pages of the file.
 */
static uint64_t cut(const struct stn_transfer *transfer, uint64_t position)
{
	const struct stn_transfer_plan *plan = &transfer->plan;
	uint64_t page = stn_page_size();
	uint64_t start = plan->way.fuse ? (uintptr_t)plan->memory : plan->offset;
	uint64_t skew = (page - start % page) % page;

	return position < skew ? 0 : skew + stn_round_down(position - skew, page);
}

/* The bytes of a lane that are still to be read. */
static uint64_t left_in(const struct stn_transfer *transfer, const struct stn_transfer_lane *lane)
{
	uint64_t end = stn_min(lane->end, transfer->stop);

	return lane->cursor < end ? end - lane->cursor : 0;
}

/* Finds a lane with work, or an empty one that takes over half of another's; NULL if there is none.
 */
static struct stn_transfer_lane *pick_lane(struct stn_transfer *transfer)
{
	struct stn_transfer_lane *longest = NULL, *empty = NULL;

	for (uint32_t i = 0; i < transfer->lane_count; i++) {
		struct stn_transfer_lane *lane = &transfer->lanes[i];
		uint64_t left = left_in(transfer, lane);

		if (!lane->busy && left)
			return lane;
		if (!lane->busy)
			empty = lane;
		else if (left >= 4 * LANE_LEAST && (!longest || left > left_in(transfer, longest)))
			longest = lane;
	}
	if (!empty || !longest)
		return NULL;
	empty->end = longest->end;
	empty->cursor = cut(transfer, longest->cursor + left_in(transfer, longest) / 2);
	empty->block = longest->block;
	longest->end = empty->cursor;
	return empty;
}

/* True if it is still to be found out where a file ends that is shorter than its size. */
static bool lacks_end(const struct stn_transfer *transfer)
{
	return !transfer->plan.owned && !transfer->end_sought &&
	       __atomic_load_n(&transfer->doubtful, __ATOMIC_RELAXED);
}

/* After all reads. */
static bool claim_end(const struct stn_transfer *transfer, struct stn_step *step)
{
	step->kind = STN_TRANSFER_FIND_END;
	return transfer->running == 0 && lacks_end(transfer);
}

static bool claim_read(struct stn_transfer *transfer, struct stn_step *step)
{
	struct stn_process *process = stn_process_peek();
	struct stn_transfer_lane *lane;

	if (transfer->checking)
		return false;
	if (transfer->unchecked) {
		transfer->unchecked = false;
		transfer->checking = true;
		step->kind = STN_TRANSFER_CHECK;
		return true;
	}
	if (!transfer->plan.owned && process->transfers_held)
		return false;
	if (transfer->plan.way.fuse && !stn_opening_direct(&transfer->opening) &&
	    transfer->running >= BUFFERED_FUSE_READERS)
		return false;
	lane = pick_lane(transfer);
	if (!lane)
		return claim_end(transfer, step);
	step->kind = STN_TRANSFER_READ;
	step->lane = (uint32_t)(lane - transfer->lanes);
	step->offset = lane->cursor;
	step->length = left_in(transfer, lane);
	if (step->length > lane->block)
		step->length = cut(transfer, lane->cursor + lane->block) - lane->cursor;
	lane->busy = true;
	lane->reading = lane->cursor;
	lane->cursor += step->length;
	if (!transfer->plan.owned)
		process->transfers_running++;
	return true;
}

static bool claim(struct stn_job *job, struct stn_step *step)
{
	struct stn_transfer *transfer = transfer_of(job);

	switch (stn_opening_claim(&transfer->opening, job->crew, step)) {
	case STN_OPENING_WAIT:
		return false;
	case STN_OPENING_FAILED:
		transfer->stop = 0;
		transfer->error = transfer->opening.error;
		step->kind = NOTHING;
		if (transfer->running)
			return false;
		break;
	case STN_OPENING_READY:
		if (!claim_read(transfer, step))
			return false;
		break;
	case STN_OPENING_STEP:
		break;
	}
	transfer->running++;
	if (transfer->running > transfer->most_running)
		transfer->most_running = transfer->running;
	return true;
}

/* Takes the result of a read: which bytes were had, and how long the next read may be. */
static void settle_read(struct stn_transfer *transfer, const struct stn_step *step)
{
	struct stn_process *process = stn_process_peek();
	struct stn_transfer_lane *lane = &transfer->lanes[step->lane];
	uint32_t index = stn_transfer_descriptor(transfer, step->lane);
	bool direct = transfer->opening.source->direct >> index & 1;
	uint64_t end = step->offset + (uint64_t)step->result;

	lane->busy = false;
	*(direct ? &transfer->direct_bytes : &transfer->buffered_bytes) += (uint64_t)step->result;
	if (end < step->offset + step->length && end < transfer->stop) {
		transfer->stop = end;
		transfer->error = -(int)step->detail;
	}
	if (step->elapsed < FAST)
		lane->block = stn_min(2 * lane->block, transfer->plan.block);
	else if (step->elapsed > SLOW && lane->block > LANE_LEAST)
		lane->block /= 2;
	if (!transfer->plan.owned && --process->transfers_running == 0 && process->transfers_held)
		stn_sys_futex_wake(&process->transfers_running, (int)process->transfers_held);
}

/* True if nothing is being read and nothing is left that should be. */
static bool is_over(const struct stn_transfer *transfer)
{
	if (transfer->running || lacks_end(transfer))
		return false;
	for (uint32_t i = 0; i < transfer->lane_count; i++)
		if (left_in(transfer, &transfer->lanes[i]))
			return false;
	return true;
}

/* Makes one lane of all where reads must come one after the other. */
static void settle_check(struct stn_transfer *transfer, const struct stn_step *step)
{
	transfer->checking = false;
	if (step->result)
		return;
	transfer->lane_count = 1;
	transfer->lanes[0].end = transfer->plan.length;
}

static void settle_end(struct stn_transfer *transfer, const struct stn_step *step)
{
	transfer->end_sought = true;
	transfer->end = (uint64_t)step->result;
}

static void take_result(struct stn_transfer *transfer, const struct stn_step *step)
{
	transfer->running--;
	if (step->kind == STN_TRANSFER_READ)
		settle_read(transfer, step);
	else if (step->kind == STN_TRANSFER_CHECK)
		settle_check(transfer, step);
	else if (step->kind == STN_TRANSFER_FIND_END)
		settle_end(transfer, step);
	else if (step->kind != NOTHING)
		stn_opening_settle(&transfer->opening, step);
}

static bool settle(struct stn_job *job, const struct stn_step *step)
{
	struct stn_transfer *transfer = transfer_of(job);

	take_result(transfer, step);
	if (!is_over(transfer))
		return false;
	stn_opening_leave(&transfer->opening);
	return true;
}

/* Without progress: the caller waits on for what is under way, if it is in memory of its own. */
static void abandon(struct stn_job *job, const struct stn_step *step)
{
	struct stn_transfer *transfer = transfer_of(job);

	if (step)
		take_result(transfer, step);
	if (transfer->running)
		return;
	stn_opening_leave(&transfer->opening);
	__atomic_store_n(&job->over, 1, __ATOMIC_RELEASE);
	stn_sys_futex_wake(&job->over, 1);
}

static void release(struct stn_job *job)
{
	struct stn_transfer *transfer = transfer_of(job);
	const struct stn_transfer_plan *plan = &transfer->plan;

	if (transfer->bounce)
		stn_sys_munmap(transfer->bounce, transfer->bounce_size);
	if (job->abandoned && plan->owned)
		stn_sys_munmap(plan->memory, stn_round_up(plan->length, stn_page_size()));
}

/* Cuts the range into lanes of about equal length. */
static void cut_lanes(struct stn_transfer *transfer)
{
	const struct stn_transfer_plan *plan = &transfer->plan;
	uint64_t first = plan->way.fuse ? FIRST_BLOCK : STN_TRANSFER_BOUNCE;
	uint64_t most = stn_min(plan->threads, plan->way.fuse ? STN_SOURCE_FDS : BOUNCED_LANES);
	uint64_t count = stn_max(1, stn_min(plan->length / LANE_LEAST, most));

	for (uint64_t i = 0; i < count; i++) {
		struct stn_transfer_lane *lane = &transfer->lanes[i];

		lane->cursor = i ? lane[-1].end : 0;
		lane->end = i + 1 < count ? cut(transfer, plan->length / count * (i + 1))
					  : plan->length;
		lane->block = stn_min(plan->block, first);
	}
	transfer->lane_count = (uint32_t)count;
	transfer->unchecked = !plan->owned && count > 1;
	transfer->stop = plan->length;
	transfer->job.width = (uint32_t)count;
}

static void plan_opening(struct stn_transfer *transfer)
{
	const struct stn_transfer_plan *plan = &transfer->plan;
	struct stn_opening *opening = &transfer->opening;

	__builtin_memcpy(opening->path, plan->path, sizeof(opening->path));
	opening->identity = plan->identity;
	opening->way = plan->way;
	opening->needed =
		plan->length <= ONE_FD_UP_TO
			? 1
			: (uint32_t)stn_min(transfer->lane_count, stn_crew_most_descriptors());
}

/* Memory that reads go through where they need alignment. False if it is refused. */
static bool make_bounce(struct stn_transfer *transfer)
{
	size_t size = transfer->lane_count * STN_TRANSFER_BOUNCE;
	char *bounce = stn_sys_mmap(NULL, size, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (stn_sys_failed(bounce))
		return false;
	stn_sys_madvise(bounce, size, MADV_DONTFORK);
	transfer->bounce = bounce;
	transfer->bounce_size = size;
	return true;
}

struct stn_transfer *stn_transfer_make(const struct stn_transfer_plan *plan)
{
	static const struct stn_job_type type = {.claim = claim,
						 .run = stn_transfer_step_run,
						 .settle = settle,
						 .abandon = abandon,
						 .release = release};
	size_t header = stn_round_up(sizeof(struct stn_transfer), stn_page_size());
	struct stn_transfer *transfer = stn_job_make(header + 2 * stn_page_size(), &type);

	if (!transfer)
		return NULL;
	transfer->plan = *plan;
	transfer->end = UINT64_MAX;
	transfer->edges = (char *)transfer + header;
	transfer->job.reads = true;
	cut_lanes(transfer);
	plan_opening(transfer);
	if (plan->way.fuse || make_bounce(transfer))
		return transfer;
	stn_job_put(&transfer->job);
	return NULL;
}

/* After the time limit: waits until no thread writes to the caller's memory any more. */
static void await_last(struct stn_transfer *transfer)
{
	const uint64_t pause = 100000000;
	struct stn_process *process = stn_process_peek();
	int owner = stn_sys_getpid();

	while (!__atomic_load_n(&transfer->job.over, __ATOMIC_ACQUIRE) && process->owner == owner)
		stn_sys_futex_wait(&transfer->job.over, 0, pause);
}

/* The bytes that were had from the beginning on. */
static uint64_t had(const struct stn_transfer *transfer)
{
	uint64_t first = transfer->stop;

	for (uint32_t i = 0; i < transfer->lane_count; i++) {
		const struct stn_transfer_lane *lane = &transfer->lanes[i];

		if (lane->busy)
			first = stn_min(first, lane->reading);
		else if (lane->cursor < lane->end)
			first = stn_min(first, lane->cursor);
	}
	return first;
}

uint64_t stn_transfer_run(struct stn_transfer *transfer, int *error)
{
	const struct stn_transfer_plan *plan = &transfer->plan;
	int rc = stn_pool_run(&transfer->job, plan->threads, plan->timeout, NULL);

	if (rc == -ETIMEDOUT && !plan->owned)
		await_last(transfer);
	*error = rc;
	if (rc == -ECHILD)
		return 0;
	if (rc == 0)
		*error = transfer->error;
	if (__atomic_load_n(&transfer->doubtful, __ATOMIC_RELAXED)) {
		*error = -ESTALE;
		return 0;
	}
	return rc < 0 && (rc != -ETIMEDOUT || plan->owned) ? 0 : had(transfer);
}

void stn_transfer_put(struct stn_transfer *transfer)
{
	stn_job_put(&transfer->job);
}

void stn_transfer_hold(void)
{
	const uint64_t limit = 1000000000, pause = 10000000;
	struct stn_process *process = stn_process_peek() ? stn_process_get() : NULL;
	uint64_t until, mask;
	uint32_t running;

	if (!process)
		return;
	until = stn_sys_clock(CLOCK_MONOTONIC) + limit;
	mask = stn_lock_enter(&process->pool_lock);
	process->transfers_held++;
	while ((running = process->transfers_running) && stn_sys_clock(CLOCK_MONOTONIC) < until) {
		stn_lock_leave(&process->pool_lock, mask);
		stn_sys_futex_wait(&process->transfers_running, running, pause);
		mask = stn_lock_enter(&process->pool_lock);
	}
	stn_lock_leave(&process->pool_lock, mask);
}

void stn_transfer_resume(void)
{
	struct stn_process *process = stn_process_peek() ? stn_process_get() : NULL;
	uint64_t mask;

	if (!process)
		return;
	mask = stn_lock_enter(&process->pool_lock);
	if (process->transfers_held)
		process->transfers_held--;
	for (unsigned i = 0; i < STN_CREWS; i++)
		if (process->crews[i])
			stn_crew_wake(process->crews[i]);
	stn_lock_leave(&process->pool_lock, mask);
}
