/* SPDX-License-Identifier: Apache-2.0 */
#include "transfer_step.h"

#include <errno.h>

#include "ending.h"
#include "maps.h"
#include "page.h"
#include "process.h"
#include "sys.h"

/* A piece of the range: position relative to the plan's offset, bytes, and the lane it is for. */
struct piece {
	uint64_t at, length;
	uint32_t lane;
};

/* Where byte number position of the memory is to be put by a direct read: at its place, or, in a
 * page that is not the caller's alone, at the same place of a page of ours. */
struct split {
	struct iovec parts[3];
	int count;
};

static void add_part(struct split *split, char *at, uint64_t length)
{
	if (length)
		split->parts[split->count++] = (struct iovec){at, length};
}

/* Splits memory into the end of its first page, whole pages, and the beginning of its last page. */
static void split_at_pages(const struct stn_transfer *transfer, uint64_t at, uint64_t length,
			   struct split *split)
{
	uint64_t page = stn_page_size();
	uintptr_t start = (uintptr_t)transfer->plan.memory + at, end = start + length;
	uintptr_t first = stn_min(stn_round_up(start, page), end);
	uintptr_t last = stn_max(stn_round_down(end, page), first);

	split->count = 0;
	if (transfer->plan.owned) {
		add_part(split, transfer->plan.memory + at, length);
		return;
	}
	add_part(split, transfer->edges + start % page, first - start);
	add_part(split, transfer->plan.memory + at + (first - start), last - first);
	add_part(split, transfer->edges + page + last % page, end - last);
}

/* Copies what went to pages of ours to its place. Bytes of length that are in place then or -errno.
 */
static ssize_t copy_edges(const struct stn_transfer *transfer, uint64_t at, uint64_t length)
{
	char *to = transfer->plan.memory + at;
	struct split split;

	split_at_pages(transfer, at, length, &split);
	for (int i = 0; i < split.count; to += split.parts[i++].iov_len) {
		const struct iovec *part = &split.parts[i];
		ssize_t copied;

		if (part->iov_base == to)
			continue;
		copied = stn_sys_copy(stn_process_peek()->owner, to, part->iov_base, part->iov_len);
		if (copied != (ssize_t)part->iov_len)
			return copied < 0 ? copied : to + copied - (transfer->plan.memory + at);
	}
	return (ssize_t)length;
}

/* True if a descriptor reads past the page cache. */
static bool is_direct(const struct stn_transfer *transfer, uint32_t index)
{
	const struct stn_source *source = transfer->opening.source;

	return __atomic_load_n(&source->direct, __ATOMIC_RELAXED) >> index & 1;
}

/* Notes that the file ends sooner than it should. */
static void note_end(struct stn_transfer *transfer)
{
	if (transfer->plan.way.fuse)
		__atomic_store_n(&transfer->doubtful, true, __ATOMIC_RELAXED);
}

/* One preadv; EAGAIN and EINTR are retried, see source.c. */
static ssize_t read_some(int fd, const struct split *split, uint64_t offset)
{
	unsigned refusals = 0;
	ssize_t got;

	do {
		got = stn_sys_preadv(fd, split->parts, split->count, offset);
		if (got == -EAGAIN || got == -EINTR)
			stn_sys_sleep(10000000);
	} while ((got == -EAGAIN || got == -EINTR) && ++refusals < 100);
	return got;
}

/* Reads straight into the memory, whatever its alignment. Bytes or -errno. */
static ssize_t read_straight(struct stn_transfer *transfer, int fd, const struct piece *piece)
{
	uint64_t done = 0;

	while (done < piece->length) {
		struct split split;
		ssize_t got;

		split_at_pages(transfer, piece->at + done, piece->length - done, &split);
		got = read_some(fd, &split, transfer->plan.offset + piece->at + done);
		if (got < 0)
			return got;
		if (got == 0) {
			note_end(transfer);
			break;
		}
		done += (uint64_t)got;
	}
	return done ? copy_edges(transfer, piece->at, done) : 0;
}

