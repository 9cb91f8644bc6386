/* SPDX-License-Identifier: Apache-2.0 */
/* How many reads a mount takes: the states of pace.h. */
#include "unit.h"

#include <string.h>

#include "pace.h"

#define MS	((uint64_t)1000000)
#define PIECE	(2 * MIB)
#define BLOCK	(8 * MIB)
#define LATENCY (5 * MS)

static struct stn_pace pace;
static uint64_t now;

/* A mount of which only the latency is known. */
static void start(void)
{
	memset(&pace, 0, sizeof(pace));
	now = 1000 * MS;
	stn_pace_begin(&pace, 64 * KIB, now);
	stn_pace_end(&pace, 64 * KIB, LATENCY, now += LATENCY);
}

/* Begins as many large reads as are allowed. Returns how many that are. */
static unsigned begin_all(void)
{
	unsigned count = 0;

	for (; count < 100 && stn_pace_allows(&pace, PIECE, false, now); count++)
		stn_pace_begin(&pace, PIECE, now);
	return count;
}

static void end_one(uint64_t elapsed, uint64_t passed)
{
	stn_pace_end(&pace, PIECE, elapsed, now += passed);
}

/* A few small pieces at first; when one has come in good time, everything. */
START_TEST(parallel)
{
	start();
	ck_assert_uint_eq(stn_pace_piece(&pace, BLOCK), PIECE);
	ck_assert_uint_eq(stn_pace_piece(&pace, MIB), MIB);
	ck_assert_uint_eq(begin_all(), 4);
	ck_assert(stn_pace_allows(&pace, 64 * KIB, false, now));
	ck_assert(stn_pace_allows(&pace, PIECE, true, now));
	end_one(2 * LATENCY, 2 * LATENCY);
	ck_assert_int_eq(pace.state, STN_PACE_PARALLEL);
	ck_assert_uint_eq(stn_pace_piece(&pace, BLOCK), BLOCK);
	ck_assert_uint_eq(begin_all(), 100);
}
END_TEST

/* Two small reads at once that come as soon as one alone say it sooner. */
START_TEST(small_reads)
{
	for (int slow = 0; slow < 2; slow++) {
		start();
		stn_pace_shared(&pace, 64 * KIB, LATENCY);
		ck_assert(!pace.shares);
		stn_pace_shared(&pace, PIECE, LATENCY);
		ck_assert(!pace.shares);
		stn_pace_shared(&pace, 64 * KIB, slow ? 20 * MS : LATENCY * 3 / 2);
		ck_assert_int_eq(pace.shares, !slow);
		ck_assert_int_eq(pace.state, slow ? STN_PACE_UNKNOWN : STN_PACE_PARALLEL);
		ck_assert_uint_eq(begin_all(), slow ? 4 : 100);
	}
}
END_TEST

/* Until reads by one descriptor are known not to wait for each other, large ones have their own,
 * and small ones behind the third. */
START_TEST(apart)
{
	start();
	ck_assert(!stn_pace_apart(&pace, 64 * KIB, 0));
	ck_assert(!stn_pace_apart(&pace, 64 * KIB, 2));
	ck_assert(stn_pace_apart(&pace, 64 * KIB, 3));
	ck_assert(stn_pace_apart(&pace, PIECE, 0));
	begin_all();
	end_one(LATENCY, LATENCY);
	ck_assert_int_eq(pace.state, STN_PACE_PARALLEL);
	ck_assert(stn_pace_apart(&pace, PIECE, 0));
	for (int i = 0; i < 2; i++)
		stn_pace_shared(&pace, 64 * KIB, LATENCY);
	ck_assert(!stn_pace_apart(&pace, PIECE, 7));
	ck_assert(!stn_pace_apart(&pace, 64 * KIB, 7));
}
END_TEST

