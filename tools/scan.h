/* SPDX-License-Identifier: Apache-2.0 */
/*
 * JSON read piece by piece, strictly, with the place of everything: no tree is built (the header of
 * a model may be 100 MB), integers stay exact, and whoever reads says what is to come. After an
 * error all calls fail.
 */
#ifndef STSHIM_SCAN_H
#define STSHIM_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scan {
	const char *text;
	size_t length, at;
	const char *error; /* what is wrong, or NULL; a constant string */
	size_t error_at;   /* byte of the text */
};

/* Looks for the first byte that is not UTF-8; length if there is none. */
size_t scan_utf8(const char *text, size_t length);

/* Starts at the beginning of a text, which must live on. */
void scan_start(struct scan *scan, const char *text, size_t length);

/* The next character that is no blank, or 0 at the end or after an error. */
char scan_peek(struct scan *scan);

/* Takes one character, behind blanks; else an error, which says what was expected. */
bool scan_take(struct scan *scan, char c, const char *expected);

/*
 * Goes to the next member of an object or element of an array: takes the opening character when
 * *first, the comma otherwise. False at the closing character (which is taken) or after an error.
 */
bool scan_next(struct scan *scan, char open, bool *first);

/* A string, decoded, to be freed (U+0000 as U+2400); NULL after an error. */
char *scan_string(struct scan *scan);

/* A whole number without sign, fraction and exponent, below 2^64. */
bool scan_number(struct scan *scan, uint64_t *out);

/* Any value, to be ignored; at most 128 deep. */
bool scan_skip(struct scan *scan);

#endif
