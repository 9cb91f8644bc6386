/* SPDX-License-Identifier: Apache-2.0 */
/* Where a map begins and ends: offsets, lengths, the end of the file, many small and overlapping
 * maps. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"

/* Maps with whatever arguments and prints error or pages. */
static void show(const char *what, int fd, size_t length, int prot, int flags, off_t offset)
{
	unsigned char *p = mmap(NULL, length, prot, flags, fd, offset);

	if (p == MAP_FAILED) {
		print_rc(what, -1);
		return;
	}
	print_pages(what, p, length);
	munmap(p, length);
}

/* Pages after the last one of the file: there, but nothing is in them. */
static void past_end(const char *path)
{
	size_t size = round_page(file_size(path)), step = page_size();
	unsigned char *p = map_file(path, size + 4 * step, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

	print_pages("pages", p, size + 4 * step);
	print_store("past the end", p + size);
	print_rc("mprotect", mprotect(p, size + 4 * step, PROT_READ));
	print_rc("drop", madvise(p, size + 4 * step, MADV_DONTNEED));
	print_pages("pages", p, size + 4 * step);
	print_rc("populate", madvise(p, size + 4 * step, MADV_POPULATE_READ));
	print_rc("munmap", munmap(p, size + 4 * step));
	print_pages("pages", p, size + 4 * step);
}

static void past_end_shared(const char *path)
{
	size_t size = round_page(file_size(path)), step = page_size();
	unsigned char *p = map_file(path, size + 2 * step, PROT_READ, MAP_SHARED, 0);

	print_pages("pages", p, size + 2 * step);
	print_rc("write", mprotect(p + size, step, PROT_READ | PROT_WRITE));
	print_rc("lock", mlock(p, size + 2 * step));
}

/* The rest of the last page is zero; what is stored there stays private. */
static void last_page(const char *path)
{
	size_t size = file_size(path), end = round_page(size), nonzero = 0;
	unsigned char *p = map_write(path);

	for (size_t at = size; at < end; at++)
		nonzero += p[at] != 0;
	say("rest of the last page: %zu bytes, %zu not zero", end - size, nonzero);
	if (end > size)
		print_store("store", p + end - 1);
	print_pages("pages", p, size);
	print_rc("drop", madvise(p, size, MADV_DONTNEED));
	print_pages("pages", p, size);
}

/* Offsets of all kinds, refused ones too. */
static void offsets(const char *path)
{
	size_t size = file_size(path), step = page_size();
	off_t last = (off_t)(round_page(size) - step);
	int fd = open_file(path);

	show("page 1", fd, 3 * step, PROT_READ, MAP_PRIVATE, (off_t)step);
	show("page 3 to the end", fd, size - 3 * step, PROT_READ, MAP_SHARED, (off_t)(3 * step));
	show("last page", fd, step, PROT_READ, MAP_PRIVATE, last);
	show("last page and on", fd, 3 * step, PROT_READ, MAP_PRIVATE, last);
	show("behind the end", fd, step, PROT_READ, MAP_PRIVATE, last + (off_t)step);
	show("far behind", fd, step, PROT_READ, MAP_PRIVATE, (off_t)1 << 40);
	show("at the limit", fd, step, PROT_READ, MAP_PRIVATE, (off_t)(INT64_MAX & ~(step - 1)));
	show("misaligned", fd, step, PROT_READ, MAP_PRIVATE, 100);
	show("negative", fd, step, PROT_READ, MAP_PRIVATE, -(off_t)step);
	show("one byte", fd, 1, PROT_READ, MAP_PRIVATE, 0);
}

/* Lengths, protections and flags of all kinds. */
static void arguments(const char *path)
{
	size_t size = file_size(path), step = page_size();
	int fd = open_file(path);
	unsigned char *p;

	show("no length", fd, 0, PROT_READ, MAP_PRIVATE, 0);
	show("too long", fd, (size_t)-1 - step, PROT_READ, MAP_PRIVATE, 0);
	show("no kind", fd, size, PROT_READ, 0, 0);
	show("validated", fd, size, PROT_READ, MAP_SHARED_VALIDATE, 0);
	show("sync", fd, size, PROT_READ, MAP_SHARED_VALIDATE | MAP_SYNC, 0);
	show("shared writable", fd, size, PROT_READ | PROT_WRITE, MAP_SHARED, 0);
	show("executable", fd, step, PROT_READ | PROT_EXEC, MAP_PRIVATE, 0);
	show("no access", fd, 2 * step, PROT_NONE, MAP_PRIVATE, 0);
	show("write only", fd, 2 * step, PROT_WRITE, MAP_PRIVATE, 0);
	show("no reserve", fd, 9 * step, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, 0);
	show("huge pages", fd, size, PROT_READ, MAP_PRIVATE | MAP_HUGETLB, 0);
	show("bad fd", -1, size, PROT_READ, MAP_PRIVATE, 0);
	show("closed fd", 999, size, PROT_READ, MAP_PRIVATE, 0);
	p = mmap((void *)0x1234, size, PROT_READ, MAP_PRIVATE, fd, 0);
	print_sum("hint", p, size);
}

/* Filled when mmap returns. */
static void populated(const char *path)
{
	size_t size = file_size(path);
	int fd = open_file(path);

	show("populate", fd, size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, 0);
	show("locked", fd, size, PROT_READ, MAP_SHARED | MAP_LOCKED, 0);
}

/* Maps that overlap by a page, all alive together. */
static void overlapping(const char *path)
{
	size_t step = page_size(), count = file_size(path) / (7 * step);
	unsigned char **maps = calloc(count, sizeof(*maps));

	for (size_t i = 0; i < count; i++)
		maps[i] = map_file(path, 8 * step, PROT_READ | (i % 2 ? PROT_WRITE : 0),
				   MAP_PRIVATE, (off_t)(i * 7 * step));
	for (size_t i = 1; i < count; i += 2)
		memset(maps[i], 1, step);
	for (size_t i = 0; i < count; i += 20)
		print_sum("map", maps[i], 7 * step);
	for (size_t i = 0; i < count; i++)
		munmap(maps[i], 8 * step);
	print_rc("last", madvise(maps[count - 1], step, MADV_NORMAL));
}

/* Hundreds of maps of 4 to 16 KiB, some alive, mapped and unmapped in turn. */
static void small(const char *path)
{
	size_t step = page_size(), pages = file_size(path) / step - 4;
	unsigned char *alive[16] = {NULL};
	uint64_t sum = 0;

	for (size_t i = 0; i < 600; i++) {
		size_t length = (1 + i % 4) * step, slot = i % 16;
		unsigned char *p = map_file(path, length, PROT_READ, MAP_PRIVATE,
					    (off_t)(i * 37 % pages * step));

		sum = sum * 31 + sum_bytes(p, length);
		if (alive[slot])
			munmap(alive[slot], (1 + (i - 16) % 4) * step);
		alive[slot] = p;
	}
	say("sum: %016llx", (unsigned long long)sum);
}

/* The whole file as maps side by side, then one by one in reverse order. */
static void tiles(const char *path)
{
	size_t size = file_size(path), tile = 16 * page_size();
	uint64_t sum = 0;

	for (size_t at = 0; at < size; at += tile) {
		size_t length = size - at < tile ? size - at : tile;
		unsigned char *p = map_file(path, length, PROT_READ, MAP_SHARED, (off_t)at);

		sum = sum * 31 + sum_bytes(p, length);
		munmap(p, length);
	}
	say("forward: %016llx", (unsigned long long)sum);
}

/* The same file mapped five times over. */
static void again(const char *path)
{
	for (int i = 0; i < 5; i++)
		say("load: %016llx", (unsigned long long)load_sum(path));
}

/* The same file mapped five times over, of which a share is read each time. */
static void again_share(const char *path, size_t percent)
{
	size_t size = file_size(path);

	for (int i = 0; i < 5; i++) {
		unsigned char *p = map_file(path, size, PROT_READ, MAP_PRIVATE, 0);

		print_pages("share", p, size / 100 * percent);
		print_rc("munmap", munmap(p, size));
	}
}

static void again_a_little(const char *path)
{
	again_share(path, 1);
}

static void again_most(const char *path)
{
	again_share(path, 60);
}

/* The same, unmapped in two pieces. */
static void again_in_pieces(const char *path)
{
	size_t size = file_size(path), half = round_page(size / 2);

	for (int i = 0; i < 5; i++) {
		unsigned char *p = map_file(path, size, PROT_READ, MAP_PRIVATE, 0);

		print_rc("munmap", munmap(p, half));
		print_pages("share", p + half, page_size());
		print_rc("munmap", munmap(p + half, size - half));
	}
}

/* The kernel reads from a map: what is there, and what is not. */
static void kernel_reads(const char *path)
{
	size_t size = file_size(path), step = page_size(), end = round_page(size);
	unsigned char *p = map_file(path, end + step, PROT_READ, MAP_PRIVATE, 0), byte;
	int ends[2];

	if (pipe(ends) < 0)
		fail("pipe: %s", strerror(errno));
	print_rc("write", write(ends[1], p + 100, 1000));
	print_rc("past the end", write(ends[1], p + end, 100));
	print_rc("read", read(ends[0], &byte, 1));
	say("byte: %02x", byte);
	print_rc("into read-only", read(ends[0], p, 1));
}

/* Pieces of a file that is larger than memory, and all of it. */
static void huge(const char *path)
{
	size_t size = file_size(path), piece = 1 << 20;
	unsigned char *p;

	for (off_t at = 0; at < (off_t)size; at += (off_t)(size / 8)) {
		p = map_file(path, piece, PROT_READ, MAP_PRIVATE, at);
		print_pages("piece", p, piece);
		munmap(p, piece);
	}
	p = map_file(path, 0, PROT_READ, MAP_PRIVATE, 0);
	print_pages("end", p + size - piece, piece);
	print_rc("drop", madvise(p, piece, MADV_DONTNEED));
	print_pages("beginning", p, piece);
	print_rc("munmap", munmap(p, size));
}

static const struct test_case cases[] = {
	{"past-end", past_end},
	{"past-end-shared", past_end_shared},
	{"last-page", last_page},
	{"offsets", offsets},
	{"arguments", arguments},
	{"populated", populated},
	{"overlapping", overlapping},
	{"small", small},
	{"tiles", tiles},
	{"again", again},
	{"again-a-little", again_a_little},
	{"again-most", again_most},
	{"again-in-pieces", again_in_pieces},
	{"kernel-reads", kernel_reads},
	{"huge", huge},
};
CASES_MAIN(cases)
