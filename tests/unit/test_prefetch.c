/* SPDX-License-Identifier: Apache-2.0 */
/* What shards are called; what is read of them is tests/system/test_next_shards.py's. */
#include "prefetch.h"
#include "unit.h"

static const struct {
	const char *path;
	uint64_t number;
	const char *other; /* NULL: there is none */
} names[] = {
	{"/m/model-00001-of-00005.safetensors", 2, "/m/model-00002-of-00005.safetensors"},
	{"/m/model-00009-of-00010.safetensors", 10, "/m/model-00010-of-00010.safetensors"},
	{"/m/model-9-of-10.gguf", 10, "/m/model-10-of-10.gguf"},
	{"/m/1-of-2/x-0001-of-0003.sft", 3, "/m/1-of-2/x-0003-of-0003.sft"},
	{"/m/1-of-2/x.sft", 2, NULL},
	{"/m/model.safetensors", 2, NULL},
	{"/m/model-of-3.safetensors", 2, NULL},
	{"", 1, NULL},
};

START_TEST(path)
{
	char out[80] = "unchanged";
	bool made = stn_prefetch_path(names[_i].path, names[_i].number, out, sizeof(out));

	ck_assert_int_eq(made, names[_i].other != NULL);
	if (made)
		ck_assert_str_eq(out, names[_i].other);
}
END_TEST

/* What does not fit is no path. */
START_TEST(too_long)
{
	char out[48];

	ck_assert(!stn_prefetch_path("/a/long/name/of/a/model-00001-of-00005.safetensors", 2, out,
				     sizeof(out)));
}
END_TEST

/* Nothing has been read in advance: there is nothing to take, and no state to look at. */
START_TEST(nothing)
{
	struct stn_model model = {.family = {.key = 1, .count = 9, .number = 3}};
	struct stn_identity identity = {.size = 4096};
	struct stn_prefetch_want want = {&model, &identity, 1, -1, 0, 4096};
	char page[4096];

	ck_assert_uint_eq(stn_prefetch_take(&want, page), 0);
}
END_TEST

/* Shards as the program maps them, and whether the next ones are to be read. */
static const struct {
	uint64_t key, number, size;
	bool follows;
} steps[] = {
	{1, 1, 100, false}, {1, 2, 100, false}, {1, 2, 100, false},  {1, 3, 100, true},
	{1, 3, 100, true},  {1, 5, 100, false}, {1, 6, 100, false},  {1, 7, 100, true},
	{2, 8, 100, false}, {2, 9, 100, false}, {2, 10, 100, true},  {2, 11, 1 << 30, false},
	{2, 11, 100, true}, {2, 9, 100, false}, {2, 10, 100, false},
};

START_TEST(order)
{
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct stn_model model = {
			.family = {.key = steps[i].key, .count = 20, .number = steps[i].number}};

		ck_assert_msg(stn_prefetch_follows(&model, steps[i].size) == steps[i].follows,
			      "step %zu", i);
	}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("prefetch");
	TCase *tcase = unit_case(suite, "names", 5);

	tcase_add_loop_test(tcase, path, 0, sizeof(names) / sizeof(names[0]));
	tcase_add_test(tcase, too_long);
	tcase_add_test(tcase, nothing);
	tcase_add_test(tcase, order);
	return suite;
}
