/* SPDX-License-Identifier: Apache-2.0 */
#include "fill.h"

#include <errno.h>
#include <string.h>

#include "fill_step.h"
#include "fs.h"
#include "page.h"
#include "process.h"
#include "sys.h"

#define MIB		      ((uint64_t)1 << 20)
#define LANE_LEAST	      (2 * MIB)	 /* a huge page: two threads do not fault in the same one */
#define ONE_FD_UP_TO	      (64 * MIB) /* files up to this size are read through one descriptor */
#define FAST		      (uint64_t)250000000 /* ns: a block read faster than this may double */
#define SLOW		      (uint64_t)2000000000 /* ns: a block read slower than this is halved */
#define HOLES_LEAST	      (2 * MIB)		   /* that a fill survives, however short it is */
#define BUFFERED_FUSE_READERS 2 /* each has one request and one of read-ahead in flight */

static struct stn_fill *fill_of(struct stn_job *job)
{
	return (struct stn_fill *)(void *)job;
}

/* Finds a lane for the calling thread: one with work, or an empty one that takes over half of
 * another's. */
static int pick_lane(struct stn_fill *fill)
{
	struct stn_fill_lane *longest = NULL, *empty = NULL;

	for (uint32_t i = 0; i < fill->lane_count; i++) {
		struct stn_fill_lane *lane = &fill->lanes[i];
		uint64_t left = lane->end - lane->cursor;

		if (!lane->busy && left)
			return (int)i;
		if (!lane->busy)
			empty = lane;
		else if (left >= 2 * LANE_LEAST &&
			 (!longest || left > longest->end - longest->cursor))
			longest = lane;
	}
	if (!empty || !longest)
		return -1;
	empty->end = longest->end;
	empty->cursor =
		longest->cursor + stn_round_up((longest->end - longest->cursor) / 2, LANE_LEAST);
	empty->block = longest->block;
	longest->end = empty->cursor;
	return (int)(empty - fill->lanes);
}

static bool claim_read(struct stn_fill *fill, struct stn_step *step)
{
	struct stn_fill_lane *lane;
	int index;

	if (fill->plan.way.fuse && !stn_opening_direct(&fill->opening) &&
	    fill->running >= BUFFERED_FUSE_READERS)
		return false;
	index = pick_lane(fill);
	if (index < 0)
		return false;
	lane = &fill->lanes[index];
	lane->busy = true;
	step->kind = STN_FILL_READ;
	step->lane = (uint32_t)index;
	step->offset = lane->cursor;
	step->length = stn_min(lane->block, lane->end - lane->cursor);
	lane->reading = lane->cursor;
	lane->cursor += step->length;
	return true;
}

/* The step that comes next when the descriptors are open; false if another thread's must end first.
 */
static bool next_step(struct stn_fill *fill, struct stn_step *step)
{
	struct stn_source *source = fill->opening.source;

	/* After the others: where opening one drops what is cached it will not be found any more.
	 */
	if (fill->cached && !source->copy_claimed) {
		source->copy_claimed = true;
		step->kind = STN_FILL_OPEN_COPY;
		return true;
	}
	if (fill->cached && !source->copy_opened)
		return false;
	if (claim_read(fill, step))
		return true;
	step->kind = STN_FILL_CHECK;
	return fill->running == 0 && fill->settled == fill->plan.length && !fill->checked;
}

/* True if the kernel, whose the file is to be again, is still to find where it ends. */
static bool lacks_end(const struct stn_fill *fill)
{
	return fill->shorter && fill->plan.way.fuse && !fill->end_found;
}

/* Fills in what is to be done next. False if another thread's step must end first. */
static bool find_step(struct stn_fill *fill, struct stn_step *step)
{
	if (fill->error) {
		step->kind = STN_FILL_FIND_END;
		return fill->running == 0 && lacks_end(fill);
	}
	switch (stn_opening_claim(&fill->opening, fill->job.crew, step)) {
	case STN_OPENING_READY:
		return next_step(fill, step);
	case STN_OPENING_STEP:
		return true;
	case STN_OPENING_WAIT:
		return false;
	case STN_OPENING_FAILED:
		break;
	}
	fill->error = fill->opening.error;
	step->kind = STN_FILL_NOTHING;
	return fill->running == 0;
}

