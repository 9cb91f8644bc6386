/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "area.h"
#include "fillplan.h"
#include "page.h"
#include "region.h"
#include "unit.h"

#define SIZE (300 * KIB + 77) /* of the file */

static size_t page;
static int fd;
static struct stn_area area;

static void set_up(void)
{
	page = stn_page_size();
	fd = unit_pattern_file("model", SIZE);
	memset(&area, 0, sizeof(area));
}

/* A call that maps length bytes of the file. */
static struct stn_map_call call_of(size_t length, int prot, int flags, uint64_t offset)
{
	return (struct stn_map_call){
		.length = length, .prot = prot, .flags = flags, .fd = fd, .offset = offset};
}

/* Keeps, reserves and fills a map of length bytes at offset; holes are added to the fill by hand.
 */
static struct stn_fill *fill_area(size_t length, int prot, int flags, uint64_t offset, size_t bytes)
{
	struct stn_map_call call = call_of(length, prot, flags, offset);
	struct stn_fill_plan plan = unit_plan(fd, offset, bytes);
	struct stn_fill *fill;

	ck_assert_int_eq(stn_area_keep(&area, &call), 0);
	ck_assert_int_eq(stn_area_reserve(&area, NULL, stn_round_up(length, page),
					  stn_round_up(bytes, page), 0),
			 0);
	plan.memory = area.memory;
	fill = stn_fill_make(&plan, UNIT_PLENTY);
	ck_assert_int_eq(stn_fill_run(fill, NULL), 0);
	return fill;
}

/* Gives a hole bytes that are not the file's, so that they must come from elsewhere. */
static void punch(struct stn_fill *fill, size_t at, size_t length)
{
	memset(area.memory + at, 0xee, stn_round_up(length, page));
	fill->holes[fill->hole_count++] = (struct stn_fill_hole){fill->plan.offset + at, length};
}

/* How many bytes of the area are registered, and whether each piece has its keeper. */
static size_t registered(void)
{
	uintptr_t at = (uintptr_t)area.memory, end = at + area.size;
	struct stn_region region;
	size_t bytes = 0;

	for (; at < end && stn_region_find(at, end, &region); at = region.end) {
		bytes += region.end - region.start;
		ck_assert_uint_eq(region.keeper - (uintptr_t)area.keeper,
				  region.start - (uintptr_t)area.memory);
	}
	return bytes;
}

START_TEST(publish)
{
	struct stn_fill *fill = fill_area(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, SIZE);
	int child;

	ck_assert_int_eq(
		stn_area_publish(&area, fill, PROT_READ | PROT_WRITE, false, "a b\\$[é].sft"), 0);
	unit_check_filled(&fill->plan);
	ck_assert_uint_eq(registered(), area.size);
	ck_assert_ptr_nonnull(strstr(unit_maps_line(area.memory), " rw-p "));
	/* Kernels without CONFIG_ANON_VMA_NAME show nothing. */
	if (strstr(unit_maps_line(area.memory), "stnommap"))
		ck_assert_ptr_nonnull(
			strstr(unit_maps_line(area.memory), "[anon:stnommap:a_b______.sft]"));
	child = fork();
	if (child == 0)
		_exit(unit_pattern_differs(area.memory, SIZE, 0) == SIZE ? 0 : 1);
	ck_assert_int_eq(unit_reap(child), 0);
	/* A store is private. */
	area.memory[5] ^= 1;
	ck_assert_int_eq(pread(fd, fill->plan.memory, 10, 0), 10);
	ck_assert_uint_eq(unit_pattern_differs(fill->plan.memory, 10, 0), 10);
	stn_fill_put(fill);
}
END_TEST

START_TEST(publish_read_only)
{
	bool shared = _i;
	struct stn_fill *fill =
		fill_area(SIZE, PROT_READ, shared ? MAP_SHARED : MAP_PRIVATE, 0, SIZE);
	struct stn_region region;

	ck_assert_int_eq(stn_area_publish(&area, fill, PROT_READ, shared, "x"), 0);
	ck_assert_int_ge(unit_look(area.memory), 0);
	ck_assert_int_eq(unit_store_signal(area.memory), SIGSEGV);
	ck_assert(stn_region_find((uintptr_t)area.memory, (uintptr_t)area.memory + 1, &region));
	ck_assert_int_eq(region.shared, shared);
	ck_assert_int_eq(region.kind, STN_REGION_ENGAGED);
	stn_fill_put(fill);
}
END_TEST

