/* SPDX-License-Identifier: Apache-2.0 */
#include "scan.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH 128

/* Bytes of the UTF-8 character at text, of which left may be looked at; 0 if it is none. */
static size_t character_length(const unsigned char *text, size_t left)
{
	size_t length = text[0] < 0x80			    ? 1
			: text[0] >= 0xf0 && text[0] < 0xf5 ? 4
			: text[0] >= 0xe0 && text[0] < 0xf0 ? 3
			: text[0] >= 0xc2 && text[0] < 0xe0 ? 2
							    : 0;

	if (length > left)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong forms, surrogates, and what lies above U+10FFFF. */
	if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f) ||
	    (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f))
		return 0;
	return length;
}

size_t scan_utf8(const char *text, size_t length)
{
	size_t at = 0;

	while (at < length) {
		size_t character = character_length((const unsigned char *)text + at, length - at);

		if (character == 0)
			return at;
		at += character;
	}
	return at;
}

void scan_start(struct scan *scan, const char *text, size_t length)
{
	*scan = (struct scan){.text = text, .length = length};
}

/* Remembers the first error. */
static bool fail(struct scan *scan, const char *error, size_t at)
{
	if (!scan->error) {
		scan->error = error;
		scan->error_at = at;
	}
	return false;
}

char scan_peek(struct scan *scan)
{
	while (scan->at < scan->length && scan->text[scan->at] != '\0' &&
	       strchr(" \t\r\n", scan->text[scan->at]))
		scan->at++;
	return scan->error || scan->at == scan->length ? '\0' : scan->text[scan->at];
}

bool scan_take(struct scan *scan, char c, const char *expected)
{
	if (scan_peek(scan) != c)
		return fail(scan, expected, scan->at);
	scan->at++;
	return true;
}

bool scan_next(struct scan *scan, char open, bool *first)
{
	char close = open == '{' ? '}' : ']';
	bool begins = *first;

	*first = false;
	if (begins && !scan_take(scan, open, open == '{' ? "'{' expected" : "'[' expected"))
		return false;
	if (scan_peek(scan) == close) {
		scan->at++;
		return false;
	}
	if (!begins &&
	    !scan_take(scan, ',', open == '{' ? "',' or '}' expected" : "',' or ']' expected"))
		return false;
	return !scan->error;
}

/* Four hexadecimal digits of a \u escape. */
static bool take_hex(struct scan *scan, unsigned *out)
{
	*out = 0;
	for (int i = 0; i < 4; i++, scan->at++) {
		char c = scan->at < scan->length ? scan->text[scan->at] : '\0';
		unsigned digit = c >= '0' && c <= '9'	? (unsigned)(c - '0')
				 : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
				 : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
							: 16;

		if (digit == 16)
			return fail(scan, "four hexadecimal digits expected", scan->at);
		*out = *out << 4 | digit;
	}
	return true;
}

/* The rest of a \u escape, with its second half if it is one of two. */
static bool take_unicode(struct scan *scan, unsigned *out)
{
	size_t at = scan->at;
	unsigned low;

	if (!take_hex(scan, out))
		return false;
	if (*out >= 0xdc00 && *out < 0xe000)
		return fail(scan, "half of a surrogate pair", at);
	if (*out < 0xd800 || *out >= 0xdc00)
		return true;
	if (scan->length - scan->at < 2 || memcmp(scan->text + scan->at, "\\u", 2) != 0)
		return fail(scan, "half of a surrogate pair", at);
	scan->at += 2;
	if (!take_hex(scan, &low))
		return false;
	if (low < 0xdc00 || low >= 0xe000)
		return fail(scan, "half of a surrogate pair", at);
	*out = 0x10000 + ((*out - 0xd800) << 10) + (low - 0xdc00);
	return true;
}

static char *put_utf8(char *out, unsigned c)
{
	if (c == 0)
		c = 0x2400;
	if (c < 0x80) {
		*out++ = (char)c;
		return out;
	}
	if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
	} else if (c < 0x10000) {
		*out++ = (char)(0xe0 | c >> 12);
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
	} else {
		*out++ = (char)(0xf0 | c >> 18);
		*out++ = (char)(0x80 | (c >> 12 & 0x3f));
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
	}
	*out++ = (char)(0x80 | (c & 0x3f));
	return out;
}

/* What follows a backslash; NULL if nothing may. */
static char *take_escape(struct scan *scan, char *out)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	char c = scan->at < scan->length ? scan->text[scan->at] : '\0';
	const char *found = c ? strchr(from, c) : NULL;
	unsigned character;

	if (c == 'u') {
		scan->at++;
		return take_unicode(scan, &character) ? put_utf8(out, character) : NULL;
	}
	if (!found) {
		fail(scan, "no such escape", scan->at);
		return NULL;
	}
	scan->at++;
	*out++ = to[found - from];
	return out;
}

