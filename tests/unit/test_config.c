/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <string.h>

#include "config.h"
#include "unit.h"

#define FIELD(member) offsetof(struct stn_config, member)
#define SECOND	      ((uint64_t)1000000000)

/* The environment of one test. */
static const char *given_name, *given_value;

static char *one_variable(const char *name)
{
	return given_name && strcmp(name, given_name) == 0 ? (char *)(uintptr_t)given_value : NULL;
}

/* Reads the configuration with just one variable set, into memory that was not zero before. */
static void read_with(struct stn_config *config, const char *name, const char *value)
{
	memset(config, 0xa5, sizeof(*config));
	given_name = name;
	given_value = value;
	stn_config_read(config, one_variable);
}

static uint64_t number_at(const struct stn_config *config, size_t offset)
{
	uint64_t value;

	memcpy(&value, (const char *)config + offset, sizeof(value));
	return value;
}

/* What each variable is without being set. */
static const struct {
	size_t field;
	uint64_t value;
} defaults[] = {
	{FIELD(mode), STN_MODE_AUTO},
	{FIELD(uma), STN_ANSWER_AUTO},
	{FIELD(fill), STN_FILL_AUTO},
	{FIELD(io), STN_IO_AUTO},
	{FIELD(threads), 8},
	{FIELD(block), 8 << 20},
	{FIELD(memory_kind), STN_MEMORY_AUTO},
	{FIELD(cache), STN_CACHE_AUTO},
	{FIELD(mlock), STN_MLOCK_OFF},
	{FIELD(timeout), 30 * SECOND},
	{FIELD(huge_pages), STN_HUGE_AUTO},
	{FIELD(read_min), 1 << 20},
	{FIELD(log_level), STN_LOG_OFF},
	{FIELD(progress), 0},
};

START_TEST(default_number)
{
	struct stn_config config;

	read_with(&config, NULL, NULL);
	ck_assert_uint_eq(number_at(&config, defaults[_i].field), defaults[_i].value);
}
END_TEST

START_TEST(default_texts)
{
	struct stn_config config;

	read_with(&config, NULL, NULL);
	ck_assert_str_eq(config.files, "*.safetensors:*.sft");
	ck_assert_str_eq(config.file_systems, "fuse");
	ck_assert_str_eq(config.log_file, "");
	ck_assert_str_eq(config.stats_file, "");
	ck_assert_uint_eq(config.bad, 0);
}
END_TEST

