/* SPDX-License-Identifier: Apache-2.0 */
/* munmap of a mapped file: all of it, pieces, from other threads. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"

/* A piece of a map. */
struct piece {
	unsigned char *start;
	size_t length;
};

static void whole(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p = map_read(path);

	print_sum("bytes", p, size);
	print_rc("munmap", munmap(p, size));
	print_pages("pages", p, size);
	print_rc("again", munmap(p, size));
	print_rc("madvise", madvise(p, size, MADV_DONTNEED));
	print_rc("mprotect", mprotect(p, page_size(), PROT_READ));
}

/* Head, tail and middle; the rest stays and keeps what a file map can do. */
static void pieces(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_write(path);

	p[30 * step] ^= 0xff;
	print_rc("head", munmap(p, 2 * step));
	print_pages("pages", p, size);
	print_rc("tail", munmap(p + round_page(size) - 3 * step, 3 * step));
	print_pages("pages", p, size);
	print_rc("middle", munmap(p + 64 * step, 64 * step));
	print_pages("pages", p, size);
	print_rc("drop", madvise(p + 20 * step, 20 * step, MADV_DONTNEED));
	print_rc("read", mprotect(p + 200 * step, 2 * step, PROT_READ));
	print_store("store", p + 200 * step);
	print_pages("pages", p, size);
}

/* One call over several pieces with holes between them. */
static void across_holes(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);

	for (size_t i = 1; i < 40; i += 2)
		if (munmap(p + i * step, step) < 0)
			fail("munmap: %s", strerror(errno));
	print_pages("holes", p, 64 * step);
	print_rc("across", munmap(p + 10 * step, 20 * step));
	print_pages("holes", p, 64 * step);
	print_rc("all", munmap(p, size));
	print_pages("none", p, 64 * step);
}

/* The length is rounded up to pages; a map may also be unmapped by its rounded length. */
static void rounded(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);

	print_rc("one byte", munmap(p + 5 * step, 1));
	print_pages("pages", p, 16 * step);
	print_rc("rounded", munmap(p, round_page(size)));
	print_pages("pages", p, size);
}

static void errors(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);

	print_rc("misaligned", munmap(p + 1, step));
	print_rc("empty", munmap(p, 0));
	print_rc("wrap", munmap(p, (size_t)-1 - step));
	print_pages("pages", p, size);
}

static void *unmap_piece(void *argument)
{
	struct piece *piece = argument;

	print_rc("munmap", munmap(piece->start, piece->length));
	return NULL;
}

/* Mapped here, unmapped there. */
static void other_thread(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);
	struct piece middle = {p + 9 * step, 5 * step}, all = {p, size};

	in_thread(unmap_piece, &middle);
	print_pages("pages", p, size);
	in_thread(unmap_piece, &all);
	print_pages("pages", p, size);
}

/* Unmaps every eighth page, starting with a page of its own. */
static void *unmap_comb(void *argument)
{
	struct piece *comb = argument;

	for (size_t at = 0; at < comb->length; at += 8 * page_size())
		if (munmap(comb->start + at, page_size()) < 0)
			fail("munmap: %s", strerror(errno));
	return NULL;
}

/* Four threads take a map apart at once. */
static void many_threads(const char *path)
{
	size_t step = page_size(), length = 400 * step;
	unsigned char *p = map_write(path);
	struct piece combs[4];
	pthread_t threads[4];

	for (size_t i = 0; i < 4; i++) {
		combs[i] = (struct piece){p + 2 * i * step, length - 2 * i * step};
		if (pthread_create(&threads[i], NULL, unmap_comb, &combs[i]) != 0)
			fail("no thread");
	}
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < 400; i++) {
		unsigned char byte;

		if ((try_read(p + i * step, &byte) == SEGV) != (i % 2 == 0))
			fail("page %zu", i);
	}
	print_pages("rest", p + length, file_size(path) - length);
	print_rc("drop", madvise(p + step, step, MADV_DONTNEED));
	print_rc("all", munmap(p, file_size(path)));
}

/* Mapped and unmapped over and over, nothing is left behind. */
static void leaves_nothing(const char *path)
{
	size_t piece = 16 * page_size(), count = file_size(path) / piece;
	unsigned before = 0, after;

	for (size_t round = 0; round < 2 * count; round++) {
		off_t offset = (off_t)(round % count * piece);
		unsigned char *p = map_file(path, piece, PROT_READ, MAP_PRIVATE, offset);

		if (p[0] == 0 && p[1] == 0 && p[2] == 0 && p[3] == 0)
			fail("zeros at %zu", (size_t)offset);
		munmap(p, piece);
		if (round == count)
			before = count_mappings();
	}
	after = count_mappings();
	say("mappings left: %s", after > before + 2 ? "yes" : "no");
}

static const struct test_case cases[] = {
	{"whole", whole},
	{"pieces", pieces},
	{"across-holes", across_holes},
	{"rounded", rounded},
	{"errors", errors},
	{"other-thread", other_thread},
	{"many-threads", many_threads},
	{"leaves-nothing", leaves_nothing},
};
CASES_MAIN(cases)