/* Bytes up to the end of the string that begins at the current place. */
static size_t string_length(const struct scan *scan)
{
	size_t at = scan->at;

	while (at < scan->length && scan->text[at] != '"')
		at += scan->text[at] == '\\' ? 2 : 1;
	return (at < scan->length ? at : scan->length) - scan->at;
}

char *scan_string(struct scan *scan)
{
	char *text, *out;

	if (!scan_take(scan, '"', "a string expected"))
		return NULL;
	/* No escape is shorter than what it stands for. */
	text = out = malloc(string_length(scan) + 1);
	if (!text)
		err(EXIT_FAILURE, "memory");
	while (out && scan->at < scan->length && scan->text[scan->at] != '"') {
		char c = scan->text[scan->at++];

		if ((unsigned char)c < ' ')
			fail(scan, "a control character in a string", scan->at - 1);
		else if (c != '\\')
			*out++ = c;
		else
			out = take_escape(scan, out);
		if (scan->error)
			out = NULL;
	}
	if (out && scan->at == scan->length)
		fail(scan, "a string without end", scan->at);
	if (!out || scan->error) {
		free(text);
		return NULL;
	}
	scan->at++;
	*out = '\0';
	return text;
}

static bool is_digit(const struct scan *scan)
{
	return scan->at < scan->length && scan->text[scan->at] >= '0' &&
	       scan->text[scan->at] <= '9';
}

bool scan_number(struct scan *scan, uint64_t *out)
{
	char c = scan_peek(scan);
	size_t start = scan->at;

	*out = 0;
	if (c < '0' || c > '9')
		return fail(scan, "a whole number expected", start);
	for (; is_digit(scan); scan->at++)
		if (__builtin_mul_overflow(*out, 10u, out) ||
		    __builtin_add_overflow(*out, (uint64_t)(scan->text[scan->at] - '0'), out))
			return fail(scan, "a number of 2^64 or more", start);
	if (c == '0' && scan->at > start + 1)
		return fail(scan, "a number that begins with 0", start);
	if (scan->at < scan->length && scan->text[scan->at] != '\0' &&
	    strchr(".eE", scan->text[scan->at]))
		return fail(scan, "a number that is not whole", start);
	return true;
}

static bool skip_digits(struct scan *scan)
{
	if (!is_digit(scan))
		return fail(scan, "a digit expected", scan->at);
	while (is_digit(scan))
		scan->at++;
	return true;
}

/* True if the next character is one of these; takes it. */
static bool take_any(struct scan *scan, const char *of)
{
	if (scan->at == scan->length || !scan->text[scan->at] || !strchr(of, scan->text[scan->at]))
		return false;
	scan->at++;
	return true;
}

static bool skip_number(struct scan *scan)
{
	take_any(scan, "-");
	if (!take_any(scan, "0") && !skip_digits(scan))
		return false;
	if (is_digit(scan))
		return fail(scan, "a number that begins with 0", scan->at - 1);
	if (take_any(scan, ".") && !skip_digits(scan))
		return false;
	if (!take_any(scan, "eE"))
		return true;
	take_any(scan, "+-");
	return skip_digits(scan);
}

static bool skip_word(struct scan *scan)
{
	static const char *const words[] = {"true", "false", "null"};

	for (size_t i = 0; i < 3; i++)
		if (scan->length - scan->at >= strlen(words[i]) &&
		    memcmp(scan->text + scan->at, words[i], strlen(words[i])) == 0) {
			scan->at += strlen(words[i]);
			return true;
		}
	return fail(scan, "a value expected", scan->at);
}

static bool skip_string(struct scan *scan)
{
	char *text = scan_string(scan);

	free(text);
	return text != NULL;
}

static bool skip_value(struct scan *scan, unsigned depth);

/* An object or array. */
static bool skip_inside(struct scan *scan, char open, unsigned depth)
{
	bool first = true;

	if (depth == DEPTH)
		return fail(scan, "more than 128 levels deep", scan->at);
	while (scan_next(scan, open, &first)) {
		if (open == '{' && !(skip_string(scan) && scan_take(scan, ':', "':' expected")))
			return false;
		if (!skip_value(scan, depth + 1))
			return false;
	}
	return !scan->error;
}

static bool skip_value(struct scan *scan, unsigned depth)
{
	char c = scan_peek(scan);

	if (c == '{' || c == '[')
		return skip_inside(scan, c, depth);
	if (c == '"')
		return skip_string(scan);
	if (c == '-' || (c >= '0' && c <= '9'))
		return skip_number(scan);
	return skip_word(scan);
}

bool scan_skip(struct scan *scan)
{
	return skip_value(scan, 0);
}