/* Goes through the slow beginning until reads are tried one at a time. */
static void until_trying(void)
{
	start();
	ck_assert_uint_eq(begin_all(), 4);
	end_one(400 * MS, 400 * MS);
	ck_assert_int_eq(pace.state, STN_PACE_DRAINING);
	ck_assert_uint_eq(begin_all(), 0);
	ck_assert(stn_pace_allows(&pace, 64 * KIB, false, now));
	for (int i = 0; i < 3; i++)
		end_one(400 * MS, 100 * MS);
	ck_assert_int_eq(pace.state, STN_PACE_TRYING);
	/* 8 MiB in 700 ms. */
	ck_assert_uint_ge(pace.rate, 11 * MIB);
	ck_assert_uint_le(pace.rate, 12 * MIB);
}

/* One at a time is much faster: for good. */
START_TEST(in_order)
{
	until_trying();
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(pace.state, STN_PACE_TRYING);
		ck_assert_uint_eq(begin_all(), 1);
		ck_assert(!stn_pace_apart(&pace, PIECE, 0));
		ck_assert(!stn_pace_allows(&pace, 64 * KIB, true, now));
		ck_assert(!stn_pace_allows(&pace, PIECE, true, now + 900 * MS));
		/* That one hangs. */
		ck_assert(stn_pace_allows(&pace, PIECE, true, now + 1100 * MS));
		ck_assert(!stn_pace_allows(&pace, PIECE, false, now + 1100 * MS));
		end_one(10 * MS, 10 * MS);
	}
	ck_assert_int_eq(pace.state, STN_PACE_IN_ORDER);
	for (int i = 0; i < 10; i++) {
		ck_assert_uint_eq(begin_all(), 1);
		end_one(1000 * MS, 1000 * MS);
	}
	ck_assert_int_eq(pace.state, STN_PACE_IN_ORDER);
	ck_assert(!stn_pace_apart(&pace, PIECE, 0));
	ck_assert_uint_eq(stn_pace_piece(&pace, BLOCK), BLOCK);
}
END_TEST

/* A first piece that was lucky is no proof. */
START_TEST(slow_later)
{
	start();
	begin_all();
	end_one(LATENCY, LATENCY);
	ck_assert_int_eq(pace.state, STN_PACE_PARALLEL);
	begin_all();
	for (int i = 0; i < 3; i++)
		end_one(900 * MS, 100 * MS);
	end_one(LATENCY, LATENCY);
	for (int i = 0; i < 3; i++)
		end_one(900 * MS, 100 * MS);
	ck_assert_int_eq(pace.state, STN_PACE_PARALLEL);
	end_one(900 * MS, 100 * MS);
	ck_assert_int_eq(pace.state, STN_PACE_DRAINING);
	while (pace.large)
		end_one(900 * MS, 100 * MS);
	for (int i = 0; i < 2; i++) {
		ck_assert_uint_eq(begin_all(), 1);
		end_one(900 * MS, 900 * MS);
	}
	/* It was tried, and is not again. */
	ck_assert_int_eq(pace.state, STN_PACE_PARALLEL);
	begin_all();
	for (int i = 0; i < 20; i++)
		end_one(9000 * MS, 1000 * MS);
	ck_assert_int_eq(pace.state, STN_PACE_PARALLEL);
}
END_TEST

/* A server that is just slow: several at once, for good. */
START_TEST(slow)
{
	until_trying();
	for (int i = 0; i < 2; i++) {
		ck_assert_uint_eq(begin_all(), 1);
		end_one(150 * MS, 150 * MS);
	}
	ck_assert_int_eq(pace.state, STN_PACE_PARALLEL);
	ck_assert_uint_eq(begin_all(), 100);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("pace");
	TCase *tcase = unit_case(suite, "states", 5);

	tcase_add_test(tcase, parallel);
	tcase_add_test(tcase, small_reads);
	tcase_add_test(tcase, apart);
	tcase_add_test(tcase, in_order);
	tcase_add_test(tcase, slow_later);
	tcase_add_test(tcase, slow);
	return suite;
}
