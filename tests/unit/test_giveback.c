/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engaged.h"
#include "giveback.h"
#include "maps.h"
#include "page.h"
#include "region.h"
#include "sys.h"
#include "unit.h"

#define PAGES 64

static size_t page;
static int fd;
static char *map; /* an engaged mapping of PAGES pages, private and writable */

static void set_up(void)
{
	page = stn_page_size();
	unit_configure("STSHIM_MODE=always", NULL);
	fd = unit_model("model", PAGES * page);
	map = unit_engage(fd, PAGES * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	/* What is not the file's any more must come back. */
	memset(map, 0xee, PAGES * page);
}

static uintptr_t at(size_t index)
{
	return (uintptr_t)map + index * page;
}

/* Checks that of the pages just [first, last) are the file's again, all others ours. */
static void check_given(size_t first, size_t last)
{
	struct stn_region region;

	for (size_t i = 0; i < PAGES; i++) {
		bool given = i >= first && i < last;
		size_t differs = unit_pattern_differs(map + i * page, page, i * page);

		ck_assert_int_eq(stn_region_find(at(i), at(i + 1), &region), !given);
		ck_assert_msg(differs == (given ? page : 0), "page %zu", i);
	}
}

/* Ranges of pages: whole, ends, middle, more than there is. */
static const struct {
	size_t from, to, first, last;
} ranges[] = {
	{0, PAGES, 0, PAGES}, {0, 1, 0, 1}, {PAGES - 1, PAGES, PAGES - 1, PAGES},
	{10, 20, 10, 20},     {5, 5, 0, 0}, {50, PAGES + 5, 50, PAGES},
};

START_TEST(range)
{
	ck_assert_int_eq(stn_giveback(at(ranges[_i].from), at(ranges[_i].to), false), 0);
	check_given(ranges[_i].first, ranges[_i].last);
	if (ranges[_i].first < ranges[_i].last) {
		ck_assert(unit_last_decision("returned:advice"));
		ck_assert_ptr_nonnull(strstr(unit_last_line(), "/model\""));
	}
	/* A second time there is nothing left to be done. */
	ck_assert_int_eq(stn_giveback(at(ranges[_i].from), at(ranges[_i].to), false), 0);
	check_given(ranges[_i].first, ranges[_i].last);
	/* Stores are still private, and the access is as it was. */
	memset(map, 1, PAGES * page);
	ck_assert_int_eq(pread(fd, map, PAGES * page, 0), (ssize_t)(PAGES * page));
	ck_assert_uint_eq(unit_pattern_differs(map, PAGES * page, 0), PAGES * page);
}
END_TEST

/* One page after the other, so that nothing is left in the end. */
START_TEST(page_by_page)
{
	for (size_t i = 0; i < PAGES; i += 2)
		ck_assert_int_eq(stn_giveback(at(i), at(i + 1), false), 0);
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), PAGES / 2 * page);
	ck_assert_int_eq(stn_giveback(at(0), at(PAGES), false), 0);
	check_given(0, PAGES);
	ck_assert(stn_region_none());
}
END_TEST

/* Each piece keeps the access that it has. */
START_TEST(access_kept)
{
	struct stn_maps_area area;

	ck_assert_int_eq(mprotect(map + 10 * page, 10 * page, PROT_READ), 0);
	ck_assert_int_eq(mprotect(map + 30 * page, 10 * page, PROT_NONE), 0);
	ck_assert_int_eq(stn_giveback(at(0), at(PAGES), false), 0);
	ck_assert_int_eq(stn_maps_find(at(9), at(10), &area), 0);
	ck_assert_int_eq(area.prot, PROT_READ | PROT_WRITE);
	ck_assert_int_eq(stn_maps_find(at(10), at(20), &area), 0);
	ck_assert_int_eq(area.prot, PROT_READ);
	ck_assert_int_eq(stn_maps_find(at(30), at(40), &area), 0);
	ck_assert_int_eq(area.prot, PROT_NONE);
	ck_assert_int_eq(mprotect(map + 30 * page, 10 * page, PROT_READ), 0);
	check_given(0, PAGES);
}
END_TEST

