/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "text.h"
#include "unit.h"

/* Numbers as STSHIM_* variables and the kernel's files write them. */
static const struct {
	const char *text;
	bool good;
	uint64_t value;
} numbers[] = {
	{"0", true, 0},
	{"7", true, 7},
	{"00012", true, 12},
	{"4096", true, 4096},
	{"18446744073709551", true, 18446744073709551},
	{"9223372036854775807", true, INT64_MAX},
	{"9223372036854775808", false, 0},
	{"9999999999999999999", false, 0},
	{"18446744073709551616", false, 0},
	{"18446744073709551617", false, 0},
	{"99999999999999999999999999", false, 0},
	{"", false, 0},
	{"-1", false, 0},
	{"+1", false, 0},
	{" 1", false, 0},
	{"1 ", false, 0},
	{"1\n", false, 0},
	{"0x10", false, 0},
	{"1.5", false, 0},
	{"1/", false, 0},
	{"1:", false, 0},
	{"\xb2", false, 0},
};

START_TEST(number_value)
{
	uint64_t value = 77;
	bool good = stn_text_number(numbers[_i].text, strlen(numbers[_i].text), &value);

	ck_assert_int_eq(good, numbers[_i].good);
	ck_assert_uint_eq(value, good ? numbers[_i].value : 77);
}
END_TEST

/* Only the given length counts, not what follows. */
START_TEST(number_length)
{
	uint64_t value = 0;

	ck_assert(stn_text_number("123456", 3, &value));
	ck_assert_uint_eq(value, 123);
	ck_assert(!stn_text_number("123", 0, &value));
}
END_TEST

static const struct {
	const char *text;
	bool good;
	uint64_t value;
} sizes[] = {
	{"0", true, 0},
	{"512", true, 512},
	{"1k", true, KIB},
	{"1K", true, KIB},
	{"64m", true, 64 * MIB},
	{"8M", true, 8 * MIB},
	{"3g", true, 3 * GIB},
	{"3G", true, 3 * GIB},
	{"2t", true, 2048 * GIB},
	{"2T", true, 2048 * GIB},
	{"0T", true, 0},
	{"9007199254740991K", true, 9007199254740991 * KIB},
	{"9007199254740992K", false, 0},
	{"8388607T", true, (uint64_t)8388607 << 40},
	{"8388608T", false, 0},
	{"9223372036854775807", true, INT64_MAX},
	{"9223372036854775807M", false, 0},
	{"18446744073709551616T", false, 0},
	{"K", false, 0},
	{"", false, 0},
	{"1KB", false, 0},
	{"1KiB", false, 0},
	{"1 K", false, 0},
	{"K1", false, 0},
	{"1P", false, 0},
	{"1.5G", false, 0},
	{"-1K", false, 0},
};

START_TEST(size_value)
{
	uint64_t value = 77;
	bool good = stn_text_size(sizes[_i].text, strlen(sizes[_i].text), &value);

	ck_assert_int_eq(good, sizes[_i].good);
	ck_assert_uint_eq(value, good ? sizes[_i].value : 77);
}
END_TEST

static const struct {
	const char *text, *key;
	int64_t value;
} fields[] = {
	{"MemTotal:       24610000 kB\nMemAvailable:   123 kB\n", "MemAvailable", 123},
	{"MemTotal:       24610000 kB\nMemAvailable:   123 kB\n", "MemTotal", 24610000},
	{"file 1\ninactive_file 22\nactive_file 333\n", "active_file", 333},
	{"inactive_file 22\ntotal_inactive_file 44\n", "inactive_file", 22},
	{"total_inactive_file 44\n", "inactive_file", -1},
	{"inactive_files 44\n", "inactive_file", -1},
	{"simd_count\t80\n", "simd_count", 80},
	{"slab 9223372036854775807", "slab", INT64_MAX},
	{"slab 9223372036854775808", "slab", -1},
	{"slab max\n", "slab", -1},
	{"slab -5\n", "slab", -1},
	{"slab\n", "slab", -1},
	{"slab", "slab", -1},
	{"slab:", "slab", -1},
	{"", "slab", -1},
	{"\n\n\nslab 4", "slab", 4},
	{"slab \nother 5\n", "slab", -1},
	{"slab 1\nslab 2\n", "slab", 1},
};

