/* SPDX-License-Identifier: Apache-2.0 */
/* The reading of lazy fill. */
#include "lazy_engine.h"

#include <errno.h>
#include <string.h>

#include "budget.h"
#include "config.h"
#include "ending.h"
#include "fs.h"
#include "prefetch.h"
#include "region.h"
#include "source.h"
#include "survey.h"
#include "sys.h"
#include "tensors.h"

#define LOOK_CLOSELY ((uint64_t)1 << 30)   /* with less memory left look at it for every read */
#define HEADER_MOST  ((uint64_t)100 << 20) /* safetensors' own limit */
#define TRIES	     3			   /* reads of a block before it is read unit by unit */
#define FAILURES     32			   /* units that may fail before a file is given up */

/* True if reading so much more would take memory that is not to be had. */
static bool over_budget(struct stn_lazy_engine *engine, uint64_t bytes)
{
	uint64_t left = __atomic_load_n(&engine->budget_left, __ATOMIC_RELAXED);
	uint64_t since = __atomic_add_fetch(&engine->unchecked, bytes, __ATOMIC_RELAXED);
	struct stn_budget_view view;
	uint64_t cap, engaged, holes, mask;
	bool limited;

	if (left >= LOOK_CLOSELY && since <= left / 16)
		return false;
	__atomic_store_n(&engine->unchecked, 0, __ATOMIC_RELAXED);
	stn_budget_read(&view);
	limited = view.address_space_left != STN_BUDGET_UNLIMITED ||
		  view.data_left != STN_BUDGET_UNLIMITED ||
		  view.commit_left != STN_BUDGET_UNLIMITED;
	__atomic_store_n(&engine->limited, limited, __ATOMIC_RELAXED);
	left = stn_budget_left(&view);
	cap = stn_budget_cap(&view, stn_config.memory_kind, stn_config.memory_value);
	mask = stn_lock_enter(&stn_process_peek()->pool_lock);
	holes = stn_lazy_holes();
	stn_lock_leave(&stn_process_peek()->pool_lock, mask);
	engaged = stn_region_bytes(STN_REGION_ENGAGED);
	/* A mapping that has just been made may not be registered yet. */
	engaged -= stn_min(engaged, holes);
	left = stn_min(left, cap - stn_min(cap, engaged));
	__atomic_store_n(&engine->budget_left, left, __ATOMIC_RELAXED);
	return left < bytes;
}

/* False if the file ends before what has been read of it. */
static bool is_there(const struct stn_lazy *lazy, const char *block, uint64_t offset,
		     uint64_t bytes)
{
	struct stn_ending ending = {
		lazy->file, lazy->plan.model, lazy->plan.record.identity.size, block, bytes, offset,
	};

	return lazy->plan.record.file_system != STN_FS_FUSE || stn_ending_is_there(&ending);
}

/* Reads a range of the file into block, to whole pages, by so many bytes at a time as its mount
 * takes best. Bytes or -errno. */
static ssize_t read_file(struct stn_lazy *lazy, char *block, uint64_t at, uint64_t bytes)
{
	uint64_t offset = lazy->plan.offset + at;
	struct stn_lazy_use use;
	bool direct = true;
	ssize_t got;

	stn_lazy_handle_take(lazy, offset, bytes, &use);
	got = stn_source_read_pieces(use.fd, &direct, block, bytes, offset, use.request.most);
	stn_lazy_handle_put(lazy, offset, bytes, &use, direct && got == (ssize_t)bytes);
	return got == (ssize_t)bytes && !is_there(lazy, block, offset, bytes) ? got - 1 : got;
}

/* How much of a range has the keeper where it was mapped: what has been cut or given back has not.
 */
static uint64_t kept_bytes(const struct stn_lazy *lazy, uint64_t at, uint64_t bytes)
{
	uintptr_t address = (uintptr_t)lazy->plan.memory + at;
	struct stn_region region;

	if (!stn_region_find(address, address + bytes, &region) || region.lazy != lazy->id ||
	    region.start != address || region.keeper != (uintptr_t)lazy->plan.keeper + at)
		return 0;
	return stn_min(bytes, region.end - address);
}

/* Copies the first run of a range if another mapping holds it or the page cache has it, else reads
 * it. Bytes or -errno. */
