/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"
#include "unit.h"

START_TEST(whole_file)
{
	char buffer[64];

	unit_text("hello", "hello\nworld\n");
	ck_assert_int_eq(stn_file_read("hello", buffer, sizeof(buffer)), 12);
	ck_assert_str_eq(buffer, "hello\nworld\n");
	unit_text("empty", "");
	ck_assert_int_eq(stn_file_read("empty", buffer, sizeof(buffer)), 0);
	ck_assert_str_eq(buffer, "");
}
END_TEST

/* A longer file is cut, and the buffer always ends in NUL; nothing is written behind it. */
START_TEST(cut)
{
	char buffer[32];
	size_t size = (size_t)_i;

	unit_text("digits", "0123456789");
	memset(buffer, 'x', sizeof(buffer));
	ck_assert_int_eq(stn_file_read("digits", buffer, size), size > 10 ? 10 : _i - 1);
	ck_assert_uint_eq(strlen(buffer), size > 10 ? 10 : size - 1);
	ck_assert_int_eq(buffer[size], 'x');
}
END_TEST

START_TEST(unreadable)
{
	char buffer[8] = "before";

	ck_assert_int_eq(stn_file_read("missing", buffer, sizeof(buffer)), -ENOENT);
	ck_assert_str_eq(buffer, "");
	ck_assert_int_eq(stn_file_read(".", buffer, sizeof(buffer)), -EISDIR);
	ck_assert_str_eq(buffer, "");
}
END_TEST

/* Nobody needs to write for the end of it to be seen. */
START_TEST(fifo)
{
	char buffer[8];

	ck_assert_int_eq(mkfifo("fifo", 0600), 0);
	ck_assert_int_eq(stn_file_read("fifo", buffer, sizeof(buffer)), 0);
}
END_TEST

START_TEST(in_directory)
{
	char buffer[8];

	unit_text("a/b/c", "12");
	ck_assert_int_eq(stn_file_read_in("a/b", "c", buffer, sizeof(buffer)), 2);
	ck_assert_str_eq(buffer, "12");
	ck_assert_int_eq(stn_file_read_in("a", "c", buffer, sizeof(buffer)), -ENOENT);
}
END_TEST

static const struct {
	const char *text;
	uint64_t value;
} numbers[] = {
	{"0\n", 0},
	{"4096\n", 4096},
	{"4096", 4096},
	{"9223372036854771712\n", 9223372036854771712u},
	{"9223372036854775807\n", INT64_MAX},
	{"9223372036854775808\n", UINT64_MAX},
	{"18446744073709551615\n", UINT64_MAX},
	{"max\n", UINT64_MAX},
	{"-1\n", UINT64_MAX},
	{"", UINT64_MAX},
	{"\n", UINT64_MAX},
};

START_TEST(number)
{
	unit_text("n/number", numbers[_i].text);
	ck_assert_uint_eq(stn_file_number("n", "number"), numbers[_i].value);
	ck_assert_uint_eq(stn_file_number("n", "missing"), UINT64_MAX);
}
END_TEST

#define LINE_MOST 8190 /* bytes of a line that are certain to fit */

/* Lines of all lengths around the buffer's, the last one without a newline. */
START_TEST(every_length)
{
	static const size_t lengths[] = {0, 1,	  100, 5000,	  5000, LINE_MOST,
					 0, 8000, 3,   LINE_MOST, 7};
	struct stn_lines lines;
	char *text = malloc(sizeof(lengths) * LINE_MOST), *end = text;
	char *line;

	for (int i = 0; i < COUNT(lengths); i++) {
		memset(end, 'a' + i, lengths[i]);
		end += lengths[i];
		*end++ = '\n';
	}
	unit_write("lines", text, (size_t)(end - text) - 1);
	stn_lines_open(&lines, "lines");
	for (int i = 0; i < COUNT(lengths); i++) {
		line = stn_lines_next(&lines);
		ck_assert_ptr_nonnull(line);
		ck_assert_uint_eq(strlen(line), lengths[i]);
		ck_assert(lengths[i] == 0 || line[lengths[i] - 1] == 'a' + i);
	}
	ck_assert_ptr_null(stn_lines_next(&lines));
	ck_assert_ptr_null(stn_lines_next(&lines));
	stn_lines_close(&lines);
	free(text);
}
END_TEST

/* A line that does not fit is cut, and its rest is not taken for a line of its own. */
START_TEST(long_line)
{
	static char text[40000];
	struct stn_lines lines;
	char *line;

	memset(text, 'x', sizeof(text));
	memcpy(text + sizeof(text) - 6, "\nlast\n", 6);
	unit_write("long", text, sizeof(text));
	stn_lines_open(&lines, "long");
	line = stn_lines_next(&lines);
	ck_assert_ptr_nonnull(line);
	ck_assert_uint_ge(strlen(line), LINE_MOST);
	ck_assert_uint_eq(strspn(line, "x"), strlen(line));
	line = stn_lines_next(&lines);
	ck_assert_ptr_nonnull(line);
	ck_assert_msg(strcmp(line, "last") == 0, "a line of %zu bytes", strlen(line));
	ck_assert_ptr_null(stn_lines_next(&lines));
	stn_lines_close(&lines);
}
END_TEST

START_TEST(no_lines)
{
	struct stn_lines lines;

	stn_lines_open(&lines, "missing");
	ck_assert_ptr_null(stn_lines_next(&lines));
	stn_lines_close(&lines);
	unit_text("empty", "");
	stn_lines_open(&lines, "empty");
	ck_assert_ptr_null(stn_lines_next(&lines));
	stn_lines_close(&lines);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("file");
	TCase *tcase = unit_case_in_dir(suite, "read", 5);

	tcase_add_test(tcase, whole_file);
	tcase_add_loop_test(tcase, cut, 1, 20);
	tcase_add_test(tcase, unreadable);
	tcase_add_test(tcase, fifo);
	tcase_add_test(tcase, in_directory);
	tcase_add_loop_test(tcase, number, 0, COUNT(numbers));
	tcase = unit_case_in_dir(suite, "lines", 5);
	tcase_add_test(tcase, every_length);
	tcase_add_test(tcase, long_line);
	tcase_add_test(tcase, no_lines);
	return suite;
}
