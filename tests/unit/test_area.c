/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "area.h"
#include "engaged.h"
#include "maps.h"
#include "page.h"
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

/* The keeper is the program's map without access, and reads nothing. */
static const int keeper_flags[] = {MAP_PRIVATE, MAP_SHARED, MAP_PRIVATE | MAP_POPULATE | MAP_LOCKED,
				   MAP_PRIVATE | MAP_NORESERVE};

START_TEST(keep)
{
	struct stn_map_call call = call_of(SIZE, PROT_READ, keeper_flags[_i], 0);

	ck_assert_int_eq(stn_area_keep(&area, &call), 0);
	ck_assert_uint_eq(area.keeper_size, stn_round_up(SIZE, page));
	ck_assert_ptr_nonnull(strstr(unit_maps_line(area.keeper), keeper_flags[_i] & MAP_SHARED
									  ? " ---s 00000000 "
									  : " ---p 00000000 "));
	ck_assert_uint_eq(unit_cached(fd, SIZE), 0);
	stn_area_drop(&area);
	ck_assert_ptr_null(area.keeper);
	ck_assert_int_eq(unit_maps_of("model"), 0);
}
END_TEST

START_TEST(keep_offset)
{
	struct stn_map_call call = call_of(2 * page, PROT_READ, MAP_PRIVATE, 3 * page);

	ck_assert_int_eq(stn_area_keep(&area, &call), 0);
	ck_assert_uint_eq(area.keeper_size, 2 * page);
	ck_assert_int_eq(mprotect(area.keeper, 2 * page, PROT_READ), 0);
	ck_assert_uint_eq(unit_pattern_differs(area.keeper, 2 * page, 3 * page), 2 * page);
}
END_TEST

/* The kernel's refusals are passed on. */
START_TEST(keep_refused)
{
	struct stn_map_call call = call_of(SIZE, PROT_READ, MAP_PRIVATE, 1);
	int ends[2];

	ck_assert_int_eq(stn_area_keep(&area, &call), -EINVAL);
	ck_assert_ptr_null(area.keeper);
	call = call_of((size_t)1 << 62, PROT_READ, MAP_PRIVATE, 0);
	ck_assert_int_eq(stn_area_keep(&area, &call), -ENOMEM);
	call = call_of(SIZE, PROT_READ, MAP_PRIVATE, 0);
	call.fd = -1;
	ck_assert_int_eq(stn_area_keep(&area, &call), -EBADF);
	ck_assert_int_eq(pipe(ends), 0);
	call.fd = ends[0];
	ck_assert_int_eq(stn_area_keep(&area, &call), -ENODEV);
	ck_assert_ptr_null(area.keeper);
}
END_TEST

/* Sizes of areas: all, data, of a huge page; and whether that is worth it. */
static const struct {
	size_t size, data, huge;
	bool aligned;
} reserved[] = {
	{64 * KIB, 64 * KIB, 0, false},	      {64 * KIB, 4 * KIB, 2 * MIB, false},
	{4 * MIB, 4 * MIB, 2 * MIB, true},    {2 * MIB, 2 * MIB, 2 * MIB, true},
	{4 * MIB, 4 * MIB, 0, false},	      {7 * MIB, 5 * MIB, 2 * MIB, true},
	{64 * MIB, 64 * MIB, 32 * MIB, true},
};

START_TEST(reserve)
{
	struct stn_maps_area found;
	size_t data = reserved[_i].data, size = reserved[_i].size;
	int child;

	ck_assert_int_eq(stn_area_reserve(&area, NULL, size, data, reserved[_i].huge), 0);
	ck_assert_uint_eq(area.size, size);
	ck_assert_uint_eq(area.data, data);
	if (reserved[_i].aligned)
		ck_assert_uint_eq((uintptr_t)area.memory % reserved[_i].huge, 0);
	memset(area.memory, 1, data);
	ck_assert_int_eq(
		stn_maps_find((uintptr_t)area.memory, (uintptr_t)area.memory + size, &found), 0);
	ck_assert(found.ours);
	ck_assert_uint_eq(found.end - found.start, data);
	ck_assert_int_eq(found.prot, PROT_READ | PROT_WRITE);
	child = fork();
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		_exit(*(volatile char *)area.memory);
	}
	ck_assert_int_eq(unit_reap(child), 128 + SIGSEGV);
	stn_area_drop(&area);
	ck_assert_ptr_null(area.memory);
}
END_TEST