static bool claim(struct stn_job *job, struct stn_step *step)
{
	struct stn_fill *fill = fill_of(job);

	if (!find_step(fill, step))
		return false;
	fill->running++;
	if (fill->running > fill->most_running)
		fill->most_running = fill->running;
	return true;
}

/* Takes the result of a step that was about descriptors, the job's or others'. */
static void settle_opening(struct stn_fill *fill, const struct stn_step *step)
{
	if (step->kind == STN_FILL_OPEN_COPY) {
		fill->opening.source->copy_fd = (int)step->result;
		fill->opening.source->copy_opened = true;
	} else if (step->kind == STN_OPENING_CLOSE || step->kind == STN_OPENING_OPEN) {
		stn_opening_settle(&fill->opening, step);
	}
}

/* Gives up the use of the file's record. */
static void leave_source(struct stn_fill *fill)
{
	if (fill->error)
		fill->opening.error = fill->error;
	stn_opening_leave(&fill->opening);
}

/*
 * Adds a hole, joined to the last one if it continues it. False if there are too many, or if they
 * are so large that the kernel may as well have the whole file.
 */
static bool add_hole(struct stn_fill *fill, uint64_t offset, uint64_t length)
{
	struct stn_fill_hole *last = fill->hole_count ? &fill->holes[fill->hole_count - 1] : NULL;

	fill->hole_bytes += length;
	if (fill->hole_bytes > stn_max(fill->plan.length / 8, HOLES_LEAST))
		return false;
	if (last && last->offset + last->length == offset) {
		last->length += length;
		return true;
	}
	if (fill->hole_count == STN_FILL_HOLES)
		return false;
	fill->holes[fill->hole_count++] = (struct stn_fill_hole){offset, length};
	return true;
}

static void settle_holes(struct stn_fill *fill, const struct stn_step *step)
{
	uint64_t size = stn_fill_piece(step->length);

	for (uint64_t done = 0; done < step->length; done += size)
		if (step->detail >> (done / size) & 1 &&
		    !add_hole(fill, step->offset + done, stn_min(size, step->length - done)))
			fill->error = -EIO;
}

/* True while it is found out how large requests the mount takes best: blocks do not grow, to know
 * soon. */
static bool compares(const struct stn_fill *fill)
{
	return fill->plan.threads > 1 && fill->request && stn_request_compares(fill->request);
}

static void settle_read(struct stn_fill *fill, const struct stn_step *step)
{
	struct stn_fill_lane *lane = &fill->lanes[step->lane];
	uint32_t index = stn_fill_descriptor(fill, step->lane);
	bool direct = fill->opening.source->direct >> index & 1;

	lane->busy = false;
	fill->settled += step->length;
	stn_process_peek()->filled += step->length;
	if (step->result < 0) {
		/* The file system's own words must not be taken for ours (see stn_fill_run). */
		fill->error = step->result == -ENOMEM || step->result == -ESTALE ? (int)step->result
										 : -EIO;
		fill->shorter |= step->result == -ESTALE;
		return;
	}
	*(direct ? &fill->direct_bytes : &fill->buffered_bytes) += step->length;
	settle_holes(fill, step);
	if (step->elapsed < FAST && (lane->block < STN_FILL_FIRST_BLOCK || !compares(fill)))
		lane->block = stn_min(2 * lane->block, fill->plan.block);
	else if (step->elapsed > SLOW && lane->block > STN_FILL_FIRST_BLOCK / 4)
		lane->block /= 2;
}

static bool settle(struct stn_job *job, const struct stn_step *step)
{
	struct stn_fill *fill = fill_of(job);
	bool over;

	fill->running--;
	settle_opening(fill, step);
	if (fill->opening.error)
		fill->error = fill->opening.error;
	if (step->kind == STN_FILL_READ)
		settle_read(fill, step);
	else if (step->kind == STN_FILL_CHECK)
		fill->checked = true;
	if (step->kind == STN_FILL_CHECK && step->result < 0)
		fill->error = (int)step->result;
	fill->end_found |= step->kind == STN_FILL_FIND_END;
	over = fill->running == 0 && (fill->error ? !lacks_end(fill) : fill->checked);
	if (over) {
		leave_source(fill);
		fill->direct_bytes -= stn_min(fill->copied_bytes, fill->direct_bytes);
		fill->buffered_bytes += fill->copied_bytes;
	}
	return over;
}

