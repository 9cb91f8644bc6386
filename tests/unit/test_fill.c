/* SPDX-License-Identifier: Apache-2.0 */
/* Fills that succeed: sizes, offsets, ways of reading, and what they leave in the page cache. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "fillplan.h"
#include "page.h"
#include "pool.h"
#include "sys.h"
#include "unit.h"

static const uint64_t sizes[] = {
	1,	 4095,	      4096,	    4097,	    65536,	 1000003,
	2 * MIB, 2 * MIB + 1, 3 * MIB + 17, 4 * MIB - 4096, 9 * MIB + 5, 16 * MIB,
};

/* Every way to read a file of a size; some of them where that takes long. */
START_TEST(whole_file)
{
	uint64_t size = sizes[_i];
	bool can_direct = unit_direct_works();
	/* A crew reads a file through the descriptors that it has: hence two files. */
	const int fds[] = {unit_pattern_file("buffered", size), unit_pattern_file("direct", size)};

	for (unsigned way = 0; way<16; way += size> 4 * MIB ? 5 : 1) {
		int fd = fds[way & 1];
		struct stn_fill_plan plan = unit_plan(fd, 0, size);
		struct stn_fill *fill;
		bool direct = (way & 1) && can_direct;

		plan.way.direct = way & 1;
		plan.block = way & 2 ? 64 * KIB : 8 * MIB;
		plan.threads = way & 4 ? 1 : 8;
		plan.way.fuse = way & 8;
		fill = stn_fill_make(&plan, UNIT_PLENTY);
		ck_assert_msg(stn_fill_run(fill, NULL) == 0, "way %u", way);
		unit_check_filled(&plan);
		ck_assert_uint_eq(fill->direct_bytes, direct ? size : 0);
		ck_assert_uint_eq(fill->buffered_bytes, direct ? 0 : size);
		ck_assert_uint_le(fill->most_running, plan.threads);
		ck_assert_uint_eq(fill->hole_count, 0);
		ck_assert_uint_eq(unit_cached(fd, size), 0);
		stn_fill_put(fill);
		munmap(plan.memory, plan.owned_size);
		munmap(plan.keeper, plan.owned_size);
	}
}
END_TEST

/* Parts of a file of 9 MiB and 5 bytes. */
static const struct {
	uint64_t offset, length;
} parts[] = {
	{4096, 4096},
	{65536, 3 * MIB},
	{MIB, 8 * MIB + 5},
	{9 * MIB, 5},
	{8 * MIB, MIB + 5},
	{4096, 9 * MIB - 4091},
	{5 * MIB + 4096, 4 * MIB - 4096},
};

START_TEST(part_of_file)
{
	int fd = unit_pattern_file("model", 9 * MIB + 5);
	struct stn_fill_plan plan = unit_plan(fd, parts[_i / 2].offset, parts[_i / 2].length);

	plan.way.direct = _i % 2;
	ck_assert_int_eq(unit_fill(&plan), 0);
	ck_assert_uint_eq(unit_cached(fd, 9 * MIB + 5), 0);
}
END_TEST

/* Files over 64 MiB are read through one descriptor a lane. */
START_TEST(large_file)
{
	const uint64_t size = 65 * MIB + 4099;
	int fd = unit_pattern_file("model", size);
	struct stn_fill_plan plan = unit_plan(fd, 0, size);
	struct stn_fill *fill;

	plan.way.direct = _i;
	plan.threads = 6;
	fill = stn_fill_make(&plan, UNIT_PLENTY);
	ck_assert_uint_eq(fill->opening.needed, 6);
	ck_assert_uint_eq(fill->lane_count, 6);
	ck_assert_int_eq(stn_fill_run(fill, NULL), 0);
	unit_check_filled(&plan);
	ck_assert_uint_ge(fill->most_running, 2);
	ck_assert_uint_le(fill->most_running, 6);
	stn_fill_put(fill);
	ck_assert_uint_eq(unit_cached(fd, size), 0);
}
END_TEST

/* While memory is short every MiB is preceded by a look at what is left; the result is the same. */
START_TEST(short_of_memory)
{
	int fd = unit_pattern_file("model", 9 * MIB + 5);
	struct stn_fill_plan plan = unit_plan(fd, 0, 9 * MIB + 5);
	struct stn_fill *fill;

	plan.block = _i ? 1088 * KIB : 64 * KIB;
	plan.threads = 2;
	fill = stn_fill_make(&plan, 0);
	ck_assert_int_eq(stn_fill_run(fill, NULL), 0);
	unit_check_filled(&plan);
	ck_assert_uint_gt(fill->budget_left, 0);
	stn_fill_put(fill);
}
END_TEST

/* Pages that were cached before a buffered fill, and only those, are cached after it. */
static bool some(size_t page)
{
	return page % 7 == 2 || page / 200 == 3;
}

