/* SPDX-License-Identifier: Apache-2.0 */
/* How large requests are made: request.h. */
#include "unit.h"

#include <string.h>

#include "request.h"

#define US	((uint64_t)1000)
#define MS	(1000 * US)
#define PIECE	(2 * MIB)
#define SMALL	(512 * KIB)
#define READERS 8u

static struct stn_request request;
static struct stn_request_read reads[READERS];
static uint32_t next; /* of them to end */

static void begin(uint32_t i)
{
	stn_request_begin(&request, PIECE, true, &reads[i]);
}

static void end(uint32_t i, uint64_t elapsed, bool good)
{
	stn_request_end(&request, PIECE, &reads[i], elapsed, good);
}

/* A small read alone. */
static void read_small(uint64_t elapsed)
{
	struct stn_request_read read;

	stn_request_begin(&request, 64 * KIB, true, &read);
	ck_assert_uint_eq(read.running, 0);
	stn_request_end(&request, 64 * KIB, &read, elapsed, true);
}

/* A mount whose small reads take so long, with all threads in a large read. */
static void start(uint64_t latency)
{
	memset(&request, 0, sizeof(request));
	next = 0;
	read_small(latency);
	for (uint32_t i = 0; i < READERS; i++)
		begin(i);
}

/* The oldest read ends, and another begins in its place. Returns whether it was split. */
static bool turn(uint64_t whole, uint64_t split)
{
	uint32_t i = next++ % READERS;
	bool was = reads[i].most == SMALL;

	ck_assert(was || reads[i].most == UINT64_MAX);
	end(i, was ? split : whole, true);
	begin(i);
	return was;
}

/* Reads until it is known what is best. Returns how many of them were split. */
static unsigned read_all(uint64_t whole, uint64_t split)
{
	unsigned count = 0, splits = 0;

	for (; request.phase < STN_REQUEST_WHOLE; count++) {
		ck_assert_uint_lt(count, 60);
		splits += turn(whole, split);
	}
	return splits;
}

/* All reads to come are made so. */
static void is_for_good(enum stn_request_phase phase)
{
	ck_assert_int_eq(request.phase, phase);
	ck_assert(!stn_request_compares(&request));
	for (unsigned i = 0; i < 100; i++)
		turn(i % 2 ? MS : 20 * MS, i % 3 ? MS : 20 * MS);
	ck_assert_int_eq(request.phase, phase);
	for (uint32_t i = 0; i < READERS; i++)
		ck_assert_uint_eq(reads[i].most, phase == STN_REQUEST_SPLIT ? SMALL : UINT64_MAX);
}

/* Mounts are told apart by their device, as many as there is room for. */
START_TEST(mounts)
{
	static struct stn_request_mount table[STN_REQUEST_MOUNTS];
	struct stn_request *first = stn_request_of(table, 100);

	for (uint64_t device = 101; device < 100 + STN_REQUEST_MOUNTS; device++)
		ck_assert_ptr_ne(stn_request_of(table, device), first);
	ck_assert_ptr_eq(stn_request_of(table, 100), first);
	ck_assert_ptr_null(stn_request_of(table, 99));
}
END_TEST

/* Small requests are twice as fast: those. */
START_TEST(faster)
{
	start(200 * US);
	ck_assert(stn_request_compares(&request));
	/* Those that begin beside a whole one do not count. */
	ck_assert_uint_eq(read_all(6 * MS, 3 * MS), 7 + 5);
	is_for_good(STN_REQUEST_SPLIT);
}
END_TEST

/* They are a little faster, or as fast, or slower: as the kernel makes them. */
START_TEST(not_faster)
{
	static const uint64_t split[] = {5 * MS, 6 * MS, 9 * MS};

	for (int i = 0; i < 3; i++) {
		start(200 * US);
		ck_assert_uint_gt(read_all(6 * MS, split[i]), 0);
		is_for_good(STN_REQUEST_WHOLE);
	}
}
END_TEST

/* Where four small requests, one after the other, cannot be faster none is made. */
START_TEST(never)
{
	start(900 * US);
	ck_assert_uint_eq(read_all(4 * MS, 1 * MS), 0);
	is_for_good(STN_REQUEST_WHOLE);
}
END_TEST

/* A slow mount is not watched. */
START_TEST(slow)
{
	start(1 * MS);
	ck_assert_int_eq(request.phase, STN_REQUEST_WHOLE);
	is_for_good(STN_REQUEST_WHOLE);
}
END_TEST

/* Nothing is compared while no small read has come, and while reads are made one at a time. */
START_TEST(not_yet)
{
	struct stn_request_read read;

	memset(&request, 0, sizeof(request));
	ck_assert(!stn_request_compares(&request));
	for (unsigned i = 0; i < 100; i++) {
		stn_request_begin(&request, PIECE, true, &read);
		ck_assert_uint_eq(read.most, UINT64_MAX);
		stn_request_end(&request, PIECE, &read, 6 * MS, true);
	}
	read_small(200 * US);
	for (unsigned i = 0; i < 100; i++) {
		stn_request_begin(&request, PIECE, false, &read);
		ck_assert_uint_eq(read.most, UINT64_MAX);
		stn_request_end(&request, PIECE, &read, 6 * MS, true);
	}
	ck_assert_int_eq(request.phase, STN_REQUEST_WATCHING);
	ck_assert_uint_eq(request.watched, 0);
	ck_assert_uint_eq(request.running, 0);
}
END_TEST

