/* SPDX-License-Identifier: Apache-2.0 */
/* Protection of a mapped file: what a store does, and mprotect in every direction. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"

/* Stores into the first, a middle and the last page. */
static void store_three(unsigned char *p, size_t size)
{
	print_store("first", p);
	print_store("middle", p + size / 2);
	print_store("last", p + size - 1);
}

/* A store into a read-only private map, which must leave the bytes alone. */
static void store_read_only_private(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p = map_read(path);

	store_three(p, size);
	print_sum("bytes", p, size);
}

/* The same for a shared map. */
static void store_read_only_shared(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p = map_file(path, 0, PROT_READ, MAP_SHARED, 0);

	store_three(p, size);
	print_sum("bytes", p, size);
}

/* What is stored into a private map reaches neither the file nor another map of it. */
static void store_private(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p = map_write(path), *other, byte = 0;
	int fd = open_file(path);

	store_three(p, size);
	print_sum("stored", p, size);
	print_rc("pread", pread(fd, &byte, 1, (off_t)size / 2));
	say("file: %02x", byte);
	other = map_read(path);
	print_sum("other map", other, size);
	print_sum("stored", p, size);
}

/* A shared map of a descriptor that cannot write may not become writable. */
static void mprotect_shared(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_file(path, 0, PROT_READ, MAP_SHARED, 0);

	print_rc("all", mprotect(p, size, PROT_READ | PROT_WRITE));
	print_rc("one page", mprotect(p + 3 * step, step, PROT_WRITE));
	print_rc("pkey", pkey_mprotect(p, size, PROT_READ | PROT_WRITE, -1));
	store_three(p, size);
	print_rc("none", mprotect(p + 3 * step, step, PROT_NONE));
	print_rc("write", mprotect(p + 3 * step, step, PROT_READ | PROT_WRITE));
	print_pages("pages", p, size);
}

/* A private map may become writable, and read-only again with what was stored in it. */
static void mprotect_private(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p = map_read(path);

	print_rc("write", mprotect(p, size, PROT_READ | PROT_WRITE));
	store_three(p, size);
	print_rc("read", mprotect(p, size, PROT_READ));
	store_three(p, size);
	print_pages("pages", p, size);
}

/* Pieces without access, in the middle and at both ends, and back. */
static void mprotect_none(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path), *last = p + round_page(size) - step;

	print_rc("first", mprotect(p, step, PROT_NONE));
	print_rc("middle", mprotect(p + 100 * step, 7 * step, PROT_NONE));
	print_rc("last", mprotect(last, step, PROT_NONE));
	print_pages("holes", p, size);
	print_rc("back", mprotect(p, size, PROT_READ));
	print_pages("whole", p, size);
}

/* Executable pieces. */
static void mprotect_exec(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);

	print_rc("exec", mprotect(p + step, step, PROT_READ | PROT_EXEC));
	print_pages("pages", p, size);
}

/* What mprotect refuses. */
static void mprotect_errors(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);

	print_rc("misaligned", mprotect(p + 1, step, PROT_READ));
	print_rc("nonsense", mprotect(p, step, 0x40));
	print_rc("empty", mprotect(p, 0, PROT_NONE));
	print_rc("wrap", mprotect(p, (size_t)-1 - step, PROT_NONE));
	print_rc("pkey", pkey_mprotect(p, step, PROT_READ, 99));
	print_pages("pages", p, size);
}

/* A range with a hole in it: an error, and what lies before the hole has changed. */
static void mprotect_hole(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);

	print_rc("munmap", munmap(p + 8 * step, step));
	print_rc("mprotect", mprotect(p, size, PROT_NONE));
	print_pages("pages", p, size);
	print_rc("back", mprotect(p, 8 * step, PROT_READ));
	print_pages("pages", p, size);
}

/* Stored bytes survive a round of protections page by page. */
static void mprotect_keeps_stores(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_write(path);

	for (size_t at = 0; at < size; at += 5 * step)
		p[at] ^= 0xff;
	for (size_t at = 0; at + step < size; at += 3 * step)
		if (mprotect(p + at, step, PROT_NONE) < 0 || mprotect(p + at, step, PROT_READ) < 0)
			fail("mprotect at %zu", at);
	print_pages("pages", p, size);
	print_store("read-only page", p);
	print_store("writable page", p + step);
}

static const struct test_case cases[] = {
	{"store-read-only-private", store_read_only_private},
	{"store-read-only-shared", store_read_only_shared},
	{"store-private", store_private},
	{"mprotect-shared", mprotect_shared},
	{"mprotect-private", mprotect_private},
	{"mprotect-none", mprotect_none},
	{"mprotect-exec", mprotect_exec},
	{"mprotect-errors", mprotect_errors},
	{"mprotect-hole", mprotect_hole},
	{"mprotect-keeps-stores", mprotect_keeps_stores},
};
CASES_MAIN(cases)
