/* SPDX-License-Identifier: Apache-2.0 */
#include "run_report.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record.h"
#include "report.h"

/* What the statistics say about one file and one decision. */
struct row {
	char *path, *decision;
	uint64_t size, bytes, memory, times, huge;
	int64_t cache; /* bytes that the page cache has more afterwards */
	double seconds;
	bool engaged;
};

struct rows {
	struct row *row;
	size_t count;
};

static bool make_temporary(struct run_report *report)
{
	const char *directory = getenv("TMPDIR");
	int fd;

	if (!directory || *directory != '/')
		directory = "/tmp";
	snprintf(report->path, sizeof(report->path), "%s/stshim-stats-XXXXXX", directory);
	fd = mkstemp(report->path);
	if (fd < 0) {
		report_error("name another directory with TMPDIR",
			     "--report: no temporary file in %s: %s", directory, strerror(errno));
		return false;
	}
	close(fd);
	report->temporary = true;
	setenv("STSHIM_STATS", report->path, 1);
	return true;
}

bool run_report_begin(struct run_report *report)
{
	const char *path = getenv("STSHIM_STATS");
	struct stat st;

	*report = (struct run_report){.temporary = false};
	if (!path || !*path)
		return make_temporary(report);
	snprintf(report->path, sizeof(report->path), "%s", path);
	report->start = stat(path, &st) == 0 ? st.st_size : 0;
	return true;
}

void run_report_end(const struct run_report *report)
{
	if (report->temporary)
		unlink(report->path);
}

/* The row of a file and a decision, a new one if there is none. */
static struct row *find_row(struct rows *rows, const struct record *record)
{
	struct row *row;

	for (row = rows->row; row < rows->row + rows->count; row++)
		if (strcmp(row->path, record->path) == 0 &&
		    strcmp(row->decision, record->name) == 0)
			return row;
	rows->row = reallocarray(rows->row, rows->count + 1, sizeof(*rows->row));
	if (!rows->row)
		err(1, "memory");
	row = &rows->row[rows->count++];
	*row = (struct row){.path = strdup(record->path), .decision = strdup(record->name)};
	if (!row->path || !row->decision)
		err(1, "memory");
	return row;
}

static void add_record(struct rows *rows, const struct record *record)
{
	struct row *row = find_row(rows, record);

	row->engaged = record->engaged;
	row->size = record->size;
	row->bytes += record->bytes;
	row->memory += record->memory;
	row->huge += record->huge;
	row->cache += (int64_t)record->cache_after - (int64_t)record->cache_before;
	row->seconds += record->seconds;
	row->times += record->counted;
}

static void read_rows(const struct run_report *report, struct rows *rows)
{
	FILE *stream = fopen(report->path, "re");
	char *text = NULL;
	size_t size = 0;

	if (!stream)
		return;
	fseeko(stream, report->start, SEEK_SET);
	while (getline(&text, &size, stream) > 0) {
		cJSON *line = cJSON_Parse(text);
		struct record record;

		if (cJSON_IsObject(line) && !record_read(line, &record))
			add_record(rows, &record);
		cJSON_Delete(line);
	}
	free(text);
	fclose(stream);
}

static double rate(const struct row *row)
{
	return row->engaged && row->seconds > 0 ? (double)row->bytes / row->seconds / 1e9 : 0;
}

/* A change of the page cache, "+1.00 MiB", "0 B", "-3 B". */
static char *signed_bytes(int64_t bytes, char out[REPORT_BYTES + 1])
{
	out[0] = bytes < 0 ? '-' : '+';
	report_bytes((uint64_t)llabs(bytes), out + (bytes != 0));
	return out;
}

static void add_row(struct report_table *table, const struct row *row)
{
	char text[REPORT_BYTES + 1];
	/* Filled lazily, and never finished. */
	bool unknown = row->engaged && row->bytes == 0;

	report_table_cell(table, "%s", *row->path ? row->path : "(unknown)");
	report_table_cell(table, "%s", report_bytes(row->size, text));
	report_table_cell(table, "%s", row->decision);
	report_table_cell(table, "%llu", (unsigned long long)row->times);
	report_table_cell(table, unknown ? "-" : "%.3f", row->seconds);
	report_table_cell(table, rate(row) > 0 ? "%.2f" : "-", rate(row));
	report_table_cell(table, "%s", unknown ? "-" : report_bytes(row->memory, text));
	report_table_cell(table, "%s", report_bytes(row->huge, text));
	report_table_cell(table, "%s", signed_bytes(row->cache, text));
}

static void print_table(const struct rows *rows, uint64_t peak)
{
	static const char *const heads[] = {"file", "size",   "decision",   "times",	 "seconds",
					    "GB/s", "memory", "huge pages", "page cache"};
	struct report_table table;
	char text[REPORT_BYTES];

	fprintf(stderr, "stshim run: %s\n",
		rows->count ? "what the library did"
			    : "no model file was mapped, or the library was not in the program");
	report_table_start(&table, "lrlrrrrrr");
	for (size_t i = 0; rows->count && i < sizeof(heads) / sizeof(heads[0]); i++)
		report_table_cell(&table, "%s", heads[i]);
	for (size_t i = 0; i < rows->count; i++)
		add_row(&table, &rows->row[i]);
	report_table_print(&table, stderr, 2);
	fprintf(stderr, "  peak memory of the largest process: %s\n", report_bytes(peak, text));
}

static void print_json(const struct rows *rows, uint64_t peak)
{
	cJSON *object = cJSON_CreateObject(), *files = cJSON_AddArrayToObject(object, "files");
	char *text;

	for (const struct row *row = rows->row; row < rows->row + rows->count; row++) {
		cJSON *file = cJSON_CreateObject();

		report_json_text(file, "path", row->path);
		report_json_number(file, "size", row->size);
		report_json_text(file, "decision", row->decision);
		report_json_number(file, "times", row->times);
		report_json_number(file, "bytes", row->bytes);
		cJSON_AddNumberToObject(file, "seconds", row->seconds);
		cJSON_AddNumberToObject(file, "gb_per_s", rate(row));
		report_json_number(file, "memory", row->memory);
		report_json_number(file, "huge_pages", row->huge);
		cJSON_AddNumberToObject(file, "page_cache", (double)row->cache);
		cJSON_AddItemToArray(files, file);
	}
	report_json_number(object, "peak_memory", peak);
	text = cJSON_PrintUnformatted(object);
	fprintf(stderr, "%s\n", text ? text : "{}");
	free(text);
	cJSON_Delete(object);
}

void run_report_print(const struct run_report *report, bool json)
{
	struct rows rows = {0};
	struct rusage usage = {0};

	read_rows(report, &rows);
	getrusage(RUSAGE_CHILDREN, &usage);
	(json ? print_json : print_table)(&rows, (uint64_t)usage.ru_maxrss * 1024);
	for (size_t i = 0; i < rows.count; i++) {
		free(rows.row[i].path);
		free(rows.row[i].decision);
	}
	free(rows.row);
}
