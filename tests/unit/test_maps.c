/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "area.h"
#include "config.h"
#include "maps.h"
#include "page.h"
#include "unit.h"

#define PAGES 32

static size_t page;
static char *map; /* in the middle of addresses where nothing else is */

static char *nothing(const char *name)
{
	(void)name;
	return NULL;
}

static void set_up(void)
{
	page = stn_page_size();
	stn_config_read(&stn_config, nothing);
	map = mmap((void *)0x100000000000, PAGES * page, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ck_assert_ptr_ne(map, MAP_FAILED);
}

static int find(long first, long last, struct stn_maps_area *area)
{
	memset(area, 0xa5, sizeof(*area));
	return stn_maps_find((uintptr_t)map + (uintptr_t)(first * (long)page),
			     (uintptr_t)map + (uintptr_t)(last * (long)page), area);
}

/* Checks that an area is pages [first, last) of the map. */
static void check_pages(const struct stn_maps_area *area, size_t first, size_t last)
{
	ck_assert_uint_eq((area->start - (uintptr_t)map) / page, first);
	ck_assert_uint_eq((area->end - (uintptr_t)map) / page, last);
}

/* Ranges looked up, in pages; what is found of [0, PAGES). first = last: nothing. */
static const struct {
	long from, to;
	size_t first, last;
} looks[] = {
	{0, PAGES, 0, PAGES}, {-100, PAGES + 100, 0, PAGES}, {3, 5, 3, 5},
	{-5, 1, 0, 1},	      {31, 40, 31, PAGES},	     {-5, 0, 0, 0},
	{32, 40, 0, 0},
};

START_TEST(range)
{
	struct stn_maps_area area;
	bool found = looks[_i].first != looks[_i].last;

	ck_assert_int_eq(find(looks[_i].from, looks[_i].to, &area), found ? 0 : -ENOENT);
	if (!found)
		return;
	check_pages(&area, looks[_i].first, looks[_i].last);
	ck_assert_int_eq(area.prot, PROT_READ | PROT_WRITE);
	ck_assert(!area.locked);
	ck_assert_uint_eq(area.huge_bytes, 0);
}
END_TEST

/* The first of several areas, and holes between them. */
START_TEST(first_of_several)
{
	struct stn_maps_area area;

	ck_assert_int_eq(mprotect(map + 4 * page, 4 * page, PROT_READ), 0);
	ck_assert_int_eq(mprotect(map + 8 * page, 4 * page, PROT_NONE), 0);
	ck_assert_int_eq(mprotect(map + 12 * page, 4 * page, PROT_READ | PROT_EXEC), 0);
	ck_assert_int_eq(munmap(map + 16 * page, 4 * page), 0);
	ck_assert_int_eq(find(0, PAGES, &area), 0);
	check_pages(&area, 0, 4);
	ck_assert_int_eq(find(5, PAGES, &area), 0);
	check_pages(&area, 5, 8);
	ck_assert_int_eq(area.prot, PROT_READ);
	ck_assert_int_eq(find(8, PAGES, &area), 0);
	ck_assert_int_eq(area.prot, PROT_NONE);
	ck_assert_int_eq(find(12, PAGES, &area), 0);
	check_pages(&area, 12, 16);
	ck_assert_int_eq(area.prot, PROT_READ | PROT_EXEC);
	ck_assert_int_eq(find(17, PAGES, &area), 0);
	check_pages(&area, 20, PAGES);
	ck_assert_int_eq(find(16, 20, &area), -ENOENT);
}
END_TEST

/* What the library maps is its own; the program's and files' memory is not. */
START_TEST(ours)
{
	struct stn_area made = {0};
	struct stn_maps_area area;
	int fd = unit_pattern_file("model", PAGES * page);

	ck_assert_int_eq(find(0, PAGES, &area), 0);
	ck_assert(!area.ours);
	ck_assert_int_eq(munmap(map, PAGES * page), 0);
	ck_assert_int_eq(stn_area_reserve(&made, map, PAGES * page, PAGES * page, 0), 0);
	ck_assert_ptr_eq(made.memory, map);
	ck_assert_int_eq(find(0, PAGES, &area), 0);
	ck_assert(area.ours);
	/* Also when the program lets it be dumped again. */
	stn_area_name(map, PAGES * page, "model");
	ck_assert_int_eq(madvise(map, PAGES * page, MADV_DODUMP), 0);
	ck_assert_int_eq(find(0, PAGES, &area), 0);
	ck_assert(area.ours);
	for (int shared = 0; shared <= 1; shared++) {
		ck_assert_ptr_eq(
			mmap(map, PAGES * page, PROT_READ,
			     (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_FIXED | MAP_NORESERVE, fd,
			     0),
			map);
		ck_assert_int_eq(madvise(map, PAGES * page, MADV_DONTDUMP), 0);
		ck_assert_int_eq(find(0, PAGES, &area), 0);
		ck_assert(!area.ours);
	}
}
END_TEST

START_TEST(locked)
{
	struct stn_maps_area area;

	ck_assert_int_eq(mlock(map + 4 * page, page), 0);
	ck_assert_int_eq(find(0, 4, &area), 0);
	ck_assert(!area.locked);
	ck_assert_int_eq(find(4, 8, &area), 0);
	ck_assert(area.locked);
	check_pages(&area, 4, 5);
}
END_TEST

/* Huge pages, where the kernel gives them for the asking. */
START_TEST(huge_pages)
{
	size_t huge = stn_page_huge_read();
	struct stn_maps_area area;
	char *memory;

	if (huge == 0 || huge > 64 * MIB)
		huge = 2 * MIB;
	memory = unit_memory(4 * huge);
	memory += huge - (uintptr_t)memory % huge;
	madvise(memory, 2 * huge, MADV_HUGEPAGE);
	memset(memory, 1, 2 * huge);
	ck_assert_int_eq(stn_maps_find((uintptr_t)memory, (uintptr_t)memory + 2 * huge, &area), 0);
	ck_assert_uint_eq(area.huge_bytes % huge, 0);
	ck_assert_uint_le(area.huge_bytes, 2 * huge);
	madvise(memory, 2 * huge, MADV_NOHUGEPAGE);
	madvise(memory, 2 * huge, MADV_DONTNEED);
	memset(memory, 1, 2 * huge);
	ck_assert_int_eq(stn_maps_find((uintptr_t)memory, (uintptr_t)memory + 2 * huge, &area), 0);
	ck_assert_uint_eq(area.huge_bytes, 0);
}
END_TEST

/* Among very many areas. */
START_TEST(many)
{
	struct stn_maps_area area;
	char *memory = unit_memory(4000 * page);

	for (size_t i = 0; i < 4000; i += 2)
		ck_assert_int_eq(mprotect(memory + i * page, page, PROT_READ), 0);
	ck_assert_int_eq(stn_maps_find((uintptr_t)memory + 3999 * page,
				       (uintptr_t)memory + 4000 * page, &area),
			 0);
	ck_assert_uint_eq(area.start, (uintptr_t)memory + 3999 * page);
	ck_assert_int_eq(area.prot, PROT_READ | PROT_WRITE);
}
END_TEST

static const char *const names[] = {"model.sft", "a b  c", "\xc3\xa9", "deleted (not)"};

START_TEST(path)
{
	char out[4096] = "before", shorter[10];
	int fd = unit_pattern_file(names[_i], 100);
	void *file = mmap(NULL, 100, PROT_READ, MAP_PRIVATE, fd, 0);

	stn_maps_path((uintptr_t)file, out, sizeof(out));
	ck_assert_msg(strcmp(out, unit_path(names[_i])) == 0, "name %d", _i);
	stn_maps_path((uintptr_t)file, shorter, sizeof(shorter));
	ck_assert_int_eq(strncmp(shorter, out, 9), 0);
	ck_assert_uint_eq(strlen(shorter), 9);
}
END_TEST

START_TEST(no_path)
{
	char out[4096] = "before";

	stn_maps_path((uintptr_t)map, out, sizeof(out));
	ck_assert_str_eq(out, "");
	ck_assert_int_eq(munmap(map, PAGES * page), 0);
	strcpy(out, "before");
	stn_maps_path((uintptr_t)map, out, sizeof(out));
	ck_assert_str_eq(out, "");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("maps");
	TCase *tcase = unit_case_in_dir(suite, "maps", 20);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_loop_test(tcase, range, 0, COUNT(looks));
	tcase_add_test(tcase, first_of_several);
	tcase_add_test(tcase, ours);
	tcase_add_test(tcase, locked);
	tcase_add_test(tcase, huge_pages);
	tcase_add_test(tcase, many);
	tcase_add_loop_test(tcase, path, 0, COUNT(names));
	tcase_add_test(tcase, no_path);
	return suite;
}
