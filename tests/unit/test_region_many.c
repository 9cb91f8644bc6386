/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* A model of the registry: which of the pages are registered, and since which record. */
#define MODEL_PAGES 512
static bool model[MODEL_PAGES];

static void add_random(unsigned *seed)
{
	uintptr_t first = (uintptr_t)rand_r(seed) % MODEL_PAGES, last = first;
	uintptr_t most = first + (uintptr_t)rand_r(seed) % 20;

	while (last < MODEL_PAGES && last < most && !model[last])
		model[last++] = true;
	if (last > first)
		ck_assert_int_eq(add(first, last), 0);
}

static void take_random(unsigned *seed)
{
	uintptr_t first = (uintptr_t)rand_r(seed) % MODEL_PAGES;
	uintptr_t last = first + 1 + (uintptr_t)rand_r(seed) % 30;
	struct stn_region out;

	while (take(first, last, &out)) {
		uintptr_t from = (out.start - BASE) / PAGE, to = (out.end - BASE) / PAGE;

		check_pages(&out, from, to);
		ck_assert(from >= first && to <= last && from < to);
		for (uintptr_t i = from; i < to; i++) {
			ck_assert(model[i]);
			model[i] = false;
		}
	}
	for (uintptr_t i = first; i < last && i < MODEL_PAGES; i++)
		ck_assert(!model[i]);
}

/* Thousands of random changes, and after each hundred the registry page by page. */
START_TEST(random_changes)
{
	unsigned seed = (unsigned)_i;
	struct stn_region out;

	for (int round = 0; round < 4000; round++) {
		uintptr_t pages = 0;

		if (rand_r(&seed) % 2)
			add_random(&seed);
		else
			take_random(&seed);
		if (round % 100)
			continue;
		for (uintptr_t i = 0; i < MODEL_PAGES; i++) {
			ck_assert_int_eq(find(i, i + 1, &out), model[i]);
			pages += model[i];
			if (model[i])
				check_pages(&out, i, i + 1);
		}
		ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), pages * PAGE);
		ck_assert_int_eq(stn_region_none(), pages == 0);
	}
}
END_TEST

/* Fills the registry with records of three pages and returns how many it took. */
static uintptr_t fill_up(void)
{
	uintptr_t count = 0;

	while (count < 100000 && add(4 * count, 4 * count + 3) == 0)
		count++;
	return count;
}

START_TEST(full)
{
	uintptr_t count = fill_up();
	struct stn_region out;

	ck_assert_uint_ge(count, 4096);
	ck_assert(!stn_region_room(1));
	ck_assert_int_eq(add(4 * count, 4 * count + 3), -ENOSPC);
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), 3 * count * PAGE);
	for (uintptr_t i = 0; i < count; i++) {
		ck_assert(find(4 * i, 4 * i + 4, &out));
		check_pages(&out, 4 * i, 4 * i + 3);
	}
	ck_assert(take(8, 12, &out));
	ck_assert(stn_region_room(1));
	ck_assert_int_eq(add(8, 10), 0);
	ck_assert_int_eq(add(10, 11), -ENOSPC);
}
END_TEST

/*
 * Programs unmap the middles of mappings also when the registry is full. A record that cannot be
 * split stays whole, and no other one suffers.
 */
START_TEST(split_when_full)
{
	uintptr_t count = fill_up();
	struct stn_region out;

	for (uintptr_t i = 0; i < 100; i++)
		ck_assert(!take(4 * i + 1, 4 * i + 2, &out));
	for (uintptr_t i = 0; i < count; i++) {
		ck_assert(find(4 * i, 4 * i + 4, &out));
		check_pages(&out, 4 * i, 4 * i + 3);
	}
	/* Ends can be taken off, and room be made for one cut. */
	ck_assert(take(0, 1, &out));
	ck_assert(take(6, 8, &out));
	ck_assert(!take(9, 10, &out));
	ck_assert(take(1, 4, &out));
	ck_assert(take(9, 10, &out));
	check_pages(&out, 9, 10);
	ck_assert(!stn_region_room(1));
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), (3 * count - 5) * PAGE);
}
END_TEST