/* After the caller has gone: keeps the books of what others share. */
static void abandon(struct stn_job *job, const struct stn_step *step)
{
	struct stn_fill *fill = fill_of(job);

	if (step) {
		fill->running--;
		settle_opening(fill, step);
	}
	if (fill->running == 0)
		leave_source(fill);
}

/* The last reference of a fill whose caller has gone: its memory goes with it. */
static void release(struct stn_job *job)
{
	struct stn_fill *fill = fill_of(job);

	if (job->abandoned && fill->plan.owned)
		stn_sys_munmap(fill->plan.owned, fill->plan.owned_size);
}

static void cut_lanes(struct stn_fill *fill)
{
	const struct stn_fill_plan *plan = &fill->plan;
	uint64_t most = stn_min(plan->threads, STN_SOURCE_FDS);
	uint64_t pieces = (plan->length + LANE_LEAST - 1) / LANE_LEAST;
	uint64_t count = stn_max(1, stn_min(pieces, most));
	uint64_t size = stn_round_up((plan->length + count - 1) / count, LANE_LEAST);
	uint64_t end = plan->offset + plan->length;

	for (uint64_t i = 0; i < count; i++) {
		struct stn_fill_lane *lane = &fill->lanes[i];

		lane->cursor = stn_min(plan->offset + i * size, end);
		lane->end = stn_min(lane->cursor + size, end);
		lane->block =
			plan->way.fuse ? stn_min(plan->block, STN_FILL_FIRST_BLOCK) : plan->block;
	}
	fill->lane_count = (uint32_t)count;
	fill->opening.needed = plan->identity.size <= ONE_FD_UP_TO
				       ? 1
				       : (uint32_t)stn_min(count, stn_crew_most_descriptors());
	fill->job.width = (uint32_t)count;
}

/* True if some of the file is to be copied from the page cache. */
static bool is_cached(const struct stn_fill_plan *plan)
{
	return plan->keeper && plan->owned_file && plan->way.direct && plan->way.buffered &&
	       stn_source_is_cached(plan->keeper, plan->length);
}

struct stn_fill *stn_fill_make(const struct stn_fill_plan *plan, uint64_t budget_left)
{
	static const struct stn_job_type type = {.claim = claim,
						 .run = stn_fill_step_run,
						 .settle = settle,
						 .abandon = abandon,
						 .release = release};
	struct stn_fill *fill = stn_job_make(sizeof(*fill), &type);

	if (!fill)
		return NULL;
	fill->plan = *plan;
	fill->budget_left = budget_left;
	fill->job.reads = true;
	fill->cached = is_cached(plan);
	fill->opening.identity = plan->identity;
	fill->opening.way = plan->way;
	memcpy(fill->opening.path, plan->path, sizeof(plan->path));
	cut_lanes(fill);
	return fill;
}

/* Finds what is known of the mount's requests. */
static void find_request(struct stn_fill *fill)
{
	struct stn_process *process = stn_process_get();
	uint64_t mask;

	if (!process || !fill->plan.way.fuse)
		return;
	mask = stn_lock_enter(&process->pool_lock);
	fill->request = stn_request_of(process->mounts, fill->plan.identity.device);
	stn_lock_leave(&process->pool_lock, mask);
}

int stn_fill_run(struct stn_fill *fill, stn_job_tick *tick)
{
	int rc;

	find_request(fill);
	rc = stn_pool_run(&fill->job, fill->plan.threads, fill->plan.timeout, tick);

	return rc ? rc : fill->error;
}

uint64_t stn_fill_stuck_at(const struct stn_fill *fill)
{
	uint64_t lowest = fill->plan.offset + fill->plan.length;

	for (uint32_t i = 0; i < fill->lane_count; i++) {
		const struct stn_fill_lane *lane = &fill->lanes[i];

		if (lane->busy)
			lowest = stn_min(lowest, lane->reading);
		else if (lane->cursor < lane->end)
			lowest = stn_min(lowest, lane->cursor);
	}
	return lowest;
}

void stn_fill_put(struct stn_fill *fill)
{
	stn_job_put(&fill->job);
}