/* Reads pages of the file through the page cache and leaves that as it was. Bytes or -errno. */
static ssize_t read_buffered(const struct stn_transfer *transfer, int fd, char *bounce,
			     uint64_t length, uint64_t offset)
{
	const struct stn_transfer_plan *plan = &transfer->plan;
	void *mapping = stn_sys_mmap(NULL, length, PROT_NONE, MAP_SHARED, fd, offset);
	const struct stn_source_cache cache = {
		.owned = plan->owned_file,
		.mapping = stn_sys_failed(mapping) ? NULL : mapping,
		.restore = plan->restore_cache,
	};
	ssize_t got = stn_source_read_buffered(fd, bounce, length, offset, &cache);

	if (cache.mapping)
		stn_sys_munmap(mapping, length);
	return got;
}

/* Reads pages of the file into memory of ours, of which the first wanted bytes must be had. Bytes,
 * wanted at most, or -errno. */
static ssize_t read_pages(const struct stn_transfer *transfer, uint32_t index, char *bounce,
			  uint64_t wanted, uint64_t offset)
{
	struct stn_source *source = transfer->opening.source;
	uint64_t bit = (uint64_t)1 << index, length = stn_round_up(wanted, stn_page_size());
	bool direct = is_direct(transfer, index);
	int fd = source->fds[index];
	ssize_t got;

	if (!direct) {
		got = read_buffered(transfer, fd, bounce, length, offset);
		return got > (ssize_t)wanted ? (ssize_t)wanted : got;
	}
	got = stn_source_read(fd, &direct, bounce, length, wanted, offset);
	if (!direct)
		__atomic_fetch_and(&source->direct, ~bit, __ATOMIC_RELAXED);
	return got;
}

/* Reads pages of the file into memory of ours and copies from there. Bytes or -errno. */
static ssize_t read_bounced(struct stn_transfer *transfer, uint32_t index, char *bounce,
			    const struct piece *piece)
{
	uint64_t done = 0;

	while (done < piece->length) {
		uint64_t offset = transfer->plan.offset + piece->at + done;
		uint64_t from = stn_round_down(offset, stn_page_size()), lead = offset - from;
		uint64_t wanted = stn_min(lead + piece->length - done, STN_TRANSFER_BOUNCE);
		ssize_t got = read_pages(transfer, index, bounce, wanted, from), copied;

		if (got < 0)
			return got;
		if ((uint64_t)got < wanted)
			note_end(transfer);
		if ((uint64_t)got <= lead)
			break;
		copied = stn_sys_copy(stn_process_peek()->owner,
				      transfer->plan.memory + piece->at + done, bounce + lead,
				      (uint64_t)got - lead);
		if (copied < 0)
			return copied;
		done += (uint64_t)copied;
		if ((uint64_t)copied < wanted - lead)
			break;
	}
	return (ssize_t)done;
}

