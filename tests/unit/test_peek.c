/* SPDX-License-Identifier: Apache-2.0 */
/* Header peeks: files as safetensors has them, and files that only begin like that. */
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engaged.h"
#include "page.h"
#include "process.h"
#include "region.h"
#include "unit.h"

#define PEEKED (128 * KIB) /* read while a header's length is not known */

static bool reads_headers(const void *caller)
{
	return caller == (const void *)0x1234;
}

static void set_up(void)
{
	unit_configure("STSHIM_MODE=always", NULL);
}

/* Makes a model whose first eight bytes say that its header has so many bytes. */
static int make_model(size_t size, uint64_t header)
{
	static char data[1 << 20];
	int fd;

	unit_pattern(data, size, 0);
	memcpy(data, &header, size < 8 ? size : 8);
	unit_write("model", data, size);
	fd = open("model", O_RDONLY | O_CLOEXEC);
	unit_declare(fd, "model");
	unit_uncache(fd);
	return fd;
}

/* Maps the file as safetensors does to read its header. */
static char *peek(int fd, size_t size)
{
	struct stn_map_call call = unit_call(fd, size, PROT_READ, MAP_PRIVATE, 0);
	void *address = NULL;
	int error;

	call.header_reader = reads_headers;
	call.caller = (const void *)0x1234;
	ck_assert_int_eq(stn_engage_map(&call, &address, &error), STN_OUTCOME_DONE);
	ck_assert_uint_eq(stn_process_peek()->planned, 0);
	ck_assert_uint_eq(stn_process_peek()->filled, 0);
	return address;
}

/* Sizes of files and what their first bytes say; the bytes that are ours after the first peek, and
 * after one that knows the header's length. */
static const struct {
	const char *name;
	size_t size;
	uint64_t header;
	size_t first, again;
} rows[] = {
	{"small header", 500000, 1000, PEEKED, 4096},
	{"header of whole pages", 500000, 8192 - 8, PEEKED, 8192},
	{"header as long as the first read", 500000, PEEKED - 8, PEEKED, PEEKED},
	{"a byte longer than the first read", 500000, PEEKED - 7, PEEKED + 4096, PEEKED + 4096},
	{"long header", 500000, 400000, 401408, 401408},
	{"all of the file", 500000, 500000 - 8, 503808, 503808},
	{"a byte more than the file", 500000, 500000 - 7, PEEKED, PEEKED},
	{"far more than the file", 500000, (uint64_t)1 << 40, PEEKED, PEEKED},
	{"as large as can be", 500000, UINT64_MAX, PEEKED, PEEKED},
	{"so large that eight more is nothing", 500000, UINT64_MAX - 7, PEEKED, PEEKED},
	{"none", 500000, 0, PEEKED, PEEKED},
	{"a small file", 5000, 100, 8192, 4096},
	{"eight bytes", 8, 0, 4096, 4096},
	{"eight bytes that promise one", 8, 1, 4096, 4096},
	{"seven bytes", 7, 5, 4096, 4096},
	{"a byte", 1, 1, 4096, 4096},
};

START_TEST(header_only)
{
	size_t size = rows[_i].size, page = stn_page_size();
	int fd = make_model(size, rows[_i].header);
	const size_t expected[] = {rows[_i].first, rows[_i].again};
	char *file = unit_memory(size);

	for (int i = 0; i < 2; i++) {
		char *base = peek(fd, size);
		struct stn_region region;

		ck_assert_msg(unit_last_decision("engaged:header-peek"), "%s", unit_last_line());
		ck_assert(stn_region_find((uintptr_t)base, (uintptr_t)base + size, &region));
		ck_assert_uint_eq(region.start, (uintptr_t)base);
		while (stn_region_find(region.end, (uintptr_t)base + stn_round_up(size, page),
				       &region))
			;
		/* Page sizes other than 4 KiB give other figures. */
		if (page == 4096)
			ck_assert_msg(region.end - (uintptr_t)base == expected[i], "%s: %zu",
				      rows[_i].name, region.end - (uintptr_t)base);
		/* What is ours brings nothing into the page cache. */
		ck_assert_uint_eq(unit_cached(fd, size), 0);
		*(volatile char *)base;
		ck_assert_uint_eq(unit_cached(fd, size), 0);
		ck_assert_int_eq(pread(fd, file, size, 0), (ssize_t)size);
		ck_assert_int_eq(memcmp(base, file, size), 0);
		ck_assert_int_eq(munmap(base, size), 0);
		while (stn_region_take((uintptr_t)base, (uintptr_t)base + MIB, &region))
			munmap((void *)region.keeper, region.end - region.start);
		ck_assert_int_eq(unit_maps_of("model"), 0);
		unit_uncache(fd);
	}
}
END_TEST

/* The map is read-only throughout. */
START_TEST(read_only)
{
	char *base = peek(make_model(500000, 1000), 500000);

	ck_assert_int_eq(unit_store_signal(base), SIGSEGV);
	ck_assert_int_eq(unit_store_signal(base + 400000), SIGSEGV);
}
END_TEST

/* Peeks are not counted: a file may be peeked at as often as one likes, and read twice besides. */
START_TEST(any_number)
{
	int fd = make_model(500000, 1000);

	for (int i = 0; i < 20; i++)
		peek(fd, 500000);
	for (int i = 0; i < 2; i++)
		unit_engage(fd, 500000, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	peek(fd, 500000);
	ck_assert(unit_last_decision("engaged:header-peek"));
}
END_TEST

/* The header's length belongs to the version of the file. */
START_TEST(another_version)
{
	uint64_t header = 200000;
	int fd = make_model(500000, 1000), writer;
	char *base;

	peek(fd, 500000);
	writer = open("model", O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(pwrite(writer, &header, 8, 0), 8);
	close(writer);
	base = peek(fd, 500000);
	ck_assert(unit_last_decision("engaged:header-peek"));
	ck_assert_int_eq(memcmp(base, &header, 8), 0);
	ck_assert_uint_eq(unit_pattern_differs(base + 8, 500000 - 8, 8), 500000 - 8);
}
END_TEST

/* Other code's maps are filled. */
START_TEST(other_callers)
{
	struct stn_map_call call =
		unit_call(make_model(500000, 1000), 500000, PROT_READ, MAP_PRIVATE, 0);
	void *address;
	int error;

	call.header_reader = reads_headers;
	call.caller = (const void *)0x5678;
	ck_assert_int_eq(stn_engage_map(&call, &address, &error), STN_OUTCOME_DONE);
	ck_assert(unit_last_decision("engaged:"));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("peek");
	TCase *tcase = unit_case_in_dir(suite, "peek", 20);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_loop_test(tcase, header_only, 0, COUNT(rows));
	tcase_add_test(tcase, read_only);
	tcase_add_test(tcase, any_number);
	tcase_add_test(tcase, another_version);
	tcase_add_test(tcase, other_callers);
	return suite;
}
