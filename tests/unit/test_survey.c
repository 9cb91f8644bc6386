/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engaged.h"
#include "page.h"
#include "survey.h"
#include "unit.h"

static void set_up(void)
{
	unit_configure("STSHIM_MODE=auto", NULL);
}

START_TEST(descriptor)
{
	char out[96];

	ck_assert_int_eq(stn_survey_descriptor(17, out, sizeof(out)), 0);
	ck_assert_str_eq(out, unit_descriptor(17));
}
END_TEST

static char seen_in_thread[96];

static void *descriptor_in_thread(void *argument)
{
	char out[96];

	(void)argument;
	stn_survey_descriptor(3, out, sizeof(out));
	strcpy(seen_in_thread, out);
	return (void *)(uintptr_t)(strcmp(out, unit_descriptor(3)) == 0);
}

/* The calling thread's own: its table may be another than the leader's. */
START_TEST(descriptor_of_thread)
{
	pthread_t thread;
	char here[96];
	void *same;

	ck_assert_int_eq(pthread_create(&thread, NULL, descriptor_in_thread, NULL), 0);
	ck_assert_int_eq(pthread_join(thread, &same), 0);
	ck_assert_ptr_nonnull(same);
	ck_assert_int_eq(stn_survey_descriptor(3, here, sizeof(here)), 0);
	ck_assert_str_ne(here, seen_in_thread);
}
END_TEST

START_TEST(facts)
{
	int fd = unit_pattern_file("a model.sft", 100), error = 1;
	struct stn_survey *survey = stn_survey_run(fd, false, &error);

	ck_assert_ptr_nonnull(survey);
	ck_assert_int_eq(error, 0);
	ck_assert_str_eq(survey->path, unit_path("a model.sft"));
	ck_assert_str_eq(survey->descriptor, unit_descriptor(fd));
	ck_assert_uint_gt(survey->view.host_total, 0);
	ck_assert_uint_lt(survey->view.host_total, STN_BUDGET_UNLIMITED);
	ck_assert_uint_le(survey->view.host_available, survey->view.host_total);
	ck_assert_uint_eq(survey->huge_page, stn_page_huge_known());
	ck_assert_int_eq(survey->unified, stn_survey_unified());
	stn_survey_put(survey);
}
END_TEST

START_TEST(unlinked)
{
	int fd = unit_pattern_file("gone", 100), error;
	struct stn_survey *survey;

	ck_assert_int_eq(unlink("gone"), 0);
	survey = stn_survey_run(fd, false, &error);
	ck_assert_ptr_nonnull(survey);
	ck_assert_int_eq(strncmp(survey->path, unit_path("gone"), strlen(unit_path("gone"))), 0);
	stn_survey_put(survey);
}
END_TEST

/* A descriptor that is none has no path; that is for others to complain about. */
START_TEST(closed)
{
	int error;
	struct stn_survey *survey = stn_survey_run(999, false, &error);

	ck_assert_ptr_nonnull(survey);
	ck_assert_str_eq(survey->path, "");
	stn_survey_put(survey);
}
END_TEST

/* What is said about unified memory: nothing before the first look, then always the same. */
START_TEST(unified_is_asked_once)
{
	int error, found;
	struct stn_survey *survey;

	ck_assert_int_eq(stn_survey_unified(), -1);
	survey = stn_survey_run(0, false, &error);
	ck_assert_ptr_nonnull(survey);
	found = stn_survey_unified();
	ck_assert(found == 0 || found == 1);
	ck_assert_int_eq(survey->unified, found);
	stn_survey_put(survey);
}
END_TEST

static const struct {
	const char *variable;
	int unified;
} answers[] = {{"STSHIM_UMA=yes", 1}, {"STSHIM_UMA=no", 0}, {"STSHIM_UMA=auto", -1}};

START_TEST(unified_is_configured)
{
	int error;
	struct stn_survey *survey;

	unit_configure(answers[_i].variable, NULL);
	ck_assert_int_eq(stn_survey_unified(), answers[_i].unified);
	survey = stn_survey_run(0, false, &error);
	ck_assert_ptr_nonnull(survey);
	if (answers[_i].unified >= 0)
		ck_assert_int_eq(survey->unified, answers[_i].unified);
	stn_survey_put(survey);
}
END_TEST

/* The user's cached probe is found in the run-time directory, unless the system has one. */
START_TEST(runtime_dir)
{
	const char *name = "/proc/sys/kernel/random/boot_id";
	char probe[256], directory[2000];
	struct stn_survey *survey;
	int error;

	snprintf(probe, sizeof(probe), "boot_id=%.36s\nunified=yes\n", unit_read(name));
	unit_text("run/stnommap/probe", probe);
	memset(directory, 'x', sizeof(directory) - 1);
	directory[sizeof(directory) - 1] = '\0';
	/* One that does not fit is none. */
	stn_survey_set_runtime_dir(directory);
	stn_survey_set_runtime_dir(NULL);
	stn_survey_set_runtime_dir(unit_path("run"));
	survey = stn_survey_run(0, false, &error);
	ck_assert_ptr_nonnull(survey);
	if (access("/run/stnommap/probe", F_OK) < 0)
		ck_assert(survey->unified);
	stn_survey_put(survey);
}
END_TEST

/* Nothing of a survey stays behind. */
START_TEST(leaves_nothing)
{
	int error, fd = dup(0);

	for (int i = 0; i < 20; i++)
		stn_survey_put(stn_survey_run(0, false, &error));
	ck_assert(unit_wait_alone(1000));
	ck_assert_int_eq(dup(0), fd + 1);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("survey");
	TCase *tcase = unit_case_in_dir(suite, "survey", 20);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_test(tcase, descriptor);
	tcase_add_test(tcase, descriptor_of_thread);
	tcase_add_test(tcase, facts);
	tcase_add_test(tcase, unlinked);
	tcase_add_test(tcase, closed);
	tcase_add_test(tcase, unified_is_asked_once);
	tcase_add_loop_test(tcase, unified_is_configured, 0, COUNT(answers));
	tcase_add_test(tcase, runtime_dir);
	tcase_add_test(tcase, leaves_nothing);
	return suite;
}
