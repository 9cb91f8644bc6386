/* SPDX-License-Identifier: Apache-2.0 */
/* mremap of a mapped file. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"

/* mremap that may move; fails the program if refused. */
static unsigned char *remap(unsigned char *p, size_t from, size_t to)
{
	unsigned char *moved = mremap(p, from, to, MREMAP_MAYMOVE);

	if (moved == MAP_FAILED)
		fail("mremap: %s", strerror(errno));
	return moved;
}

/* Prints the result of an mremap without its address. */
static void print_remap(const char *what, const void *result)
{
	print_rc(what, result == MAP_FAILED ? -1 : 0);
}

/* Half a file, grown to the whole. */
static void grow(const char *path)
{
	size_t size = file_size(path), half = round_page(size / 2);
	unsigned char *p = map_file(path, half, PROT_READ, MAP_PRIVATE, 0);

	print_sum("half", p, half);
	p = remap(p, half, round_page(size));
	print_pages("whole", p, size);
}

static void grow_shared(const char *path)
{
	size_t size = file_size(path), half = round_page(size / 2);
	unsigned char *p = map_file(path, half, PROT_READ, MAP_SHARED, 0);

	p = remap(p, half, round_page(size));
	print_pages("whole", p, size);
	print_rc("write", mprotect(p, size, PROT_READ | PROT_WRITE));
}

/* Stores stay when a private map grows. */
static void grow_dirty(const char *path)
{
	size_t size = file_size(path), half = round_page(size / 2), step = page_size();
	unsigned char *p = map_file(path, half, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);

	for (size_t at = 0; at < half; at += 2 * step)
		p[at] ^= 0xff;
	p = remap(p, half, round_page(size));
	print_pages("whole", p, size);
	print_rc("drop", madvise(p, size, MADV_DONTNEED));
	print_pages("whole", p, size);
}

/* Beyond the end of the file there are pages, but no bytes. */
static void grow_past_end(const char *path)
{
	size_t size = round_page(file_size(path)), step = page_size();
	unsigned char *p = map_read(path);

	p = remap(p, size, size + 4 * step);
	print_pages("pages", p, size + 4 * step);
}

/* In place or not at all. */
static void grow_in_place(const char *path)
{
	size_t size = round_page(file_size(path)), half = round_page(size / 2);
	unsigned char *p = map_file(path, half, PROT_READ, MAP_PRIVATE, 0);
	unsigned char *grown = mremap(p, half, size, 0);

	if (grown == MAP_FAILED && errno != ENOMEM)
		fail("mremap: %s", strerror(errno));
	if (grown != MAP_FAILED && (grown != p || sum_bytes(p, size) == 0))
		fail("moved");
	print_pages("half", p, half);
}

static void shrink(const char *path)
{
	size_t size = round_page(file_size(path)), half = round_page(size / 2);
	unsigned char *p = map_read(path);

	say("in place: %d", mremap(p, size, half, 0) == (void *)p);
	print_pages("pages", p, size);
	p = remap(p, half, size);
	print_pages("grown again", p, size);
}

/* To a place of the program's choice. */
static void move_fixed(const char *path)
{
	size_t size = round_page(file_size(path));
	unsigned char *to = map_anonymous(size, 7), *p = map_read(path), *moved;

	moved = mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	say("moved: %d", moved == to);
	print_pages("new", to, size);
	print_pages("old", p, size);
	print_store("store", to);
	print_rc("drop", madvise(to, size, MADV_DONTNEED));
	print_pages("new", to, size);
	print_rc("munmap", munmap(to, size));
	print_pages("new", to, size);
}

