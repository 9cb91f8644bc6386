/* SPDX-License-Identifier: Apache-2.0 */
#include "range.h"

#include <errno.h>

#include "ahead.h"
#include "config.h"
#include "fs.h"
#include "page.h"
#include "survey.h"
#include "sys.h"

static bool drops_cache(const struct stn_range *range)
{
	return stn_config.cache == STN_CACHE_DROP ||
	       (stn_config.cache == STN_CACHE_AUTO && range->unified);
}

static void plan_transfer(const struct stn_range *range, struct stn_transfer_plan *plan)
{
	*plan = (struct stn_transfer_plan){
		.identity = range->identity,
		.block = stn_config.block,
		.timeout = stn_config.timeout,
		.threads = (unsigned)stn_config.threads,
		.fuse = range->fuse,
		.want_direct = stn_config.io != STN_IO_BUFFERED,
		.want_buffered = stn_config.io != STN_IO_DIRECT,
		.restore_cache = stn_config.cache != STN_CACHE_KEEP,
		.drop_cache = drops_cache(range),
	};
	__builtin_memcpy(plan->path, range->path, sizeof(plan->path));
}

uint64_t stn_range_transfer(struct stn_range *range, char *memory, uint64_t offset, uint64_t length,
			    bool owned, int *error, bool *lost)
{
	struct stn_transfer_plan plan;
	struct stn_transfer *transfer;
	uint64_t had;

	*lost = false;
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
	had = stn_transfer_run(transfer, error);
	*lost = owned && transfer->job.abandoned;
	range->direct_bytes += transfer->direct_bytes;
	range->buffered_bytes += transfer->buffered_bytes;
	range->threads = (unsigned)stn_max(range->threads, transfer->most_running);
	stn_transfer_put(transfer);
	return had;
}

/* Has the kernel read on where we could not. Bytes in all, or -errno if there are none. */
static int64_t read_by_kernel(const struct stn_range *range, uint64_t done)
{
	while (done < range->length) {
		ssize_t got = stn_sys_pread(range->fd, range->memory + done, range->length - done,
					    range->offset + done);

		if (got < 0 && !done)
			return got;
		if (got <= 0)
			break;
		done += (uint64_t)got;
	}
	return (int64_t)done;
}

/* Reads straight to the program's memory what follows the bytes that are done. */
static int64_t read_directly(struct stn_range *range, uint64_t done)
{
	bool lost;
	int error;

	done += stn_range_transfer(range, range->memory + done, range->offset + done,
				   range->length - done, false, &error, &lost);
	if (error == 0 || ((error == -EIO || error == -EFAULT) && done))
		return (int64_t)done;
	if (error == -EIO || error == -EFAULT)
		return error;
	range->failure = error;
	return read_by_kernel(range, done);
}

int64_t stn_range_read(struct stn_range *range)
{
	bool small = range->fuse && range->length < STN_AHEAD_MOST;
	uint64_t done = 0;
	int64_t got = 1;

	while (small && done < range->length) {
		/* A block that was read for us and is gone already: others are in a hurry too. */
		bool read = got == 0;

		got = stn_ahead_copy(range, done);
		if (got < 0 && got != -EFAULT)
			break;
		if (got < 0)
			return done ? (int64_t)done : got;
		done += (uint64_t)got;
		if (got == 0 && (read || !stn_ahead_fetch(range, done)))
			break;
	}
	return done < range->length ? read_directly(range, done) : (int64_t)done;
}

/* Counts the cached pages of a mapped piece of the file. */
static uint64_t count_cached(char *mapping, uint64_t length)
{
	unsigned char pages[1024];
	uint64_t page = stn_page_size(), window = sizeof(pages) * page, cached = 0;

	for (uint64_t done = 0; done < length; done += window) {
		uint64_t piece = stn_min(window, length - done);

		if (stn_fs_resident(mapping + done, piece, pages) < 0)
			return 0;
		for (uint64_t i = 0; i < (piece + page - 1) / page; i++)
			cached += pages[i] & 1;
		/* Of a file that is mostly not there no more need be looked at. */
		if (cached * page * 2 < done + piece)
			return 0;
	}
	return cached;
}

bool stn_range_cached(const struct stn_range *range, bool owned_file)
{
	uint64_t page = stn_page_size(), from = stn_round_down(range->offset, page);
	uint64_t length = range->offset + range->length - from, cached;
	char *mapping;

	if (range->fuse || !owned_file || stn_config.cache == STN_CACHE_DROP)
		return false;
	mapping = stn_sys_mmap(NULL, length, PROT_NONE, MAP_SHARED, range->fd, from);
	if (stn_sys_failed(mapping))
		return false;
	cached = count_cached(mapping, length);
	stn_sys_munmap(mapping, length);
	return cached * page >= length - length / 16;
}