START_TEST(field)
{
	ck_assert_int_eq(stn_text_field(fields[_i].text, fields[_i].key), fields[_i].value);
}
END_TEST

static const struct {
	uint64_t bytes;
	const char *text;
} shown_bytes[] = {
	{0, "0 B"},
	{1, "1 B"},
	{1023, "1023 B"},
	{1024, "1.00 KiB"},
	{1536, "1.50 KiB"},
	{65536, "64.00 KiB"},
	{MIB - 1, "1023.99 KiB"},
	{MIB, "1.00 MiB"},
	{GIB + GIB / 4, "1.25 GiB"},
	{1024 * GIB, "1.00 TiB"},
	{UINT64_MAX, "16777215.99 TiB"},
};

START_TEST(bytes)
{
	char buffer[64];
	struct stn_text text;

	stn_text_start(&text, buffer, sizeof(buffer));
	stn_text_add_bytes(&text, shown_bytes[_i].bytes);
	ck_assert_str_eq(buffer, shown_bytes[_i].text);
	ck_assert_uint_eq(text.length, strlen(buffer));
}
END_TEST

static const struct {
	uint64_t value;
	unsigned digits;
	const char *text;
} fractions[] = {
	{0, 0, "0"},
	{0, 2, "0.00"},
	{5, 0, "5"},
	{5, 3, "0.005"},
	{1234567, 6, "1.234567"},
	{1234567, 2, "12345.67"},
	{1000000, 6, "1.000000"},
	{UINT64_MAX, 6, "18446744073709.551615"},
};

START_TEST(fraction)
{
	char buffer[64];
	struct stn_text text;

	stn_text_start(&text, buffer, sizeof(buffer));
	stn_text_add_fraction(&text, fractions[_i].value, fractions[_i].digits);
	ck_assert_str_eq(buffer, fractions[_i].text);
}
END_TEST

START_TEST(signed_and_unsigned)
{
	char buffer[128];
	struct stn_text text;

	stn_text_start(&text, buffer, sizeof(buffer));
	stn_text_add_signed(&text, INT64_MIN);
	stn_text_add_char(&text, ' ');
	stn_text_add_signed(&text, -1);
	stn_text_add_char(&text, ' ');
	stn_text_add_signed(&text, INT64_MAX);
	stn_text_add_char(&text, ' ');
	stn_text_add_number(&text, UINT64_MAX);
	stn_text_add_char(&text, ' ');
	stn_text_add_number(&text, 0);
	ck_assert_str_eq(buffer,
			 "-9223372036854775808 -1 9223372036854775807 18446744073709551615 0");
}
END_TEST

