/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

#include <errno.h>

#include "config.h"
#include "fs.h"
#include "page.h"
#include "readblock.h"
#include "signals.h"
#include "source.h"
#include "survey.h"
#include "sys.h"

static bool drops_cache(const struct stn_range *range)
{
	return stn_config.cache == STN_CACHE_DROP ||
	       (stn_config.cache == STN_CACHE_AUTO && range->unified);
}

bool stn_range_owned(const struct stn_range *range)
{
	unsigned user = stn_sys_geteuid();

	return user == 0 || user == range->owner;
}

static void plan_transfer(const struct stn_range *range, struct stn_transfer_plan *plan)
{
	*plan = (struct stn_transfer_plan){
		.identity = range->identity,
		.model = range->model,
		.block = stn_config.block,
		.timeout = stn_config.timeout,
		.threads = (unsigned)stn_config.threads,
		.huge_pages = stn_config.huge_pages != STN_HUGE_OFF,
		.way = {.direct = stn_config.io != STN_IO_BUFFERED,
			.buffered = stn_config.io != STN_IO_DIRECT,
			.fuse = range->fuse},
		.owned_file = stn_range_owned(range),
		.restore_cache = stn_config.cache != STN_CACHE_KEEP,
		.drop_cache = drops_cache(range),
	};
	__builtin_memcpy(plan->path, range->path, sizeof(plan->path));
}

/* Before the first wait: what ends the process may do so from now on. */
static void be_patient(struct stn_range *range)
{
	uint64_t mask;

	if (range->patient)
		return;
	mask = range->mask | stn_signals_handled();
	stn_sys_sigmask(&mask, NULL);
	range->patient = true;
	range->waiting = stn_sys_clock(CLOCK_MONOTONIC);
}

uint64_t stn_range_transfer(struct stn_range *range, char *memory, uint64_t offset, uint64_t length,
			    bool owned, int *error, bool *lost)
{
	struct stn_transfer_plan plan;
	struct stn_transfer *transfer;
	uint64_t had;

	*lost = false;
	range->end = UINT64_MAX;
	*error = range->path[0]
			 ? 0
			 : stn_survey_descriptor(range->fd, range->path, sizeof(range->path));
	if (*error < 0)
		return 0;
	plan_transfer(range, &plan);
	plan.memory = memory;
	plan.offset = offset;
	plan.length = length;
	plan.owned = owned;
	transfer = stn_transfer_make(&plan);
	if (!transfer) {
		*error = -ENOMEM;
		return 0;
	}
	be_patient(range);
	had = stn_transfer_run(transfer, error);
	*lost = owned && transfer->job.abandoned;
	range->end = transfer->end;
	range->direct_bytes += transfer->direct_bytes;
	range->buffered_bytes += transfer->buffered_bytes;
	range->threads = (unsigned)stn_max(range->threads, transfer->most_running);
	stn_transfer_put(transfer);
	return had;
}

/* How much of the range the kernel may be asked for. Of a file on FUSE that ends before its size it
 * can show zeros behind its end, if that is not known, or found by the kernel itself. */
static uint64_t length_to_end(const struct stn_range *range, uint64_t done)
{
	if (range->failure != -ESTALE || !range->fuse)
		return range->length;
	if (range->end < range->offset + range->length)
		return stn_max(range->end, range->offset + done) - range->offset;
	stn_source_find_end(range->fd, range->offset + done, range->length - done);
	return range->length;
}

/* Has the kernel read on where we could not. Bytes in all, or -errno if there are none. */
static int64_t read_by_kernel(struct stn_range *range, uint64_t done)
{
	uint64_t length;
	ssize_t got;

	be_patient(range);
	/* Another thread may have closed the descriptor, and its number be another file's. */
	if (!stn_source_is_file(range->fd, &range->identity))
		return done ? (int64_t)done : -EBADF;
	length = length_to_end(range, done);
	got = stn_sys_pread(range->fd, range->memory + done, length - done, range->offset + done);
	if (got < 0)
		return done ? (int64_t)done : got;
	return (int64_t)(done + (uint64_t)got);
}

/* Reads straight to the program's memory what follows the bytes that are done. */
static int64_t read_directly(struct stn_range *range, uint64_t done)
{
	bool lost;
	int error;

	done += stn_range_transfer(range, range->memory + done, range->offset + done,
				   range->length - done, false, &error, &lost);
	range->broken |= error == -EIO;
	if (error == 0 || ((error == -EIO || error == -EFAULT) && done))
		return (int64_t)done;
	if (error == -EIO || error == -EFAULT)
		return error;
	range->failure = error;
	return read_by_kernel(range, done);
}

int64_t stn_range_read(struct stn_range *range)
{
	bool small = range->fuse && range->length < STN_READBLOCK_MOST;
	uint64_t done = 0;
	int64_t got = 1;

	while (small && done < range->length) {
		/* A block that was read for us and is gone already: others are in a hurry too. */
		bool read = got == 0;

		got = stn_readblock_copy(range, done);
		if (got < 0 && got != -EFAULT)
			break;
		if (got < 0)
			return done ? (int64_t)done : got;
		done += (uint64_t)got;
		if (got == 0 && (read || !stn_readblock_fetch(range, done)))
			break;
	}
	return done < range->length ? read_directly(range, done) : (int64_t)done;
}