/* Values that are understood, and what they mean. */
static const struct {
	const char *name, *value;
	size_t field;
	uint64_t expected;
} good[] = {
	{"STSHIM_MODE", "auto", FIELD(mode), STN_MODE_AUTO},
	{"STSHIM_MODE", "always", FIELD(mode), STN_MODE_ALWAYS},
	{"STSHIM_MODE", "observe", FIELD(mode), STN_MODE_OBSERVE},
	{"STSHIM_MODE", "off", FIELD(mode), STN_MODE_OFF},
	{"STSHIM_UMA", "auto", FIELD(uma), STN_ANSWER_AUTO},
	{"STSHIM_UMA", "yes", FIELD(uma), STN_ANSWER_YES},
	{"STSHIM_UMA", "no", FIELD(uma), STN_ANSWER_NO},
	{"STSHIM_FILL", "auto", FIELD(fill), STN_FILL_AUTO},
	{"STSHIM_FILL", "eager", FIELD(fill), STN_FILL_EAGER},
	{"STSHIM_FILL", "lazy", FIELD(fill), STN_FILL_LAZY},
	{"STSHIM_AHEAD", "auto", FIELD(ahead), STN_AHEAD_AUTO},
	{"STSHIM_AHEAD", "tensor", FIELD(ahead), STN_AHEAD_TENSOR},
	{"STSHIM_IO", "auto", FIELD(io), STN_IO_AUTO},
	{"STSHIM_IO", "direct", FIELD(io), STN_IO_DIRECT},
	{"STSHIM_IO", "buffered", FIELD(io), STN_IO_BUFFERED},
	{"STSHIM_THREADS", "1", FIELD(threads), 1},
	{"STSHIM_THREADS", "8", FIELD(threads), 8},
	{"STSHIM_THREADS", "64", FIELD(threads), 64},
	{"STSHIM_BLOCK", "64K", FIELD(block), 64 * KIB},
	{"STSHIM_BLOCK", "65536", FIELD(block), 64 * KIB},
	{"STSHIM_BLOCK", "65537", FIELD(block), 64 * KIB},
	{"STSHIM_BLOCK", "131071", FIELD(block), 64 * KIB},
	{"STSHIM_BLOCK", "1m", FIELD(block), MIB},
	{"STSHIM_BLOCK", "64M", FIELD(block), 64 * MIB},
	{"STSHIM_MEMORY", "auto", FIELD(memory_kind), STN_MEMORY_AUTO},
	{"STSHIM_MEMORY", "0", FIELD(memory_kind), STN_MEMORY_SIZE},
	{"STSHIM_MEMORY", "0", FIELD(memory_value), 0},
	{"STSHIM_MEMORY", "12G", FIELD(memory_kind), STN_MEMORY_SIZE},
	{"STSHIM_MEMORY", "12G", FIELD(memory_value), 12 * GIB},
	{"STSHIM_MEMORY", "0%", FIELD(memory_kind), STN_MEMORY_PERCENT},
	{"STSHIM_MEMORY", "0%", FIELD(memory_value), 0},
	{"STSHIM_MEMORY", "100%", FIELD(memory_value), 100},
	{"STSHIM_CACHE", "auto", FIELD(cache), STN_CACHE_AUTO},
	{"STSHIM_CACHE", "restore", FIELD(cache), STN_CACHE_RESTORE},
	{"STSHIM_CACHE", "keep", FIELD(cache), STN_CACHE_KEEP},
	{"STSHIM_CACHE", "drop", FIELD(cache), STN_CACHE_DROP},
	{"STSHIM_MLOCK", "off", FIELD(mlock), STN_MLOCK_OFF},
	{"STSHIM_MLOCK", "try", FIELD(mlock), STN_MLOCK_TRY},
	{"STSHIM_MLOCK", "require", FIELD(mlock), STN_MLOCK_REQUIRE},
	{"STSHIM_TIMEOUT", "0", FIELD(timeout), 0},
	{"STSHIM_TIMEOUT", "30", FIELD(timeout), 30 * SECOND},
	{"STSHIM_TIMEOUT", "5s", FIELD(timeout), 5 * SECOND},
	{"STSHIM_TIMEOUT", "250ms", FIELD(timeout), SECOND / 4},
	{"STSHIM_TIMEOUT", "2m", FIELD(timeout), 120 * SECOND},
	{"STSHIM_TIMEOUT", "86400", FIELD(timeout), 86400 * SECOND},
	{"STSHIM_TIMEOUT", "1440m", FIELD(timeout), 86400 * SECOND},
	{"STSHIM_TIMEOUT", "86400000ms", FIELD(timeout), 86400 * SECOND},
	{"STSHIM_HUGEPAGES", "auto", FIELD(huge_pages), STN_HUGE_AUTO},
	{"STSHIM_HUGEPAGES", "off", FIELD(huge_pages), STN_HUGE_OFF},
	{"STSHIM_READ_MIN", "64K", FIELD(read_min), 64 * KIB},
	{"STSHIM_READ_MIN", "1048576", FIELD(read_min), MIB},
	{"STSHIM_READ_MIN", "70000", FIELD(read_min), 64 * KIB},
	{"STSHIM_READ_MIN", "1G", FIELD(read_min), GIB},
	{"STSHIM_READ_MIN", "off", FIELD(read_min), STN_READ_OFF},
	{"STSHIM_LOG", "off", FIELD(log_level), STN_LOG_OFF},
	{"STSHIM_LOG", "error", FIELD(log_level), STN_LOG_ERROR},
	{"STSHIM_LOG", "warn", FIELD(log_level), STN_LOG_WARN},
	{"STSHIM_LOG", "info", FIELD(log_level), STN_LOG_INFO},
	{"STSHIM_LOG", "debug", FIELD(log_level), STN_LOG_DEBUG},
	{"STSHIM_PROGRESS", "off", FIELD(progress), 0},
	{"STSHIM_PROGRESS", "on", FIELD(progress), 1},
};

START_TEST(good_value)
{
	struct stn_config config;

	read_with(&config, good[_i].name, good[_i].value);
	ck_assert_uint_eq(number_at(&config, good[_i].field), good[_i].expected);
	ck_assert_uint_eq(config.bad, 0);
}
END_TEST

