/* SPDX-License-Identifier: Apache-2.0 */
/* Reads into memory that is somebody's: every alignment, bad memory, the end of the file. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "maps.h"
#include "page.h"
#include "pool.h"
#include "process.h"
#include "transfer.h"
#include "unit.h"

#define SIZE (9 * MIB + 5)

static int fd;
static char *memory; /* SIZE and 64 KiB before and behind it, all of them 0xee */

static void set_up(void)
{
	fd = unit_pattern_file("model", SIZE);
	memory = unit_memory(SIZE + 192 * KIB);
	memset(memory, 0xee, SIZE + 192 * KIB);
}

static struct stn_transfer_plan plan_of(uint64_t offset, uint64_t length, uint64_t shift)
{
	struct stn_transfer_plan plan = {
		.identity = unit_identity(fd),
		.memory = memory + 64 * KIB + shift,
		.offset = offset,
		.length = length,
		.block = 8 * MIB,
		.timeout = 10000000000,
		.threads = 4,
		.way = {.direct = true, .buffered = true},
		.owned_file = true,
		.restore_cache = true,
	};

	strcpy(plan.path, unit_descriptor(fd));
	return plan;
}

/* Runs it and gives it back; the bytes that were had. */
static uint64_t run(const struct stn_transfer_plan *plan, int *error)
{
	struct stn_transfer *transfer = stn_transfer_make(plan);
	uint64_t had;

	ck_assert_ptr_nonnull(transfer);
	had = stn_transfer_run(transfer, error);
	ck_assert_uint_ge(transfer->direct_bytes + transfer->buffered_bytes, had);
	stn_transfer_put(transfer);
	return had;
}

/* Checks that memory has just the planned bytes, and nothing around them was touched. */
static void check(const struct stn_transfer_plan *plan, uint64_t had)
{
	ck_assert_uint_eq(unit_pattern_differs(plan->memory, had, plan->offset), had);
	for (int i = 1; i <= 64; i++)
		ck_assert_int_eq((unsigned char)plan->memory[-i], 0xee);
	for (int i = 0; i < 64; i++)
		ck_assert_int_eq((unsigned char)plan->memory[had + i], 0xee);
}

static const uint64_t lengths[] = {1,	  511,	   4095,	4096,	 4097,
				   65536, 1000003, 2 * MIB + 1, 4 * MIB, 9 * MIB - 70000};
static const uint64_t shifts[] = {0, 1, 48, 512, 4095};
static const uint64_t offsets[] = {0, 1, 512, 4096, 66001};

/* Lengths, places in memory and in the file; on a file system that needs alignment, on one that is
 * said not to, and through the page cache. */
START_TEST(everywhere)
{
	uint64_t length = lengths[_i];

	for (int way = 0; way < 4; way++)
		for (int i = 0; i<COUNT(shifts) * COUNT(offsets); i += length> MIB ? 3 : 1) {
			uint64_t offset = offsets[i / COUNT(shifts)];
			struct stn_transfer_plan plan =
				plan_of(offset, length, shifts[i % COUNT(shifts)]);
			int error;

			plan.way.fuse = way & 1;
			plan.way.direct = way < 2;
			memset(plan.memory - 64, 0xee, length + 128);
			ck_assert_uint_eq(run(&plan, &error), length);
			ck_assert_int_eq(error, 0);
			check(&plan, length);
		}
	/* Two lanes may meet in a page, which the one cannot drop while the other copies it. */
	ck_assert_uint_le(unit_cached(fd, SIZE), 2);
}
END_TEST

/* Beyond the end there is nothing, and that is no error; but on FUSE nothing is believed then. */
START_TEST(end_of_file)
{
	struct stn_transfer_plan plan = plan_of(8 * MIB, 2 * MIB, 7);
	int error;

	plan.way.fuse = _i;
	ck_assert_uint_eq(run(&plan, &error), _i ? 0 : MIB + 5);
	ck_assert_int_eq(error, _i ? -ESTALE : 0);
	if (!_i)
		check(&plan, MIB + 5);
}
END_TEST

/* Memory of ours goes with a transfer that is given up, and stays otherwise. */
START_TEST(owned)
{
	struct stn_transfer_plan plan = plan_of(4096, 100000, 0);
	int error;

	plan.memory = unit_memory(stn_round_up(100000, stn_page_size()));
	plan.owned = true;
	plan.way.fuse = _i;
	ck_assert_uint_eq(run(&plan, &error), 100000);
	ck_assert_uint_eq(unit_pattern_differs(plan.memory, 100000, 4096), 100000);
}
END_TEST

/* Where memory turns bad, and how: unmapped, or not to be written. */
static const struct {
	uint64_t shift, bad, length;
} holes[] = {
	{0, 0, 4096},	       {1, 0, 100},
	{0, 8192, 20000},      {100, 8192, 20000},
	{4095, 4096, 3 * MIB}, {48, MIB, 5 * MIB},
	{0, 4 * MIB, 6 * MIB}, {511, 3 * MIB, 3 * MIB + 1},
	{5, 4096, 4092},       {4095, 4096, 2},
	{4096, 4096, 1},
};

