/* SPDX-License-Identifier: Apache-2.0 */
#include "fill_step.h"

#include <errno.h>
#include <string.h>

#include "budget.h"
#include "ending.h"
#include "page.h"
#include "prefetch.h"
#include "process.h"
#include "sys.h"

#define MIB	     ((uint64_t)1 << 20)
#define LOOK_CLOSELY (1024 * MIB) /* with less memory than this left look at it for every MiB */
#define TAKE_TURNS   (128 * MIB)  /* with less than this one thread reads at a time */
#define PIECE_LEAST  (128u << 10) /* of what is given up after an I/O error */

static void run_open_copy(const struct stn_fill *fill, struct stn_step *step)
{
	static const struct stn_source_way buffered = {.buffered = true};
	const struct stn_fill_plan *plan = &fill->plan;
	bool direct;

	step->result = stn_source_open(plan->path, &plan->identity, &buffered, &direct);
}

/* Looks at the budget; true if it leaves less than length bytes. */
static bool is_short(struct stn_fill *fill, uint64_t length)
{
	struct stn_budget_view view;
	uint64_t left;

	__atomic_store_n(&fill->unchecked, 0, __ATOMIC_RELAXED);
	stn_budget_read(&view);
	left = stn_budget_left(&view);
	__atomic_store_n(&fill->budget_left, left, __ATOMIC_RELAXED);
	return left < length;
}

/*
 * How long a fill that runs out of memory waits before it gives up: of several processes that
 * started together one after the other does, and the rest find its memory free. The more has been
 * read the longer; the larger part depends on the pid, whose multiples of the golden ratio lie far
 * from each other.
 */
static uint64_t patience(const struct stn_fill *fill)
{
	const uint64_t by_progress = 128, millisecond = 1000000;
	uint64_t settled = __atomic_load_n(&fill->settled, __ATOMIC_RELAXED);
	uint32_t spread = (uint32_t)stn_sys_getpid() * 0x9e3779b1u >> 23; /* 0 to 511 */

	return (settled * by_progress / fill->plan.length + spread + 1) * millisecond;
}

/* Waits for memory; true if there still is none, or another thread has given the fill up. */
static bool wait_for_memory(struct stn_fill *fill, uint64_t length)
{
	const uint64_t pause = 10000000;
	uint64_t until = stn_sys_clock(CLOCK_MONOTONIC) + patience(fill);

	while (stn_sys_clock(CLOCK_MONOTONIC) < until) {
		stn_sys_sleep(pause);
		if (__atomic_load_n(&fill->error, __ATOMIC_RELAXED))
			return true;
		if (!is_short(fill, length))
			return false;
	}
	return true;
}

/* True if reading length bytes more would take memory that the host or a group cannot spare. */
static bool over_budget(struct stn_fill *fill, uint64_t length)
{
	uint64_t left = __atomic_load_n(&fill->budget_left, __ATOMIC_RELAXED);
	uint64_t since = __atomic_add_fetch(&fill->unchecked, length, __ATOMIC_RELAXED);

	if (left >= LOOK_CLOSELY && since <= left / 16)
		return false;
	return is_short(fill, length) && wait_for_memory(fill, length);
}

/* A direct read begins: *read says how it is to be made. No lock held. */
static void begin_request(const struct stn_fill *fill, uint64_t length,
			  struct stn_request_read *read)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask;

	*read = (struct stn_request_read){.most = UINT64_MAX};
	if (!fill->request)
		return;
	mask = stn_lock_enter(&process->pool_lock);
	stn_request_begin(fill->request, length, fill->plan.threads > 1, read);
	stn_lock_leave(&process->pool_lock, mask);
}

/* It has ended after elapsed nanoseconds; good: past the page cache, with all of its
 * bytes. No lock held. */
static void end_request(const struct stn_fill *fill, uint64_t length,
			const struct stn_request_read *read, uint64_t elapsed, bool good)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask;

	if (!fill->request)
		return;
	mask = stn_lock_enter(&process->pool_lock);
	stn_request_end(fill->request, length, read, elapsed, good);
	stn_lock_leave(&process->pool_lock, mask);
}

/* False if the file ends before what a direct read has returned of it. */
static bool is_there(const struct stn_fill *fill, int fd, const char *place, uint64_t offset,
		     uint64_t length)
{
	const struct stn_fill_plan *plan = &fill->plan;
	struct stn_ending ending = {fd, plan->model, plan->identity.size, place, length, offset};

	return !plan->way.fuse || stn_ending_is_there(&ending);
}

/* Reads one range past the page cache, by requests as large as the mount takes best. Bytes or
 * -errno. */
static ssize_t read_direct(struct stn_fill *fill, int fd, bool *direct, uint64_t offset,
			   uint64_t length)
{
	char *place = fill->plan.memory + (offset - fill->plan.offset);
	struct stn_request_read read;
	uint64_t begun;
	ssize_t got;

	begin_request(fill, length, &read);
	begun = stn_sys_clock(CLOCK_MONOTONIC);
	got = stn_source_read_pieces(fd, direct, place, length, offset, read.most);
	end_request(fill, length, &read, stn_sys_clock(CLOCK_MONOTONIC) - begun,
		    *direct && got == (ssize_t)length);
	if (*direct && got == (ssize_t)length && !is_there(fill, fd, place, offset, length))
		got--;
	return got;
}