static const struct {
	const char *in, *out;
} jsons[] = {
	{"", ""},
	{"model.safetensors", "model.safetensors"},
	{"a\"b\\c", "a\\\"b\\\\c"},
	{"\x01\t\n\r\x1f\x7f", "\\u0001\\u0009\\u000a\\u000d\\u001f\\u007f"},
	{"/", "/"},
	/* Valid sequences of two, three and four bytes, the first and the last of each length. */
	{"\xc2\x80 \xdf\xbf", "\xc2\x80 \xdf\xbf"},
	{"\xe0\xa0\x80 \xef\xbf\xbf", "\xe0\xa0\x80 \xef\xbf\xbf"},
	{"\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf", "\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf"},
	{"\xed\x9f\xbf \xee\x80\x80", "\xed\x9f\xbf \xee\x80\x80"},
	/* A continuation without a beginning, a beginning without its continuation. */
	{"\x80", "\\u0080"},
	{"\xbf\xbf", "\\u00bf\\u00bf"},
	{"\xc3", "\\u00c3"},
	{"\xc3(", "\\u00c3("},
	{"\xe2\x82", "\\u00e2\\u0082"},
	{"\xe2\x82x", "\\u00e2\\u0082x"},
	{"\xf0\x9f\x98", "\\u00f0\\u009f\\u0098"},
	{"caf\xe9.sft", "caf\\u00e9.sft"},
	/* Bytes that never occur. */
	{"\xc0\xaf", "\\u00c0\\u00af"},
	{"\xc1\xbf", "\\u00c1\\u00bf"},
	{"\xf5\x80\x80\x80", "\\u00f5\\u0080\\u0080\\u0080"},
	{"\xfe\xff", "\\u00fe\\u00ff"},
	/* Longer than need be, halves of surrogate pairs, beyond U+10FFFF. */
	{"\xe0\x80\xaf", "\\u00e0\\u0080\\u00af"},
	{"\xe0\x9f\xbf", "\\u00e0\\u009f\\u00bf"},
	{"\xf0\x80\x80\xaf", "\\u00f0\\u0080\\u0080\\u00af"},
	{"\xf0\x8f\xbf\xbf", "\\u00f0\\u008f\\u00bf\\u00bf"},
	{"\xed\xa0\x80", "\\u00ed\\u00a0\\u0080"},
	{"\xed\xbf\xbf", "\\u00ed\\u00bf\\u00bf"},
	{"\xf4\x90\x80\x80", "\\u00f4\\u0090\\u0080\\u0080"},
};

START_TEST(json)
{
	char buffer[256];
	struct stn_text text;

	stn_text_start(&text, buffer, sizeof(buffer));
	stn_text_add_json(&text, jsons[_i].in);
	/* Not ck_assert_str_eq: bytes that are not UTF-8 would break Check's XML log. */
	ck_assert_msg(strcmp(buffer, jsons[_i].out) == 0, "not %s", jsons[_i].out);
}
END_TEST

/* A file name can neither begin a new line nor drive a terminal. */
START_TEST(plain)
{
	char buffer[64];
	struct stn_text text;

	stn_text_start(&text, buffer, sizeof(buffer));
	stn_text_add_plain(&text, "a\nlibstnommap[1]: \x1b[2J\x7f\xc3\xa9 b");
	ck_assert_str_eq(buffer, "a?libstnommap[1]: ?[2J?\xc3\xa9 b");
}
END_TEST

/* Whatever is appended, nothing is written behind the buffer and the text ends in NUL. */
START_TEST(cut)
{
	char buffer[40];
	struct stn_text text;
	size_t size = (size_t)_i;

	memset(buffer, 'x', sizeof(buffer));
	stn_text_start(&text, buffer, size);
	stn_text_add(&text, "path ");
	stn_text_add_json(&text, "\x01\xff\"");
	stn_text_add_number(&text, UINT64_MAX);
	stn_text_add_bytes(&text, GIB);
	stn_text_add_plain(&text, "end\n");
	ck_assert_uint_eq(text.length, size - 1);
	ck_assert_uint_eq(strlen(buffer), size - 1);
	for (size_t i = size; i < sizeof(buffer); i++)
		ck_assert_int_eq(buffer[i], 'x');
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("text");
	TCase *tcase = unit_case(suite, "parse", 5);

	tcase_add_loop_test(tcase, number_value, 0, COUNT(numbers));
	tcase_add_test(tcase, number_length);
	tcase_add_loop_test(tcase, size_value, 0, COUNT(sizes));
	tcase_add_loop_test(tcase, field, 0, COUNT(fields));
	tcase = unit_case(suite, "build", 5);
	tcase_add_loop_test(tcase, bytes, 0, COUNT(shown_bytes));
	tcase_add_loop_test(tcase, fraction, 0, COUNT(fractions));
	tcase_add_test(tcase, signed_and_unsigned);
	tcase_add_loop_test(tcase, json, 0, COUNT(jsons));
	tcase_add_test(tcase, plain);
	tcase_add_loop_test(tcase, cut, 1, 32);
	return suite;
}
