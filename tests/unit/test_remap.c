/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mremap of engaged memory beside the kernel's own mremap of the same mapping: the same result, and
 * the same bytes or signal on every page of the old addresses and the new.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "engaged.h"
#include "giveback.h"
#include "page.h"
#include "region.h"
#include "remap.h"
#include "unit.h"

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

#define WINDOW	   192 /* pages of addresses where nothing else is */
#define MAPPED_AT  64  /* the mapping's page in its window */
#define FILE_PAGES 40
#define MAPPED	   32 /* pages of the mapping; the file goes on behind it */

static size_t page;
static int fd;
static char *const ours = (char *)0x100000000000, *const theirs = (char *)0x200000000000;

static void set_up(void)
{
	page = stn_page_size();
	unit_configure("STSHIM_MODE=always", NULL);
	fd = unit_model("model", FILE_PAGES * page - 100);
}

/* Calls on a mapping of pages [0, MAPPED) of the file, by pages of the mapping and the window. */
static const struct {
	const char *name;
	size_t from, old_size, new_size;
	int flags;
	size_t to;
	bool blocked; /* something lies behind the mapping */
} calls[] = {
	{"longer in place", 0, MAPPED, 36, 0, 0, false},
	{"longer in place, no room", 0, MAPPED, 36, 0, 0, true},
	{"longer, may move but need not", 0, MAPPED, 36, MREMAP_MAYMOVE, 0, false},
	{"longer, must move", 0, MAPPED, 36, MREMAP_MAYMOVE, 0, true},
	{"longer than the file", 0, MAPPED, 50, MREMAP_MAYMOVE, 0, true},
	{"longer than the file, in place", 0, MAPPED, 50, 0, 0, false},
	{"the end longer", 20, MAPPED - 20, 20, MREMAP_MAYMOVE, 0, true},
	{"the middle longer", 10, 5, 8, MREMAP_MAYMOVE, 0, false},
	{"elsewhere", 0, MAPPED, MAPPED, MREMAP_MAYMOVE | MREMAP_FIXED, 120, false},
	{"elsewhere and longer", 0, MAPPED, 40, MREMAP_MAYMOVE | MREMAP_FIXED, 120, false},
	{"elsewhere and shorter", 0, MAPPED, 10, MREMAP_MAYMOVE | MREMAP_FIXED, 120, false},
	{"a part elsewhere", 8, 8, 8, MREMAP_MAYMOVE | MREMAP_FIXED, 8, false},
	{"the head elsewhere", 0, 4, 4, MREMAP_MAYMOVE | MREMAP_FIXED, 8, false},
	{"over something else", 0, MAPPED, MAPPED, MREMAP_MAYMOVE | MREMAP_FIXED, 98, true},
	{"over its own end", 0, 8, 8, MREMAP_MAYMOVE | MREMAP_FIXED, MAPPED_AT + 20, false},
	{"onto itself", 0, 8, 8, MREMAP_MAYMOVE | MREMAP_FIXED, MAPPED_AT + 4, false},
	{"fixed, but may not move", 0, 8, 8, MREMAP_FIXED, 120, false},
	{"leaving the old", 0, MAPPED, MAPPED, MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED,
	 120, false},
	{"leaving the old, longer", 0, MAPPED, 36, MREMAP_MAYMOVE | MREMAP_DONTUNMAP | MREMAP_FIXED,
	 120, false},
	{"as it is", 0, MAPPED, MAPPED, MREMAP_MAYMOVE, 0, false},
	{"to nothing", 0, MAPPED, 0, MREMAP_MAYMOVE, 0, false},
	{"from nothing", 0, 0, 8, MREMAP_MAYMOVE, 0, false},
	{"more than there is", 0, 60, 70, MREMAP_MAYMOVE, 0, false},
	{"begins before", (size_t)-4, 10, 20, MREMAP_MAYMOVE, 0, false},
	{"flags that do not exist", 0, MAPPED, 36, 64, 0, false},
};

/* What has happened to the mapping before. */
enum state { CLEAN, READ_ONLY_SHARED, DIRTY, GIVEN_BACK, STATES };

/* Brings a mapping into the state; ours also gives a part of it back to the file. */
static void prepare(char *map, enum state state, bool engaged)
{
	if (state == DIRTY)
		for (size_t i = 0; i < MAPPED; i += 3)
			map[i * page] = (char)(100 + i);
	if (state == GIVEN_BACK && engaged)
		ck_assert_int_eq(
			stn_giveback((uintptr_t)map + 6 * page, (uintptr_t)map + 12 * page, false),
			0);
}

