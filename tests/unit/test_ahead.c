/* SPDX-License-Identifier: Apache-2.0 */
/* What is read because of touches: the rule in ahead.h. */
#include "unit.h"

#include <stdio.h>

#include "ahead.h"
#include "names.h"
#include "page.h"
#include "tensors.h"

static struct stn_ahead ahead;
static struct stn_ahead_plan plan;

static void touch(uint64_t offset)
{
	stn_ahead_touch(&ahead, offset, &plan);
}

static void start(void)
{
	stn_ahead_start(&ahead, 1024 * MIB);
}

/* A touch of each tensor reads one unit of it and nothing ahead. */
START_TEST(first_touches)
{
	start();
	for (uint64_t at = 23 * KIB; at < 1024 * MIB; at += 4 * MIB) {
		touch(at);
		ck_assert_uint_eq(plan.from, at - at % STN_AHEAD_UNIT);
		ck_assert_uint_eq(plan.to - plan.from, STN_AHEAD_UNIT);
		ck_assert_uint_eq(plan.ahead_from, plan.ahead_to);
	}
}
END_TEST

/* Lets the mapping be a file of tensors of step bytes. */
static void start_tensors(uint64_t step)
{
	static struct stn_model model;
	struct stn_tensors *tensors;
	char entry[100];

	start();
	atomic_fetch_add(&model.version, 1);
	tensors = stn_tensors_make(&model, 1024 * MIB);
	ck_assert_ptr_nonnull(tensors);
	for (uint64_t at = 0; at < 1024 * MIB; at += step) {
		int length = snprintf(entry, sizeof(entry), "{\"data_offsets\":[%llu,%llu]}",
				      (unsigned long long)at, (unsigned long long)(at + step));

		stn_tensors_scan(tensors, entry, (size_t)length, 0);
	}
	ahead.tensors = tensors;
}

/* The number of touches of tensors of 4 MiB, every so many of them, until everything is read; each
 * is gone into before the next one if used is set. 0: never. */
static unsigned sweep_until_all(uint64_t every, bool used)
{
	start_tensors(4 * MIB);
	for (unsigned count = 1; count <= 200; count++) {
		uint64_t at = count * every * 4 * MIB % (1024 * MIB);

		touch(at);
		if (plan.ahead_to - plan.ahead_from == 1024 * MIB)
			return count;
		if (used)
			touch(at + STN_AHEAD_UNIT);
	}
	return 0;
}

/* A loader that makes all tensors before any is used touches one after the other. */
START_TEST(sweep)
{
	ck_assert_uint_eq(sweep_until_all(1, false), 8);
	ck_assert(ahead.swept);
	ck_assert_uint_eq(sweep_until_all(1, true), 0);
	ck_assert_uint_eq(sweep_until_all(2, true), 0);
	/* Not one behind the other. */
	ck_assert_uint_eq(sweep_until_all(2, false), 24);
	ck_assert_uint_eq(sweep_until_all(250, false), 24);
	/* All is read because of what is used, which is no sweep. */
	start_tensors(1024 * MIB);
	for (uint64_t at = 0; !ahead.all; at += MIB)
		touch(at);
	ck_assert(!ahead.swept);
}
END_TEST

/* Without a header nothing is a sweep: who picks rows of a table is not going to use them all. */
START_TEST(no_sweep)
{
	start();
	for (uint64_t at = 0; at < 1024 * MIB; at += 4 * MIB) {
		touch(at);
		ck_assert_uint_eq(plan.ahead_from, plan.ahead_to);
	}
}
END_TEST

/* What a sweep has touched, and as much again, is read before all is; the next touch that is seen
 * is of what is not being read. */
START_TEST(sweep_grows)
{
	start_tensors(2 * MIB);
	for (uint64_t at = 0; at < 4 * MIB; at += 2 * MIB) {
		touch(at);
		ck_assert_uint_eq(plan.ahead_from, plan.ahead_to);
	}
	touch(4 * MIB);
	ck_assert_uint_eq(plan.ahead_from, 0);
	ck_assert_uint_eq(plan.ahead_to, 12 * MIB + 2 * STN_AHEAD_UNIT);
	touch(14 * MIB);
	ck_assert_uint_eq(plan.ahead_from, 0);
	ck_assert_uint_ge(plan.ahead_to, 32 * MIB);
	/* Some are left out: it begins anew. */
	touch(80 * MIB);
	ck_assert_uint_eq(plan.ahead_from, plan.ahead_to);
	ck_assert(!ahead.all);
}
END_TEST

/* Small tensors lie so near that touching them looks like a run: it is a sweep all the same. */
START_TEST(small_tensors)
{
	uint64_t at = 0;

	start_tensors(MIB / 2);
	for (; at < 1024 * MIB && !ahead.all; at += MIB / 2)
		touch(at);
	ck_assert(ahead.all);
	ck_assert_uint_le(at, 4 * MIB);
}
END_TEST

