/* SPDX-License-Identifier: Apache-2.0 */
/* madvise on a mapped file: advice that drops pages, that fills them, that is refused. */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

#define GUARD_INSTALL 102
#define GUARD_REMOVE  103

/* Inverts the first byte of every page. */
static void dirty(unsigned char *p, size_t size)
{
	for (size_t at = 0; at < size; at += page_size())
		p[at] ^= 0xff;
}

/* Dropped pages of clean maps come back from the file. */
static void dontneed_clean(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);

	print_sum("before", p, size);
	print_rc("middle", madvise(p + 40 * step, 9 * step, MADV_DONTNEED));
	print_sum("middle", p, size);
	print_rc("all", madvise(p, size, MADV_DONTNEED));
	print_sum("all", p, size);
}

static void dontneed_shared(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_file(path, 0, PROT_READ, MAP_SHARED, 0);

	print_sum("before", p, size);
	print_rc("head", madvise(p, 17 * step, MADV_DONTNEED));
	print_rc("tail", madvise(p + round_page(size) - step, step, MADV_DONTNEED));
	print_pages("after", p, size);
	print_rc("write", mprotect(p, 17 * step, PROT_READ | PROT_WRITE));
}

/* Stores into dropped pages are gone, the others stay; the pages can be stored into again. */
static void dontneed_dirty(const char *path)
{
	size_t size = file_size(path), step = page_size(), rest = round_page(size) - 33 * step;
	unsigned char *p = map_write(path);

	dirty(p, size);
	/* Not what is mapped behind the file: it is the program's own memory. */
	print_rc("middle",
		 madvise(p + 33 * step, rest < 600 * step ? rest : 600 * step, MADV_DONTNEED));
	print_pages("middle", p, size);
	dirty(p, size);
	print_pages("again", p, size);
	print_rc("all", madvise(p, size, MADV_DONTNEED));
	print_pages("all", p, size);
}

/* Lengths that are no page multiples, nothing, more than is mapped, and a hole. */
static void dontneed_lengths(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_write(path);

	dirty(p, size);
	print_rc("one byte", madvise(p + 2 * step, 1, MADV_DONTNEED));
	print_rc("nothing", madvise(p + 4 * step, 0, MADV_DONTNEED));
	print_rc("misaligned", madvise(p + 1, step, MADV_DONTNEED));
	print_rc("wrap", madvise(p, (size_t)-1 - step, MADV_DONTNEED));
	print_pages("after", p, size);
	print_rc("munmap", munmap(p + 20 * step, 2 * step));
	print_rc("across the hole", madvise(p + 18 * step, 8 * step, MADV_DONTNEED));
	print_pages("after", p, size);
}

/* After the protection has changed, dropped pages keep the new one. */
static void dontneed_protected(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_write(path);

	dirty(p, size);
	print_rc("read", mprotect(p + 4 * step, 4 * step, PROT_READ));
	print_rc("none", mprotect(p + 8 * step, 4 * step, PROT_NONE));
	print_rc("drop", madvise(p, 16 * step, MADV_DONTNEED));
	print_pages("after", p, size);
	print_store("read-write", p);
	print_store("read", p + 4 * step);
	print_store("none", p + 8 * step);
	print_rc("back", mprotect(p, size, PROT_READ | PROT_WRITE));
	print_pages("back", p, size);
}

/* glibc's posix_madvise does not drop anything. */
static void posix(const char *path)
{
	static const int advice[] = {POSIX_MADV_NORMAL,	  POSIX_MADV_SEQUENTIAL, POSIX_MADV_RANDOM,
				     POSIX_MADV_WILLNEED, POSIX_MADV_DONTNEED,	 77};
	size_t size = file_size(path);
	unsigned char *p = map_write(path);

	dirty(p, size);
	for (size_t i = 0; i < sizeof(advice) / sizeof(advice[0]); i++)
		say("advice %d: %s", advice[i], strerrorname_np(posix_madvise(p, size, advice[i])));
	say("misaligned: %s", strerrorname_np(posix_madvise(p + 1, size, POSIX_MADV_NORMAL)));
	print_pages("after", p, size);
}

