/* SPDX-License-Identifier: Apache-2.0 */
#include "fill.h"

#include <errno.h>
#include <string.h>

#include "budget.h"
#include "page.h"
#include "process.h"
#include "sys.h"

#define MIB		      ((uint64_t)1 << 20)
#define LANE_LEAST	      (2 * MIB)	 /* a huge page: two threads do not fault in the same one */
#define ONE_FD_UP_TO	      (64 * MIB) /* files up to this size are read through one descriptor */
#define FIRST_BLOCK	      (1 * MIB) /* of a lane on FUSE: a slow server must show progress soon */
#define FAST		      (uint64_t)250000000 /* ns: a block read faster than this may double */
#define SLOW		      (uint64_t)2000000000 /* ns: a block read slower than this is halved */
#define BUFFERED_FUSE_READERS 2 /* each has one request and one of read-ahead in flight */
#define LOOK_CLOSELY	      (1024 * MIB) /* with less memory than this left look at it for every MiB */
#define PIECE_LEAST	      (128u << 10) /* of what is given up after an I/O error */

enum step_kind { NOTHING, CLOSE_STALE, OPEN, READ, CHECK };

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
	bool all_direct = fill->source->direct == (((uint64_t)2 << (fill->source->opened - 1)) - 1);
	struct stn_fill_lane *lane;
	int index;

	if (fill->plan.fuse && !all_direct && fill->running >= BUFFERED_FUSE_READERS)
		return false;
	index = pick_lane(fill);
	if (index < 0)
		return false;
	lane = &fill->lanes[index];
	lane->busy = true;
	step->kind = READ;
	step->lane = (uint32_t)index;
	step->offset = lane->cursor;
	step->length = stn_min(lane->block, lane->end - lane->cursor);
	lane->cursor += step->length;
	return true;
}

/* The step that comes next, by what has been done so far; false if another thread's must end first.
 */
static bool next_step(struct stn_fill *fill, struct stn_step *step)
{
	struct stn_source *source = fill->source;

	if (source->stale) {
		bool free = !source->closing;

		step->kind = CLOSE_STALE;
		source->closing = true;
		return free;
	}
	if (!source->valid) {
		fill->error = -ESTALE;
		return fill->running == 0;
	}
	if (source->claimed < fill->needed) {
		step->kind = OPEN;
		step->lane = source->claimed++;
		return true;
	}
	if (source->opened < source->claimed)
		return false;
	if (claim_read(fill, step))
		return true;
	step->kind = CHECK;
	return fill->running == 0 && fill->settled == fill->plan.length && !fill->checked;
}

static bool claim(struct stn_job *job, struct stn_step *step)
{
	struct stn_fill *fill = fill_of(job);

	if (fill->error)
		return false;
	step->kind = NOTHING;
	if (!fill->source)
		fill->source = stn_crew_source(job->crew, &fill->plan.identity);
	if (!fill->source)
		fill->error = -EMFILE;
	else if (!next_step(fill, step))
		return false;
	fill->running++;
	if (fill->running > fill->most_running)
		fill->most_running = fill->running;
	return true;
}

static void close_stale(const struct stn_source *source)
{
	for (uint32_t i = 0; i < source->stale; i++)
		if (source->fds[i] >= 0)
			stn_sys_close(source->fds[i]);
}

static void run_open(const struct stn_fill *fill, struct stn_step *step)
{
	const struct stn_fill_plan *plan = &fill->plan;
	bool direct;

	step->result = stn_source_open(plan->path, &plan->identity, plan->want_direct,
				       plan->want_buffered, &direct);
	step->detail = step->result >= 0 && direct;
}

/* True if reading length bytes more would take memory that the host or a group cannot spare. */
static bool over_budget(struct stn_fill *fill, uint64_t length)
{
	uint64_t left = __atomic_load_n(&fill->budget_left, __ATOMIC_RELAXED);
	uint64_t since = __atomic_add_fetch(&fill->unchecked, length, __ATOMIC_RELAXED);
	struct stn_budget_view view;

	if (left >= LOOK_CLOSELY && since <= left / 16)
		return false;
	__atomic_store_n(&fill->unchecked, 0, __ATOMIC_RELAXED);
	stn_budget_read(&view);
	left = stn_budget_left(&view);
	__atomic_store_n(&fill->budget_left, left, __ATOMIC_RELAXED);
	return left < length;
}