static ssize_t read_run(struct stn_lazy *lazy, char *block, uint64_t at, uint64_t bytes,
			uint64_t *borrowed)
{
	struct stn_source_copy copy = {lazy->copy, lazy->plan.record.file_system == STN_FS_FUSE,
				       lazy->plan.keeper + at};
	size_t gap = bytes, copied;
	uint64_t kept;

	copied = stn_lazy_borrow(stn_lazy_engine_peek(), lazy, block, at, bytes, &gap);
	*borrowed += copied;
	if (copied)
		return (ssize_t)copied;
	if (lazy->copy < 0)
		return read_file(lazy, block, at, gap);
	kept = kept_bytes(lazy, at, gap);
	if (kept)
		copied = stn_source_copy(&copy, block, kept, lazy->plan.offset + at, &gap);
	__atomic_fetch_add(&lazy->copied_bytes, copied, __ATOMIC_RELAXED);
	return copied ? (ssize_t)copied : read_file(lazy, block, at, gap);
}

/* Reads a range of the file into block. Bytes or -errno; *borrowed: bytes of them that were not
 * delivered for it. */
static ssize_t read_once(struct stn_lazy *lazy, char *block, uint64_t at, uint64_t bytes,
			 uint64_t *borrowed)
{
	struct stn_prefetch_want want = {lazy->plan.model, &lazy->plan.record.identity, lazy->begun,
					 lazy->file,	   lazy->plan.offset + at,	bytes};
	ssize_t got = 1;

	*borrowed = 0;
	if (stn_prefetch_take(&want, block))
		return (ssize_t)bytes;
	for (uint64_t done = 0; done < bytes; done += (uint64_t)got) {
		got = read_run(lazy, block + done, at + done, bytes - done, borrowed);
		if (got <= 0)
			return got ? got : (ssize_t)done;
	}
	return (ssize_t)bytes;
}

/* Reads a range of the file into block, up to a number of times. Bytes or -errno. */
static ssize_t read_range(struct stn_lazy *lazy, char *block, uint64_t at, uint64_t bytes,
			  int tries, uint64_t *borrowed)
{
	const uint64_t pause = 20000000;
	ssize_t got = -EIO;

	for (int again = 0; again < tries && got == -EIO; again++) {
		if (again)
			stn_sys_sleep(pause << (3 * (again - 1)));
		got = read_once(lazy, block, at, bytes, borrowed);
	}
	if (got == (ssize_t)bytes)
		memset(block + bytes, 0, stn_round_up(bytes, stn_page_size()) - bytes);
	return got;
}

/* The length of a safetensors header as its first eight bytes have it, with those; 0 if they
 * cannot be that. */
static uint64_t header_length(const struct stn_lazy *lazy, const char *block)
{
	uint64_t length = 0, size = lazy->plan.record.identity.size;

	for (int i = 7; i >= 0; i--)
		length = length << 8 | (unsigned char)block[i];
	return size > 8 && block[8] == '{' && length <= HEADER_MOST && length <= size - 8
		       ? length + 8
		       : 0;
}

/* Takes over what a piece has of the header. No lock held. */
static void scan_header(const struct stn_lazy *lazy, const struct stn_lazy_piece *piece)
{
	uint64_t from = piece->first * STN_AHEAD_UNIT, skip = piece->first ? 0 : 8;
	uint64_t end = from + stn_lazy_bytes(lazy, piece->first, piece->count);
	struct stn_model *model = lazy->plan.model;
	struct stn_tensors *tensors = NULL;
	uint64_t header;

	if (lazy->plan.offset || end < from + skip)
		return;
	header = piece->first ? atomic_load(&model->header) : header_length(lazy, piece->block);
	if (header > from + skip)
		tensors = stn_tensors_make(model, lazy->plan.record.identity.size);
	if (tensors)
		stn_tensors_scan(tensors, piece->block + skip, stn_min(end, header) - from - skip,
				 header);
}

/* After the start of the file has been read: asks for the rest of its header. Pool lock held. */
static void follow_header(struct stn_lazy *lazy, uint32_t first, const char *block)
{
	uint64_t length;
	uint32_t end;

	if (first || lazy->plan.offset)
		return;
	length = header_length(lazy, block);
	atomic_store(&lazy->plan.model->header, length);
	end = (uint32_t)stn_min((length + STN_AHEAD_UNIT - 1) / STN_AHEAD_UNIT, lazy->units);
	if (end && stn_lazy_turn(lazy, 0, end, STN_UNIT_EMPTY, STN_UNIT_QUEUED))
		lazy->header = end * STN_AHEAD_UNIT;
}