/* Makes the mapping in a window, and what lies behind it. */
static void make(char *window, int row, enum state state, bool engaged)
{
	int prot = state == READ_ONLY_SHARED ? PROT_READ : PROT_READ | PROT_WRITE;
	int flags = state == READ_ONLY_SHARED ? MAP_SHARED : MAP_PRIVATE;
	struct stn_map_call call = unit_call(fd, MAPPED * page, prot, flags, 0);
	char *wanted = window + MAPPED_AT * page;
	void *map;
	int error;

	call.address = wanted;
	if (engaged)
		ck_assert_int_eq(stn_engage_map(&call, &map, &error), STN_OUTCOME_DONE);
	else
		map = mmap(wanted, MAPPED * page, prot, flags, fd, 0);
	ck_assert_ptr_eq(map, wanted);
	prepare(map, state, engaged);
	map = wanted + (MAPPED + 2) * page;
	if (calls[row].blocked)
		ck_assert_ptr_eq(mmap(map, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
				 map);
}

/* The call in a window: by the library where it does it, as the program's hook does. */
static char *do_call(char *window, int row, bool engaged)
{
	const struct stn_remap_call call = {
		.old = (uintptr_t)window + (MAPPED_AT + calls[row].from) * page,
		.old_size = calls[row].old_size * page,
		.new_size = calls[row].new_size * page,
		.flags = calls[row].flags,
		.to = calls[row].to ? window + calls[row].to * page : NULL,
	};
	void *result;

	if (engaged && stn_remap(&call, &result)) {
		errno = (uintptr_t)result >= (uintptr_t)-4095 ? -(int)(intptr_t)result : 0;
		return errno ? MAP_FAILED : result;
	}
	return mremap((void *)call.old, call.old_size, call.new_size, call.flags, call.to);
}

/* Compares count pages of two places: the bytes of each, or the signals. */
static void compare(int row, const char *what, const char *here, const char *there, size_t count)
{
	for (size_t at = 0; at < count * page; at += page) {
		int first = unit_look(here + at), last = unit_look(here + at + page - 1);

		ck_assert_msg(first == unit_look(there + at) &&
				      last == unit_look(there + at + page - 1),
			      "%s, %s, page %zu: %d, not %d", calls[row].name, what, at / page,
			      first, unit_look(there + at));
	}
}

START_TEST(as_kernel)
{
	int row = _i / STATES;
	enum state state = (enum state)(_i % STATES);
	char *here, *there;
	int error;

	make(ours, row, state, true);
	make(theirs, row, state, false);
	there = do_call(theirs, row, false);
	error = errno;
	here = do_call(ours, row, true);
	if (there == MAP_FAILED) {
		ck_assert_msg(here == MAP_FAILED, "%s: success, not %s", calls[row].name,
			      strerror(error));
		ck_assert_msg(errno == error, "%s: %s, not %s", calls[row].name, strerror(errno),
			      strerror(error));
	} else {
		ck_assert_msg(here != MAP_FAILED, "%s: %s", calls[row].name, strerror(errno));
		if (there >= theirs && there < theirs + WINDOW * page)
			ck_assert_uint_eq((uintptr_t)(here - ours), (uintptr_t)(there - theirs));
		compare(row, "new", here, there, calls[row].new_size);
	}
	compare(row, "window", ours + 56 * page, theirs + 56 * page, 112);
}
END_TEST

/* The pure half. */
START_TEST(shortens)
{
	struct stn_remap_call call = {.old = 4096, .old_size = 8192, .new_size = 4096};

	ck_assert(stn_remap_shortens(&call));
	call.flags = MREMAP_MAYMOVE;
	ck_assert(stn_remap_shortens(&call));
	call.flags |= MREMAP_FIXED;
	ck_assert(!stn_remap_shortens(&call));
	call.flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP;
	ck_assert(!stn_remap_shortens(&call));
	call.flags = 0;
	call.new_size = 8192;
	ck_assert(stn_remap_shortens(&call));
	call.new_size = 8193;
	ck_assert(!stn_remap_shortens(&call));
}
END_TEST

/* Memory of ours stays ours where it goes, and its records follow it. */
START_TEST(records_follow)
{
	char *map = unit_engage(fd, MAPPED * page, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
	const struct stn_remap_call call = {
		.old = (uintptr_t)map + 8 * page,
		.old_size = 8 * page,
		.new_size = 8 * page,
		.flags = MREMAP_MAYMOVE | MREMAP_FIXED,
		.to = ours,
	};
	struct stn_region region;
	void *result;

	ck_assert(stn_remap(&call, &result));
	ck_assert_ptr_eq(result, ours);
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), MAPPED * page);
	ck_assert(!stn_region_find(call.old, call.old + call.old_size, &region));
	ck_assert(stn_region_find((uintptr_t)ours, (uintptr_t)ours + 8 * page, &region));
	ck_assert_uint_eq(region.end - region.start, 8 * page);
	memset(ours, 0xee, 8 * page);
	ck_assert_int_eq(stn_giveback((uintptr_t)ours, (uintptr_t)ours + 8 * page, false), 0);
	ck_assert_uint_eq(unit_pattern_differs(ours, 8 * page, 8 * page), 8 * page);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("remap");
	TCase *tcase = unit_case_in_dir(suite, "remap", 20);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_loop_test(tcase, as_kernel, 0, COUNT(calls) * STATES);
	tcase_add_test(tcase, shortens);
	tcase_add_test(tcase, records_follow);
	return suite;
}