/* With the first tensor the heads of the next ones are read and kept back; once for a file. */
START_TEST(heads)
{
	start_tensors(2 * MIB);
	touch(100 * MIB);
	ck_assert(plan.heads);
	for (int i = 0; i < STN_AHEAD_HEADS; i++) {
		uint64_t head = 102 * MIB + (uint64_t)i * 2 * MIB;

		ck_assert_uint_eq(ahead.heads[i], head);
		ck_assert(stn_ahead_marked(&ahead, head, head + 1));
	}
	ck_assert(!stn_ahead_marked(&ahead, 0, 102 * MIB));
	stn_ahead_unmark(&ahead, 102 * MIB, 103 * MIB);
	ck_assert(!stn_ahead_marked(&ahead, 0, 104 * MIB));
	touch(300 * MIB);
	ck_assert(!plan.heads);
	/* At the end there are fewer. */
	start_tensors(2 * MIB);
	touch(1020 * MIB);
	ck_assert_uint_eq(ahead.heads[0], 1022 * MIB);
	ck_assert_uint_eq(ahead.heads[1], UINT64_MAX);
}
END_TEST

/* Confined, neither sweeps nor long runs lead beyond the tensor. */
START_TEST(confined)
{
	start_tensors(4 * MIB);
	ahead.confined = true;
	for (uint64_t at = 0; at < 1024 * MIB; at += 4 * MIB) {
		touch(at);
		ck_assert_uint_eq(plan.ahead_from, plan.ahead_to);
	}
	ck_assert(!plan.heads);
	start_tensors(4 * MIB);
	ahead.confined = true;
	for (uint64_t at = 0; at < 1024 * MIB; at += STN_AHEAD_UNIT) {
		uint64_t end = at - at % (4 * MIB) + 4 * MIB + STN_AHEAD_UNIT;

		touch(at);
		ck_assert_uint_le(stn_max(plan.to, plan.ahead_to), end);
	}
	for (uint64_t at = 1024 * MIB - 1; at > 600 * MIB; at -= STN_AHEAD_UNIT) {
		touch(at);
		ck_assert_uint_eq(plan.ahead_from, plan.ahead_to);
	}
}
END_TEST

/* A run stays in its tensor, which is read to its end if that is near. */
START_TEST(tensor_ends)
{
	start_tensors(8 * MIB);
	touch(16 * MIB);
	touch(16 * MIB + STN_AHEAD_UNIT);
	ck_assert_uint_eq(plan.ahead_to, 24 * MIB + STN_AHEAD_UNIT);
	ck_assert_uint_eq(plan.marker, UINT64_MAX);
	/* Its last bytes lie where the next one begins. */
	touch(24 * MIB);
	ck_assert_uint_eq(plan.ahead_from, plan.ahead_to);
	/* It goes on behind the end. */
	touch(24 * MIB + STN_AHEAD_UNIT);
	ck_assert_uint_gt(plan.ahead_to, 26 * MIB);
	ck_assert_uint_lt(plan.ahead_to, 28 * MIB);
	start_tensors(64 * MIB);
	touch(64 * MIB);
	touch(64 * MIB + STN_AHEAD_UNIT);
	ck_assert_uint_lt(plan.ahead_to, 68 * MIB);
	for (uint64_t at = 64 * MIB; at < 128 * MIB; at += STN_AHEAD_UNIT) {
		touch(at);
		ck_assert_uint_le(plan.ahead_to, 128 * MIB + STN_AHEAD_UNIT);
	}
}
END_TEST

/* Reads of a program that goes through [from, to), touching what has not been read and markers.
 * Returns where the last of them ends. */
static uint64_t go_through(uint64_t from, uint64_t to)
{
	uint64_t end = from, next = from;

	while (next < to) {
		touch(next);
		if (plan.to > end)
			end = plan.to;
		if (plan.ahead_to > end)
			end = plan.ahead_to;
		next = plan.marker != UINT64_MAX && plan.marker > next ? plan.marker : end;
	}
	return end;
}

/* What is read beyond a run's end is at most a third of it, or 2 MiB. */
START_TEST(little_is_read_beyond)
{
	start();
	ck_assert_uint_le(go_through(0, 4 * MIB), 6 * MIB);
	start();
	ck_assert_uint_le(go_through(64 * MIB, 96 * MIB), 106 * MIB);
}
END_TEST

/* A long run is read as far ahead as it is long, to the end of the mapping and not beyond. */
START_TEST(long_runs)
{
	start();
	ck_assert_uint_ge(go_through(0, 100 * MIB), 110 * MIB);
	ck_assert_uint_eq(go_through(100 * MIB, 1024 * MIB), 1024 * MIB);
}
END_TEST

/* Backwards the same way. */
START_TEST(backwards)
{
	start();
	touch(512 * MIB);
	touch(512 * MIB - 1);
	ck_assert_uint_eq(plan.to, 512 * MIB);
	ck_assert_uint_eq(plan.to - plan.from, MIB);
	ck_assert_uint_le(plan.ahead_to, plan.from);
	ck_assert_uint_lt(plan.ahead_from, plan.ahead_to);
}
END_TEST

