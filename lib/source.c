/* SPDX-License-Identifier: Apache-2.0 */
#include "source.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <string.h>
#include <sys/uio.h>

#include "fs.h"
#include "page.h"
#include "sys.h"

#define OPEN_FLAGS (O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)

/* Since Linux 6.1; older headers do not have it. */
#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x2000u
#endif

/* POSIX_FADV_RANDOM and POSIX_FADV_DONTNEED as the kernel numbers them on x86-64 and aarch64. */
enum { FADV_RANDOM = 1, FADV_DONTNEED = 4 };

/* The part of struct statx that older headers end before: see statx(2). */
struct dio_alignment {
	uint32_t memory; /* 0: no direct reads */
	uint32_t offset;
};

/* True if the file system says that page-aligned direct reads will not do. */
static bool direct_is_unsuitable(const struct statx *st)
{
	const size_t alignment_at = 0x98; /* of stx_dio_mem_align in the kernel's struct statx */
	const struct dio_alignment *dio =
		(const struct dio_alignment *)(const void *)((const char *)st + alignment_at);

	if (!(st->stx_mask & STATX_DIOALIGN))
		return false;
	return dio->memory == 0 || dio->memory > stn_page_size() || dio->offset > stn_page_size();
}

static bool shows(const struct statx *st, const struct stn_identity *identity)
{
	struct stn_identity now;

	stn_identity_from(st, &now);
	return stn_identity_equal(&now, identity);
}

static int check_version(int fd, const struct stn_identity *identity, struct statx *st)
{
	int rc = stn_sys_statx(fd, STATX_BASIC_STATS | STATX_DIOALIGN, st);

	if (rc < 0)
		return rc;
	return shows(st, identity) ? 0 : -ESTALE;
}

bool stn_source_unchanged(int fd, const struct stn_identity *identity)
{
	struct statx st = {0};

	return check_version(fd, identity, &st) == 0;
}

bool stn_source_seems_unchanged(int fd, const struct stn_identity *identity)
{
	struct statx st = {0};

	return stn_sys_statx_cached(fd, STATX_BASIC_STATS, &st) == 0 && shows(&st, identity);
}

bool stn_source_is_current(int fd, const struct stn_identity *identity)
{
	struct statx st = {0};

	return stn_sys_statx_synced(fd, STATX_BASIC_STATS, &st) == 0 && shows(&st, identity);
}

bool stn_source_is_file(int fd, const struct stn_identity *identity)
{
	struct stn_identity now;
	struct statx st = {0};

	int rc = stn_sys_statx_cached(fd, STATX_INO, &st);

	if (rc < 0)
		return rc != -EBADF;
	stn_identity_from(&st, &now);
	return now.device == identity->device && now.inode == identity->inode;
}

int stn_source_open_direct(const char *path, bool fuse)
{
	int fd = stn_sys_open(path, fuse ? OPEN_FLAGS : OPEN_FLAGS | O_DIRECT), rc = 0;

	if (fd >= 0 && fuse)
		rc = stn_sys_fcntl(fd, F_SETFL, O_NONBLOCK | O_DIRECT);
	if (rc < 0)
		stn_sys_close(fd);
	return rc < 0 ? rc : fd;
}

int stn_source_open(const char *path, const struct stn_identity *identity,
		    const struct stn_source_way *way, bool *direct)
{
	struct statx st = {0};
	int fd = -EINVAL, rc;

	*direct = way->direct;
	if (way->direct)
		fd = stn_source_open_direct(path, way->fuse);
	if (fd == -EINVAL && way->buffered) {
		*direct = false;
		fd = stn_sys_open(path, OPEN_FLAGS);
	}
	if (fd < 0)
		return fd;
	rc = check_version(fd, identity, &st);
	if (rc == 0 && *direct && direct_is_unsuitable(&st)) {
		*direct = false;
		rc = way->buffered ? stn_sys_fcntl(fd, F_SETFL, O_NONBLOCK) : -EINVAL;
	}
	if (rc < 0) {
		stn_sys_close(fd);
		return rc;
	}
	/* Without read-ahead nothing beyond what is asked for comes into the page cache. */
	if (!*direct)
		stn_sys_fadvise(fd, 0, 0, FADV_RANDOM);
	return fd;
}