/* Values that are not. */
static const struct {
	const char *name, *value;
} bad[] = {
	{"STSHIM_MODE", ""},
	{"STSHIM_MODE", "on"},
	{"STSHIM_MODE", "Always"},
	{"STSHIM_MODE", "auto "},
	{"STSHIM_MODE", "1"},
	{"STSHIM_UMA", "maybe"},
	{"STSHIM_FILL", "fast"},
	{"STSHIM_AHEAD", "layer"},
	{"STSHIM_IO", "mmap"},
	{"STSHIM_THREADS", ""},
	{"STSHIM_THREADS", "0"},
	{"STSHIM_THREADS", "65"},
	{"STSHIM_THREADS", "-1"},
	{"STSHIM_THREADS", "+8"},
	{"STSHIM_THREADS", " 8"},
	{"STSHIM_THREADS", "8 "},
	{"STSHIM_THREADS", "0x8"},
	{"STSHIM_THREADS", "1K"},
	{"STSHIM_THREADS", "18446744073709551624"},
	{"STSHIM_BLOCK", ""},
	{"STSHIM_BLOCK", "0"},
	{"STSHIM_BLOCK", "65535"},
	{"STSHIM_BLOCK", "63K"},
	{"STSHIM_BLOCK", "65M"},
	{"STSHIM_BLOCK", "67108865"},
	{"STSHIM_BLOCK", "8MB"},
	{"STSHIM_BLOCK", "18446744073709551616T"},
	{"STSHIM_MEMORY", ""},
	{"STSHIM_MEMORY", "%"},
	{"STSHIM_MEMORY", "101%"},
	{"STSHIM_MEMORY", "-5%"},
	{"STSHIM_MEMORY", "50.5%"},
	{"STSHIM_MEMORY", "50%%"},
	{"STSHIM_MEMORY", "8388608T"},
	{"STSHIM_MEMORY", "lots"},
	{"STSHIM_CACHE", "none"},
	{"STSHIM_MLOCK", "yes"},
	{"STSHIM_TIMEOUT", ""},
	{"STSHIM_TIMEOUT", "s"},
	{"STSHIM_TIMEOUT", "ms"},
	{"STSHIM_TIMEOUT", "1h"},
	{"STSHIM_TIMEOUT", "1 s"},
	{"STSHIM_TIMEOUT", "-1"},
	{"STSHIM_TIMEOUT", "1.5"},
	{"STSHIM_TIMEOUT", "86401"},
	{"STSHIM_TIMEOUT", "1441m"},
	{"STSHIM_TIMEOUT", "86400001ms"},
	{"STSHIM_TIMEOUT", "18446744073709551616"},
	{"STSHIM_HUGEPAGES", "on"},
	{"STSHIM_READ_MIN", ""},
	{"STSHIM_READ_MIN", "0"},
	{"STSHIM_READ_MIN", "63K"},
	{"STSHIM_READ_MIN", "2G"},
	{"STSHIM_READ_MIN", "on"},
	{"STSHIM_READ_MIN", "Off"},
	{"STSHIM_LOG", "verbose"},
	{"STSHIM_LOG", "INFO"},
	{"STSHIM_PROGRESS", "yes"},
};

/* The index of a variable's row. */
static size_t row_of(const char *name)
{
	struct stn_config_row row = {0};

	for (size_t i = 0; i < stn_config_rows(); i++) {
		stn_config_row(i, &row);
		if (strcmp(row.name, name) == 0)
			return i;
	}
	ck_abort_msg("%s has no row", name);
}

/* A bad value is remembered under its row, and everything is as without it. */
START_TEST(bad_value)
{
	struct stn_config with, without;

	read_with(&without, NULL, NULL);
	read_with(&with, bad[_i].name, bad[_i].value);
	ck_assert_uint_eq(with.bad, (uint32_t)1 << row_of(bad[_i].name));
	with.bad = 0;
	/* Means nothing without a size or a percentage. */
	with.memory_value = without.memory_value;
	ck_assert_mem_eq(&with, &without, sizeof(with));
}
END_TEST

/* The texts, with the size of their buffers. */
static const struct {
	const char *name;
	size_t field, size;
} texts[] = {
	{"STSHIM_FILES", FIELD(files), sizeof(((struct stn_config *)0)->files)},
	{"STSHIM_FSTYPES", FIELD(file_systems), sizeof(((struct stn_config *)0)->file_systems)},
	{"STSHIM_LOG_FILE", FIELD(log_file), sizeof(((struct stn_config *)0)->log_file)},
	{"STSHIM_STATS", FIELD(stats_file), sizeof(((struct stn_config *)0)->stats_file)},
};

/* The longest text fits; one byte more is refused whole, not cut. */
START_TEST(text_limit)
{
	static char value[8192];
	size_t size = texts[_i].size;
	struct stn_config config, without;

	memset(value, 'a', size - 1);
	value[size - 1] = '\0';
	read_with(&config, texts[_i].name, value);
	ck_assert_uint_eq(config.bad, 0);
	ck_assert_str_eq((char *)&config + texts[_i].field, value);
	value[size - 1] = 'a';
	value[size] = '\0';
	read_with(&without, NULL, NULL);
	read_with(&config, texts[_i].name, value);
	ck_assert_uint_eq(config.bad, (uint32_t)1 << row_of(texts[_i].name));
	ck_assert_str_eq((char *)&config + texts[_i].field, (char *)&without + texts[_i].field);
}
END_TEST