/* Random access was announced: units only. */
START_TEST(at_random)
{
	start();
	ahead.random = true;
	for (uint64_t at = 0; at < 8 * MIB; at += STN_AHEAD_UNIT) {
		touch(at);
		ck_assert_uint_eq(plan.to - plan.from, STN_AHEAD_UNIT);
		ck_assert_uint_eq(plan.ahead_from, plan.ahead_to);
	}
}
END_TEST

/* Tensors in any order: when three fifths have been gone through the rest is read. */
START_TEST(the_rest)
{
	uint64_t gone = 0;

	start();
	for (uint64_t i = 0; i < 128 && !ahead.all; i++, gone += 8 * MIB)
		go_through((i * 37 % 128) * 8 * MIB, (i * 37 % 128) * 8 * MIB + 8 * MIB);
	ck_assert(ahead.all);
	ck_assert_uint_ge(gone, 500 * MIB);
	ck_assert_uint_le(gone, 900 * MIB);
}
END_TEST

/* Pieces one behind the other, each gone through backwards, as memmove does. */
START_TEST(pieces_backwards)
{
	uint64_t piece = 0, asked = 0;

	start();
	for (; piece < 100 * MIB && !asked; piece += 4 * MIB)
		for (uint64_t at = 4 * MIB; at > 0 && !asked; at -= STN_AHEAD_UNIT) {
			touch(piece + at - 1);
			if (plan.ahead_to > piece + 4 * MIB)
				asked = plan.ahead_to;
		}
	ck_assert_uint_le(piece, 64 * MIB);
	ck_assert_uint_eq(plan.ahead_from, 0);
	ck_assert_uint_ge(asked, 96 * MIB);
	ck_assert_uint_le(asked, 132 * MIB);
	/* Nothing more until what has been asked for is gone through. */
	touch(asked - 1);
	ck_assert_uint_le(plan.ahead_to, asked);
}
END_TEST

/* Who is faster than the file hurries what is read for the run already; that adds nothing to it. */
START_TEST(hurry)
{
	uint64_t high, asked;

	start();
	go_through(0, 32 * MIB);
	touch(ahead.runs[0].asked);
	high = ahead.runs[0].high;
	asked = ahead.runs[0].asked;
	ck_assert_uint_ge(asked, 34 * MIB);
	for (uint64_t at = ahead.runs[0].at; at < asked; at += STN_AHEAD_UNIT) {
		touch(at);
		ck_assert_uint_eq(plan.from, at);
		ck_assert_uint_le(plan.to, high);
		ck_assert_uint_eq(plan.ahead_from, plan.ahead_to);
		ck_assert_uint_eq(plan.marker, UINT64_MAX);
	}
	touch(asked);
	ck_assert_uint_gt(plan.ahead_to, high);
	/* Nor does anything where all is going to be read. */
	ahead.all = true;
	touch(200 * MIB);
	ck_assert_uint_eq(plan.to - plan.from, STN_AHEAD_UNIT);
	touch(200 * MIB + STN_AHEAD_UNIT);
	ck_assert_uint_eq(plan.ahead_from, plan.ahead_to);
}
END_TEST

/* Several threads: each run goes on by itself. */
START_TEST(four_runs)
{
	start();
	for (uint64_t step = 0; step < 16; step++)
		for (uint64_t thread = 0; thread < 4; thread++) {
			touch(thread * 256 * MIB + step * STN_AHEAD_UNIT);
			if (step)
				ck_assert_uint_ge(plan.to - plan.from, STN_AHEAD_UNIT);
		}
	for (int i = 0; i < 4; i++)
		ck_assert_uint_eq(ahead.runs[i].at % (256 * MIB), 15 * STN_AHEAD_UNIT);
	ck_assert(!ahead.runs[4].live);
}
END_TEST

/* Markers are found and forgotten by range. */
START_TEST(markers)
{
	start();
	touch(0);
	touch(STN_AHEAD_UNIT);
	ck_assert_uint_ne(plan.marker, UINT64_MAX);
	ck_assert(stn_ahead_marked(&ahead, plan.marker, plan.marker + 1));
	ck_assert(!stn_ahead_marked(&ahead, 0, plan.marker));
	stn_ahead_unmark(&ahead, plan.marker, plan.marker + 1);
	ck_assert(!stn_ahead_marked(&ahead, 0, UINT64_MAX));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("ahead");
	TCase *tcase = unit_case(suite, "rule", 5);

	tcase_add_test(tcase, first_touches);
	tcase_add_test(tcase, sweep);
	tcase_add_test(tcase, no_sweep);
	tcase_add_test(tcase, sweep_grows);
	tcase_add_test(tcase, small_tensors);
	tcase_add_test(tcase, heads);
	tcase_add_test(tcase, confined);
	tcase_add_test(tcase, tensor_ends);
	tcase_add_test(tcase, little_is_read_beyond);
	tcase_add_test(tcase, long_runs);
	tcase_add_test(tcase, backwards);
	tcase_add_test(tcase, pieces_backwards);
	tcase_add_test(tcase, hurry);
	tcase_add_test(tcase, at_random);
	tcase_add_test(tcase, the_rest);
	tcase_add_test(tcase, four_runs);
	tcase_add_test(tcase, markers);
	return suite;
}
