/* SPDX-License-Identifier: Apache-2.0 */
/* Fills that fail: other versions, files that change meanwhile, I/O errors, callers that give up.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fillplan.h"
#include "pooljob.h"
#include "process.h"
#include "unit.h"

#define LARGE (48 * MIB)

/* A file of which just the beginning is the pattern; quick to make, slow enough to read. */
static int large_file(void)
{
	int fd = unit_pattern_file("large", 4096), writer = open("large", O_WRONLY | O_CLOEXEC);

	ck_assert_int_eq(ftruncate(writer, LARGE), 0);
	close(writer);
	return fd;
}

/* Whatever differs from what the program's descriptor said: nothing is read. */
START_TEST(other_version)
{
	int fd = unit_pattern_file("model", 100000);
	struct stn_fill_plan plan = unit_plan(fd, 0, 100000);

	plan.identity.device += _i == 0;
	plan.identity.inode += _i == 1;
	plan.identity.size += _i == 2;
	plan.identity.modified += _i == 3;
	plan.identity.changed += _i == 4;
	ck_assert_int_eq(unit_fill(&plan), -ESTALE);
	for (size_t i = 0; i < plan.owned_size; i++)
		ck_assert_int_eq(plan.memory[i], (char)0xee);
}
END_TEST

/* A file that was rewritten after the program had opened it, then one that was opened anew. */
START_TEST(rewritten)
{
	int fd = unit_pattern_file("model", 100000), again;
	struct stn_fill_plan plan = unit_plan(fd, 0, 100000);

	ck_assert_int_eq(unit_fill(&plan), 0);
	again = unit_pattern_file("model", 100000);
	ck_assert_int_eq(unit_fill(&plan), -ESTALE);
	plan = unit_plan(again, 0, 100000);
	ck_assert_int_eq(unit_fill(&plan), 0);
}
END_TEST

static const struct {
	const char *path;
	int error;
} bad_paths[] = {
	{"/proc/self/fd/999999", -ENOENT},
	{"/nonexistent", -ENOENT},
	{"", -ENOENT},
};

START_TEST(bad_path)
{
	int fd = unit_pattern_file("model", 100000);
	struct stn_fill_plan plan = unit_plan(fd, 0, 100000), good = plan;

	strcpy(plan.path, bad_paths[_i].path);
	ck_assert_int_eq(unit_fill(&plan), bad_paths[_i].error);
	/* The failure is not remembered. */
	ck_assert_int_eq(unit_fill(&good), 0);
}
END_TEST

/* Neither way of reading is allowed that the file system has. */
START_TEST(no_way)
{
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	struct stn_fill_plan plan = {
		.path = "/proc/self/mem",
		.identity = unit_identity(mem),
		.memory = unit_memory(4096),
		.length = 4096,
		.block = MIB,
		.threads = 1,
		.way = {.direct = true},
	};

	ck_assert_int_eq(unit_fill(&plan), -EINVAL);
}
END_TEST

/* What happens to the file once the fill has begun. */
static int ticks;

static void truncate_file(struct stn_job *job)
{
	(void)job;
	if (ticks++ == 0 && truncate("large", LARGE / 2 + 100) < 0)
		abort();
}

static void extend_file(struct stn_job *job)
{
	(void)job;
	if (ticks++ == 0 && truncate("large", LARGE + 1) < 0)
		abort();
}

static void write_file(struct stn_job *job)
{
	int fd = open("large", O_WRONLY | O_CLOEXEC);

	(void)job;
	if (ticks++ == 0 && pwrite(fd, "x", 1, LARGE - 1) != 1)
		abort();
	close(fd);
}

static stn_job_tick *const changes[] = {truncate_file, extend_file, write_file};

/* Never half of one version and half of another: -ESTALE, however far it was. */
START_TEST(changed_meanwhile)
{
	int fd = large_file();

	for (int direct = 0; direct <= 1; direct++) {
		struct stn_fill_plan plan = unit_plan(fd, 0, LARGE);
		struct stn_fill *fill;

		ticks = 0;
		plan.way.direct = direct;
		fill = stn_fill_make(&plan, UNIT_PLENTY);
		ck_assert_int_eq(stn_fill_run(fill, changes[_i]), -ESTALE);
		ck_assert_int_gt(ticks, 0);
		stn_fill_put(fill);
		ck_assert_int_eq(truncate("large", LARGE), 0);
		/* The version of now can be read. */
		plan.identity = unit_identity(fd);
		fill = stn_fill_make(&plan, UNIT_PLENTY);
		ck_assert_int_eq(stn_fill_run(fill, NULL), 0);
		stn_fill_put(fill);
		munmap(plan.memory, plan.owned_size);
		munmap(plan.keeper, plan.owned_size);
	}
}
END_TEST

