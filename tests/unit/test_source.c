/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "page.h"
#include "source.h"
#include "unit.h"

#define SIZE (MIB + 17)

static size_t page;
static char *memory; /* room for SIZE and a page more */
static struct stn_identity identity;
static int program_fd; /* of the file "model" */

static const struct stn_source_way any = {.direct = true, .buffered = true};
static const struct stn_source_way buffered = {.buffered = true};
static const struct stn_source_way only_direct = {.direct = true};

static void set_up(void)
{
	page = stn_page_size();
	memory = unit_memory(2 * MIB);
	program_fd = unit_pattern_file("model", SIZE);
	identity = unit_identity(program_fd);
}

/* On FUSE (_i = 1) the flag is set behind the server's back, to the same effect. */
START_TEST(open_direct)
{
	const struct stn_source_way way = {.direct = true, .buffered = true, .fuse = _i};
	bool direct;
	int fd = stn_source_open("model", &identity, &way, &direct);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(direct, unit_direct_works());
	ck_assert_int_eq((fcntl(fd, F_GETFL) & O_DIRECT) != 0, direct);
	ck_assert_int_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(fd);
}
END_TEST

START_TEST(open_buffered)
{
	bool direct = true;
	int fd = stn_source_open("model", &identity, &buffered, &direct);

	ck_assert_int_ge(fd, 0);
	ck_assert(!direct);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_DIRECT, 0);
	close(fd);
}
END_TEST

/* The program's descriptor, also when the file has no name any more. */
START_TEST(open_by_descriptor)
{
	struct stn_identity now;
	bool direct;
	int fd;

	ck_assert_int_eq(unlink("model"), 0);
	now = unit_identity(program_fd);
	fd = stn_source_open(unit_descriptor(program_fd), &now, &any, &direct);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_ne(fd, program_fd);
	ck_assert(stn_source_unchanged(fd, &now));
	close(fd);
}
END_TEST

/* Any part of the identity that differs makes it another version. */
START_TEST(open_another_version)
{
	bool direct;

	identity.device += _i == 0;
	identity.inode += _i == 1;
	identity.size += _i == 2;
	identity.modified += _i == 3;
	identity.changed += _i == 4;
	ck_assert_int_eq(stn_source_open("model", &identity, &any, &direct), -ESTALE);
	ck_assert_int_eq(stn_source_open("model", &identity, &buffered, &direct), -ESTALE);
	/* Nothing was left open. */
	ck_assert_int_eq(dup(program_fd), program_fd + 1);
}
END_TEST

START_TEST(open_errors)
{
	bool direct;

	ck_assert_int_eq(stn_source_open("missing", &identity, &any, &direct), -ENOENT);
	ck_assert_int_eq(stn_source_open("missing", &identity, &buffered, &direct), -ENOENT);
	/* What has taken the file's place must not make the pool wait. */
	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	ck_assert_int_eq(stn_source_open("fifo", &identity, &any, &direct), -ESTALE);
	ck_assert_int_eq(stn_source_open("fifo", &identity, &buffered, &direct), -ESTALE);
}
END_TEST

/* A file system without direct reads: refused, or buffered. */
START_TEST(open_without_direct)
{
	const struct stn_source_way on_fuse = {.direct = true, .fuse = true};
	bool direct = true;
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	struct stn_identity own = unit_identity(mem);
	int fd = stn_source_open("/proc/self/mem", &own, &any, &direct);

	ck_assert_int_ge(fd, 0);
	ck_assert(!direct);
	close(fd);
	ck_assert_int_eq(stn_source_open("/proc/self/mem", &own, &only_direct, &direct), -EINVAL);
	ck_assert_int_eq(stn_source_open("/proc/self/mem", &own, &on_fuse, &direct), -EINVAL);
	/* Nothing was left open. */
	ck_assert_int_eq(dup(mem), fd);
}
END_TEST

START_TEST(unchanged)
{
	int fd = open("model", O_WRONLY | O_CLOEXEC);

	ck_assert(stn_source_unchanged(program_fd, &identity));
	ck_assert_int_eq(ftruncate(fd, SIZE - 1), 0);
	ck_assert(!stn_source_unchanged(program_fd, &identity));
	ck_assert_int_eq(ftruncate(fd, SIZE), 0);
	ck_assert(!stn_source_unchanged(program_fd, &identity));
	ck_assert(!stn_source_unchanged(-1, &identity));
}
END_TEST

/* Reads of a direct (_i = 1) or buffered descriptor: offset and length, in pages and bytes. */
static const struct {
	size_t offset, length, got;
} reads[] = {
	{0, 4096, 4096},	{65536, 65536, 65536},
	{MIB, 65536, 17},	{MIB - 65536, 131072, 65553},
	{0, MIB + 65536, SIZE}, {2 * MIB, 65536, 0},
};