/* Reads one range into its place. Bytes or -errno. */
static ssize_t read_range(struct stn_fill *fill, struct stn_step *step, uint64_t offset,
			  uint64_t length)
{
	const struct stn_fill_plan *plan = &fill->plan;
	struct stn_source *source = fill->source;
	uint32_t index = step->lane < fill->needed ? step->lane : 0;
	uint64_t bit = (uint64_t)1 << index;
	bool direct = (__atomic_load_n(&source->direct, __ATOMIC_RELAXED) & bit) != 0;
	uint64_t at = offset - plan->offset;
	struct stn_source_cache cache = {plan->keeper ? plan->keeper + at : NULL,
					 plan->restore_cache};
	ssize_t got;

	if (!direct)
		return stn_source_read_buffered(source->fds[index], plan->memory + at, length,
						offset, &cache);
	got = stn_source_read(source->fds[index], &direct, plan->memory + at,
			      stn_round_up(length, stn_page_size()), offset);
	if (!direct)
		__atomic_fetch_and(&source->direct, ~bit, __ATOMIC_RELAXED);
	return got > (ssize_t)length ? (ssize_t)length : got;
}

/* The size of the pieces, at most 64, that a block of this length falls into after an error. */
static uint64_t piece_size(uint64_t length)
{
	return stn_max(PIECE_LEAST, stn_round_up(length / 63, 65536));
}

/* After I/O errors: reads the block piece by piece, and notes in step->detail the pieces that fail.
 */
static ssize_t read_pieces(struct stn_fill *fill, struct stn_step *step)
{
	uint64_t size = piece_size(step->length);

	for (uint64_t done = 0; done < step->length; done += size) {
		uint64_t length = stn_min(size, step->length - done);
		ssize_t got = read_range(fill, step, step->offset + done, length);

		if (got == -EIO)
			step->detail |= (uint64_t)1 << (done / size);
		else if (got != (ssize_t)length)
			return got < 0 ? got : -ESTALE;
	}
	return (ssize_t)step->length;
}

/* Reads the block, again after I/O errors: page faults of a FUSE file are worse than a moment's
 * patience. */
static ssize_t read_patiently(struct stn_fill *fill, struct stn_step *step)
{
	const uint64_t pause = 20000000;
	ssize_t got = read_range(fill, step, step->offset, step->length);

	for (int again = 0; again < 2 && got == -EIO; again++) {
		stn_sys_sleep(pause << (3 * again));
		got = read_range(fill, step, step->offset, step->length);
	}
	return got == -EIO ? read_pieces(fill, step) : got;
}

/* Reads the block in MiBs with a look at the budget before each, while memory is short. */
static ssize_t read_within_budget(struct stn_fill *fill, struct stn_step *step)
{
	struct stn_step part = *step;
	uint64_t piece = piece_size(step->length);

	if (__atomic_load_n(&fill->budget_left, __ATOMIC_RELAXED) >= LOOK_CLOSELY)
		return over_budget(fill, step->length) ? -ENOMEM : read_patiently(fill, step);
	for (uint64_t done = 0; done < step->length; done += part.length) {
		ssize_t got;

		part.offset = step->offset + done;
		part.length = stn_min(stn_round_up(MIB, piece), step->length - done);
		part.detail = 0;
		if (over_budget(fill, part.length))
			return -ENOMEM;
		got = read_patiently(fill, &part);
		if (got != (ssize_t)part.length)
			return got < 0 ? got : -ESTALE;
		/* Part of a part: give up the whole MiB, in the pieces of the block. */
		if (part.detail)
			for (uint64_t at = done; at < done + part.length; at += piece)
				step->detail |= (uint64_t)1 << (at / piece);
	}
	return (ssize_t)step->length;
}

static void run_read(struct stn_fill *fill, struct stn_step *step)
{
	const struct stn_fill_plan *plan = &fill->plan;
	uint64_t filled = step->offset + step->length - plan->offset;

	step->result = read_within_budget(fill, step);
	if (step->result >= 0 && step->result < (int64_t)step->length)
		step->result = -ESTALE;
	/* A direct read may have written what follows the end of the file in its last block. */
	if (filled == plan->length)
		memset(plan->memory + filled, 0, stn_round_up(filled, stn_page_size()) - filled);
}

static void run_check(const struct stn_fill *fill, struct stn_step *step)
{
	const struct stn_fill_plan *plan = &fill->plan;
	const int fadv_dontneed = 4;
	int fd = fill->source->fds[0];

	step->result = stn_source_unchanged(fd, &plan->identity) ? 0 : -ESTALE;
	if (plan->drop_cache)
		stn_sys_fadvise(fd, plan->offset, plan->length, fadv_dontneed);
}

static void run(struct stn_job *job, struct stn_step *step)
{
	struct stn_fill *fill = fill_of(job);

	switch ((enum step_kind)step->kind) {
	case NOTHING:
		break;
	case CLOSE_STALE:
		close_stale(fill->source);
		break;
	case OPEN:
		run_open(fill, step);
		break;
	case READ:
		run_read(fill, step);
		break;
	case CHECK:
		run_check(fill, step);
		break;
	}
}