/* The same with memory for just this read, where none was made beforehand. */
static ssize_t read_through_new(struct stn_transfer *transfer, uint32_t index,
				const struct piece *piece)
{
	char *bounce = stn_sys_mmap(NULL, STN_TRANSFER_BOUNCE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ssize_t got;

	if (stn_sys_failed(bounce))
		return -ENOMEM;
	got = read_bounced(transfer, index, bounce, piece);
	stn_sys_munmap(bounce, STN_TRANSFER_BOUNCE);
	return got;
}

/* True if a direct read can go straight to the memory. */
static bool goes_straight(const struct stn_transfer *transfer, const struct piece *piece)
{
	const struct stn_transfer_plan *plan = &transfer->plan;
	uint64_t page = stn_page_size();

	if (plan->way.fuse)
		return !__atomic_load_n(&transfer->aligned, __ATOMIC_RELAXED);
	return ((uintptr_t)plan->memory + piece->at) % page == 0 &&
	       (plan->offset + piece->at) % page == 0 && piece->length % page == 0;
}

/* Reads one piece in the best way that works. Bytes, fewer at the end of the file or before an
 * error, or -errno. */
static ssize_t read_piece(struct stn_transfer *transfer, const struct piece *piece)
{
	const struct stn_source *source = transfer->opening.source;
	uint32_t index = stn_transfer_descriptor(transfer, piece->lane);

	if (is_direct(transfer, index) && goes_straight(transfer, piece)) {
		ssize_t got = read_straight(transfer, source->fds[index], piece);

		/* EFAULT: bad memory, or memory of a device, which cannot be pinned. */
		if (got != -EINVAL && got != -EFAULT)
			return got;
		if (got == -EINVAL)
			__atomic_store_n(&transfer->aligned, true, __ATOMIC_RELAXED);
	}
	if (!transfer->bounce)
		return read_through_new(transfer, index, piece);
	return read_bounced(transfer, index, transfer->bounce + piece->lane * STN_TRANSFER_BOUNCE,
			    piece);
}

/* Cuts length so that the next piece begins with a page of the file (EIO) or of memory (EFAULT). */
static uint64_t cut_at_page(const struct stn_transfer *transfer, uint64_t at, uint64_t length,
			    ssize_t error)
{
	uint64_t page = stn_page_size();
	uint64_t end =
		at + length +
		(error == -EFAULT ? (uintptr_t)transfer->plan.memory : transfer->plan.offset);

	return end % page < length ? length - end % page : length;
}

/*
 * Finds the page that an error is about, by halves. Returns the bytes before it; *error is cleared
 * if it does not come back.
 */
static ssize_t narrow(struct stn_transfer *transfer, const struct piece *whole, ssize_t *error)
{
	uint64_t page = stn_page_size(), done = 0;
	uint64_t size = stn_max(stn_round_up(whole->length / 2, page), page);

	while (done < whole->length) {
		struct piece piece = {whole->at + done, stn_min(size, whole->length - done),
				      whole->lane};
		ssize_t got;

		piece.length = cut_at_page(transfer, piece.at, piece.length, *error);
		got = read_piece(transfer, &piece);
		if (got >= 0 && (uint64_t)got < piece.length)
			*error = 0;
		if (got == -EIO || got == -EFAULT)
			*error = got;
		if (got >= 0)
			done += (uint64_t)got;
		if (got == (ssize_t)piece.length)
			continue;
		if (got >= 0 || piece.length <= page)
			return (ssize_t)done;
		size = stn_max(stn_round_up(piece.length / 2, page), page);
	}
	*error = 0;
	return (ssize_t)done;
}

/* Reads a block; an I/O error gets a moment's patience first, as in a fill. Bytes; *error is why
 * they are fewer, 0 for the end of the file. */
static ssize_t read_block(struct stn_transfer *transfer, const struct piece *piece, ssize_t *error)
{
	const uint64_t pause = 20000000;
	ssize_t got = read_piece(transfer, piece);

	for (int again = 0; again < 2 && got == -EIO; again++) {
		stn_sys_sleep(pause << (2 * again));
		got = read_piece(transfer, piece);
	}
	*error = got < 0 ? got : 0;
	if (got == -EIO || got == -EFAULT)
		got = narrow(transfer, piece, error);
	return got < 0 ? 0 : got;
}

/* False if the file ends before what a direct read has returned of it. Blocks as
 * stn_ending_is_there. */
static bool is_there(const struct stn_transfer *transfer, uint32_t index, const struct piece *piece)
{
	const struct stn_transfer_plan *plan = &transfer->plan;
	int fd = transfer->opening.source->fds[index];
	char last[512];
	uint64_t end = plan->offset + piece->at + piece->length;
	uint64_t bytes = stn_min(stn_min(sizeof(last), piece->length), (end - 1) % 512 + 1);
	struct stn_ending ending = {fd, plan->model, plan->identity.size, last, bytes, end - bytes};

	return !plan->way.fuse || !is_direct(transfer, index) ||
	       stn_sys_copy(stn_process_peek()->owner, last,
			    plan->memory + piece->at + piece->length - bytes,
			    bytes) != (ssize_t)bytes ||
	       stn_ending_is_there(&ending);
}

static void run_read(struct stn_transfer *transfer, struct stn_step *step)
{
	const struct piece piece = {step->offset, step->length, step->lane};
	uint32_t index = stn_transfer_descriptor(transfer, step->lane);
	int fd = transfer->opening.source->fds[index];
	ssize_t error;

	step->result = read_block(transfer, &piece, &error);
	if (step->result == (int64_t)piece.length && !is_there(transfer, index, &piece))
		note_end(transfer);
	/* Where a server delivers less than the size that it has reported, the kernel fills up with
	 * zeros and corrects the size. */
	if (!stn_source_seems_unchanged(fd, &transfer->plan.identity)) {
		step->result = 0;
		error = -ESTALE;
		note_end(transfer);
	}
	step->detail = (uint64_t)-error;
	if (transfer->plan.drop_cache)
		stn_source_drop_cache(fd, transfer->plan.offset + piece.at, piece.length);
}

static void run_find_end(const struct stn_transfer *transfer, struct stn_step *step)
{
	const struct stn_transfer_plan *plan = &transfer->plan;
	const struct stn_source *source = transfer->opening.source;

	step->result =
		(int64_t)stn_ending_find(source->fds[0], plan->offset, plan->offset + plan->length);
}

/*
 * Asks for huge pages in memory that is about to be written as a whole: only where it is so much
 * that malloc has mapped it for this one purpose, so that no other use of it is affected.
 */
static void prefer_huge_pages(const struct stn_transfer_plan *plan)
{
	const uint64_t much = (uint64_t)32 << 20; /* what glibc's malloc always maps apart */
	size_t huge = plan->huge_pages && plan->length > much ? stn_page_huge_read() : 0;
	uintptr_t start, end;

	if (huge == 0 || huge > plan->block)
		return;
	start = stn_round_up((uintptr_t)plan->memory, huge);
	end = stn_round_down((uintptr_t)plan->memory + plan->length, huge);
	if (start < end)
		stn_sys_madvise((void *)start, end - start, MADV_HUGEPAGE);
}

/*
 * Finds out if all of the caller's memory may be written. Where it is little its pages are made
 * present, which the reads would do next; where it is much that would keep them waiting.
 */
static void run_check(const struct stn_transfer *transfer, struct stn_step *step)
{
	const uint64_t little = (uint64_t)16 << 20;
	const int madv_populate_write = 23;
	const struct stn_transfer_plan *plan = &transfer->plan;
	uintptr_t start = stn_round_down((uintptr_t)plan->memory, stn_page_size());
	uintptr_t end = stn_round_up((uintptr_t)plan->memory + plan->length, stn_page_size());
	int rc = -EINVAL;

	if (plan->length < little)
		rc = stn_sys_madvise((void *)start, end - start, madv_populate_write);
	step->result = rc == 0 || (rc != -EFAULT && stn_maps_writable(start, end));
	if (step->result)
		prefer_huge_pages(plan);
}

void stn_transfer_step_run(struct stn_job *job, struct stn_step *step)
{
	struct stn_transfer *transfer = (struct stn_transfer *)(void *)job;

	if (step->kind == STN_TRANSFER_READ)
		run_read(transfer, step);
	else if (step->kind == STN_TRANSFER_CHECK)
		run_check(transfer, step);
	else if (step->kind == STN_TRANSFER_FIND_END)
		run_find_end(transfer, step);
	else if (step->kind)
		stn_opening_run(&transfer->opening, step);
}