/* Remembers a piece that waits to be touched. False if there is no room for it. Pool lock held. */
static bool keep_back(struct stn_lazy *lazy, const struct stn_lazy_piece *piece)
{
	uint64_t from = piece->first * STN_AHEAD_UNIT;

	if (lazy->flush || lazy->surrendered ||
	    !stn_ahead_marked(&lazy->ahead, from, from + piece->count * STN_AHEAD_UNIT))
		return false;
	for (uint32_t i = 0; i < STN_LAZY_KEPT; i++)
		if (!lazy->kept[i].block) {
			lazy->kept[i] = *piece;
			return true;
		}
	return false;
}

/* Places or keeps back what has been read. */
static void finish(struct stn_lazy_engine *engine, struct stn_lazy *lazy,
		   const struct stn_lazy_piece *piece)
{
	struct stn_process *process = stn_process_peek();
	bool awaited, wanted, keep, place;
	uint64_t mask;

	scan_header(lazy, piece);
	mask = stn_lock_enter(&process->pool_lock);
	lazy->read_bytes += stn_lazy_bytes(lazy, piece->first, piece->count);
	follow_header(lazy, piece->first, piece->block);
	if (stn_lazy_is_held(lazy, piece)) {
		stn_lock_leave(&process->pool_lock, mask);
		stn_lazy_hold_finish(engine, lazy, piece);
		return;
	}
	awaited = stn_lazy_turn(lazy, piece->first, piece->count, STN_UNIT_AWAITED,
				STN_UNIT_READING) != 0;
	/* All of it may have gone meanwhile. */
	wanted = memchr(lazy->unit + piece->first, STN_UNIT_READING, piece->count) != NULL;
	keep = wanted && !awaited && keep_back(lazy, piece);
	place = wanted && !keep;
	stn_lazy_turn(lazy, piece->first, piece->count, STN_UNIT_READING,
		      keep ? STN_UNIT_KEPT : STN_UNIT_PLACING);
	if (!wanted)
		stn_staging_put(&engine->staging, piece->block, stn_lazy_blocks(piece->count));
	stn_lock_leave(&process->pool_lock, mask);
	if (place)
		stn_lazy_place(engine, lazy, piece);
	else if (!wanted)
		stn_lazy_wake(lazy, piece->first, piece->count);
}

/* After an I/O error: unit by unit; what cannot be read is the kernel's to answer for, and of a
 * file with too much of that all the rest. */
static void read_units(struct stn_lazy_engine *engine, struct stn_lazy *lazy,
		       const struct stn_lazy_piece *piece)
{
	struct stn_process *process = stn_process_peek();
	bool bad = false, first;

	for (uint32_t i = 0; i < piece->count && !bad; i++) {
		struct stn_lazy_piece one = {.first = piece->first + i, .count = 1};
		uint64_t bytes = stn_lazy_bytes(lazy, one.first, 1), borrowed, mask;

		mask = stn_lock_enter(&process->pool_lock);
		one.block = stn_staging_take(&engine->staging, false, 1);
		stn_lock_leave(&process->pool_lock, mask);
		if (one.block && read_range(lazy, one.block, one.first * STN_AHEAD_UNIT, bytes, 1,
					    &borrowed) == (ssize_t)bytes) {
			finish(engine, lazy, &one);
			continue;
		}
		mask = stn_lock_enter(&process->pool_lock);
		stn_staging_put(&engine->staging, one.block, 1);
		bad = ++lazy->failures > FAILURES;
		first = !lazy->failed_at;
		if (first)
			lazy->failed_at = lazy->plan.offset + one.first * STN_AHEAD_UNIT + 1;
		stn_lock_leave(&process->pool_lock, mask);
		if (first)
			stn_lazy_record_failure(lazy, one.first * STN_AHEAD_UNIT, bytes);
		stn_lazy_return_units(lazy, one.first, 1);
	}
	if (bad)
		stn_lazy_surrender(engine, lazy, STN_ABANDONED_IO_ERROR);
}

/* True for a piece of the header, whose delivery is not counted, as that of header peeks is not. */
static bool is_header(const struct stn_lazy *lazy, const struct stn_lazy_piece *piece,
		      uint64_t bytes)
{
	return piece->first * STN_AHEAD_UNIT + bytes <=
	       __atomic_load_n(&lazy->header, __ATOMIC_RELAXED);
}

/* True if the file has been delivered as often as may be, with so many bytes. */
static bool delivered_too_often(const struct stn_lazy *lazy, uint64_t bytes)
{
	uint64_t before = atomic_fetch_add(&lazy->plan.model->delivered, bytes);

	return before + bytes > 2 * lazy->plan.record.identity.size + STN_LAZY_BLOCK;
}

