/* SPDX-License-Identifier: Apache-2.0 */
#include "report.h"

#include <err.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "scan.h"
#include "text.h"

static const char *program_name = "stshim";

void report_begin(const char *program)
{
	program_name = program;
}

/* Replaces control characters, so that a file name cannot forge lines. */
static void make_plain(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

/* vasprintf that ends the program if memory is refused. */
static char *format_text(const char *format, va_list arguments)
{
	char *text;

	if (vasprintf(&text, format, arguments) < 0)
		err(1, "memory");
	make_plain(text);
	return text;
}

static void say(const char *kind, const char *remedy, const char *format, va_list arguments)
{
	char *text = format_text(format, arguments);

	fflush(stdout);
	fprintf(stderr, "%s: %s%s%s%s\n", program_name, kind, text, remedy ? "; " : "",
		remedy ? remedy : "");
	free(text);
}

void report_error(const char *remedy, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say("", remedy, format, arguments);
	va_end(arguments);
}

void report_warning(const char *remedy, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	say("warning: ", remedy, format, arguments);
	va_end(arguments);
}

char *report_bytes(uint64_t bytes, char out[REPORT_BYTES])
{
	struct stn_text text;

	stn_text_start(&text, out, REPORT_BYTES);
	stn_text_add_bytes(&text, bytes);
	return out;
}

void report_table_start(struct report_table *table, const char *align)
{
	*table = (struct report_table){.align = align, .columns = strlen(align)};
}

void report_table_cell(struct report_table *table, const char *format, ...)
{
	va_list arguments;

	if (table->rows % 64 == 0) {
		table->cells = reallocarray(table->cells, table->rows + 64, sizeof(char *));
		if (!table->cells)
			err(1, "memory");
	}
	va_start(arguments, format);
	table->cells[table->rows++] = format_text(format, arguments);
	va_end(arguments);
}

/* Columns of a terminal that a UTF-8 text takes, counted as one a character. */
static size_t shown_width(const char *text)
{
	size_t width = 0;

	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static size_t column_width(const struct report_table *table, size_t column)
{
	size_t widest = 0;

	for (size_t i = column; i < table->rows; i += table->columns)
		if (shown_width(table->cells[i]) > widest)
			widest = shown_width(table->cells[i]);
	return widest;
}

/* Writes the cells of one row, up to the last that is not empty. */
static void print_row(const struct report_table *table, char *const *cells, size_t count,
		      const size_t *widths, FILE *stream)
{
	while (count && !*cells[count - 1])
		count--;
	for (size_t i = 0; i < count; i++) {
		int blanks = (int)(widths[i] - shown_width(cells[i]));
		bool right = table->align[i] == 'r';

		fprintf(stream, "%*s%s%*s%s", right ? blanks : 0, "", cells[i],
			right || i + 1 == count ? 0 : blanks, "", i + 1 == count ? "" : "  ");
	}
	fputc('\n', stream);
}

void report_table_print(struct report_table *table, FILE *stream, unsigned indent)
{
	size_t widths[REPORT_MOST_COLUMNS] = {0};

	for (size_t i = 0; i < table->columns && i < REPORT_MOST_COLUMNS; i++)
		widths[i] = column_width(table, i);
	for (size_t i = 0; i < table->rows; i += table->columns) {
		size_t left = table->rows - i;

		fprintf(stream, "%*s", (int)indent, "");
		print_row(table, table->cells + i, left < table->columns ? left : table->columns,
			  widths, stream);
	}
	for (size_t i = 0; i < table->rows; i++)
		free(table->cells[i]);
	free(table->cells);
}

cJSON *report_json_number(cJSON *object, const char *key, uint64_t value)
{
	if (value == UINT64_MAX)
		return cJSON_AddNullToObject(object, key);
	return cJSON_AddNumberToObject(object, key, (double)value);
}

/* A copy of text that is UTF-8; to be freed. */
static char *to_utf8(const char *text)
{
	char *copy = malloc(2 * strlen(text) + 1), *to = copy;

	if (!copy)
		err(1, "memory");
	while (*text) {
		size_t good = scan_utf8(text, strlen(text));

		to = mempcpy(to, text, good);
		text += good;
		if (!*text)
			break;
		*to++ = (char)(0xc0 | (unsigned char)*text >> 6);
		*to++ = (char)(0x80 | (*text++ & 0x3f));
	}
	*to = '\0';
	return copy;
}

cJSON *report_json_text(cJSON *object, const char *key, const char *text)
{
	char *copy = to_utf8(text);
	cJSON *item = cJSON_AddStringToObject(object, key, copy);

	free(copy);
	return item;
}

cJSON *report_json_append(cJSON *array, const char *text)
{
	char *copy = to_utf8(text);
	cJSON *item = cJSON_CreateString(copy);

	cJSON_AddItemToArray(array, item);
	free(copy);
	return item;
}

void report_json_print(cJSON *value)
{
	char *text = cJSON_Print(value);

	if (!text)
		err(1, "memory");
	puts(text);
	free(text);
	cJSON_Delete(value);
}
