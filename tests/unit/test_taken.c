/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/mman.h>

#include "page.h"
#include "taken.h"
#include "unit.h"

#define PAGES 64

static char *memory, *keeper;
static size_t page;

/* A mapping and a second one that plays its keeper; nothing is registered yet. */
static void set_up(void)
{
	page = stn_page_size();
	memory = unit_memory(PAGES * page);
	keeper = unit_memory(PAGES * page);
}

/* Registers pages [first, last). */
static void add(size_t first, size_t last, bool with_keeper)
{
	const struct stn_region region = {
		.start = (uintptr_t)(memory + first * page),
		.end = (uintptr_t)(memory + last * page),
		.keeper = with_keeper ? (uintptr_t)(keeper + first * page) : 0,
	};

	ck_assert_int_eq(stn_region_add(&region), 0);
}

static void collect(struct stn_taken *taken, size_t first, size_t last)
{
	stn_taken_collect(taken, (uintptr_t)(memory + first * page),
			  (uintptr_t)(memory + last * page));
}

/* How many pages of [first, last) are registered. */
static size_t registered(size_t first, size_t last)
{
	uintptr_t at = (uintptr_t)(memory + first * page), end = (uintptr_t)(memory + last * page);
	struct stn_region out;
	size_t count = 0;

	for (; at < end && stn_region_find(at, end, &out); at = out.end)
		count += (out.end - out.start) / page;
	return count;
}

static bool mapped(const char *address)
{
	unsigned char state;

	return mincore((void *)(uintptr_t)address, page, &state) == 0;
}

/* Checks that of the keeper's pages just [first, last) are unmapped. */
static void check_keeper_gone(size_t first, size_t last)
{
	for (size_t i = 0; i < PAGES; i++)
		ck_assert_msg(mapped(keeper + i * page) == (i < first || i >= last), "page %zu", i);
}

START_TEST(success)
{
	struct stn_taken taken;

	add(0, PAGES, true);
	collect(&taken, 10, 20);
	ck_assert_uint_eq(taken.count, 1);
	ck_assert_uint_eq(registered(0, PAGES), PAGES - 10);
	check_keeper_gone(0, 0);
	stn_taken_settle(&taken, true);
	check_keeper_gone(10, 20);
	ck_assert_uint_eq(registered(0, PAGES), PAGES - 10);
	/* What was taken is the program's own business, its unmapping too. */
	ck_assert(mapped(memory + 15 * page));
}
END_TEST

START_TEST(failure)
{
	struct stn_taken taken;
	struct stn_region out;

	add(0, PAGES, true);
	collect(&taken, 10, 20);
	stn_taken_settle(&taken, false);
	check_keeper_gone(0, 0);
	ck_assert_uint_eq(registered(0, PAGES), PAGES);
	ck_assert(stn_region_find((uintptr_t)(memory + 12 * page), (uintptr_t)(memory + 13 * page),
				  &out));
	ck_assert_uint_eq(out.keeper, (uintptr_t)(keeper + 12 * page));
}
END_TEST

START_TEST(nothing_registered)
{
	struct stn_taken taken;

	collect(&taken, 0, PAGES);
	ck_assert_uint_eq(taken.count, 0);
	stn_taken_settle(&taken, true);
	add(0, 10, true);
	collect(&taken, 10, PAGES);
	ck_assert_uint_eq(taken.count, 0);
	stn_taken_settle(&taken, true);
	ck_assert_uint_eq(registered(0, PAGES), 10);
	check_keeper_gone(0, 0);
}
END_TEST

START_TEST(without_keeper)
{
	struct stn_taken taken;

	add(0, 10, false);
	collect(&taken, 0, 5);
	stn_taken_settle(&taken, true);
	ck_assert_uint_eq(registered(0, PAGES), 5);
	collect(&taken, 5, 10);
	stn_taken_settle(&taken, false);
	ck_assert_uint_eq(registered(0, PAGES), 5);
	check_keeper_gone(0, 0);
}
END_TEST

/* Several records in one range, with holes between them. */
START_TEST(several)
{
	struct stn_taken taken;

	add(0, 10, true);
	add(20, 30, true);
	add(30, 40, false);
	collect(&taken, 5, 35);
	ck_assert_uint_eq(taken.count, 3);
	ck_assert_uint_eq(registered(0, PAGES), 10);
	stn_taken_settle(&taken, false);
	ck_assert_uint_eq(registered(0, PAGES), 30);
	collect(&taken, 5, 35);
	stn_taken_settle(&taken, true);
	for (size_t i = 0; i < PAGES; i++)
		ck_assert_int_eq(mapped(keeper + i * page),
				 !(i >= 5 && i < 10) && !(i >= 20 && i < 30));
}
END_TEST

/* More pieces than fit: those that do not are out of the registry for good, their keepers freed. */
START_TEST(too_many)
{
	struct stn_taken taken;
	size_t lost = 0;

	for (size_t i = 0; i < PAGES; i += 2)
		add(i, i + 1, true);
	collect(&taken, 0, PAGES);
	ck_assert_uint_eq(taken.count, STN_TAKEN_PIECES);
	ck_assert_uint_eq(registered(0, PAGES), 0);
	for (size_t i = 0; i < PAGES; i += 2)
		lost += !mapped(keeper + i * page);
	ck_assert_uint_eq(lost, PAGES / 2 - STN_TAKEN_PIECES);
	stn_taken_settle(&taken, false);
	ck_assert_uint_eq(registered(0, PAGES), STN_TAKEN_PIECES);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("taken");
	TCase *tcase = unit_case(suite, "taken", 5);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_test(tcase, success);
	tcase_add_test(tcase, failure);
	tcase_add_test(tcase, nothing_registered);
	tcase_add_test(tcase, without_keeper);
	tcase_add_test(tcase, several);
	tcase_add_test(tcase, too_many);
	return suite;
}