START_TEST(bad_memory)
{
	for (int way = 0; way < 8; way++) {
		struct stn_transfer_plan plan =
			plan_of(4096 * (way & 1) + 7, holes[_i].length, holes[_i].shift);
		char *bad = memory + 64 * KIB + holes[_i].bad;
		uint64_t good =
			holes[_i].bad > holes[_i].shift ? holes[_i].bad - holes[_i].shift : 0;
		int error;

		plan.way.fuse = way & 2;
		memset(memory, 0xee, SIZE);
		mprotect(bad, 64 * KIB, way & 4 ? PROT_READ : PROT_NONE);
		ck_assert_uint_eq(run(&plan, &error), good);
		/* Behind bytes that were had the error comes with the next call. */
		ck_assert(error == -EFAULT || (error == 0 && good));
		mprotect(bad, 64 * KIB, PROT_READ | PROT_WRITE);
		ck_assert_uint_eq(unit_pattern_differs(plan.memory, good, plan.offset), good);
		/* What lies behind the bad pages is not written, although it could be. */
		for (uint64_t i = 0; i < MIB; i += 64)
			ck_assert_int_eq((unsigned char)bad[64 * KIB + i], 0xee);
	}
}
END_TEST

/* Memory that is much gets the advice for huge pages, where it begins with whole ones; memory that
 * is less does not. */
START_TEST(huge_pages)
{
	const uint64_t length = 32 * MIB + (_i ? 4096 : 0), huge = stn_page_huge_read();
	char *base = unit_memory(40 * MIB);
	struct stn_transfer_plan plan;
	struct stn_maps_area area;
	uintptr_t start = stn_round_up((uintptr_t)base + 1, 2 * MIB) - 64 * KIB;
	int error;

	if (huge != 2 * MIB)
		return;
	fd = unit_pattern_file("large", length);
	plan = plan_of(0, length, 0);
	plan.memory = (char *)start;
	plan.huge_pages = true;
	ck_assert_uint_eq(run(&plan, &error), length);
	ck_assert_uint_eq(unit_pattern_differs(plan.memory, length, 0), length);
	ck_assert_int_eq(stn_maps_find(start, start + length, &area), 0);
	ck_assert_uint_eq(area.end, start + (_i ? 64 * KIB : length));
}
END_TEST

/* Another version, or no file at all: not a byte. */
START_TEST(other_file)
{
	struct stn_transfer_plan plan = plan_of(0, 3 * MIB, 0);
	int error;

	plan.identity.modified += _i == 0;
	plan.identity.size += _i == 1;
	if (_i == 2)
		strcpy(plan.path, "/proc/self/fd/999");
	ck_assert_uint_eq(run(&plan, &error), 0);
	ck_assert_int_eq(error, _i == 2 ? -ENOENT : -ESTALE);
	check(&plan, 0);
}
END_TEST

/* Many in a row: one crew, and the file stays open. */
START_TEST(in_a_row)
{
	struct stn_transfer_plan plan = plan_of(0, 4 * MIB, 48);
	int error;

	for (int i = 0; i < 50; i++) {
		ck_assert_uint_eq(run(&plan, &error), 4 * MIB);
		ck_assert_uint_le(unit_threads(), 6);
	}
	ck_assert(unit_wait_alone(2000));
}
END_TEST

static bool is_held(void *unused)
{
	struct stn_process *process = stn_process_get();

	(void)unused;
	return __atomic_load_n(&process->transfers_held, __ATOMIC_RELAXED) != 0;
}

static void *resume_soon(void *unused)
{
	unit_wait(is_held, unused, 2000);
	usleep(100000);
	stn_transfer_resume();
	return NULL;
}

/* While a fork is under way no read into callers' memory begins; afterwards they do. */
START_TEST(held)
{
	struct stn_transfer_plan plan = plan_of(0, 4 * MIB, 48);
	pthread_t thread;
	double begun;
	int error;

	ck_assert_ptr_nonnull(stn_process_get());
	stn_transfer_hold();
	ck_assert_int_eq(pthread_create(&thread, NULL, resume_soon, NULL), 0);
	begun = unit_now();
	ck_assert_uint_eq(run(&plan, &error), 4 * MIB);
	ck_assert_double_ge(unit_now() - begun, 0.09);
	pthread_join(thread, NULL);
	ck_assert(!is_held(NULL));
	ck_assert_uint_eq(stn_process_get()->transfers_running, 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("transfer");
	TCase *tcase = unit_case_in_dir(suite, "transfer", 40);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_loop_test(tcase, everywhere, 0, COUNT(lengths));
	tcase_add_loop_test(tcase, end_of_file, 0, 2);
	tcase_add_loop_test(tcase, owned, 0, 2);
	tcase_add_loop_test(tcase, huge_pages, 0, 2);
	tcase_add_loop_test(tcase, bad_memory, 0, COUNT(holes));
	tcase_add_loop_test(tcase, other_file, 0, 3);
	tcase_add_test(tcase, in_a_row);
	tcase_add_test(tcase, held);
	return suite;
}