/* Reads a piece. 0, or why the mapping must be given up; -EIO: only this piece. */
static int read_piece(struct stn_lazy_engine *engine, struct stn_lazy *lazy,
		      const struct stn_lazy_piece *piece)
{
	const struct stn_identity *identity = &lazy->plan.record.identity;
	uint64_t bytes = stn_lazy_bytes(lazy, piece->first, piece->count), borrowed;
	bool counted = !is_header(lazy, piece, bytes);
	ssize_t got;

	if (over_budget(engine, bytes) ||
	    __atomic_load_n(&lazy->read_bytes, __ATOMIC_RELAXED) + bytes > lazy->plan.most)
		return -ENOMEM;
	if (counted && delivered_too_often(lazy, bytes))
		return -EDQUOT;
	got = read_range(lazy, piece->block, piece->first * STN_AHEAD_UNIT, bytes, TRIES,
			 &borrowed);
	if (counted && got == (ssize_t)bytes)
		atomic_fetch_sub(&lazy->plan.model->delivered, borrowed);
	if (got < 0)
		return got == -ESTALE ? -ESTALE : -EIO;
	if (got < (ssize_t)bytes)
		__atomic_store_n(&lazy->shorter, true, __ATOMIC_RELAXED);
	/* Where a server delivers less than the size that it has reported, the kernel may fill up
	 * with zeros, and corrects the size. */
	return got == (ssize_t)bytes && stn_source_seems_unchanged(lazy->file, identity) &&
			       stn_source_unchanged(lazy->file, identity)
		       ? 0
		       : -ESTALE;
}

static enum stn_decision reason(int error)
{
	return error == -ENOMEM ? STN_ABANDONED_MEMORY : STN_DECLINED_REREAD;
}

/* The threads that read or place for a mapping. No lock held. */
static uint32_t count_running(const struct stn_lazy *lazy)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	uint32_t running = lazy->running;

	stn_lock_leave(&process->pool_lock, mask);
	return running;
}

/* If a file on FUSE is shorter than its size has the kernel find where it ends, as soon as nothing
 * else is read of the mapping, or after two seconds: a read may hang. */
static void find_end(const struct stn_lazy *lazy)
{
	const uint64_t pause = 500000;
	char path[sizeof(lazy->plan.descriptor)];
	uint64_t from = 0;

	if (lazy->plan.record.file_system != STN_FS_FUSE)
		return;
	for (int i = 0; i < 4000 && count_running(lazy) > 1; i++)
		stn_sys_sleep(pause);
	if (!__atomic_load_n(&lazy->shorter, __ATOMIC_RELAXED))
		return;
	while (from < lazy->units && lazy->unit[from] > STN_UNIT_AWAITED)
		from++;
	from *= STN_AHEAD_UNIT;
	if (from < lazy->plan.length && !stn_survey_descriptor(lazy->file, path, sizeof(path)))
		stn_source_find_end_of(path, &lazy->plan.record.identity, lazy->plan.offset + from,
				       lazy->plan.length - from);
}

/* A read has shown that the file is another now, or shorter. The first thread gives the mapping up,
 * and what others have read with it. */
static void end_changed(struct stn_lazy_engine *engine, struct stn_lazy *lazy)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	bool first = !lazy->changed && !lazy->surrendered;

	lazy->changed = true;
	stn_lock_leave(&process->pool_lock, mask);
	if (!first)
		return;
	find_end(lazy);
	stn_lazy_surrender(engine, lazy, STN_ABANDONED_CHANGED);
}

void stn_lazy_run_read(struct stn_lazy_engine *engine, struct stn_step *step)
{
	struct stn_process *process = stn_process_peek();
	struct stn_lazy *lazy = engine->lazies[step->lane];
	struct stn_lazy_piece piece = {.first = (uint32_t)step->offset,
				       .count = (uint32_t)step->length,
				       .block = (char *)(uintptr_t)step->detail};
	int rc = read_piece(engine, lazy, &piece);
	uint64_t mask;

	if (rc == 0) {
		finish(engine, lazy, &piece);
		return;
	}
	mask = stn_lock_enter(&process->pool_lock);
	if (stn_lazy_is_held(lazy, &piece))
		stn_lazy_hold_fail(lazy, &piece);
	else
		stn_staging_put(&engine->staging, piece.block, stn_lazy_blocks(piece.count));
	stn_lock_leave(&process->pool_lock, mask);
	if (rc == -EIO)
		read_units(engine, lazy, &piece);
	else if (rc == -ESTALE)
		end_changed(engine, lazy);
	else
		stn_lazy_surrender(engine, lazy, reason(rc));
}