/* Pages behind the end of the file give SIGBUS as in a map of the file, and are not ours. */
START_TEST(publish_past_end)
{
	struct stn_fill *fill = fill_area(SIZE + 5 * page, PROT_READ, MAP_PRIVATE, 0, SIZE);

	ck_assert_int_eq(stn_area_publish(&area, fill, PROT_READ, false, "x"), 0);
	unit_check_filled(&fill->plan);
	ck_assert_uint_eq(registered(), area.data);
	ck_assert_int_ge(unit_look(area.memory + area.data - 1), 0);
	ck_assert_int_eq(unit_look(area.memory + area.data), -SIGBUS);
	ck_assert_int_eq(unit_look(area.memory + area.size - 1), -SIGBUS);
	stn_fill_put(fill);
}
END_TEST

/* Holes as fills leave them: not in order, at the ends, beside each other. */
static const struct {
	const char *name;
	struct {
		size_t at, length; /* in pages, but the last length, in bytes */
	} holes[4];
} hole_rows[] = {
	{"middle", {{10, 4}}},
	{"beginning", {{0, 4}}},
	{"end", {{70, 0}}},
	{"out of order", {{40, 8}, {10, 2}, {30, 1}, {2, 1}}},
	{"beside each other", {{12, 2}, {10, 2}}},
	{"both ends", {{70, 0}, {0, 1}}},
};

START_TEST(publish_holes)
{
	struct stn_fill *fill = fill_area(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, SIZE);
	size_t given = 0;

	for (int i = 0; i < 4; i++) {
		size_t at = hole_rows[_i].holes[i].at * page;
		size_t length = hole_rows[_i].holes[i].length * page;

		if (!at && !length)
			continue;
		length = length ? length : SIZE - at;
		punch(fill, at, length);
		given += stn_round_up(length, page);
	}
	ck_assert_int_eq(stn_area_publish(&area, fill, PROT_READ | PROT_WRITE, false, "x"), 0);
	ck_assert_uint_eq(registered(), area.size - given);
	unit_check_filled(&fill->plan);
	/* The program may write there, too. */
	memset(area.memory, 7, SIZE);
	stn_fill_put(fill);
}
END_TEST

/* A part of the file that does not begin at its beginning. */
START_TEST(publish_offset)
{
	struct stn_fill *fill = fill_area(20 * page, PROT_READ, MAP_SHARED, 7 * page, 20 * page);

	punch(fill, 5 * page, 2 * page);
	ck_assert_int_eq(stn_area_publish(&area, fill, PROT_READ, true, "x"), 0);
	unit_check_filled(&fill->plan);
	ck_assert_uint_eq(registered(), 18 * page);
	stn_fill_put(fill);
}
END_TEST

/* Without a keeper there is nothing to put into a hole. */
START_TEST(publish_without_keeper)
{
	struct stn_fill *fill = fill_area(SIZE, PROT_READ, MAP_PRIVATE, 0, SIZE);

	munmap(area.keeper, area.keeper_size);
	area.keeper = NULL;
	if (_i)
		punch(fill, 0, page);
	ck_assert_int_eq(stn_area_publish(&area, fill, PROT_READ, false, "x"), _i ? -ENODEV : 0);
	ck_assert_int_eq(stn_region_none(), _i);
	stn_fill_put(fill);
}
END_TEST