static void settle_open(struct stn_fill *fill, const struct stn_step *step)
{
	struct stn_source *source = fill->source;

	source->fds[step->lane] = (int)step->result;
	source->opened++;
	if (step->detail)
		source->direct |= (uint64_t)1 << step->lane;
	else
		source->direct &= ~((uint64_t)1 << step->lane);
	if (step->result < 0) {
		fill->error = (int)step->result;
		source->valid = false;
	}
}

/* Adds a hole, joined to the last one if it continues it. False if there are too many. */
static bool add_hole(struct stn_fill *fill, uint64_t offset, uint64_t length)
{
	struct stn_fill_hole *last = &fill->holes[fill->hole_count - 1];

	if (fill->hole_count && last->offset + last->length == offset) {
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
	uint64_t size = piece_size(step->length);

	for (uint64_t done = 0; done < step->length; done += size)
		if (step->detail >> (done / size) & 1 &&
		    !add_hole(fill, step->offset + done, stn_min(size, step->length - done)))
			fill->error = -EIO;
}

static void settle_read(struct stn_fill *fill, const struct stn_step *step)
{
	struct stn_fill_lane *lane = &fill->lanes[step->lane];
	uint32_t index = step->lane < fill->needed ? step->lane : 0;
	bool direct = fill->source->direct >> index & 1;

	lane->busy = false;
	fill->settled += step->length;
	stn_process_peek()->filling -= step->length;
	if (step->result < 0) {
		fill->error = (int)step->result;
		return;
	}
	*(direct ? &fill->direct_bytes : &fill->buffered_bytes) += step->length;
	settle_holes(fill, step);
	if (step->elapsed < FAST)
		lane->block = stn_min(2 * lane->block, fill->plan.block);
	else if (step->elapsed > SLOW && lane->block > FIRST_BLOCK / 4)
		lane->block /= 2;
}

static bool settle(struct stn_job *job, const struct stn_step *step)
{
	struct stn_fill *fill = fill_of(job);
	bool over;

	fill->running--;
	if (step->kind == CLOSE_STALE)
		fill->source->stale = fill->source->closing = 0;
	else if (step->kind == OPEN)
		settle_open(fill, step);
	else if (step->kind == READ)
		settle_read(fill, step);
	else if (step->kind == CHECK)
		fill->checked = true;
	if (step->kind == CHECK && step->result < 0)
		fill->error = (int)step->result;
	over = fill->running == 0 && (fill->error || fill->checked);
	if (over && fill->source) {
		fill->source->users--;
		fill->source->valid &= fill->error != -ESTALE;
	}
	return over;
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
	uint64_t count = stn_max(1, stn_min(plan->length / LANE_LEAST, most));
	uint64_t size = stn_round_up((plan->length + count - 1) / count, LANE_LEAST);
	uint64_t end = plan->offset + plan->length;

	for (uint64_t i = 0; i < count; i++) {
		struct stn_fill_lane *lane = &fill->lanes[i];

		lane->cursor = stn_min(plan->offset + i * size, end);
		lane->end = stn_min(lane->cursor + size, end);
		lane->block = plan->fuse ? stn_min(plan->block, FIRST_BLOCK) : plan->block;
	}
	fill->lane_count = (uint32_t)count;
	fill->needed = plan->identity.size <= ONE_FD_UP_TO ? 1 : (uint32_t)count;
	fill->job.width = (uint32_t)count;
}

struct stn_fill *stn_fill_make(const struct stn_fill_plan *plan, uint64_t budget_left)
{
	static const struct stn_job_type type = {claim, run, settle, release};
	struct stn_fill *fill = stn_job_make(sizeof(*fill), &type);

	if (!fill)
		return NULL;
	fill->plan = *plan;
	fill->budget_left = budget_left;
	fill->job.lingers = true;
	cut_lanes(fill);
	return fill;
}

static void count_filling(uint64_t more)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	process->filling += more;
	stn_lock_leave(&process->pool_lock, mask);
}

int stn_fill_run(struct stn_fill *fill, stn_job_tick *tick)
{
	int rc;

	if (!stn_process_get())
		return -EAGAIN;
	count_filling(fill->plan.length);
	rc = stn_pool_run(&fill->job, fill->plan.threads, fill->plan.timeout, tick);
	count_filling(fill->settled - fill->plan.length);
	return rc ? rc : fill->error;
}

uint64_t stn_fill_stuck_at(const struct stn_fill *fill)
{
	uint64_t lowest = fill->plan.offset + fill->plan.length;

	for (uint32_t i = 0; i < fill->lane_count; i++) {
		const struct stn_fill_lane *lane = &fill->lanes[i];

		if (lane->cursor < lowest && (lane->busy || lane->cursor < lane->end))
			lowest = lane->cursor;
	}
	return lowest;
}

void stn_fill_put(struct stn_fill *fill)
{
	stn_job_put(&fill->job);
}