/* A moved shared map still may not become writable. */
static void move_shared(const char *path)
{
	size_t size = round_page(file_size(path));
	unsigned char *to = map_anonymous(size, 7);
	unsigned char *p = map_file(path, 0, PROT_READ, MAP_SHARED, 0);

	print_remap("move", mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	print_rc("write", mprotect(to, size, PROT_READ | PROT_WRITE));
	print_pages("new", to, size);
}

/* Some pages out of the middle. */
static void move_part(const char *path)
{
	size_t size = round_page(file_size(path)), step = page_size();
	unsigned char *to = map_anonymous(9 * step, 7), *p = map_write(path);

	p[50 * step] ^= 0xff;
	print_remap("move",
		    mremap(p + 48 * step, 9 * step, 9 * step, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	print_pages("part", to, 9 * step);
	print_pages("rest", p, size);
	print_rc("drop", madvise(to, 9 * step, MADV_DONTNEED));
	print_pages("part", to, 9 * step);
	to = remap(to, 9 * step, 20 * step);
	print_pages("grown", to, 20 * step);
}

/* old_size 0 duplicates a shared map and is refused for a private one. */
static void duplicate(const char *path)
{
	size_t size = round_page(file_size(path));
	unsigned char *shared = map_file(path, 0, PROT_READ, MAP_SHARED, 0), *copy;
	unsigned char *private = map_read(path);

	copy = mremap(shared, 0, size, MREMAP_MAYMOVE);
	print_remap("shared", copy);
	print_pages("copy", copy, size);
	print_rc("munmap", munmap(shared, size));
	print_pages("copy", copy, size);
	print_rc("write", mprotect(copy, size, PROT_READ | PROT_WRITE));
	print_remap("private", mremap(private, 0, size, MREMAP_MAYMOVE));
	print_pages("private", private, size);
}

/* The old place keeps a map of the file; stores go with the move. */
static void dontunmap(const char *path)
{
	size_t size = round_page(file_size(path)), step = page_size();
	unsigned char *p = map_write(path), *moved;

	p[10 * step] ^= 0xff;
	moved = mremap(p, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	print_remap("move", moved);
	print_pages("new", moved, size);
	print_pages("old", p, size);
	print_store("old", p);
	print_store("new", moved);
}

/* A piece of one map over a piece of another of the same file. */
static void over_another(const char *path)
{
	size_t size = round_page(file_size(path)), step = page_size();
	unsigned char *p = map_write(path), *other = map_read(path);

	p[21 * step] ^= 0xff;
	print_remap("move", mremap(p + 20 * step, 4 * step, 4 * step, MREMAP_MAYMOVE | MREMAP_FIXED,
				   other + 60 * step));
	print_pages("from", p, size);
	print_pages("to", other, size);
	print_store("moved piece", other + 60 * step);
	print_store("beside it", other + 64 * step);
	print_rc("munmap", munmap(other, size));
	print_pages("from", p, size);
}

/* The program's own memory over a piece of the map: it is the program's now. */
static void covered(const char *path)
{
	size_t size = round_page(file_size(path)), step = page_size();
	unsigned char *p = map_read(path), *own = map_anonymous(4 * step, 7);

	print_remap("move",
		    mremap(own, 4 * step, 4 * step, MREMAP_MAYMOVE | MREMAP_FIXED, p + 30 * step));
	print_pages("pages", p, size);
	print_store("own", p + 30 * step);
	print_rc("drop", madvise(p, size, MADV_DONTNEED));
	print_pages("pages", p, size);
}

static void errors(const char *path)
{
	size_t size = round_page(file_size(path)), step = page_size();
	unsigned char *p = map_read(path);

	print_remap("misaligned", mremap(p + 1, step, step, MREMAP_MAYMOVE));
	print_remap("to nothing", mremap(p, step, 0, MREMAP_MAYMOVE));
	print_remap("fixed alone", mremap(p, step, step, MREMAP_FIXED, p + size));
	print_remap("onto itself",
		    mremap(p, 4 * step, 4 * step, MREMAP_MAYMOVE | MREMAP_FIXED, p + 2 * step));
	print_remap("flags", mremap(p, step, step, 0x100));
	print_remap("huge", mremap(p, size, (size_t)1 << 50, MREMAP_MAYMOVE));
	print_rc("munmap", munmap(p + 8 * step, step));
	print_remap("hole", mremap(p + 6 * step, 4 * step, 8 * step, MREMAP_MAYMOVE));
	print_pages("pages", p, size);
}

static const struct test_case cases[] = {
	{"grow", grow},
	{"grow-shared", grow_shared},
	{"grow-dirty", grow_dirty},
	{"grow-past-end", grow_past_end},
	{"grow-in-place", grow_in_place},
	{"shrink", shrink},
	{"move-fixed", move_fixed},
	{"move-shared", move_shared},
	{"move-part", move_part},
	{"duplicate", duplicate},
	{"dontunmap", dontunmap},
	{"over-another", over_another},
	{"covered", covered},
	{"errors", errors},
};
CASES_MAIN(cases)
