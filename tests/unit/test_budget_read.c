/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "budget.h"
#include "unit.h"

#define NONE STN_BUDGET_UNLIMITED

/* Bytes of a field of /proc/meminfo. */
static uint64_t meminfo(const char *key)
{
	const char *at = strstr(unit_read("/proc/meminfo"), key);

	ck_assert_ptr_nonnull(at);
	return strtoull(at + strlen(key), NULL, 10) * KIB;
}

START_TEST(real_host)
{
	struct stn_budget_view view;
	uint64_t available = meminfo("MemAvailable:");

	stn_budget_read(&view);
	ck_assert_uint_eq(view.host_total, meminfo("MemTotal:"));
	/* Other processes come and go meanwhile. */
	ck_assert_uint_ge(view.host_available, available / 2);
	ck_assert_uint_le(view.host_available, view.host_total);
	ck_assert_uint_gt(view.group_available, 0);
	ck_assert_uint_le(view.group_available, view.group_limit);
	if (strtoul(unit_read("/proc/sys/vm/overcommit_memory"), NULL, 10) != 2)
		ck_assert_uint_eq(view.commit_left, NONE);
}
END_TEST

/* One field of what the process has left now. */
static uint64_t read_left(size_t field)
{
	struct stn_budget_view view;
	uint64_t value;

	stn_budget_read(&view);
	memcpy(&value, (const char *)&view + field, sizeof(value));
	return value;
}

/* What a limit leaves shrinks by what the process maps. */
static void check_limit(__rlimit_resource_t resource, size_t field)
{
	const struct rlimit limit = {2 * GIB, 2 * GIB};
	uint64_t before, after;

	ck_assert_uint_eq(read_left(field), NONE);
	ck_assert_int_eq(setrlimit(resource, &limit), 0);
	before = read_left(field);
	ck_assert_uint_gt(before, GIB);
	ck_assert_uint_lt(before, 2 * GIB);
	unit_memory(64 * MIB);
	after = read_left(field);
	ck_assert_uint_le(after, before - 64 * MIB);
	ck_assert_uint_ge(after, before - 80 * MIB);
}

START_TEST(real_address_space)
{
	check_limit(RLIMIT_AS, offsetof(struct stn_budget_view, address_space_left));
}
END_TEST

START_TEST(real_data)
{
	check_limit(RLIMIT_DATA, offsetof(struct stn_budget_view, data_left));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("budget_read");
	TCase *tcase = unit_case(suite, "read", 5);

	tcase_add_test(tcase, real_host);
	tcase_add_test(tcase, real_address_space);
	tcase_add_test(tcase, real_data);
	return suite;
}
