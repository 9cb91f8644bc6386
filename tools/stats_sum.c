/* SPDX-License-Identifier: Apache-2.0 */
#include <err.h>
#include <errno.h>
#include <search.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "page.h"
#include "record.h"
#include "stats.h"

#define LINE_SIZE 65536

/* A number by its name; trees hold these, since arrays move. */
struct key {
	char *name;
	size_t number;
};

static void *must(void *memory)
{
	if (!memory)
		err(EXIT_FAILURE, "memory");
	return memory;
}

static int compare_keys(const void *a, const void *b)
{
	return strcmp(((const struct key *)a)->name, ((const struct key *)b)->name);
}

/* The number that a name has in a tree; a new one gets next, and *is_new is set. */
static struct key *find_key(void **tree, const char *name, size_t next, bool *is_new)
{
	struct key probe = {.name = (char *)(uintptr_t)name};
	struct key **found = tfind(&probe, tree, compare_keys);
	struct key *key;

	*is_new = !found;
	if (found)
		return *found;
	key = must(malloc(sizeof(*key)));
	*key = (struct key){.name = must(strdup(name)), .number = next};
	must(tsearch(key, tree, compare_keys));
	return key;
}

/* Grows an array by one, at powers of two. */
static void *grow(void *array, size_t count, size_t size)
{
	if (count & (count - 1))
		return array;
	return must(reallocarray(array, count ? 2 * count : 1, size));
}

