/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "report.h"
#include "stats.h"

#define STEPS 20
#define BAR   40

static const char *shown_path(const char *path)
{
	return *path ? path : "(no name)";
}

/* Adds a cell with a count, or a dash for none. */
static void add_count(struct report_table *table, uint64_t value)
{
	if (value)
		report_table_cell(table, "%" PRIu64, value);
	else
		report_table_cell(table, "-");
}

static void add_bytes(struct report_table *table, uint64_t value)
{
	char text[REPORT_BYTES];

	report_table_cell(table, "%s", value ? report_bytes(value, text) : "-");
}

static void print_files(const struct stats *stats)
{
	static const char *const heads[] = {"file",	"size",	    "on",      "engaged",
					    "declined", "bytes",    "seconds", "GB/s",
					    "direct",	"buffered", "returned"};
	struct report_table table;

	puts("\nFiles");
	report_table_start(&table, "lrlrrrrrrrr");
	for (size_t i = 0; i < sizeof(heads) / sizeof(heads[0]); i++)
		report_table_cell(&table, "%s", heads[i]);
	for (size_t i = 0; i < stats->file_count; i++) {
		const struct stats_file *file = &stats->files[i];

		report_table_cell(&table, "%s", shown_path(file->path));
		add_bytes(&table, file->size);
		report_table_cell(&table, "%s", file->file_system ? file->file_system : "-");
		add_count(&table, file->engaged);
		add_count(&table, file->declined + file->abandoned);
		add_bytes(&table, file->bytes);
		report_table_cell(&table, "%.3f", file->seconds);
		report_table_cell(&table, stats_rate(file) > 0 ? "%.2f" : "-",
				  stats_rate(file) / 1e9);
		add_bytes(&table, file->direct);
		add_bytes(&table, file->buffered);
		add_bytes(&table, file->given_back);
	}
	report_table_print(&table, stdout, 2);
}

static void print_decisions(const struct stats *stats)
{
	struct report_table table;

	puts("\nDecisions (libstnommap(7) explains them)");
	report_table_start(&table, "lrrl");
	report_table_cell(&table, "decision");
	report_table_cell(&table, "lines");
	report_table_cell(&table, "bytes");
	report_table_cell(&table, "first seen with");
	for (size_t i = 0; i < stats->decision_count; i++) {
		report_table_cell(&table, "%s", stats->decisions[i].name);
		report_table_cell(&table, "%" PRIu64, stats->decisions[i].lines);
		add_bytes(&table, stats->decisions[i].bytes);
		report_table_cell(&table, "%s", shown_path(stats->decisions[i].example));
	}
	report_table_print(&table, stdout, 2);
}

/* The moment as UTC, "2026-11-21 12:00:00". */
static const char *moment(double seconds, char out[32])
{
	time_t time = (time_t)seconds;
	struct tm parts;

	if (!gmtime_r(&time, &parts) || strftime(out, 32, "%F %T", &parts) == 0)
		out[0] = '\0';
	return out;
}

static void print_plot(const struct stats *stats)
{
	double rates[STEPS], step = stats_throughput(stats, rates, STEPS), most = 0;
	bool small;
	char start[32];

	if (step <= 0)
		return;
	for (size_t i = 0; i < STEPS; i++)
		most = rates[i] > most ? rates[i] : most;
	small = most < 1e8;
	printf("\nBytes read, from %s UTC on, a line each %.3f s\n",
	       moment(stats_start(stats), start), step);
	for (size_t i = 0; i < STEPS; i++) {
		int length = (int)(rates[i] / most * BAR + 0.5);

		printf("  %9.3f s  %-*.*s  %6.2f %s\n", (double)i * step, BAR, length,
		       "########################################", rates[i] / (small ? 1e6 : 1e9),
		       small ? "MB/s" : "GB/s");
	}
}