/* A registry that is full half-way: nothing of the area stays in it. */
START_TEST(publish_registry_full)
{
	struct stn_fill *fill = fill_area(SIZE, PROT_READ, MAP_PRIVATE, 0, SIZE);
	uint64_t before;

	punch(fill, 10 * page, page);
	for (uintptr_t at = 0x1000; stn_region_room(2); at += 0x2000)
		ck_assert_int_eq(
			stn_region_add(&(struct stn_region){.start = at, .end = at + 0x1000}), 0);
	before = stn_region_bytes(STN_REGION_ENGAGED);
	ck_assert_int_eq(stn_area_publish(&area, fill, PROT_READ, false, "x"), -ENOSPC);
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), before);
	stn_area_drop(&area);
	stn_fill_put(fill);
}
END_TEST

/* A header's memory over the beginning of the program's map. */
START_TEST(overlay)
{
	struct stn_map_call call = call_of(SIZE, PROT_READ, MAP_PRIVATE, 0);
	char *base = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	struct stn_region region;

	ck_assert_int_eq(stn_area_keep(&area, &call), 0);
	ck_assert_int_eq(stn_area_reserve(&area, NULL, 4 * page, 4 * page, 0), 0);
	unit_pattern(area.memory, 4 * page, 2 * page);
	ck_assert_int_eq(stn_area_overlay(&area, base + 2 * page, 2 * page, PROT_READ), 0);
	ck_assert_ptr_null(area.memory);
	ck_assert_uint_eq(unit_cached(fd, SIZE), 0);
	ck_assert_uint_eq(unit_pattern_differs(base + 2 * page, 4 * page, 2 * page), 4 * page);
	ck_assert_uint_eq(unit_cached(fd, SIZE), 0);
	ck_assert_uint_eq(unit_pattern_differs(base, SIZE, 0), SIZE);
	ck_assert(stn_region_find((uintptr_t)base, (uintptr_t)base + SIZE, &region));
	ck_assert_uint_eq(region.start, (uintptr_t)base + 2 * page);
	ck_assert_uint_eq(region.end, (uintptr_t)base + 6 * page);
	ck_assert_uint_eq(region.keeper, (uintptr_t)area.keeper + 2 * page);
	stn_area_trim_keeper(&area, 6 * page);
	ck_assert_int_eq(unit_look(area.keeper + 6 * page), -SIGSEGV);
	ck_assert_int_eq(munmap(area.keeper, 6 * page), 0);
	ck_assert_int_eq(unit_store_signal(base + 2 * page), SIGSEGV);
}
END_TEST

/* A piece is given back: the file's own bytes, with the access that is asked for. */
START_TEST(give_back)
{
	const int prots[] = {PROT_READ, PROT_READ | PROT_WRITE, PROT_NONE};
	struct stn_fill *fill = fill_area(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0, SIZE);
	struct stn_region piece;
	char *at;

	ck_assert_int_eq(stn_area_publish(&area, fill, PROT_READ | PROT_WRITE, false, "x"), 0);
	at = area.memory + 10 * page;
	memset(at, 0xee, 5 * page);
	ck_assert(stn_region_take((uintptr_t)at, (uintptr_t)at + 5 * page, &piece));
	ck_assert_int_eq(stn_area_give_back(&piece, prots[_i]), 0);
	ck_assert_int_eq(unit_look(at) < 0, _i == 2);
	ck_assert_int_eq(unit_store_signal(at), _i == 1 ? 0 : SIGSEGV);
	if (_i == 2)
		ck_assert_int_eq(mprotect(at, 5 * page, PROT_READ), 0);
	unit_check_filled(&fill->plan);
	piece.keeper = 0;
	ck_assert_int_eq(stn_area_give_back(&piece, PROT_READ), -ENODEV);
	stn_fill_put(fill);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("publish");
	TCase *tcase = unit_case_in_dir(suite, "publish", 20);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_test(tcase, publish);
	tcase_add_loop_test(tcase, publish_read_only, 0, 2);
	tcase_add_test(tcase, publish_past_end);
	tcase_add_loop_test(tcase, publish_holes, 0, COUNT(hole_rows));
	tcase_add_test(tcase, publish_offset);
	tcase_add_loop_test(tcase, publish_without_keeper, 0, 2);
	tcase_add_test(tcase, publish_registry_full);
	tcase_add_test(tcase, overlay);
	tcase_add_loop_test(tcase, give_back, 0, 3);
	return suite;
}
