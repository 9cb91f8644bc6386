/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building and taking apart short texts in fixed buffers, without stdio and without allocation.
 * A text that does not fit is cut; it always ends in NUL. All functions are async-signal-safe.
 */
#ifndef STN_TEXT_H
#define STN_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A text being built. */
struct stn_text {
	char *data;    /* the buffer, always NUL-terminated */
	size_t size;   /* bytes in the buffer, the NUL included */
	size_t length; /* bytes of text so far */
};

/* Starts an empty text in buffer of size bytes (at least 1). */
void stn_text_start(struct stn_text *text, char *buffer, size_t size);

/* Appends a string, one character, a number, or a decimal fraction (value / 10^digits). */
void stn_text_add(struct stn_text *text, const char *string);
void stn_text_add_char(struct stn_text *text, char c);
void stn_text_add_number(struct stn_text *text, uint64_t value);
void stn_text_add_signed(struct stn_text *text, int64_t value);
void stn_text_add_fraction(struct stn_text *text, uint64_t value, unsigned digits);

/* Appends a number of bytes as people read it: "512 B", "64.00 KiB", "1.25 GiB". */
void stn_text_add_bytes(struct stn_text *text, uint64_t bytes);

/* Appends a string escaped for the inside of a JSON string; bytes that are not UTF-8 become \u00XX.
 */
void stn_text_add_json(struct stn_text *text, const char *string);

/* Appends a string with control characters shown as '?', so that a file name cannot forge lines. */
void stn_text_add_plain(struct stn_text *text, const char *string);

/*
 * Parses a whole non-negative decimal number. Returns false if the string is empty, has anything
 * else in it, or the value exceeds 2^63 - 1.
 */
bool stn_text_number(const char *string, size_t length, uint64_t *out);

/* Parses a number with an optional suffix K, M, G or T (powers of 1024); false if malformed. */
bool stn_text_size(const char *string, size_t length, uint64_t *out);

/*
 * Finds "key" at the start of a line of text and returns the first number after it, or -1. For
 * files of the kernel such as /proc/meminfo ("MemAvailable:  123 kB") and memory.stat
 * ("inactive_file 123").
 */
int64_t stn_text_field(const char *text, const char *key);

#endif