void stats_print(const struct stats *stats, const char *path)
{
	char first[32], last[32];

	printf("%s: %" PRIu64 " line%s, %zu process%s, %zu file%s", path, stats->lines,
	       stats->lines == 1 ? "" : "s", stats->process_count,
	       stats->process_count == 1 ? "" : "es", stats->file_count,
	       stats->file_count == 1 ? "" : "s");
	if (stats->first > 0)
		printf(", %s to %s UTC", moment(stats->first, first), moment(stats->last, last));
	putchar('\n');
	if (stats->file_count) {
		print_files(stats);
		print_decisions(stats);
	}
	print_plot(stats);
	if (stats->broken_count)
		printf("\nLines that were not understood: %" PRIu64 "\n", stats->broken_count);
	for (uint64_t i = 0; i < stats->broken_count && i < STATS_BROKEN; i++)
		printf("  line %" PRIu64 ": %s\n", stats->broken[i].line, stats->broken[i].problem);
	if (stats->broken_count > STATS_BROKEN)
		printf("  and %" PRIu64 " more\n", stats->broken_count - STATS_BROKEN);
}

static cJSON *file_json(const struct stats_file *file)
{
	cJSON *object = cJSON_CreateObject();

	report_json_text(object, "path", file->path);
	report_json_text(object, "file_system", file->file_system ? file->file_system : "");
	report_json_number(object, "size", file->size);
	report_json_number(object, "engaged", file->engaged);
	report_json_number(object, "declined", file->declined);
	report_json_number(object, "abandoned", file->abandoned);
	report_json_number(object, "returned", file->returned);
	report_json_number(object, "observed", file->observed);
	report_json_number(object, "bytes", file->bytes);
	cJSON_AddNumberToObject(object, "seconds", file->seconds);
	cJSON_AddNumberToObject(object, "gb_per_s", stats_rate(file) / 1e9);
	report_json_number(object, "direct_bytes", file->direct);
	report_json_number(object, "buffered_bytes", file->buffered);
	report_json_number(object, "returned_bytes", file->given_back);
	report_json_number(object, "huge_pages", file->huge);
	report_json_number(object, "cache_after", file->cached);
	return object;
}

static void add_lists(cJSON *object, const struct stats *stats)
{
	cJSON *array = cJSON_AddArrayToObject(object, "files"), *item;

	for (size_t i = 0; i < stats->file_count; i++)
		cJSON_AddItemToArray(array, file_json(&stats->files[i]));
	array = cJSON_AddArrayToObject(object, "decisions");
	for (size_t i = 0; i < stats->decision_count; i++) {
		item = cJSON_CreateObject();
		report_json_text(item, "decision", stats->decisions[i].name);
		report_json_number(item, "lines", stats->decisions[i].lines);
		report_json_number(item, "bytes", stats->decisions[i].bytes);
		report_json_text(item, "example", stats->decisions[i].example);
		cJSON_AddItemToArray(array, item);
	}
	array = cJSON_AddArrayToObject(object, "broken");
	for (uint64_t i = 0; i < stats->broken_count && i < STATS_BROKEN; i++) {
		item = cJSON_CreateObject();
		report_json_number(item, "line", stats->broken[i].line);
		report_json_text(item, "problem", stats->broken[i].problem);
		cJSON_AddItemToArray(array, item);
	}
}

void stats_print_json(const struct stats *stats, const char *path)
{
	cJSON *object = cJSON_CreateObject(), *plot;
	double rates[STEPS], step = stats_throughput(stats, rates, STEPS);

	report_json_text(object, "path", path);
	report_json_number(object, "lines", stats->lines);
	report_json_number(object, "broken_count", stats->broken_count);
	report_json_number(object, "processes", stats->process_count);
	cJSON_AddNumberToObject(object, "first", stats->first);
	cJSON_AddNumberToObject(object, "last", stats->last);
	add_lists(object, stats);
	plot = cJSON_AddObjectToObject(object, "throughput");
	cJSON_AddNumberToObject(plot, "start", stats_start(stats));
	cJSON_AddNumberToObject(plot, "step_seconds", step);
	cJSON_AddItemToObject(plot, "bytes_per_s", cJSON_CreateDoubleArray(rates, STEPS));
	report_json_print(object);
}