/* The first small read may be slow, and large ones that fail are no measure. */
START_TEST(failures)
{
	memset(&request, 0, sizeof(request));
	read_small(5 * MS);
	read_small(200 * US);
	read_small(5 * MS);
	ck_assert_uint_eq(request.quickest, 200 * US);
	for (unsigned i = 0; i < 100; i++) {
		begin(0);
		end(0, 1, false);
	}
	ck_assert_int_eq(request.phase, STN_REQUEST_WATCHING);
	start(200 * US);
	while (request.tried == 0)
		turn(6 * MS, 3 * MS);
	while (reads[next % READERS].counts == false)
		turn(6 * MS, 3 * MS);
	end(next++ % READERS, 1, false);
	ck_assert_uint_eq(request.better + request.worse, 0);
	begin(0);
	ck_assert(reads[0].counts);
}
END_TEST

/* Whole reads are known, and split ones begin. */
static void start_trial(uint64_t whole)
{
	start(200 * US);
	while (request.phase == STN_REQUEST_WATCHING)
		turn(whole, 0);
}

/* The reads of all threads end, the oldest first, but for those of one; READERS: of all. */
static void end_all(uint64_t elapsed, uint32_t but)
{
	for (uint32_t n = 0; n < READERS; n++)
		if ((next + n) % READERS != but)
			end((next + n) % READERS, elapsed, true);
}

/* One read hangs, a whole one or a split one: the trial ends all the same. */
START_TEST(hang)
{
	for (uint32_t split = 0; split < 2; split++) {
		uint32_t count = 0, hangs;

		start_trial(6 * MS);
		while (split && !reads[(next + READERS - 1) % READERS].counts)
			turn(6 * MS, 6 * MS);
		hangs = (next + (split ? READERS - 1 : 0)) % READERS;
		ck_assert_uint_eq(reads[hangs].split, split);
		for (; request.phase == STN_REQUEST_TRYING && count < 1000; count++) {
			uint32_t i = (hangs + 1 + count % (READERS - 1)) % READERS;

			end(i, i % 2 ? 3 * MS : 6 * MS, true);
			begin(i);
		}
		ck_assert_int_eq(request.phase, STN_REQUEST_WHOLE);
		ck_assert_uint_lt(count, 100);
		end(hangs, 1000 * MS, true);
		end_all(3 * MS, hangs);
		ck_assert_uint_eq(request.running, 0);
		ck_assert_uint_eq(request.whole, 0);
	}
}
END_TEST

/* All reads of a moment take very long: of the whole ones, of which it is not those that count, or
 * of the split ones, which are not chosen then. */
START_TEST(stall)
{
	for (int which = 0; which < 2; which++) {
		start(200 * US);
		for (uint32_t i = 0; which == 0 && i < READERS + 2; i++)
			turn(80 * MS, 0);
		read_all(6 * MS, which == 0 ? 6 * MS : 80 * MS);
		is_for_good(STN_REQUEST_WHOLE);
	}
}
END_TEST

/* Those that began first are compared, not those that end first: of many reads the quick ones do.
 */
START_TEST(quick_ones_first)
{
	start_trial(6 * MS);
	end_all(6 * MS, READERS);
	for (uint32_t i = 0; i < READERS; i++)
		begin(i);
	for (unsigned i = 0; i < 50; i++) {
		end(0, MS, true);
		begin(0);
	}
	ck_assert_uint_eq(request.better, 1);
	for (uint32_t i = 1; i < READERS && request.phase == STN_REQUEST_TRYING; i++)
		end(i, 40 * MS, true);
	ck_assert_int_eq(request.phase, STN_REQUEST_WHOLE);
}
END_TEST

/* What one reader gets is compared with what one got, and what all get with what all got: split
 * reads that are quicker since fewer run prove nothing, nor do whole ones that were slower since
 * more did. */
START_TEST(fewer_readers)
{
	start_trial(8 * MS);
	end_all(8 * MS, READERS);
	while (request.phase == STN_REQUEST_TRYING) {
		begin(0);
		ck_assert_uint_eq(reads[0].most, SMALL);
		end(0, 2 * MS, true);
	}
	ck_assert_int_eq(request.phase, STN_REQUEST_WHOLE);
}
END_TEST

/* The program may pause at any time: only what reads take is looked at. A whole read that hangs
 * for all that time keeps split ones from being compared. */
START_TEST(beside_whole)
{
	start_trial(6 * MS);
	end_all(6 * MS, 0);
	for (unsigned i = 0; i < 50; i++) {
		begin(1);
		ck_assert_uint_eq(reads[1].most, SMALL);
		ck_assert(!reads[1].counts);
		end(1, MS, true);
	}
	ck_assert_int_eq(request.phase, STN_REQUEST_TRYING);
	end(0, 900 * MS, true);
	begin(1);
	ck_assert(reads[1].counts);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("request");
	TCase *tcase = unit_case(suite, "sizes", 5);

	tcase_add_test(tcase, mounts);
	tcase_add_test(tcase, faster);
	tcase_add_test(tcase, not_faster);
	tcase_add_test(tcase, never);
	tcase_add_test(tcase, slow);
	tcase_add_test(tcase, not_yet);
	tcase_add_test(tcase, failures);
	tcase_add_test(tcase, hang);
	tcase_add_test(tcase, stall);
	tcase_add_test(tcase, quick_ones_first);
	tcase_add_test(tcase, fewer_readers);
	tcase_add_test(tcase, beside_whole);
	return suite;
}
