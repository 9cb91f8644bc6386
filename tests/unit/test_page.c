/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <unistd.h>

#include "page.h"
#include "unit.h"

START_TEST(page_size)
{
	ck_assert_uint_eq(stn_page_size(), (size_t)sysconf(_SC_PAGESIZE));
}
END_TEST

/* What the kernel says, also when asked again; nothing is known before. */
START_TEST(huge_page)
{
	const char *file = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";
	size_t expected = access(file, R_OK) == 0 ? strtoul(unit_read(file), NULL, 10) : 0;

	ck_assert_uint_eq(stn_page_huge_known(), 0);
	ck_assert_uint_eq(stn_page_huge_read(), expected);
	ck_assert_uint_eq(stn_page_huge_known(), expected);
	ck_assert_uint_eq(stn_page_huge_read(), expected);
}
END_TEST

static const struct {
	uint64_t value, unit, down, up;
} rounded[] = {
	{0, 4096, 0, 0},	  {1, 4096, 0, 4096},
	{4095, 4096, 0, 4096},	  {4096, 4096, 4096, 4096},
	{4097, 4096, 4096, 8192}, {65537, 65536, 65536, 131072},
	{10, 3, 9, 12},		  {(uint64_t)INT64_MAX, 4096, INT64_MAX - 4095, (uint64_t)1 << 63},
};

START_TEST(rounding)
{
	ck_assert_uint_eq(stn_round_down(rounded[_i].value, rounded[_i].unit), rounded[_i].down);
	ck_assert_uint_eq(stn_round_up(rounded[_i].value, rounded[_i].unit), rounded[_i].up);
}
END_TEST

START_TEST(smaller_and_larger)
{
	ck_assert_uint_eq(stn_min(3, UINT64_MAX), 3);
	ck_assert_uint_eq(stn_min(UINT64_MAX, 3), 3);
	ck_assert_uint_eq(stn_max(3, UINT64_MAX), UINT64_MAX);
	ck_assert_uint_eq(stn_max(7, 7), 7);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("page");
	TCase *tcase = unit_case(suite, "sizes", 5);

	tcase_add_test(tcase, page_size);
	tcase_add_test(tcase, huge_page);
	tcase_add_loop_test(tcase, rounding, 0, COUNT(rounded));
	tcase_add_test(tcase, smaller_and_larger);
	return suite;
}