static void add_broken(struct stats *stats, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void add_broken(struct stats *stats, const char *format, ...)
{
	va_list arguments;
	char *text = NULL;

	if (stats->broken_count < STATS_BROKEN) {
		va_start(arguments, format);
		if (vasprintf(&text, format, arguments) < 0)
			err(EXIT_FAILURE, "memory");
		va_end(arguments);
		stats->broken[stats->broken_count] =
			(struct stats_broken){.line = stats->lines, .problem = text};
	}
	stats->broken_count++;
}

static struct stats_file *find_file(struct stats *stats, const char *path)
{
	bool is_new;
	struct key *key = find_key(&stats->file_tree, path, stats->file_count, &is_new);

	if (is_new) {
		stats->files = grow(stats->files, stats->file_count, sizeof(*stats->files));
		stats->files[stats->file_count++] = (struct stats_file){.path = key->name};
	}
	return &stats->files[key->number];
}

static struct stats_decision *find_decision(struct stats *stats, const char *name, char *example)
{
	bool is_new;
	struct key *key = find_key(&stats->decision_tree, name, stats->decision_count, &is_new);

	if (is_new) {
		stats->decisions =
			grow(stats->decisions, stats->decision_count, sizeof(*stats->decisions));
		stats->decisions[stats->decision_count++] =
			(struct stats_decision){.name = key->name, .example = example};
	}
	return &stats->decisions[key->number];
}

static void add_fill(struct stats *stats, const struct record *record)
{
	uint64_t bytes = record->direct + record->buffered;

	if (!bytes)
		return;
	stats->fills = grow(stats->fills, stats->fill_count, sizeof(*stats->fills));
	stats->fills[stats->fill_count++] = (struct stats_fill){
		.start = record->time - record->seconds, .end = record->time, .bytes = bytes};
}

static void add_to_file(struct stats_file *file, const struct record *record)
{
	const char *decision = record->decision;

	if (record->file_system && !file->file_system)
		file->file_system = must(strdup(record->file_system));
	file->size = stn_max(file->size, record->size);
	file->engaged += record->engaged && record->counted;
	file->declined += strcmp(decision, "declined") == 0;
	file->abandoned += strcmp(decision, "abandoned") == 0;
	file->returned += strcmp(decision, "returned") == 0;
	file->observed += strcmp(decision, "would-engage") == 0;
	if (record->engaged) {
		file->bytes += record->bytes;
		file->seconds += record->seconds;
		file->huge += record->huge;
		file->cached = record->cache_after;
	}
	file->direct += record->direct;
	file->buffered += record->buffered;
	file->given_back += record->returned;
}

static void add_to_decisions(struct stats *stats, const struct record *record, char *path)
{
	struct stats_decision *decision = find_decision(stats, record->name, path);

	decision->lines += record->counted;
	decision->bytes += record->bytes;
}

static void add_process(struct stats *stats, const struct record *record)
{
	char name[32];
	bool is_new;

	snprintf(name, sizeof(name), "%.0f", record->pid);
	find_key(&stats->process_tree, name, 0, &is_new);
	stats->process_count += is_new;
}

static void add_record(struct stats *stats, const struct record *record)
{
	struct stats_file *file = find_file(stats, record->path);

	if (stats->first == 0 || record->time < stats->first)
		stats->first = record->time;
	if (record->time > stats->last)
		stats->last = record->time;
	add_process(stats, record);
	add_to_file(file, record);
	add_to_decisions(stats, record, file->path);
	add_fill(stats, record);
}

void stats_line(struct stats *stats, const char *line, size_t length)
{
	const char *end = NULL, *missing;
	struct record record;
	cJSON *value;

	stats->lines++;
	if (memchr(line, '\0', length)) {
		add_broken(stats, "a NUL byte at column %zu",
			   (size_t)((const char *)memchr(line, '\0', length) - line) + 1);
		return;
	}
	value = cJSON_ParseWithOpts(line, &end, true);
	if (!value)
		add_broken(stats, "not JSON from column %zu on",
			   end ? (size_t)(end - line) + 1 : 1);
	else if (!cJSON_IsObject(value))
		add_broken(stats, "not a JSON object");
	else if ((missing = record_read(value, &record)) != NULL)
		add_broken(stats, "%s is missing or not what it should be", missing);
	else
		add_record(stats, &record);
	cJSON_Delete(value);
}

bool stats_read(struct stats *stats, FILE *stream)
{
	char *line = must(malloc(LINE_SIZE));
	size_t length = 0;
	int c;

	while ((c = getc_unlocked(stream)) != EOF || length) {
		if (c != '\n' && c != EOF) {
			/* Of a line that is too long the end is dropped. */
			if (length < LINE_SIZE)
				line[length++] = (char)c;
			continue;
		}
		if (length < LINE_SIZE) {
			line[length] = '\0';
			stats_line(stats, line, length);
		} else {
			stats->lines++;
			add_broken(stats, "longer than %d bytes", LINE_SIZE - 1);
		}
		length = 0;
		if (c == EOF)
			break;
	}
	free(line);
	return !ferror(stream);
}

double stats_rate(const struct stats_file *file)
{
	return file->seconds > 0 ? (double)file->bytes / file->seconds : 0;
}

double stats_start(const struct stats *stats)
{
	double start = stats->fill_count ? stats->fills[0].start : 0;

	for (size_t i = 0; i < stats->fill_count; i++)
		if (stats->fills[i].start < start)
			start = stats->fills[i].start;
	return start;
}

/* Spreads the bytes of a fill evenly over the steps that it touches. */
static void spread(const struct stats_fill *fill, double start, double step, double *rates,
		   size_t count_of_steps)
{
	double length = fill->end - fill->start;

	for (size_t i = 0; i < count_of_steps; i++) {
		double from = start + (double)i * step, to = from + step;
		double shared = (fill->end < to ? fill->end : to) -
				(fill->start > from ? fill->start : from);

		if (shared > 0)
			rates[i] += (double)fill->bytes * shared / length / step;
	}
}

double stats_throughput(const struct stats *stats, double *rates, size_t count_of_steps)
{
	double start = stats_start(stats), end = start, step;

	for (size_t i = 0; i < stats->fill_count; i++)
		if (stats->fills[i].end > end)
			end = stats->fills[i].end;
	step = (end - start) / (double)count_of_steps;
	memset(rates, 0, count_of_steps * sizeof(*rates));
	if (step <= 0)
		return 0;
	for (size_t i = 0; i < stats->fill_count; i++)
		spread(&stats->fills[i], start, step, rates, count_of_steps);
	return step;
}
