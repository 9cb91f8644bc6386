/* SPDX-License-Identifier: Apache-2.0 */
/* What the journal says of reads: few lines, whose figures add up. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engaged.h"
#include "fs.h"
#include "readlog.h"
#include "unit.h"

static const struct {
	uint64_t reported, bytes, size;
	bool due;
} rows[] = {
	{0, 1, GIB, true},
	{0, 0, GIB, true},
	{8, 64 * MIB - 1, GIB, false},
	{8, 64 * MIB, GIB, true},
	{512 * MIB, 64 * MIB, GIB, false},
	{512 * MIB, 256 * MIB - 1, GIB, false},
	{512 * MIB, 256 * MIB, GIB, true},
	/* The whole file, and the whole file but for its header. */
	{8, 2 * MIB - 8, 2 * MIB, true},
	{8, 2 * MIB - 128 * KIB - 8, 2 * MIB, true},
	{8, 2 * MIB - 128 * KIB - 9, 2 * MIB, false},
	{900 * MIB, 123 * MIB, GIB, true},
	{900 * MIB, 122 * MIB, GIB, false},
	/* Again. */
	{2 * MIB, MIB, 2 * MIB, false},
	{2 * MIB, 2 * MIB, 2 * MIB, true},
	{1, 1, 0, false},
};

START_TEST(due)
{
	ck_assert_int_eq(stn_readlog_due(rows[_i].reported, rows[_i].bytes, rows[_i].size),
			 rows[_i].due);
}
END_TEST

/* Sums a field of the lines of the statistics, and counts them. */
static uint64_t sum_of(const char *field, int *lines)
{
	char key[64];
	uint64_t sum = 0;

	*lines = 0;
	snprintf(key, sizeof(key), "\"%s\":", field);
	for (const char *at = unit_read(UNIT_STATS); (at = strstr(at, key)) != NULL; at++) {
		sum += strtoull(at + strlen(key), NULL, 10);
		++*lines;
	}
	return sum;
}

static struct stn_identity identity;
static struct stn_readlog_entry entry;

static void set_up(void)
{
	int fd = unit_model("model.safetensors", 4096);

	unit_configure("STSHIM_MODE=always", NULL);
	identity = unit_identity(fd);
	entry = (struct stn_readlog_entry){
		.fd = fd,
		.model = stn_names_find(identity.device, identity.inode),
		.identity = &identity,
		.file_system = STN_FS_FUSE,
		.bytes = MIB,
		.elapsed = 1000,
		.direct_bytes = MIB,
		.threads = 3,
	};
	identity.size = 4 * GIB;
}

/* A thousand requests of a MiB. */
START_TEST(many_requests)
{
	int lines;

	for (int i = 0; i < 1000; i++) {
		entry.bytes = i ? MIB : 8;
		stn_readlog_served(&entry);
	}
	ck_assert_uint_ge(sum_of("bytes", &lines), 600 * MIB);
	ck_assert_int_ge(lines, 4);
	ck_assert_int_le(lines, 12);
	ck_assert_uint_ge(sum_of("requests", &lines), 600);
	ck_assert_uint_eq(sum_of("threads", &lines), 3u * (unsigned)lines);
	ck_assert(unit_last_decision("engaged:"));
	ck_assert_ptr_nonnull(strstr(unit_last_line(), "\"event\":\"read\""));
}
END_TEST

/* A file that is read in two calls: all of it is told. */
START_TEST(whole_file)
{
	int lines;

	identity.size = 8 * MIB;
	entry.bytes = 8;
	stn_readlog_served(&entry);
	entry.bytes = 8 * MIB - 8;
	stn_readlog_served(&entry);
	ck_assert_uint_eq(sum_of("bytes", &lines), 8 * MIB);
	ck_assert_int_eq(lines, 2);
}
END_TEST

/* Each decision once a version. */
START_TEST(once)
{
	int lines;

	for (int i = 0; i < 5; i++) {
		stn_readlog_decision(&entry, STN_DECLINED_CACHED);
		stn_readlog_decision(&entry, STN_DECLINED_REREAD);
	}
	sum_of("bytes", &lines);
	ck_assert_int_eq(lines, 2);
	ck_assert(unit_last_decision("declined:reread"));
	stn_model_version(entry.model, &identity);
	stn_readlog_decision(&entry, STN_DECLINED_CACHED);
	ck_assert(unit_last_decision("declined:cached"));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("readlog");
	TCase *tcase = unit_case(suite, "due", 5);

	tcase_add_loop_test(tcase, due, 0, COUNT(rows));
	tcase = unit_case_in_dir(suite, "lines", 20);
	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_test(tcase, many_requests);
	tcase_add_test(tcase, whole_file);
	tcase_add_test(tcase, once);
	return suite;
}
