/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"
#include "strangers.h"
#include "unit.h"

/* How often a descriptor is known in a row. */
static int reads_of(int fd)
{
	int count = 0;

	while (count < 1000 && stn_stranger_known(fd))
		count++;
	return count;
}

START_TEST(known_for_a_while)
{
	const int numbers[] = {0, 1, 7, 1023};

	for (int i = 0; i < COUNT(numbers); i++) {
		ck_assert(!stn_stranger_known(numbers[i]));
		stn_stranger_note(numbers[i], stn_stranger_era());
		ck_assert_int_eq(reads_of(numbers[i]), STN_STRANGER_READS);
		ck_assert(!stn_stranger_known(numbers[i]));
	}
}
END_TEST

START_TEST(numbers_without_a_place)
{
	const int numbers[] = {-1, -100, 1024, 1000000, 0x7fffffff};

	for (int i = 0; i < COUNT(numbers); i++) {
		stn_stranger_note(numbers[i], stn_stranger_era());
		ck_assert(!stn_stranger_known(numbers[i]));
	}
}
END_TEST

START_TEST(forgotten)
{
	stn_stranger_note(5, stn_stranger_era());
	ck_assert(stn_stranger_known(5));
	stn_strangers_forget();
	ck_assert(!stn_stranger_known(5));
}
END_TEST

/* A model that is opened while a descriptor is being looked at: what was seen is no longer true. */
START_TEST(too_late)
{
	uint32_t era = stn_stranger_era();

	stn_strangers_forget();
	stn_stranger_note(5, era);
	ck_assert(!stn_stranger_known(5));
}
END_TEST

/* Every opening counts, also of a model that is known. */
START_TEST(model_opened)
{
	for (int i = 0; i < 3; i++) {
		stn_stranger_note(5, stn_stranger_era());
		ck_assert(stn_stranger_known(5));
		ck_assert(stn_names_add(1, 2, "a.safetensors"));
		ck_assert(!stn_stranger_known(5));
	}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("strangers");
	TCase *tcase = unit_case(suite, "strangers", 5);

	tcase_add_test(tcase, known_for_a_while);
	tcase_add_test(tcase, numbers_without_a_place);
	tcase_add_test(tcase, forgotten);
	tcase_add_test(tcase, too_late);
	tcase_add_test(tcase, model_opened);
	return suite;
}