/*
 * This process's own memory as a file: reading where nothing is mapped gives EIO. Pages of a map of
 * 12 MiB that are not there, and the holes that follow.
 */
#define MAP_SIZE (12 * MIB)
#define PIECE	 (128 * KIB) /* of a block of a MiB, given up as a whole */

static const struct {
	const char *name;
	struct {
		uint64_t offset, length;
	} gaps[3], holes[3];
} faults[] = {
	{"a page", {{3 * MIB + 4096, 4096}}, {{3 * MIB, PIECE}}},
	{"the first page", {{0, 4096}}, {{0, PIECE}}},
	{"the last page", {{MAP_SIZE - 4096, 4096}}, {{MAP_SIZE - PIECE, PIECE}}},
	{"a MiB", {{5 * MIB, MIB}}, {{5 * MIB, MIB}}},
	{"across blocks and lanes", {{6 * MIB - PIECE, 2 * PIECE}}, {{6 * MIB - PIECE, 2 * PIECE}}},
	{"three",
	 {{MIB, 4096}, {4 * MIB, 8192}, {10 * MIB, PIECE + 1}},
	 {{MIB, PIECE}, {4 * MIB, PIECE}, {10 * MIB, 2 * PIECE}}},
};

/* Maps the pattern with gaps as row says, and plans to read it. */
static struct stn_fill_plan plan_with_gaps(int row)
{
	char *map = unit_memory(MAP_SIZE);
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);

	unit_pattern(map, MAP_SIZE, 0);
	for (int i = 0; i < 3; i++)
		if (row >= 0 && faults[row].gaps[i].length)
			munmap(map + faults[row].gaps[i].offset, faults[row].gaps[i].length);
	return (struct stn_fill_plan){
		.path = "/proc/self/mem",
		.identity = unit_identity(mem),
		.memory = unit_memory(MAP_SIZE),
		.offset = (uintptr_t)map,
		.length = MAP_SIZE,
		.block = MIB,
		.timeout = 10000000000,
		.threads = 4,
		.way = {.direct = true, .buffered = true},
	};
}

/* True if a byte of the plan lies in one of the expected holes. */
static bool in_hole(int row, uint64_t at)
{
	for (int i = 0; i < 3; i++)
		if (at >= faults[row].holes[i].offset &&
		    at < faults[row].holes[i].offset + faults[row].holes[i].length)
			return true;
	return false;
}

/* What can be read is read, and just the pieces that cannot are holes. */
START_TEST(io_errors)
{
	struct stn_fill_plan plan = plan_with_gaps(_i);
	struct stn_fill *fill = stn_fill_make(&plan, UNIT_PLENTY);
	uint64_t bytes = 0, expected = 0;

	ck_assert_int_eq(stn_fill_run(fill, NULL), 0);
	for (uint32_t i = 0; i < fill->hole_count; i++) {
		bytes += fill->holes[i].length;
		for (uint64_t at = 0; at < fill->holes[i].length; at += PIECE)
			ck_assert_msg(in_hole(_i, fill->holes[i].offset + at - plan.offset), "%s",
				      faults[_i].name);
	}
	for (uint64_t at = 0; at < MAP_SIZE; at += PIECE) {
		expected += in_hole(_i, at) ? PIECE : 0;
		if (!in_hole(_i, at))
			ck_assert_uint_eq(unit_pattern_differs(plan.memory + at, PIECE, at), PIECE);
	}
	ck_assert_uint_eq(bytes, expected);
	ck_assert_uint_eq(fill->hole_bytes, expected);
	ck_assert_uint_eq(fill->settled, MAP_SIZE);
	stn_fill_put(fill);
}
END_TEST

/* While memory is short blocks are read in parts; a part with an error is given up as a whole. */
START_TEST(io_errors_short_of_memory)
{
	struct stn_fill_plan plan = plan_with_gaps(0);
	struct stn_fill *fill;
	uint64_t at = 3 * MIB;

	plan.block = 4 * MIB;
	plan.threads = 1;
	fill = stn_fill_make(&plan, 0);
	ck_assert_int_eq(stn_fill_run(fill, NULL), 0);
	ck_assert_uint_eq(fill->hole_count, 1);
	ck_assert_uint_le(fill->holes[0].offset, plan.offset + at);
	ck_assert_uint_ge(fill->holes[0].offset + fill->holes[0].length, plan.offset + at + PIECE);
	ck_assert_uint_le(fill->holes[0].length, 2 * MIB);
	at = fill->holes[0].offset - plan.offset;
	ck_assert_uint_eq(unit_pattern_differs(plan.memory, at, 0), at);
	at += fill->holes[0].length;
	ck_assert_uint_eq(unit_pattern_differs(plan.memory + at, MAP_SIZE - at, at), MAP_SIZE - at);
	stn_fill_put(fill);
}
END_TEST

