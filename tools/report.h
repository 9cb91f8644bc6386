/* SPDX-License-Identifier: Apache-2.0 */
/* What all subcommands say alike: errors in one line, tables, sizes, JSON. */
#ifndef STSHIM_REPORT_H
#define STSHIM_REPORT_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The words that lines on stderr begin with, "stshim run". The string must live on. */
void report_begin(const char *program);

/*
 * Writes one line to stderr: "stshim run: FORMAT; REMEDY". remedy (what to do about it) may be
 * NULL. Control characters in the line become '?'.
 */
void report_error(const char *remedy, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* As report_error, with "warning: " before the text. */
void report_warning(const char *remedy, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A number of bytes as people read it, "1.25 GiB", in out; returns out. */
#define REPORT_BYTES 32
char *report_bytes(uint64_t bytes, char out[REPORT_BYTES]);

#define REPORT_MOST_COLUMNS 16

/* A table whose columns are as wide as their widest cell. */
struct report_table {
	const char *align; /* a letter a column, REPORT_MOST_COLUMNS at most: 'l' or 'r' */
	size_t columns, rows;
	char **cells; /* row by row */
};

/* Starts a table; align lives as long as the table. */
void report_table_start(struct report_table *table, const char *align);

/* Appends one cell; cells come row by row. Control characters become '?'. Ends the program if
 * memory is refused. */
void report_table_cell(struct report_table *table, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Writes the table, each line behind indent blanks, and frees it. */
void report_table_print(struct report_table *table, FILE *stream, unsigned indent);

/*
 * JSON. A value that UINT64_MAX stands for ("unlimited") becomes null. Texts that are not UTF-8 are
 * taken as Latin-1 where they are not.
 */
cJSON *report_json_number(cJSON *object, const char *key, uint64_t value);
cJSON *report_json_text(cJSON *object, const char *key, const char *text);
cJSON *report_json_append(cJSON *array, const char *text);

/* Prints the JSON value to stdout with a newline, and frees it. */
void report_json_print(cJSON *value);

#endif