static void check_reads(bool want_direct)
{
	const struct stn_source_way way = {.direct = want_direct, .buffered = true};
	bool direct;
	int fd = stn_source_open("model", &identity, &way, &direct);

	for (int i = 0; i < COUNT(reads); i++) {
		bool still = direct;
		ssize_t got = stn_source_read(fd, &still, memory, reads[i].length, reads[i].length,
					      reads[i].offset);

		ck_assert_int_eq(got, (ssize_t)reads[i].got);
		ck_assert_int_eq(still, direct);
		ck_assert_uint_eq(unit_pattern_differs(memory, reads[i].got, reads[i].offset),
				  reads[i].got);
	}
	close(fd);
}

START_TEST(read_ranges)
{
	check_reads(_i);
	/* Direct reads leave nothing in the page cache. */
	if (_i && unit_direct_works())
		ck_assert_uint_eq(unit_cached(program_fd, SIZE), 0);
}
END_TEST

/* More than what is wanted may be read, so that the length is a direct read's, but not reported. */
START_TEST(read_wanted)
{
	const struct stn_source_way way = {.direct = _i, .buffered = true};
	bool direct;
	int fd = stn_source_open("model", &identity, &way, &direct);

	ck_assert_int_eq(stn_source_read(fd, &direct, memory, 8192, 5000, 65536), 5000);
	ck_assert_uint_eq(unit_pattern_differs(memory, 5000, 65536), 5000);
	ck_assert_int_eq(stn_source_read(fd, &direct, memory, 4096, 10, MIB), 10);
	ck_assert_int_eq(stn_source_read(fd, &direct, memory, 4096, 17, MIB), 17);
	ck_assert_int_eq(stn_source_read(fd, &direct, memory, 4096, 18, MIB), 17);
	close(fd);
}
END_TEST

/* What a file system refuses to read directly is read through the page cache, from then on. */
START_TEST(read_refused)
{
	bool direct, was;
	int fd = stn_source_open("model", &identity, &any, &direct);

	was = direct;
	ck_assert_int_eq(stn_source_read(fd, &direct, memory, 4096, 4096, 0), 4096);
	ck_assert_int_eq(direct, was);
	ck_assert_int_eq(stn_source_read(fd, &direct, memory + 3, 999, 999, 7), 999);
	ck_assert(!direct);
	ck_assert_int_eq(fcntl(fd, F_GETFL) & O_DIRECT, 0);
	ck_assert_uint_eq(unit_pattern_differs(memory + 3, 999, 7), 999);
	ck_assert_int_eq(stn_source_read(fd, &direct, memory, SIZE, SIZE, 0), SIZE);
	ck_assert_uint_eq(unit_pattern_differs(memory, SIZE, 0), SIZE);
}
END_TEST

START_TEST(read_errors)
{
	const struct stn_source_cache cache = {.restore = true};
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC), folder = open(".", O_RDONLY);
	bool direct = false;

	/* Nothing is ever mapped in the first page. */
	ck_assert_int_eq(stn_source_read(mem, &direct, memory, page, page, 0), -EIO);
	ck_assert_int_eq(stn_source_read_buffered(mem, memory, page, 0, &cache), -EIO);
	ck_assert_int_eq(stn_source_read(folder, &direct, memory, page, page, 0), -EISDIR);
	ck_assert_int_eq(stn_source_read(-1, &direct, memory, page, page, 0), -EBADF);
	ck_assert_int_eq(stn_source_read(program_fd, &direct, NULL, page, page, 0), -EFAULT);
}
END_TEST

/* Which pages of the file were cached before a buffered read. */
static bool none(size_t at)
{
	(void)at;
	return false;
}

static bool all(size_t at)
{
	(void)at;
	return true;
}

static bool every_third(size_t at)
{
	return at % 3 == 0;
}

static bool first(size_t at)
{
	return at == 0;
}

static bool last(size_t at)
{
	return at == SIZE / stn_page_size();
}

static bool (*const cached_before[])(size_t) = {none, all, every_third, first, last};

#define PAGES_MOST (2 * MIB / 4096)

#define TRIES 8 /* the kernel drops no page that somebody else, as DAMON, looks at just then */

/* Reads the file with the pages cached that are chosen; what is cached before and after. */
static void read_cached(bool (*chosen)(size_t), void *mapping, unsigned char *before,
			unsigned char *after)
{
	const struct stn_source_cache cache = {
		.owned = mapping, .mapping = mapping, .restore = true};
	bool direct;
	int fd = stn_source_open("model", &identity, &buffered, &direct);

	unit_cache_pages(program_fd, SIZE / page + 1, chosen);
	unit_resident(program_fd, SIZE, before);
	ck_assert_int_eq(stn_source_read_buffered(fd, memory, SIZE, 0, &cache), SIZE);
	ck_assert_uint_eq(unit_pattern_differs(memory, SIZE, 0), SIZE);
	unit_resident(program_fd, SIZE, after);
	close(fd);
}

static bool is_restored(bool (*chosen)(size_t), const unsigned char *before,
			const unsigned char *after)
{
	for (size_t i = 0; i <= SIZE / page; i++)
		if (before[i] != after[i] || before[i] != chosen(i))
			return false;
	return true;
}