/* Locked memory is not given back unless asked for; what lies before it is. */
START_TEST(locked)
{
	struct stn_maps_area area;

	ck_assert_int_eq(mlock(map + 10 * page, page), 0);
	ck_assert_int_eq(stn_giveback(at(8), at(20), false), -EINVAL);
	check_given(8, 10);
	ck_assert_int_eq(stn_giveback(at(8), at(20), true), 0);
	ck_assert_int_eq(stn_maps_find(at(10), at(11), &area), 0);
	ck_assert(area.locked);
	check_given(8, 20);
}
END_TEST

/* What somebody else has mapped there, or unmapped, behind our back is not touched. */
START_TEST(stale)
{
	char *theirs = map + 10 * page;
	unsigned char state;

	ck_assert_ptr_eq(stn_sys_mmap(theirs, 5 * page, PROT_READ | PROT_WRITE,
				      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0),
			 theirs);
	memset(theirs, 7, 5 * page);
	ck_assert_int_eq(stn_sys_munmap(map + 30 * page, 5 * page), 0);
	ck_assert_int_eq(stn_giveback(at(0), at(PAGES), false), 0);
	for (size_t i = 0; i < 5 * page; i++)
		ck_assert_int_eq(theirs[i], 7);
	ck_assert_int_lt(mincore(map + 30 * page, page, &state), 0);
	ck_assert_uint_eq(unit_pattern_differs(map, 10 * page, 0), 10 * page);
	ck_assert_uint_eq(unit_pattern_differs(map + 35 * page, 29 * page, 35 * page), 29 * page);
	ck_assert(stn_region_none());
}
END_TEST

/* Pruning forgets what is stale, and says whether anything is left. */
START_TEST(prune)
{
	struct stn_region region;

	ck_assert(stn_giveback_prune(at(0), at(PAGES)));
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), PAGES * page);
	ck_assert_int_eq(stn_sys_munmap(map + 10 * page, 20 * page), 0);
	ck_assert(!stn_giveback_prune(at(10), at(30)));
	ck_assert(!stn_region_find(at(10), at(30), &region));
	ck_assert(stn_giveback_prune(at(0), at(PAGES)));
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), (PAGES - 20) * page);
	/* The keeper of what is gone is gone: two pieces are left, and no map of the file else. */
	ck_assert_int_eq(unit_maps_of("model"), 2);
	ck_assert(!stn_giveback_prune(at(PAGES), at(PAGES + 10)));
}
END_TEST

/* Without a keeper the bytes stay ours. */
START_TEST(no_keeper)
{
	struct stn_region region;

	ck_assert(stn_region_take(at(10), at(20), &region));
	region.keeper = 0;
	ck_assert_int_eq(stn_region_add(&region), 0);
	ck_assert_int_eq(stn_giveback(at(0), at(PAGES), false), -ENODEV);
	ck_assert(stn_region_find(at(10), at(20), &region));
	ck_assert_int_eq(map[15 * page], (char)0xee);
	ck_assert_uint_eq(unit_pattern_differs(map, 10 * page, 0), 10 * page);
	ck_assert_uint_eq(unit_pattern_differs(map + 20 * page, 44 * page, 20 * page), 44 * page);
}
END_TEST

/* Nothing of ours is in the range. */
START_TEST(nothing)
{
	char *other = unit_memory(page);

	ck_assert_int_eq(stn_giveback((uintptr_t)other, (uintptr_t)other + page, false), 0);
	ck_assert(!stn_giveback_prune((uintptr_t)other, (uintptr_t)other + page));
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), PAGES * page);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("giveback");
	TCase *tcase = unit_case_in_dir(suite, "giveback", 20);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_loop_test(tcase, range, 0, COUNT(ranges));
	tcase_add_test(tcase, page_by_page);
	tcase_add_test(tcase, access_kept);
	tcase_add_test(tcase, locked);
	tcase_add_test(tcase, stale);
	tcase_add_test(tcase, prune);
	tcase_add_test(tcase, no_keeper);
	tcase_add_test(tcase, nothing);
	return suite;
}