/* Readers while a writer changes: one record stays, the others come, go and are split. */
static int stop;

#define STAYS_FIRST 1000
#define STAYS_LAST  1010

/* Looks until told to stop; returns the number of wrong answers. */
static void *look(void *argument)
{
	uintptr_t wrong = 0, looks_done = 0;
	struct stn_region out;

	(void)argument;
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED) || looks_done < 1000) {
		bool found =
			stn_region_find(BASE + STAYS_FIRST * PAGE, BASE + STAYS_LAST * PAGE, &out);

		wrong += !found || out.start != BASE + STAYS_FIRST * PAGE ||
			 out.end != BASE + STAYS_LAST * PAGE ||
			 out.keeper != KEEPER + STAYS_FIRST * PAGE;
		/* Of what changes a record is whole or absent, and its keeper is its own. */
		found = stn_region_find(BASE, BASE + STAYS_FIRST * PAGE, &out);
		wrong +=
			found && (out.end <= out.start || out.keeper - KEEPER != out.start - BASE ||
				  out.end > BASE + STAYS_FIRST * PAGE);
		wrong += stn_region_bytes(STN_REGION_ENGAGED) < (STAYS_LAST - STAYS_FIRST) * PAGE;
		looks_done++;
	}
	return (void *)wrong;
}

START_TEST(concurrent_readers)
{
	pthread_t threads[3];
	struct stn_region out;
	double end;
	unsigned seed = 7;
	void *wrong;

	ck_assert_int_eq(add(STAYS_FIRST, STAYS_LAST), 0);
	for (int i = 0; i < COUNT(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, look, NULL), 0);
	for (end = unit_now() + 0.5; unit_now() < end;) {
		add_random(&seed);
		take_random(&seed);
	}
	while (take(0, STAYS_FIRST, &out))
		;
	__atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < COUNT(threads); i++) {
		ck_assert_int_eq(pthread_join(threads[i], &wrong), 0);
		ck_assert_uint_eq((uintptr_t)wrong, 0);
	}
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), (STAYS_LAST - STAYS_FIRST) * PAGE);
}
END_TEST

/* Adds and takes records of its own range of pages; returns the number of failures. */
static void *change(void *argument)
{
	uintptr_t base = (uintptr_t)argument * 1000, wrong = 0;
	struct stn_region out;

	for (uintptr_t i = 0; i < 300; i++)
		wrong += add(base + 2 * i, base + 2 * i + 2) != 0;
	for (uintptr_t i = 0; i < 300; i++) {
		wrong += !take(base + 2 * i, base + 2 * i + 1, &out);
		wrong += out.start != BASE + (base + 2 * i) * PAGE;
	}
	return (void *)wrong;
}

START_TEST(concurrent_writers)
{
	pthread_t threads[4];
	struct stn_region out;
	void *wrong;

	for (uintptr_t i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, change, (void *)i), 0);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &wrong), 0);
		ck_assert_uint_eq((uintptr_t)wrong, 0);
	}
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), 4 * 300 * PAGE);
	ck_assert(find(3001, 4000, &out));
	check_pages(&out, 3001, 3002);
}
END_TEST

/* A forked child has the records, and its changes are its own. */
START_TEST(fork_copies)
{
	struct stn_region out;
	int child;

	ck_assert_int_eq(add(10, 20), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(take(12, 14, &out) && find(0, 100, &out) && out.end == BASE + 12 * PAGE &&
				      add(30, 40) == 0
			      ? 0
			      : 1);
	ck_assert_int_eq(unit_reap(child), 0);
	ck_assert(find(0, 100, &out));
	check_pages(&out, 10, 20);
	ck_assert(!find(20, 100, &out));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("region_many");
	TCase *tcase = unit_case(suite, "many", 20);

	tcase_add_loop_test(tcase, random_changes, 0, 3);
	tcase_add_test(tcase, full);
	tcase_add_test(tcase, split_when_full);
	tcase = unit_case(suite, "threads", 20);
	tcase_add_test(tcase, concurrent_readers);
	tcase_add_test(tcase, concurrent_writers);
	tcase_add_test(tcase, fork_copies);
	return suite;
}