START_TEST(empty_text)
{
	struct stn_config config;

	read_with(&config, texts[_i].name, "");
	ck_assert_uint_eq(config.bad, 0);
	ck_assert_str_eq((char *)&config + texts[_i].field, "");
}
END_TEST

/* Every row has words for people, and its default is a value that it accepts. */
START_TEST(rows)
{
	struct stn_config config, without;
	struct stn_config_row row, other;

	/* struct stn_config remembers bad rows in 32 bits. */
	ck_assert_uint_gt(stn_config_rows(), 0);
	ck_assert_uint_le(stn_config_rows(), 32);
	read_with(&without, NULL, NULL);
	for (size_t i = 0; i < stn_config_rows(); i++) {
		stn_config_row(i, &row);
		ck_assert_int_eq(strncmp(row.name, "STSHIM_", 7), 0);
		ck_assert_uint_gt(strlen(row.values), 0);
		read_with(&config, row.name, row.fallback);
		ck_assert_msg(config.bad == 0 && memcmp(&config, &without, sizeof(config)) == 0,
			      "%s: default %s", row.name, row.fallback);
		for (size_t j = 0; j < i; j++) {
			stn_config_row(j, &other);
			ck_assert_str_ne(row.name, other.name);
		}
	}
}
END_TEST

static char *all_bad(const char *name)
{
	static char value[] = "\x01";

	return strcmp(name, "STSHIM_THREADS") == 0 ? NULL : value;
}

/* Bad values of several variables do not hide each other, and good ones beside them count. */
START_TEST(many_bad)
{
	struct stn_config config;

	stn_config_read(&config, all_bad);
	ck_assert(config.bad >> row_of("STSHIM_MODE") & 1);
	ck_assert(config.bad >> row_of("STSHIM_BLOCK") & 1);
	ck_assert(config.bad >> row_of("STSHIM_TIMEOUT") & 1);
	ck_assert(config.bad >> row_of("STSHIM_PROGRESS") & 1);
	ck_assert(!(config.bad >> row_of("STSHIM_THREADS") & 1));
	ck_assert(!(config.bad >> row_of("STSHIM_FILES") & 1));
	ck_assert_str_eq(config.files, "\x01");
	ck_assert_uint_eq(config.block, 8 * MIB);
	stn_config_read(&config, one_variable);
	ck_assert_uint_eq(config.bad, 0);
}
END_TEST

/* Variables of an environment that do not exist, in one text. */
static const struct {
	const char *environment[5];
	const char *unknown;
} environments[] = {
	{{NULL}, ""},
	{{"PATH=/bin", "STSHIM_MODE=off", "HOME=/"}, ""},
	{{"STSHIM_MODUS=off"}, "STSHIM_MODUS"},
	{{"STSHIM_A=1", "STSHIM_LOG=off", "STSHIM_B"}, "STSHIM_A STSHIM_B"},
	{{"STSHIM_", "STSHIM_MOD=1", "STSHIM_MODES=1"}, "STSHIM_ STSHIM_MOD STSHIM_MODES"},
	{{"XSTSHIM_A=1", "stshim_a=1", "STSHIM=1", "A=STSHIM_B"}, ""},
};

START_TEST(unknown)
{
	struct stn_config config;

	read_with(&config, NULL, NULL);
	strcpy(config.unknown, "before");
	stn_config_find_unknown(&config, (char *const *)(uintptr_t)environments[_i].environment);
	ck_assert_str_eq(config.unknown, environments[_i].unknown);
}
END_TEST

/* A long list is cut, and no environment is an empty one. */
START_TEST(unknown_limits)
{
	static char name[1000] = "STSHIM_";
	char *const environment[] = {name, name, NULL};
	struct stn_config config;

	memset(name + 7, 'X', sizeof(name) - 8);
	read_with(&config, NULL, NULL);
	stn_config_find_unknown(&config, environment);
	ck_assert_uint_eq(strlen(config.unknown), sizeof(config.unknown) - 1);
	stn_config_find_unknown(&config, NULL);
	ck_assert_str_eq(config.unknown, "");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("config");
	TCase *tcase = unit_case(suite, "values", 5);

	tcase_add_loop_test(tcase, default_number, 0, COUNT(defaults));
	tcase_add_test(tcase, default_texts);
	tcase_add_loop_test(tcase, good_value, 0, COUNT(good));
	tcase_add_loop_test(tcase, bad_value, 0, COUNT(bad));
	tcase_add_loop_test(tcase, text_limit, 0, COUNT(texts));
	tcase_add_loop_test(tcase, empty_text, 0, COUNT(texts));
	tcase = unit_case(suite, "table", 5);
	tcase_add_test(tcase, rows);
	tcase_add_test(tcase, many_bad);
	tcase_add_loop_test(tcase, unknown, 0, COUNT(environments));
	tcase_add_test(tcase, unknown_limits);
	return suite;
}
