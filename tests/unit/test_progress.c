/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fillplan.h"
#include "journal.h"
#include "progress.h"
#include "stderr.h"
#include "sys.h"
#include "unit.h"

static struct stn_fill *fill;

/* A fill of 4 MiB that has not begun, and descriptor 2 in the file "bar". */
static void set_up(void)
{
	struct stn_fill_plan plan = unit_plan(unit_pattern_file("model", 4 * MIB), 0, 4 * MIB);
	int fd = open("bar", O_WRONLY | O_CREAT | O_APPEND, 0600);

	ck_assert_int_eq(dup2(fd, 2), 2);
	stn_stderr_watch();
	fill = stn_fill_make(&plan, UNIT_PLENTY);
}

/* Ticks as if the fill had begun so long ago and had come so far. */
static void tick(double seconds, uint64_t settled)
{
	fill->begun = stn_sys_clock(CLOCK_MONOTONIC) - (uint64_t)(seconds * 1e9);
	fill->settled = settled;
	stn_progress_tick(&fill->job);
}

/* What takes less than a second draws nothing, at its end neither. */
START_TEST(short_fill)
{
	stn_progress_tick(&fill->job);
	ck_assert_uint_ne(fill->begun, 0);
	tick(0.5, MIB);
	fill->settled = 4 * MIB;
	stn_progress_end(fill);
	ck_assert_str_eq(unit_read("bar"), "");
}
END_TEST

START_TEST(long_fill)
{
	tick(1.5, 0);
	ck_assert_str_eq(unit_read("bar"), "\r[..............................] 0 B of 4.00 MiB   ");
	tick(2, MIB);
	ck_assert_ptr_nonnull(strstr(unit_read("bar"),
				     "\r[#######.......................] 1.00 MiB of 4.00 MiB   "));
	fill->settled = 4 * MIB;
	stn_progress_end(fill);
	ck_assert_ptr_nonnull(strstr(
		unit_read("bar"), "\r[##############################] 4.00 MiB of 4.00 MiB  \n"));
}
END_TEST

/* Not into what has become of descriptor 2 meanwhile. */
START_TEST(replaced)
{
	ck_assert_int_eq(dup2(open("database", O_RDWR | O_CREAT, 0600), 2), 2);
	tick(2, MIB);
	stn_progress_end(fill);
	ck_assert_str_eq(unit_read("bar"), "");
	ck_assert_str_eq(unit_read("database"), "");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("progress");
	TCase *tcase = unit_case_in_dir(suite, "bar", 10);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_test(tcase, short_fill);
	tcase_add_test(tcase, long_fill);
	tcase_add_test(tcase, replaced);
	return suite;
}
