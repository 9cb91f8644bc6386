/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "page.h"
#include "region.h"
#include "unit.h"

#define BASE   ((uintptr_t)0x100000000)
#define KEEPER ((uintptr_t)0x500000000)
#define PAGE   ((uintptr_t)4096)

/* Registers pages [first, last) of BASE with a keeper at the same distance from KEEPER. */
static int add(uintptr_t first, uintptr_t last)
{
	const struct stn_region region = {
		.start = BASE + first * PAGE,
		.end = BASE + last * PAGE,
		.keeper = KEEPER + first * PAGE,
	};

	return stn_region_add(&region);
}

static bool find(uintptr_t first, uintptr_t last, struct stn_region *out)
{
	memset(out, 0xa5, sizeof(*out));
	return stn_region_find(BASE + first * PAGE, BASE + last * PAGE, out);
}

static bool take(uintptr_t first, uintptr_t last, struct stn_region *out)
{
	memset(out, 0xa5, sizeof(*out));
	return stn_region_take(BASE + first * PAGE, BASE + last * PAGE, out);
}

/* Checks that a record has pages [first, last) and the keeper that belongs to them. */
static void check_pages(const struct stn_region *region, uintptr_t first, uintptr_t last)
{
	ck_assert_uint_eq((region->start - BASE) / PAGE, first);
	ck_assert_uint_eq((region->end - BASE) / PAGE, last);
	ck_assert_uint_eq(region->keeper, KEEPER + first * PAGE);
	ck_assert_int_eq(region->kind, STN_REGION_ENGAGED);
	ck_assert(!region->shared);
}

START_TEST(empty)
{
	struct stn_region out;

	ck_assert(stn_region_none());
	ck_assert(stn_region_room(1000));
	ck_assert(!find(0, 1000, &out));
	ck_assert(!take(0, 1000, &out));
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), 0);
}
END_TEST

START_TEST(one_record)
{
	struct stn_region out;

	ck_assert_int_eq(add(10, 20), 0);
	ck_assert(!stn_region_none());
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), 10 * PAGE);
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_DECLINED), 0);
	ck_assert(find(10, 20, &out));
	check_pages(&out, 10, 20);
	ck_assert(take(0, 1000, &out));
	check_pages(&out, 10, 20);
	ck_assert(stn_region_none());
	ck_assert(!find(10, 20, &out));
}
END_TEST

/* What is found of the records [10, 20) and [20, 30) and [40, 50), clipped; first = last: none. */
static const struct {
	uintptr_t from, to, first, last;
} looks[] = {
	{0, 10, 0, 0},	  {0, 11, 10, 11},   {5, 15, 10, 15},  {10, 11, 10, 11},
	{12, 13, 12, 13}, {19, 20, 19, 20},  {19, 21, 19, 20}, {20, 21, 20, 21},
	{0, 100, 10, 20}, {25, 100, 25, 30}, {30, 40, 0, 0},   {29, 41, 29, 30},
	{30, 41, 40, 41}, {49, 50, 49, 50},  {50, 100, 0, 0},  {15, 15, 0, 0},
};

START_TEST(clipped)
{
	struct stn_region out;
	bool found = looks[_i].first != looks[_i].last;

	/* In an order that is not theirs. */
	ck_assert_int_eq(add(40, 50), 0);
	ck_assert_int_eq(add(10, 20), 0);
	ck_assert_int_eq(add(20, 30), 0);
	ck_assert_int_eq(find(looks[_i].from, looks[_i].to, &out), found);
	if (found)
		check_pages(&out, looks[_i].first, looks[_i].last);
	ck_assert_int_eq(take(looks[_i].from, looks[_i].to, &out), found);
	if (found)
		check_pages(&out, looks[_i].first, looks[_i].last);
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED),
			  (30 - (looks[_i].last - looks[_i].first)) * PAGE);
}
END_TEST

/* What is left of [10, 20) when a part is taken out of it. */
static const struct {
	const char *name;
	uintptr_t from, to;
	uintptr_t left[2][2]; /* pieces, empty ones at the end */
} cuts[] = {
	{"head", 10, 13, {{13, 20}}},
	{"head and what is before it", 5, 13, {{13, 20}}},
	{"middle", 13, 15, {{10, 13}, {15, 20}}},
	{"tail", 15, 20, {{10, 15}}},
	{"tail and what is behind it", 15, 30, {{10, 15}}},
	{"all but the ends", 11, 19, {{10, 11}, {19, 20}}},
	{"all", 10, 20, {{0, 0}}},
};