/* Every other advice: what it returns, and that the bytes are the same afterwards. */
static void every_advice(const char *path, int prot, int flags)
{
	static const struct {
		const char *name;
		int advice;
	} table[] = {
		{"normal", MADV_NORMAL},
		{"random", MADV_RANDOM},
		{"sequential", MADV_SEQUENTIAL},
		{"willneed", MADV_WILLNEED},
		{"free", MADV_FREE},
		{"remove", MADV_REMOVE},
		{"wipeonfork", MADV_WIPEONFORK},
		{"keeponfork", MADV_KEEPONFORK},
		{"dontfork", MADV_DONTFORK},
		{"dofork", MADV_DOFORK},
		{"hugepage", MADV_HUGEPAGE},
		{"nohugepage", MADV_NOHUGEPAGE},
		{"dontdump", MADV_DONTDUMP},
		{"cold", MADV_COLD},
		{"pageout", MADV_PAGEOUT},
		{"populate-read", MADV_POPULATE_READ},
		{"mergeable", MADV_MERGEABLE},
		{"unmergeable", MADV_UNMERGEABLE},
		{"populate-write", MADV_POPULATE_WRITE},
		{"dontneed-locked", MADV_DONTNEED_LOCKED},
		{"none such", 12345},
	};
	size_t size = file_size(path);
	unsigned char *p = map_file(path, 0, prot, flags, 0);

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		print_rc(table[i].name, madvise(p, size, table[i].advice));
		print_sum("bytes", p, size);
	}
}

static void every_private(const char *path)
{
	every_advice(path, PROT_READ, MAP_PRIVATE);
}

static void every_writable(const char *path)
{
	every_advice(path, PROT_READ | PROT_WRITE, MAP_PRIVATE);
}

static void every_shared(const char *path)
{
	every_advice(path, PROT_READ, MAP_SHARED);
}

/* Guarded pages fault, and show the file again when the guard goes. */
static void guard(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);

	print_rc("install", madvise(p + 5 * step, 3 * step, GUARD_INSTALL));
	print_pages("guarded", p, size);
	print_rc("remove", madvise(p + 5 * step, 3 * step, GUARD_REMOVE));
	print_pages("after", p, size);
}

/* A child does not have what was marked so; afterwards it does. */
static void dontfork(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);
	pid_t child;

	print_rc("dontfork", madvise(p + 3 * step, 2 * step, MADV_DONTFORK));
	child = fork();
	if (child == 0) {
		print_pages("child", p, size);
		_exit(0);
	}
	print_end("child", child);
	print_rc("dofork", madvise(p + 3 * step, 2 * step, MADV_DOFORK));
	child = fork();
	if (child == 0) {
		print_pages("child", p, size);
		_exit(0);
	}
	print_end("child", child);
}

/* Filled when the call returns: every page is resident, and still of the file. */
static void fills(const char *path)
{
	static unsigned char resident[1 << 16];
	size_t size = file_size(path), pages = round_page(size) / page_size(), count = 0;
	unsigned char *p = map_read(path);

	print_rc("drop", madvise(p, size, MADV_DONTNEED));
	print_rc("populate", madvise(p, size, MADV_POPULATE_READ));
	print_rc("mincore", mincore(p, size, resident));
	for (size_t i = 0; i < pages; i++)
		count += resident[i] & 1;
	say("resident: %zu of %zu", count, pages);
	print_sum("bytes", p, size);
}

static const unsigned char *race_map;
static unsigned char race_copy[1 << 20];
static atomic_int race_over;
static atomic_ulong race_wrong;

/* Compares the map with a copy until told to stop. */
static void *race_reader(void *unused)
{
	while (!atomic_load(&race_over))
		if (memcmp(race_map, race_copy, sizeof(race_copy)) != 0)
			atomic_fetch_add(&race_wrong, 1);
	return unused;
}

/* Pages dropped by one thread while another reads them: it never sees anything else. */
static void dontneed_race(const char *path)
{
	size_t step = page_size();
	unsigned char *p = map_read(path);

	race_map = p;
	memcpy(race_copy, p, sizeof(race_copy));
	start_thread(race_reader, NULL);
	for (size_t i = 0; i < 400; i++)
		if (madvise(p + i % 200 * step, 3 * step, MADV_DONTNEED) < 0)
			fail("madvise: %s", strerror(errno));
	atomic_store(&race_over, 1);
	say("wrong: %lu", atomic_load(&race_wrong));
	print_sum("bytes", p, file_size(path));
}

static const struct test_case cases[] = {
	{"dontneed-clean", dontneed_clean},
	{"dontneed-shared", dontneed_shared},
	{"dontneed-dirty", dontneed_dirty},
	{"dontneed-lengths", dontneed_lengths},
	{"dontneed-protected", dontneed_protected},
	{"dontneed-race", dontneed_race},
	{"posix", posix},
	{"every-private", every_private},
	{"every-writable", every_writable},
	{"every-shared", every_shared},
	{"guard", guard},
	{"dontfork", dontfork},
	{"fills", fills},
};
CASES_MAIN(cases)