/* Reads one range into its place through one of the lane's descriptors. Bytes or -errno. */
static ssize_t read_file(struct stn_fill *fill, uint32_t index, uint64_t offset, uint64_t length)
{
	const struct stn_fill_plan *plan = &fill->plan;
	struct stn_source *source = fill->opening.source;
	uint64_t bit = (uint64_t)1 << index;
	bool direct = (__atomic_load_n(&source->direct, __ATOMIC_RELAXED) & bit) != 0;
	uint64_t at = offset - plan->offset;
	struct stn_source_cache cache = {
		.mapping = plan->keeper ? plan->keeper + at : NULL,
		.owned = plan->owned_file,
		.restore = plan->restore_cache,
	};
	ssize_t got;

	if (!direct)
		return stn_source_read_buffered(source->fds[index], plan->memory + at, length,
						offset, &cache);
	got = read_direct(fill, source->fds[index], &direct, offset, length);
	if (!direct)
		__atomic_fetch_and(&source->direct, ~bit, __ATOMIC_RELAXED);
	return got;
}

/* Copies the first run of a range if it is cached, else reads it. Bytes or -errno. */
static ssize_t read_run(struct stn_fill *fill, uint32_t index, uint64_t offset, uint64_t length)
{
	const struct stn_fill_plan *plan = &fill->plan;
	uint64_t at = offset - plan->offset;
	struct stn_source_copy copy = {fill->opening.source->copy_fd, plan->way.fuse,
				       plan->keeper + at};
	size_t gap, copied = stn_source_copy(&copy, plan->memory + at, length, offset, &gap);

	__atomic_fetch_add(&fill->copied_bytes, copied, __ATOMIC_RELAXED);
	return copied ? (ssize_t)copied : read_file(fill, index, offset, gap);
}

/* True if a range was read in advance and is in its place now. */
static bool take_prefetched(const struct stn_fill *fill, uint32_t index, uint64_t offset,
			    uint64_t length)
{
	const struct stn_fill_plan *plan = &fill->plan;
	struct stn_prefetch_want want = {plan->model,  &plan->identity,
					 plan->called, fill->opening.source->fds[index],
					 offset,       length};

	return plan->model && stn_prefetch_take(&want, plan->memory + (offset - plan->offset));
}

/* Reads one range into its place. Bytes or -errno. */
static ssize_t read_range(struct stn_fill *fill, const struct stn_step *step, uint64_t offset,
			  uint64_t length)
{
	uint32_t index = stn_fill_descriptor(fill, step->lane);
	uint64_t done = 0;

	if (take_prefetched(fill, index, offset, length))
		return (ssize_t)length;
	if (!fill->cached || fill->opening.source->copy_fd < 0)
		return read_file(fill, index, offset, length);
	while (done < length) {
		ssize_t got = read_run(fill, index, offset + done, length - done);

		if (got < 0)
			return got;
		if (got == 0)
			break;
		done += (uint64_t)got;
	}
	return (ssize_t)done;
}

uint64_t stn_fill_piece(uint64_t length)
{
	return stn_max(PIECE_LEAST, stn_round_up(length / 63, 65536));
}

/* After I/O errors: reads the block piece by piece, and notes in step->detail the pieces that fail.
 */
static ssize_t read_pieces(struct stn_fill *fill, struct stn_step *step)
{
	uint64_t size = stn_fill_piece(step->length);

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

/*
 * Where memory is about to end only one thread of a fill goes on at a time: what several processes
 * take between their looks at the budget and their reads must not add up to the margin. True if the
 * turn must be given back.
 */
static bool take_turn(struct stn_fill *fill)
{
	const uint64_t pause = 500000;

	if (__atomic_load_n(&fill->budget_left, __ATOMIC_RELAXED) >= TAKE_TURNS)
		return false;
	while (__atomic_exchange_n(&fill->turn, true, __ATOMIC_ACQUIRE)) {
		if (__atomic_load_n(&fill->error, __ATOMIC_RELAXED))
			return false;
		stn_sys_sleep(pause);
	}
	return true;
}

/* Reads the block in MiBs with a look at the budget before each, while memory is short. */
static ssize_t read_within_budget(struct stn_fill *fill, struct stn_step *step)
{
	struct stn_step part = *step;
	uint64_t piece = stn_fill_piece(step->length);

	if (__atomic_load_n(&fill->budget_left, __ATOMIC_RELAXED) >= LOOK_CLOSELY)
		return over_budget(fill, step->length) ? -ENOMEM : read_patiently(fill, step);
	for (uint64_t done = 0; done < step->length; done += part.length) {
		ssize_t got;
		bool turn;

		part.offset = step->offset + done;
		part.length = stn_min(stn_round_up(MIB, piece), step->length - done);
		part.detail = 0;
		turn = take_turn(fill);
		got = over_budget(fill, part.length) ? -ENOMEM : read_patiently(fill, &part);
		if (turn)
			__atomic_store_n(&fill->turn, false, __ATOMIC_RELEASE);
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
	int fd = fill->opening.source->fds[0];

	step->result = stn_source_unchanged(fd, &plan->identity) ? 0 : -ESTALE;
	if (plan->drop_cache)
		stn_source_drop_cache(fd, plan->offset, plan->length);
}

void stn_fill_step_run(struct stn_job *job, struct stn_step *step)
{
	struct stn_fill *fill = (struct stn_fill *)(void *)job;

	switch (step->kind) {
	case STN_OPENING_CLOSE:
	case STN_OPENING_OPEN:
		stn_opening_run(&fill->opening, step);
		break;
	case STN_FILL_OPEN_COPY:
		run_open_copy(fill, step);
		break;
	case STN_FILL_READ:
		run_read(fill, step);
		break;
	case STN_FILL_CHECK:
		run_check(fill, step);
		break;
	case STN_FILL_FIND_END:
		stn_source_find_end_of(fill->plan.path, &fill->plan.identity, fill->plan.offset,
				       fill->plan.length);
		break;
	}
}
