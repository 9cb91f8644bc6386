/* SPDX-License-Identifier: Apache-2.0 */
/* Where the tensors of a file begin, by its header. */
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#include "ahead.h"
#include "tensors.h"

#define UNIT STN_AHEAD_UNIT

static struct stn_model model;
static struct stn_tensors *tensors;

static void start(uint64_t size)
{
	atomic_fetch_add(&model.version, 1);
	tensors = stn_tensors_make(&model, size);
	ck_assert_ptr_nonnull(tensors);
}

static void scan(const char *text)
{
	stn_tensors_scan(tensors, text, strlen(text), 2 * UNIT);
}

/* Offsets count from where the data begin; the end of one is a border too. */
START_TEST(offsets)
{
	start(100 * UNIT);
	scan("{\"a\":{\"dtype\":\"F32\",\"shape\":[16384],\"data_offsets\":[0,65536]},"
	     "\"b\":{\"data_offsets\" : [ 720896 , 983040 ],\"dtype\":\"F32\"}}");
	ck_assert_uint_eq(stn_tensors_next(tensors, 0), 2);
	ck_assert_uint_eq(stn_tensors_next(tensors, 2), 3);
	ck_assert_uint_eq(stn_tensors_next(tensors, 3), 13);
	ck_assert_uint_eq(stn_tensors_next(tensors, 13), 17);
	ck_assert_uint_eq(stn_tensors_next(tensors, 17), 100);
	ck_assert_uint_eq(stn_tensors_next(tensors, 1000), 100);
	ck_assert_uint_eq(stn_tensors_start(tensors, 1), 0);
	ck_assert_uint_eq(stn_tensors_start(tensors, 13), 13);
	ck_assert_uint_eq(stn_tensors_start(tensors, 16), 13);
	ck_assert_uint_eq(stn_tensors_start(tensors, 99), 17);
	ck_assert(stn_tensors_begins(tensors, 13));
	ck_assert(!stn_tensors_begins(tensors, 14));
	ck_assert(!stn_tensors_begins(tensors, 100000));
}
END_TEST

/* Headers that lie, break off or are none leave no mark. */
START_TEST(nonsense)
{
	static const char *const texts[] = {
		"",
		"\"data_offsets\"",
		"\"data_offsets\":",
		"\"data_offsets\":[",
		"\"data_offsets\":[65536",
		"\"data_offsets\":[65536,",
		"\"data_offsets\":[65536,131072",
		"\"data_offsets\":{\"a\":[65536,131072]}",
		"\"data_offsets\":[-65536,-131072]",
		"\"data_offsets\":[131072,65536]",
		"\"data_offsets\":[6553600,13107200]",
		"\"data_offsets\":[1000000000000000000000000,9000000000000000000000000]",
		"\\\"data_offsets\\\":[65536,131072]",
	};

	start(64 * UNIT);
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		scan(texts[i]);
		ck_assert_msg(stn_tensors_next(tensors, 0) == 64, "%s", texts[i]);
	}
}
END_TEST

/* Every cut of a good header is read without going beyond it. */
START_TEST(cut_anywhere)
{
	static const char text[] = "{\"a\":{\"data_offsets\":[65536,131072]}}";

	for (size_t length = 0; length < sizeof(text); length++) {
		char *copy = strndup(text, length);

		start(64 * UNIT);
		stn_tensors_scan(tensors, copy, length, 0);
		ck_assert(stn_tensors_next(tensors, 0) == 64 || length >= sizeof(text) - 4);
		free(copy);
	}
}
END_TEST

/* The table is the version's; a larger file gets a larger one. */
START_TEST(versions)
{
	const struct stn_tensors *old;

	start(64 * UNIT);
	scan("\"data_offsets\":[65536,131072]");
	old = tensors;
	ck_assert_ptr_eq(stn_tensors_make(&model, 64 * UNIT), old);
	ck_assert_ptr_eq(stn_tensors_find(&model), old);
	ck_assert(stn_tensors_begins(tensors, 3));
	atomic_fetch_add(&model.version, 1);
	ck_assert_ptr_null(stn_tensors_find(&model));
	ck_assert_ptr_eq(stn_tensors_make(&model, 32 * UNIT), old);
	ck_assert_uint_eq(stn_tensors_next(tensors, 0), 32);
	start(1000000 * UNIT);
	ck_assert_ptr_ne(tensors, old);
	stn_tensors_scan(tensors, "\"data_offsets\":[0,1]", 20, 999999 * UNIT);
	ck_assert_uint_eq(stn_tensors_next(tensors, 0), 999999);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("tensors");
	TCase *tcase = unit_case(suite, "header", 5);

	tcase_add_test(tcase, offsets);
	tcase_add_test(tcase, nonsense);
	tcase_add_test(tcase, cut_anywhere);
	tcase_add_test(tcase, versions);
	return suite;
}