START_TEST(split)
{
	struct stn_region out;
	uintptr_t at = 0;

	ck_assert_int_eq(add(10, 20), 0);
	ck_assert(take(cuts[_i].from, cuts[_i].to, &out));
	ck_assert(!find(cuts[_i].from, cuts[_i].to, &out));
	for (int i = 0; i < 2 && cuts[_i].left[i][1]; i++) {
		ck_assert_msg(find(at, 100, &out), "%s", cuts[_i].name);
		check_pages(&out, cuts[_i].left[i][0], cuts[_i].left[i][1]);
		at = cuts[_i].left[i][1];
	}
	ck_assert(!find(at, 100, &out));
}
END_TEST

/* Kind, sharing and the lack of a keeper pass on to the pieces. */
START_TEST(attributes)
{
	struct stn_region region = {
		.start = BASE,
		.end = BASE + 10 * PAGE,
		.kind = STN_REGION_DECLINED,
		.shared = true,
	};
	struct stn_region out;

	ck_assert_int_eq(stn_region_add(&region), 0);
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_DECLINED), 10 * PAGE);
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), 0);
	ck_assert(take(4, 5, &out));
	for (uintptr_t at = 0; at <= 5; at += 5) {
		ck_assert(find(at, 10, &out));
		ck_assert_int_eq(out.kind, STN_REGION_DECLINED);
		ck_assert(out.shared);
		ck_assert_uint_eq(out.keeper, 0);
	}
}
END_TEST

/* A record that overlaps others is newer: what it covers of them is forgotten, with its keeper. */
START_TEST(add_over_stale)
{
	size_t page = stn_page_size();
	char *keeper = unit_memory(16 * page);
	struct stn_region region = {
		.start = BASE, .end = BASE + 16 * page, .keeper = (uintptr_t)keeper};
	struct stn_region out;
	unsigned char state;

	ck_assert_int_eq(stn_region_add(&region), 0);
	region = (struct stn_region){
		.start = BASE + 4 * page, .end = BASE + 8 * page, .shared = true};
	ck_assert_int_eq(stn_region_add(&region), 0);
	for (size_t i = 0; i < 16; i++) {
		bool stale = i >= 4 && i < 8;

		ck_assert(stn_region_find(BASE + i * page, BASE + (i + 1) * page, &out));
		ck_assert_uint_eq(out.keeper, stale ? 0 : (uintptr_t)keeper + i * page);
		ck_assert_int_eq(out.shared, stale);
		ck_assert_int_eq(mincore(keeper + i * page, page, &state) == 0, !stale);
	}
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), 16 * page);
}
END_TEST

/* What a replacement was called with. */
static struct stn_region replaced;
static int replaced_argument, answer;

static int replace(const struct stn_region *piece, int argument)
{
	struct stn_region out;

	replaced = *piece;
	replaced_argument = argument;
	/* The record is there until the memory is not. */
	ck_assert(stn_region_find(piece->start, piece->end, &out));
	return answer;
}

START_TEST(replacement)
{
	struct stn_region out;

	ck_assert_int_eq(add(10, 20), 0);
	answer = -ENOMEM;
	ck_assert(!stn_region_replace(BASE + 12 * PAGE, BASE + 14 * PAGE, replace, 7, &out));
	check_pages(&replaced, 12, 14);
	ck_assert_int_eq(replaced_argument, 7);
	ck_assert(find(0, 100, &out));
	check_pages(&out, 10, 20);
	answer = 0;
	ck_assert(stn_region_replace(BASE + 12 * PAGE, BASE + 14 * PAGE, replace, 7, &out));
	check_pages(&out, 12, 14);
	ck_assert(!find(12, 14, &out));
	ck_assert(find(0, 100, &out));
	check_pages(&out, 10, 12);
	ck_assert(!stn_region_replace(BASE, BASE + PAGE, replace, 7, &out));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("region");
	TCase *tcase = unit_case(suite, "records", 5);

	tcase_add_test(tcase, empty);
	tcase_add_test(tcase, one_record);
	tcase_add_loop_test(tcase, clipped, 0, COUNT(looks));
	tcase_add_loop_test(tcase, split, 0, COUNT(cuts));
	tcase_add_test(tcase, attributes);
	tcase_add_test(tcase, add_over_stale);
	tcase_add_test(tcase, replacement);
	return suite;
}