/*
 * One pread; EAGAIN and EINTR are retried for about a second. All signals are blocked here, so that
 * both are a server's own words.
 */
static ssize_t read_some(int fd, void *memory, size_t length, uint64_t offset)
{
	unsigned refusals = 0;
	ssize_t got;

	do {
		got = stn_sys_pread(fd, memory, length, offset);
		if (got == -EAGAIN || got == -EINTR)
			stn_sys_sleep(10000000);
	} while ((got == -EAGAIN || got == -EINTR) && ++refusals < 100);
	return got;
}

/* Reads until the wanted bytes of length are there, or the end of the file. */
static ssize_t read_all(int fd, void *memory, size_t length, size_t wanted, uint64_t offset)
{
	size_t done = 0;

	while (done < wanted) {
		ssize_t got = read_some(fd, (char *)memory + done, length - done, offset + done);

		if (got < 0)
			return got;
		if (got == 0)
			break;
		done += (size_t)got;
	}
	return (ssize_t)(done < wanted ? done : wanted);
}

ssize_t stn_source_read(int fd, bool *direct, void *memory, size_t length, size_t wanted,
			uint64_t offset)
{
	ssize_t got = read_all(fd, memory, length, wanted, offset);

	/* Some file systems take O_DIRECT at open and refuse the read. */
	if (got == -EINVAL && *direct && stn_sys_fcntl(fd, F_SETFL, O_NONBLOCK) == 0) {
		*direct = false;
		got = read_all(fd, memory, wanted, wanted, offset);
	}
	return got;
}

ssize_t stn_source_read_pieces(int fd, bool *direct, char *memory, uint64_t bytes, uint64_t offset,
			       uint64_t most)
{
	uint64_t done = 0, piece;
	ssize_t got;

	do {
		piece = stn_min(bytes - done, most);
		got = stn_source_read(fd, direct, memory + done,
				      stn_round_up(piece, stn_page_size()), piece, offset + done);
		if (got < 0)
			return got;
		done += (uint64_t)got;
	} while ((uint64_t)got == piece && done < bytes);
	return (ssize_t)done;
}

/* Drops the pages of [offset, offset + length) that pages[] says were not cached before. */
static void drop_new_pages(int fd, uint64_t offset, size_t length, const unsigned char *pages)
{
	size_t page = stn_page_size(), count = (length + page - 1) / page;

	for (size_t first = 0; first < count;) {
		size_t end = first;

		while (end < count && !(pages[end] & 1))
			end++;
		if (end > first)
			stn_sys_fadvise(fd, offset + first * page, (end - first) * page,
					FADV_DONTNEED);
		first = end + 1;
	}
}

/*
 * Finds out which pages are cached by reading a byte of every 16th without waiting. A page that is
 * not may be read ahead by that, and is dropped later like the others. False where such reads are
 * not supported (FUSE).
 */
static bool probe_pages(int fd, uint64_t offset, size_t length, unsigned char *pages)
{
	const size_t stride = 16, page = stn_page_size();
	size_t count = (length + page - 1) / page;

	for (size_t i = 0; i < count; i += stride) {
		char byte;
		struct iovec one = {&byte, 1};
		uint64_t at = offset + i * page;
		long got = stn_sys_call(SYS_preadv2, fd, (long)&one, 1, (long)at, 0, RWF_NOWAIT);

		if (got < 0 && got != -EAGAIN)
			return false;
		memset(pages + i, got == 1, stn_min(stride, count - i));
	}
	return true;
}

/* Marks the cached pages of a piece; false if nothing can be found out. */
static bool find_cached(int fd, uint64_t offset, size_t length,
			const struct stn_source_cache *cache, size_t at, unsigned char *pages)
{
	if (cache->owned && cache->mapping)
		return stn_fs_resident((char *)cache->mapping + at, length, pages) == 0;
	return probe_pages(fd, offset, length, pages);
}

bool stn_source_is_cached(char *mapping, uint64_t length)
{
	const uint64_t looks = 16;
	unsigned char page = 0;

	for (uint64_t i = 0; i < looks && !(page & 1); i++) {
		uint64_t at = stn_round_down(length * (2 * i + 1) / (2 * looks), stn_page_size());

		if (stn_fs_resident(mapping + at, stn_page_size(), &page) != 0)
			return false;
	}
	return page & 1;
}

