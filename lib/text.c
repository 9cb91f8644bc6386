/* SPDX-License-Identifier: Apache-2.0 */
#include "text.h"

#include <string.h>

void stn_text_start(struct stn_text *text, char *buffer, size_t size)
{
	text->data = buffer;
	text->size = size;
	text->length = 0;
	buffer[0] = '\0';
}

void stn_text_add_char(struct stn_text *text, char c)
{
	if (text->length + 1 >= text->size)
		return;
	text->data[text->length++] = c;
	text->data[text->length] = '\0';
}

void stn_text_add(struct stn_text *text, const char *string)
{
	for (; *string; string++)
		stn_text_add_char(text, *string);
}

void stn_text_add_number(struct stn_text *text, uint64_t value)
{
	char digits[20];
	size_t count = 0;

	do {
		digits[count++] = (char)('0' + value % 10);
		value /= 10;
	} while (value);
	while (count)
		stn_text_add_char(text, digits[--count]);
}

void stn_text_add_signed(struct stn_text *text, int64_t value)
{
	if (value < 0)
		stn_text_add_char(text, '-');
	stn_text_add_number(text, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void stn_text_add_fraction(struct stn_text *text, uint64_t value, unsigned digits)
{
	uint64_t unit = 1;

	for (unsigned i = 0; i < digits; i++)
		unit *= 10;
	stn_text_add_number(text, value / unit);
	if (digits)
		stn_text_add_char(text, '.');
	while (digits--) {
		unit /= 10;
		stn_text_add_char(text, (char)('0' + value / unit % 10));
	}
}

void stn_text_add_bytes(struct stn_text *text, uint64_t bytes)
{
	static const char *const unit[] = {" B", " KiB", " MiB", " GiB", " TiB"};
	unsigned i = 0;
	uint64_t scaled = bytes;

	for (; scaled >= 1024 && i < 4; i++)
		scaled /= 1024;
	if (i == 0)
		stn_text_add_number(text, bytes);
	else
		stn_text_add_fraction(text, (bytes >> (10 * (i - 1))) * 100 / 1024, 2);
	stn_text_add(text, unit[i]);
}

static void add_hex_escape(struct stn_text *text, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";

	stn_text_add(text, "\\u00");
	stn_text_add_char(text, hex[c >> 4]);
	stn_text_add_char(text, hex[c & 15]);
}

/* The length that the first byte of a UTF-8 sequence promises, 0 for a byte that begins none. */
static size_t utf8_length(unsigned char first)
{
	if (first >= 0xf0 && first <= 0xf4)
		return 4;
	if (first >= 0xe0)
		return first < 0xf0 ? 3 : 0;
	return first >= 0xc2 && first <= 0xdf ? 2 : 0;
}

/* True if the second byte makes the sequence overlong, a surrogate, or larger than U+10FFFF. */
static bool utf8_forbidden(unsigned char first, unsigned char second)
{
	return (first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
	       (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f);
}

/* Returns the length of the valid UTF-8 sequence at s (2 to 4), or 0. */
static size_t utf8_sequence(const unsigned char *s)
{
	size_t length = utf8_length(s[0]);

	for (size_t i = 1; i < length; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return length && utf8_forbidden(s[0], s[1]) ? 0 : length;
}

void stn_text_add_json(struct stn_text *text, const char *string)
{
	const unsigned char *s = (const unsigned char *)string;

	while (*s) {
		size_t sequence = *s < 0x80 ? 1 : utf8_sequence(s);

		if (*s == '"' || *s == '\\') {
			stn_text_add_char(text, '\\');
			stn_text_add_char(text, (char)*s);
		} else if (*s < 0x20 || *s == 0x7f || sequence == 0) {
			add_hex_escape(text, *s);
			sequence = 1;
		} else {
			for (size_t i = 0; i < sequence; i++)
				stn_text_add_char(text, (char)s[i]);
		}
		s += sequence;
	}
}

void stn_text_add_plain(struct stn_text *text, const char *string)
{
	for (const unsigned char *s = (const unsigned char *)string; *s; s++)
		stn_text_add_char(text, *s < 0x20 || *s == 0x7f ? '?' : (char)*s);
}

bool stn_text_number(const char *string, size_t length, uint64_t *out)
{
	uint64_t value = 0;

	if (length == 0)
		return false;
	for (size_t i = 0; i < length; i++) {
		unsigned digit = (unsigned)(string[i] - '0');

		if (digit > 9 || value > ((uint64_t)INT64_MAX - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = value;
	return true;
}

/* Returns the power of two that a size suffix stands for, or 0 if c is none. */
static unsigned suffix_shift(char c)
{
	switch (c) {
	case 'k':
	case 'K':
		return 10;
	case 'm':
	case 'M':
		return 20;
	case 'g':
	case 'G':
		return 30;
	case 't':
	case 'T':
		return 40;
	default:
		return 0;
	}
}

bool stn_text_size(const char *string, size_t length, uint64_t *out)
{
	unsigned shift = length ? suffix_shift(string[length - 1]) : 0;
	uint64_t value;

	if (!stn_text_number(string, length - (shift ? 1 : 0), &value))
		return false;
	if (value > (uint64_t)INT64_MAX >> shift)
		return false;
	*out = value << shift;
	return true;
}

int64_t stn_text_field(const char *text, const char *key)
{
	size_t key_length = strlen(key);

	while (text) {
		if (strncmp(text, key, key_length) == 0 &&
		    (text[key_length] == ' ' || text[key_length] == '\t' ||
		     text[key_length] == ':')) {
			const char *digits = text + key_length + strspn(text + key_length, ": \t");
			uint64_t value;

			return stn_text_number(digits, strspn(digits, "0123456789"), &value)
				       ? (int64_t)value
				       : -1;
		}
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	return -1;
}