START_TEST(cache_restored)
{
	const size_t size = 5 * MIB + 100, pages = size / stn_page_size() + 1;
	unsigned char *before = malloc(pages), *after = malloc(pages);
	int fd = unit_pattern_file("model", size);
	struct stn_fill_plan plan = unit_plan(fd, 0, size);

	unit_cache_pages(fd, pages, some);
	unit_resident(fd, size, before);
	plan.way.direct = _i;
	ck_assert_int_eq(unit_fill(&plan), 0);
	unit_resident(fd, size, after);
	for (size_t i = 0; i < pages; i++)
		ck_assert_msg(before[i] == some(i) && after[i] == some(i), "page %zu: %d, %d", i,
			      before[i], after[i]);
}
END_TEST

/* STSHIM_CACHE=keep and drop. */
START_TEST(cache_kept)
{
	const size_t size = 5 * MIB + 100, pages = size / stn_page_size() + 1;
	int fd = unit_pattern_file("model", size);
	struct stn_fill_plan plan = unit_plan(fd, 0, size);

	plan.way.direct = false;
	plan.restore_cache = false;
	ck_assert_int_eq(unit_fill(&plan), 0);
	ck_assert_uint_eq(unit_cached(fd, size), pages);
	ck_assert(unit_wait_alone(2000));
	plan.drop_cache = true;
	plan.way.direct = _i;
	ck_assert_int_eq(unit_fill(&plan), 0);
	ck_assert_uint_eq(unit_cached(fd, size), 0);
}
END_TEST

/* Only the range that was read is dropped. */
START_TEST(cache_dropped_in_part)
{
	const size_t size = 4 * MIB, page = stn_page_size();
	int fd = unit_pattern_file("model", size);
	struct stn_fill_plan plan = unit_plan(fd, MIB, MIB);
	char *buffer = malloc(size);

	ck_assert_int_eq(pread(fd, buffer, size, 0), (ssize_t)size);
	plan.drop_cache = true;
	ck_assert_int_eq(unit_fill(&plan), 0);
	ck_assert_uint_eq(unit_cached(fd, size), 3 * MIB / page);
}
END_TEST

/* The program's descriptor is what counts: the file may have lost its name. */
START_TEST(unlinked_file)
{
	int fd = unit_pattern_file("model", 100000);
	struct stn_fill_plan plan;

	ck_assert_int_eq(unlink("model"), 0);
	plan = unit_plan(fd, 0, 100000);
	ck_assert_int_eq(unit_fill(&plan), 0);
}
END_TEST

/* Neither offset nor access mode of the program's descriptor matters, nor changes. */
START_TEST(descriptor_untouched)
{
	int fd = unit_pattern_file("model", 100000);
	struct stn_fill_plan plan = unit_plan(fd, 0, 100000);
	int flags = fcntl(fd, F_GETFL);

	ck_assert_int_eq(lseek(fd, 1234, SEEK_SET), 1234);
	ck_assert_int_eq(unit_fill(&plan), 0);
	ck_assert_int_eq(lseek(fd, 0, SEEK_CUR), 1234);
	ck_assert_int_eq(fcntl(fd, F_GETFL), flags);
}
END_TEST

/* Fills its own part of the same file; returns 0 if all is well. */
static void *fill_part(void *argument)
{
	struct stn_fill_plan *plan = argument;
	struct stn_fill *fill = stn_fill_make(plan, UNIT_PLENTY);
	intptr_t rc = stn_fill_run(fill, NULL);

	stn_fill_put(fill);
	return (void *)rc;
}

/* Several fills at once, of one file and of different ones. */
START_TEST(at_once)
{
	struct stn_fill_plan plans[6];
	pthread_t threads[6];
	char name[16];
	void *rc;

	for (int i = 0; i < 6; i++) {
		int fd;

		snprintf(name, sizeof(name), "model%d", i / 3);
		fd = i % 3 ? open(name, O_RDONLY) : unit_pattern_file(name, 6 * MIB + 11);
		plans[i] = unit_plan(fd, (uint64_t)(i % 3) * 2 * MIB, 2 * MIB);
		plans[i].threads = 3;
	}
	for (int i = 0; i < 6; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, fill_part, &plans[i]), 0);
	for (int i = 0; i < 6; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &rc), 0);
		ck_assert_int_eq((int)(intptr_t)rc, 0);
		unit_check_filled(&plans[i]);
	}
}
END_TEST

/* Counts the descriptors in the pool's table. */
struct counter {
	struct stn_call call;
	int count;
};

static void count_descriptors(struct stn_call *call)
{
	struct counter *counter = (struct counter *)(void *)call;
	const int get_flags = 1; /* F_GETFD */

	for (int fd = 0; fd < 1024; fd++)
		counter->count += stn_sys_fcntl(fd, get_flags, 0) >= 0;
}

/* Descriptors that are open where fills are done, while the pool lingers. */
static int open_descriptors(void)
{
	struct counter *counter = stn_call_make(sizeof(*counter), count_descriptors);
	int count;

	counter->call.job.reads = true;
	ck_assert_int_eq(stn_pool_run(&counter->call.job, 4, 0, NULL), 0);
	count = counter->count;
	stn_job_put(&counter->call.job);
	return count;
}

