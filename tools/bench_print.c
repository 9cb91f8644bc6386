/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"
#include "config.h"
#include "fs.h"
#include "names.h"
#include "report.h"

#define MOST_ADVICE 12

/* What to do, in words, and as variables. */
struct advice {
	char *lines[MOST_ADVICE];
	size_t count;
	cJSON *settings;
};

static void advise(struct advice *advice, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

static void advise(struct advice *advice, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (advice->count < MOST_ADVICE &&
	    vasprintf(&advice->lines[advice->count], format, arguments) >= 0)
		advice->count++;
	va_end(arguments);
}

static const struct bench_run *run_of(const struct bench *bench, enum bench_way way)
{
	const struct bench_run *run = bench->runs;

	while (run->way != way)
		run++;
	return run;
}

/* The fastest direct run. */
static const struct bench_run *best_direct(const struct bench *bench)
{
	const struct bench_run *best = bench->runs;

	for (int i = 0; i < BENCH_RUNS; i++)
		if (bench->runs[i].way == BENCH_DIRECT &&
		    bench_rate(&bench->runs[i]) > bench_rate(best))
			best = &bench->runs[i];
	return best;
}

static double direct_rate(const struct bench *bench, unsigned threads)
{
	for (int i = 0; i < BENCH_RUNS; i++)
		if (bench->runs[i].way == BENCH_DIRECT && bench->runs[i].threads == threads)
			return bench_rate(&bench->runs[i]);
	return 0;
}

/* The fewest threads within a tenth of the best; 0 if no direct read has worked. */
static unsigned enough_threads(const struct bench *bench)
{
	double best = bench_rate(best_direct(bench));
	unsigned fewest = 0;

	for (int i = BENCH_RUNS - 1; i >= 0; i--)
		if (best > 0 && bench->runs[i].way == BENCH_DIRECT &&
		    bench_rate(&bench->runs[i]) >= 0.9 * best)
			fewest = bench->runs[i].threads;
	return fewest;
}

static void set(struct advice *advice, const char *variable, const char *value)
{
	report_json_text(advice->settings, variable, value);
}

static void advise_threads(const struct bench *bench, struct advice *advice)
{
	unsigned threads = enough_threads(bench);
	char value[16];

	if (threads == 0) {
		advise(advice, "No direct read has worked: the library would read through the page "
			       "cache here, two requests at a time on FUSE.");
		return;
	}
	if (direct_rate(bench, 8) >= 0.9 * bench_rate(best_direct(bench))) {
		advise(advice, "STSHIM_THREADS: leave it at 8%s.",
		       threads < 8 ? "; fewer would do here" : "");
		return;
	}
	snprintf(value, sizeof(value), "%u", threads);
	set(advice, "STSHIM_THREADS", value);
	advise(advice, "STSHIM_THREADS=%u: %.2f GB/s by direct reads, %.2f with 8 threads.",
	       threads, direct_rate(bench, threads), direct_rate(bench, 8));
}

/* True if the default STSHIM_FILES has this name. */
static bool is_model_name(const char *path)
{
	struct stn_config_row row;

	for (size_t i = 0; i < stn_config_rows(); i++) {
		stn_config_row(i, &row);
		if (strcmp(row.name, "STSHIM_FILES") == 0)
			return stn_names_match(row.fallback, path);
	}
	return false;
}

static void advise_scope(const struct bench *bench, struct advice *advice)
{
	const char *name = stn_fs_name(bench->file_system), *base = strrchr(bench->path, '/');
	const char *suffix = strrchr(base ? base : bench->path, '.');
	char value[512];

	if (bench->file_system != STN_FS_FUSE && !stn_fs_memory_backed(bench->file_system)) {
		snprintf(value, sizeof(value), "fuse,%s", name);
		if (stn_fs_known(name, strlen(name))) {
			set(advice, "STSHIM_FSTYPES", value);
			advise(advice, "STSHIM_FSTYPES=%s: without it files on %s are left alone.",
			       value, name);
		} else {
			set(advice, "STSHIM_MODE", "always");
			advise(advice, "STSHIM_MODE=always: the file system has no name for "
				       "STSHIM_FSTYPES.");
		}
	}
	if (!is_model_name(bench->path)) {
		snprintf(value, sizeof(value), "*.safetensors:*.sft:*%.64s",
			 suffix ? suffix : "/NAME");
		set(advice, "STSHIM_FILES", value);
		advise(advice, "STSHIM_FILES='%s': the default does not have this name.", value);
	}
}

static void advise_stuck(const struct bench *bench, const struct bench_run *run,
			 struct advice *advice)
{
	advise(advice,
	       "%s is stuck: it waits in the kernel for a page, as any program that reads "
	       "this way can; the library does not.",
	       bench_way_name(run->way));
	if (bench->file_system == STN_FS_FUSE)
		advise(advice,
		       "To end it: echo 1 > /sys/fs/fuse/connections/%" PRIu64
		       "/abort, as root; the mount is lost.",
		       bench->device & 0xffffffffu);
}

/* Compares the library with what a program does without it. */
static void advise_gain(const struct bench *bench, struct advice *advice)
{
	const struct bench_run *library = run_of(bench, BENCH_LIBRARY);
	const struct bench_run *plain = run_of(bench, BENCH_MMAP);
	double gain = bench_rate(plain) > 0 ? bench_rate(library) / bench_rate(plain) : 0;
	bool wanted = bench->file_system == STN_FS_FUSE;

	for (int i = 0; i < BENCH_RUNS; i++)
		if (bench->runs[i].status == BENCH_STUCK) {
			advise_stuck(bench, &bench->runs[i], advice);
			wanted = true;
		}
	if (library->status == BENCH_DONE && strncmp(library->note, "engaged", 7) != 0)
		advise(advice, "The library has not engaged: %s. libstnommap(7) says what that is.",
		       library->note);
	if (gain > 0 && bench_warm(plain))
		advise(advice, "The figure of mmap is warm and no measure of this storage; ask for "
			       "--drop-caches.");
	else if (gain > 0)
		advise(advice, "The library takes 1/%.1f of the time of mmap.", gain);
	if (wanted || gain >= 1.2)
		advise_scope(bench, advice);
	else if (gain > 0 && !bench_warm(plain))
		advise(advice,
		       "It gains nothing here: the defaults leave %s alone, and that is "
		       "right.",
		       stn_fs_name(bench->file_system));
	advise_threads(bench, advice);
}

static struct advice make_advice(const struct bench *bench)
{
	struct advice advice = {.settings = cJSON_CreateObject()};

	advise_gain(bench, &advice);
	return advice;
}

/* True if all runs that were done have the same sum, and none has failed. */
static bool same_bytes(const struct bench *bench, bool *all_done)
{
	const struct bench_run *first = NULL;
	bool same = true;

	*all_done = true;
	for (int i = 0; i < BENCH_RUNS; i++) {
		const struct bench_run *run = &bench->runs[i];

		if (run->status != BENCH_DONE && run->way != BENCH_DIRECT)
			*all_done = false;
		if (run->status != BENCH_DONE)
			continue;
		first = first ? first : run;
		same &= run->sum == first->sum;
	}
	return same;
}

static const char *cache_text(const struct bench_run *run, char out[64])
{
	if (run->status != BENCH_DONE)
		return strcpy(out, "-");
	if (run->cached < 0)
		return strcpy(out, "unknown");
	if (!bench_warm(run))
		return strcpy(out, "cold");
	snprintf(out, 64, "warm, %.0f%% cached", 100 * (double)run->cached / (double)run->bytes);
	return out;
}

static void print_table(const struct bench *bench)
{
	struct report_table table;
	char text[64];

	report_table_start(&table, "lrrrll");
	report_table_cell(&table, "way");
	report_table_cell(&table, "threads");
	report_table_cell(&table, "seconds");
	report_table_cell(&table, "GB/s");
	report_table_cell(&table, "page cache before");
	report_table_cell(&table, "%s", "");
	for (int i = 0; i < BENCH_RUNS; i++) {
		const struct bench_run *run = &bench->runs[i];
		bool done = run->status == BENCH_DONE;

		report_table_cell(&table, "%s", bench_way_name(run->way));
		if (run->way == BENCH_DIRECT)
			report_table_cell(&table, "%u", run->threads);
		else
			report_table_cell(&table, "-");
		if (done)
			report_table_cell(&table, "%.3f", run->seconds);
		else
			report_table_cell(&table, "-");
		if (done)
			report_table_cell(&table, "%.2f", bench_rate(run));
		else
			report_table_cell(&table, "-");
		report_table_cell(&table, "%s", cache_text(run, text));
		report_table_cell(&table, "%s", run->note);
	}
	report_table_print(&table, stdout, 2);
}

bool bench_print(const struct bench *bench)
{
	struct advice advice = make_advice(bench);
	char size[REPORT_BYTES], bytes[REPORT_BYTES];
	bool all_done, same = same_bytes(bench, &all_done);

	printf("%s: %s on %s", bench->path, report_bytes(bench->size, size),
	       stn_fs_name(bench->file_system));
	if (bench->limited)
		printf("; the first %s are read (%s)", report_bytes(bench->bytes, bytes),
		       bench->limited);
	puts("\n");
	print_table(bench);
	putchar('\n');
	for (size_t i = 0; i < advice.count; i++) {
		puts(advice.lines[i]);
		free(advice.lines[i]);
	}
	if (!same)
		puts("The ways have NOT read the same bytes: the file has changed meanwhile, or "
		     "something here is broken.");
	cJSON_Delete(advice.settings);
	return same && all_done;
}

static cJSON *run_json(const struct bench_run *run)
{
	static const char *const statuses[] = {"done", "failed", "timeout", "stuck", "skipped"};
	cJSON *object = cJSON_CreateObject();

	report_json_text(object, "way", bench_way_name(run->way));
	if (run->way == BENCH_DIRECT)
		report_json_number(object, "threads", run->threads);
	else
		cJSON_AddNullToObject(object, "threads");
	report_json_text(object, "status", statuses[run->status]);
	report_json_number(object, "bytes", run->bytes);
	cJSON_AddNumberToObject(object, "seconds", run->seconds);
	cJSON_AddNumberToObject(object, "gb_per_s", bench_rate(run));
	report_json_number(object, "cached_before",
			   run->cached < 0 ? UINT64_MAX : (uint64_t)run->cached);
	cJSON_AddBoolToObject(object, "warm", bench_warm(run));
	report_json_text(object, "note", run->note);
	return object;
}

bool bench_print_json(const struct bench *bench)
{
	struct advice advice = make_advice(bench);
	cJSON *object = cJSON_CreateObject(), *array;
	bool all_done, same = same_bytes(bench, &all_done);

	report_json_text(object, "path", bench->path);
	report_json_text(object, "file_system", stn_fs_name(bench->file_system));
	report_json_number(object, "file_bytes", bench->size);
	report_json_number(object, "bytes", bench->bytes);
	cJSON_AddBoolToObject(object, "same_bytes", same);
	array = cJSON_AddArrayToObject(object, "ways");
	for (int i = 0; i < BENCH_RUNS; i++)
		cJSON_AddItemToArray(array, run_json(&bench->runs[i]));
	cJSON_AddItemToObject(object, "settings", advice.settings);
	array = cJSON_AddArrayToObject(object, "advice");
	for (size_t i = 0; i < advice.count; i++) {
		report_json_append(array, advice.lines[i]);
		free(advice.lines[i]);
	}
	report_json_print(object);
	return same && all_done;
}