/* The place that the program asked for, if it is free; else any. Nothing is left around it. */
START_TEST(reserve_hint)
{
	char *room = unit_memory(16 * MIB);

	ck_assert_int_eq(munmap(room + 4 * MIB, 8 * MIB), 0);
	ck_assert_int_eq(stn_area_reserve(&area, room + 5 * MIB, MIB, MIB, 0), 0);
	ck_assert_ptr_eq(area.memory, room + 5 * MIB);
	stn_area_drop(&area);
	ck_assert_int_eq(stn_area_reserve(&area, room + 11 * MIB, 4 * MIB, 4 * MIB, 2 * MIB), 0);
	ck_assert(area.memory >= room + 16 * MIB || area.memory + 4 * MIB <= room + 12 * MIB);
	stn_area_drop(&area);
	/* What lies beside the hint is untouched. */
	ck_assert_int_ge(unit_look(room), 0);
	ck_assert_int_ge(unit_look(room + 12 * MIB), 0);
	ck_assert_int_eq(unit_look(room + 5 * MIB), -SIGSEGV);
	ck_assert_int_eq(stn_area_reserve(&area, room + 1, MIB, MIB, 0), 0);
	stn_area_drop(&area);
	ck_assert_int_eq(stn_area_reserve(&area, NULL, (size_t)1 << 60, MIB, 0), -ENOMEM);
}
END_TEST

static bool first_ten(size_t at)
{
	return at < 10;
}

START_TEST(cached)
{
	struct stn_map_call call = call_of(SIZE, PROT_READ, MAP_PRIVATE, 0);

	ck_assert_uint_eq(stn_area_cached(&area, SIZE), 0);
	unit_cache_pages(fd, SIZE / page, first_ten);
	ck_assert_int_eq(stn_area_keep(&area, &call), 0);
	ck_assert_uint_eq(stn_area_cached(&area, SIZE), 10 * page);
	ck_assert_uint_eq(stn_area_cached(&area, 4 * page), 4 * page);
}
END_TEST

/* Names are shown; what the kernel refuses in them is not sent, and long ones are cut. */
START_TEST(names)
{
	static char name[300];
	char *memory = unit_memory(16 * page);
	const char *line;

	memset(name, 'n', sizeof(name) - 1);
	if (!stn_area_name(memory, 8 * page, "model.sft")) {
		/* A kernel without such names refuses every one. */
		ck_assert(!stn_area_name(memory, 8 * page, name));
		return;
	}
	ck_assert_ptr_nonnull(strstr(unit_maps_line(memory), "[anon:stnommap:model.sft]"));
	ck_assert(stn_area_name(memory, 8 * page, name));
	line = strstr(unit_maps_line(memory), "[anon:stnommap:n");
	ck_assert_ptr_nonnull(line);
	ck_assert(stn_area_name(memory, 8 * page, "\n\t\\`$[]\x7f\xff"));
	ck_assert_ptr_nonnull(strstr(unit_maps_line(memory), "[anon:stnommap:_________]"));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("area");
	TCase *tcase = unit_case_in_dir(suite, "make", 20);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_loop_test(tcase, keep, 0, COUNT(keeper_flags));
	tcase_add_test(tcase, keep_offset);
	tcase_add_test(tcase, keep_refused);
	tcase_add_loop_test(tcase, reserve, 0, COUNT(reserved));
	tcase_add_test(tcase, reserve_hint);
	tcase_add_test(tcase, cached);
	tcase_add_test(tcase, names);
	return suite;
}