/* Reads until the page cache is after as it was before, some times at most. */
static void check_restore(bool (*chosen)(size_t), void *mapping)
{
	unsigned char before[PAGES_MOST], after[PAGES_MOST];
	bool restored = false;

	for (int i = 0; i < TRIES && !restored; i++) {
		read_cached(chosen, mapping, before, after);
		restored = is_restored(chosen, before, after);
	}
	ck_assert(restored);
}

START_TEST(cache_restored)
{
	check_restore(cached_before[_i], mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE, program_fd, 0));
}
END_TEST

/*
 * Without a mapping whose residency may be asked for: by a page of every 16. Nothing is left of a
 * file that was not cached, nothing lost of one that was.
 */
static bool runs(size_t at)
{
	return at / 32 % 2;
}

static bool (*const cached_in_runs[])(size_t) = {none, all, runs};

START_TEST(cache_restored_roughly)
{
	check_restore(cached_in_runs[_i], NULL);
}
END_TEST

START_TEST(cache_kept)
{
	const struct stn_source_cache cache = {.restore = false};
	bool direct;
	int fd = stn_source_open("model", &identity, &buffered, &direct);

	ck_assert_int_eq(stn_source_read_buffered(fd, memory, SIZE, 0, &cache), SIZE);
	ck_assert_uint_eq(unit_cached(program_fd, SIZE), SIZE / page + 1);
}
END_TEST

/* Reading one page does not bring in its neighbours, which nobody would drop again. */
START_TEST(no_read_ahead)
{
	const struct stn_source_cache cache = {.restore = false};
	bool direct;
	int fd = stn_source_open("model", &identity, &buffered, &direct);

	for (size_t i = 0; i < 8; i++)
		ck_assert_int_eq(stn_source_read_buffered(fd, memory, page, i * page, &cache),
				 (ssize_t)page);
	ck_assert_uint_eq(unit_cached(program_fd, SIZE), 8);
}
END_TEST

/* More than the list of pages holds at once, from an odd offset, beyond the end. */
START_TEST(cache_restored_large)
{
	const size_t size = 9 * MIB + 5000, offset = 3 * page;
	struct stn_source_cache cache = {.restore = true};
	char *large = unit_memory(10 * MIB), *map;
	bool direct;
	int file = unit_pattern_file("large", size);
	struct stn_identity its = unit_identity(file);
	int fd = stn_source_open("large", &its, &buffered, &direct);

	map = mmap(NULL, size, PROT_NONE, MAP_SHARED, file, 0);
	cache.mapping = map + offset;
	for (int i = 0; i < TRIES && (i == 0 || unit_cached(file, size) != (size / page + 3) / 3);
	     i++) {
		unit_cache_pages(file, size / page + 1, every_third);
		ck_assert_int_eq(stn_source_read_buffered(fd, large, size - offset, offset, &cache),
				 (ssize_t)(size - offset));
		ck_assert_uint_eq(unit_pattern_differs(large, size - offset, offset),
				  size - offset);
	}
	ck_assert_uint_eq(unit_cached(file, size), (size / page + 3) / 3);
	cache.mapping = NULL;
	ck_assert_int_eq(stn_source_read_buffered(fd, large, 10 * MIB, 0, &cache), (ssize_t)size);
}
END_TEST

/* A record's descriptors are all closed, that for cached blocks too; what is an error is none. */
START_TEST(close_all)
{
	struct stn_source source = {.opened = 3, .copy_opened = true};

	source.fds[0] = open("/dev/null", O_RDONLY);
	source.fds[1] = -EMFILE;
	source.fds[2] = open("/dev/null", O_RDONLY);
	source.copy_fd = open("/dev/null", O_RDONLY);
	stn_source_close(&source);
	ck_assert_int_eq(fcntl(source.fds[0], F_GETFD), -1);
	ck_assert_int_eq(fcntl(source.fds[2], F_GETFD), -1);
	ck_assert_int_eq(fcntl(source.copy_fd, F_GETFD), -1);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("source");
	TCase *tcase = unit_case_in_dir(suite, "open", 10);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_loop_test(tcase, open_direct, 0, 2);
	tcase_add_test(tcase, open_buffered);
	tcase_add_test(tcase, open_by_descriptor);
	tcase_add_loop_test(tcase, open_another_version, 0, 5);
	tcase_add_test(tcase, open_errors);
	tcase_add_test(tcase, open_without_direct);
	tcase_add_test(tcase, unchanged);
	tcase = unit_case_in_dir(suite, "read", 10);
	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_loop_test(tcase, read_ranges, 0, 2);
	tcase_add_loop_test(tcase, read_wanted, 0, 2);
	tcase_add_test(tcase, read_refused);
	tcase_add_test(tcase, read_errors);
	tcase = unit_case_in_dir(suite, "cache", 10);
	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_loop_test(tcase, cache_restored, 0, COUNT(cached_before));
	tcase_add_loop_test(tcase, cache_restored_roughly, 0, COUNT(cached_in_runs));
	tcase_add_test(tcase, cache_kept);
	tcase_add_test(tcase, no_read_ahead);
	tcase_add_test(tcase, cache_restored_large);
	tcase_add_test(tcase, close_all);
	return suite;
}