/* File after file while the pool lingers: descriptors are used again, closed in time, bounded. */
START_TEST(many_files)
{
	struct stn_fill_plan plans[150];
	char name[16];

	for (int i = 0; i < COUNT(plans); i++) {
		snprintf(name, sizeof(name), "model%d", i);
		plans[i] =
			unit_plan(unit_pattern_file(name, 5000 + (size_t)i), 0, 5000 + (size_t)i);
	}
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < COUNT(plans); i++) {
			memset(plans[i].memory, 0xee, plans[i].owned_size);
			ck_assert_int_eq(unit_fill(&plans[i]), 0);
		}
	ck_assert_int_ge(open_descriptors(), 1);
	ck_assert_int_le(open_descriptors(), 64);
	ck_assert(unit_wait_alone(1000));
}
END_TEST

/* Plans to read 16 MiB of a file over 64 MiB of which there is just the first page. */
static struct stn_fill_plan plan_sparse(int index)
{
	char name[16];
	int fd;

	snprintf(name, sizeof(name), "model%d", index);
	fd = unit_pattern_file(name, 4096);
	ck_assert_int_eq(truncate(name, 65 * MIB), 0);
	return unit_plan(fd, 0, 16 * MIB);
}

/* Runs such a plan. */
static void fill_sparse(const struct stn_fill_plan *plan)
{
	struct stn_fill *fill = stn_fill_make(plan, UNIT_PLENTY);

	ck_assert_int_eq(stn_fill_run(fill, NULL), 0);
	ck_assert_uint_eq(unit_pattern_differs(plan->memory, 4096, 0), 4096);
	ck_assert(unit_zero(plan->memory + 4096, 16 * MIB - 4096));
	munmap(plan->memory, plan->owned_size);
	stn_fill_put(fill);
}

/* The same with a descriptor a lane: no more at once than half of what the process may have. */
static const struct {
	rlim_t limit;
	int files;
} tables[] = {{1024, 20}, {48, 6}, {24, 3}};

START_TEST(many_descriptors)
{
	struct stn_fill_plan plans[20];
	struct rlimit limit;

	for (int i = 0; i < tables[_i].files; i++) {
		plans[i] = plan_sparse(i);
		plans[i].threads = 8;
	}
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = tables[_i].limit;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < tables[_i].files; i++) {
		fill_sparse(&plans[i]);
		ck_assert_int_le(open_descriptors(), (int)stn_crew_most_descriptors());
	}
	ck_assert_int_ge(open_descriptors(), 8);
}
END_TEST

/* The lanes cover the plan without a gap, and no two threads begin in the same huge page. */
START_TEST(lanes)
{
	int fd = unit_pattern_file("model", 4096);
	struct stn_fill_plan plan = unit_plan(fd, 0, 4096);

	/* A fill that never ran is given back through the state of the process. */
	ck_assert_int_eq(unit_fill(&plan), 0);
	for (uint64_t length = 1; length < (uint64_t)1 << 50; length = length * 3 + 1)
		for (unsigned threads = 1; threads <= 64; threads = threads * 2 + 1) {
			struct stn_fill *fill;
			uint64_t at = plan.offset = 12 * MIB;

			plan.length = length;
			plan.threads = threads;
			fill = stn_fill_make(&plan, UNIT_PLENTY);
			ck_assert_uint_ge(fill->lane_count, 1);
			ck_assert_uint_le(fill->lane_count, threads);
			for (uint32_t i = 0; i < fill->lane_count; i++) {
				ck_assert_uint_eq(fill->lanes[i].cursor, at);
				ck_assert_uint_ge(fill->lanes[i].end, at);
				ck_assert(fill->lanes[i].end - at >= 2 * MIB ||
					  fill->lanes[i].end == plan.offset + length);
				at = fill->lanes[i].end;
			}
			ck_assert_uint_eq(at, plan.offset + length);
			ck_assert_uint_eq(stn_fill_stuck_at(fill), plan.offset);
			stn_fill_put(fill);
		}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("fill");
	TCase *tcase = unit_case_in_dir(suite, "bytes", 20);

	tcase_add_loop_test(tcase, whole_file, 0, COUNT(sizes));
	tcase_add_loop_test(tcase, part_of_file, 0, 2 * COUNT(parts));
	tcase_add_loop_test(tcase, large_file, 0, 2);
	tcase_add_loop_test(tcase, short_of_memory, 0, 2);
	tcase_add_test(tcase, unlinked_file);
	tcase_add_test(tcase, descriptor_untouched);
	tcase = unit_case_in_dir(suite, "cache", 20);
	tcase_add_loop_test(tcase, cache_restored, 0, 2);
	tcase_add_loop_test(tcase, cache_kept, 0, 2);
	tcase_add_test(tcase, cache_dropped_in_part);
	tcase = unit_case_in_dir(suite, "many", 20);
	tcase_add_test(tcase, at_once);
	tcase_add_test(tcase, many_files);
	tcase_add_loop_test(tcase, many_descriptors, 0, COUNT(tables));
	tcase_add_test(tcase, lanes);
	return suite;
}