/* The first run of a mapping, some MiB at most, that is cached as a whole or not at all. Bytes. */
static size_t find_run(char *mapping, size_t length, bool *cached)
{
	unsigned char pages[1024];
	size_t page = stn_page_size(), count, i = 0;

	length = stn_min(length, sizeof(pages) * page);
	count = (length + page - 1) / page;
	*cached = false;
	if (stn_fs_resident(mapping, length, pages) != 0)
		return length;
	*cached = pages[0] & 1;
	while (i < count && (pages[i] & 1) == (pages[0] & 1))
		i++;
	return stn_min(i * page, length);
}

size_t stn_source_copy(const struct stn_source_copy *copy, void *memory, size_t length,
		       uint64_t offset, size_t *gap)
{
	const size_t least = 256u << 10; /* of a request */
	bool cached;
	size_t run = find_run(copy->mapping, length, &cached);
	struct iovec one = {memory, run};
	/* FUSE refuses reads that must not wait. There a page that the kernel drops at this very
	 * moment is read in again. */
	long got = cached ? stn_sys_call(SYS_preadv2, copy->fd, (long)&one, 1, (long)offset, 0,
					 copy->fuse ? 0 : RWF_NOWAIT)
			  : 0;

	*gap = stn_min(stn_max(run, least), length);
	if (got <= 0)
		return 0;
	return (size_t)got < run ? stn_round_down((size_t)got, stn_page_size()) : run;
}

ssize_t stn_source_read_buffered(int fd, void *memory, size_t length, uint64_t offset,
				 const struct stn_source_cache *cache)
{
	unsigned char pages[1024];
	size_t step = sizeof(pages) * stn_page_size(), done = 0;

	if (!cache->restore)
		return read_all(fd, memory, length, length, offset);
	while (done < length) {
		size_t piece = stn_min(length - done, step);
		ssize_t got;

		/* Where nothing can be known everything is dropped: a whole model left behind is
		 * worse. */
		if (!find_cached(fd, offset + done, piece, cache, done, pages))
			memset(pages, 0, sizeof(pages));
		got = read_all(fd, (char *)memory + done, piece, piece, offset + done);
		drop_new_pages(fd, offset + done, piece, pages);
		if (got < 0)
			return got;
		done += (size_t)got;
		if ((size_t)got < piece)
			break;
	}
	return (ssize_t)done;
}

void stn_source_drop_cache(int fd, uint64_t offset, uint64_t length)
{
	stn_sys_fadvise(fd, offset, length, FADV_DONTNEED);
}

void stn_source_find_end(int fd, uint64_t offset, uint64_t length)
{
	uint64_t page = stn_page_size(), from = stn_round_down(offset, page), low = from;
	uint64_t high = offset + length;
	char byte;

	stn_source_drop_cache(fd, from, high - from);
	while (high - low > page) {
		uint64_t middle = low + stn_round_up((high - low) / 2, page);

		if (stn_sys_pread(fd, &byte, 1, middle) > 0)
			low = middle;
		else
			high = middle;
	}
	stn_sys_pread(fd, &byte, 1, low);
	/* If somebody writes to it now, what was read to find the end may be old. */
	stn_source_drop_cache(fd, from, offset + length - from);
}

void stn_source_find_end_of(const char *path, const struct stn_identity *identity, uint64_t offset,
			    uint64_t length)
{
	int fd = stn_sys_open(path, OPEN_FLAGS);

	if (fd < 0)
		return;
	stn_sys_fadvise(fd, 0, 0, FADV_RANDOM);
	if (stn_source_is_file(fd, identity))
		stn_source_find_end(fd, offset, length);
	stn_sys_close(fd);
}

void stn_source_close(const struct stn_source *source)
{
	for (uint32_t i = 0; i < source->opened; i++)
		if (source->fds[i] >= 0)
			stn_sys_close(source->fds[i]);
	if (source->copy_opened && source->copy_fd >= 0)
		stn_sys_close(source->copy_fd);
}