/* Too many holes, or too large ones: then the kernel may have it all. */
START_TEST(too_many_errors)
{
	struct stn_fill_plan plan = plan_with_gaps(-1);

	if (_i == 0)
		munmap((char *)plan.offset + MIB, 3 * MIB);
	for (uint64_t at = 0; _i == 1 && at < MAP_SIZE; at += 2 * PIECE)
		munmap((char *)plan.offset + at, 4096);
	ck_assert_int_eq(unit_fill(&plan), -EIO);
}
END_TEST

static bool is_unmapped(void *address)
{
	unsigned char state;

	return mincore(address, 1, &state) < 0 && errno == ENOMEM;
}

/*
 * The caller gives up while threads still write: the memory is the fill's, stays until they are
 * done, and is unmapped then. The next fill of the same file does not mind.
 */
START_TEST(abandoned)
{
	int fd = large_file();
	struct stn_fill_plan plan = unit_plan(fd, 0, LARGE);
	struct stn_fill *fill = stn_fill_make(&plan, UNIT_PLENTY);
	uint64_t stuck_at;

	/* Nothing is read in a nanosecond. */
	fill->plan.timeout = 1;
	ck_assert_int_eq(stn_fill_run(fill, NULL), -ETIMEDOUT);
	stuck_at = stn_fill_stuck_at(fill);
	ck_assert_uint_lt(stuck_at, LARGE);
	stn_fill_put(fill);
	ck_assert(unit_wait(is_unmapped, plan.owned, 5000));
	ck_assert(unit_wait(is_unmapped, fill, 5000));
	plan = unit_plan(fd, 0, 4096);
	ck_assert_int_eq(unit_fill(&plan), 0);
	ck_assert(unit_wait_alone(2000));
}
END_TEST

/* A fill that nobody has run has nothing to unmap but itself. */
START_TEST(never_run)
{
	int fd = unit_pattern_file("model", 100000);
	struct stn_fill_plan plan = unit_plan(fd, 0, 100000);
	struct stn_fill *fill = stn_fill_make(&plan, UNIT_PLENTY);

	ck_assert_uint_eq(stn_fill_stuck_at(fill), 0);
	ck_assert_int_eq(unit_pool_ping(1), 0);
	stn_fill_put(fill);
	ck_assert(is_unmapped(fill));
	ck_assert(!is_unmapped(plan.memory));
}
END_TEST

/* In a child made during a fill the pool is as new, and the fill goes on. */
static int child_finds;

static void fork_once(struct stn_job *job)
{
	int child;

	(void)job;
	if (ticks++)
		return;
	child = fork();
	if (child == 0)
		_exit(stn_process_peek()->filled == 0 && unit_pool_ping(4) == 0 ? 0 : 1);
	child_finds = unit_reap(child);
}

START_TEST(fork_meanwhile)
{
	int fd = large_file();
	struct stn_fill_plan plan = unit_plan(fd, 0, LARGE);
	struct stn_fill *fill = stn_fill_make(&plan, UNIT_PLENTY);

	child_finds = -1;
	ck_assert_int_eq(stn_fill_run(fill, fork_once), 0);
	ck_assert_int_eq(child_finds, 0);
	stn_fill_put(fill);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("fill_faults");
	TCase *tcase = unit_case_in_dir(suite, "versions", 20);

	tcase_add_loop_test(tcase, other_version, 0, 5);
	tcase_add_test(tcase, rewritten);
	tcase_add_loop_test(tcase, bad_path, 0, COUNT(bad_paths));
	tcase_add_test(tcase, no_way);
	tcase_add_loop_test(tcase, changed_meanwhile, 0, COUNT(changes));
	tcase = unit_case_in_dir(suite, "errors", 20);
	tcase_add_loop_test(tcase, io_errors, 0, COUNT(faults));
	tcase_add_test(tcase, io_errors_short_of_memory);
	tcase_add_loop_test(tcase, too_many_errors, 0, 2);
	tcase = unit_case_in_dir(suite, "ends", 20);
	tcase_add_test(tcase, abandoned);
	tcase_add_test(tcase, never_run);
	tcase_add_test(tcase, fork_meanwhile);
	return suite;
}
