/* SPDX-License-Identifier: Apache-2.0 */
#include "bench.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "budget.h"
#include "command.h"
#include "library.h"
#include "page.h"
#include "report.h"
#include "text.h"

#define PIECE	     ((uint64_t)2 << 20)
#define MOST_BYTES   ((uint64_t)2 << 30) /* unless --bytes says more */
#define MOST_SECONDS 86400

enum { KEY_CHILD = 1000, KEY_THREADS };

struct arguments {
	bool json, drop_caches;
	char *path;
	uint64_t bytes;	  /* 0 = not given */
	uint64_t timeout; /* seconds */
	/* Of a child: */
	const char *way;
	uint64_t threads;
};

/* Takes a number of seconds or threads. */
static void take_number(const char *text, uint64_t most, uint64_t *out, struct argp_state *state)
{
	if (!stn_text_number(text, strlen(text), out) || *out == 0 || *out > most)
		argp_error(state, "%s is not a number from 1 to %llu", text,
			   (unsigned long long)most);
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case 'j':
		arguments->json = true;
		return 0;
	case 'd':
		arguments->drop_caches = true;
		return 0;
	case 'b':
		if (!stn_text_size(argument, strlen(argument), &arguments->bytes) ||
		    !arguments->bytes)
			argp_error(state, "--bytes: %s is no size; give 512M or the like",
				   argument);
		return 0;
	case 't':
		take_number(argument, MOST_SECONDS, &arguments->timeout, state);
		return 0;
	case KEY_CHILD:
		arguments->way = argument;
		return 0;
	case KEY_THREADS:
		take_number(argument, 64, &arguments->threads, state);
		return 0;
	case ARGP_KEY_ARG:
		if (arguments->path)
			argp_error(state, "one file at a time");
		arguments->path = argument;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no file is given");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Finds the file's size and file system; false if it is none for us, which is said. */
static bool look_at_file(struct bench *bench)
{
	struct statx st = {0};
	struct statfs fs = {0};

	if (statx(AT_FDCWD, bench->path, 0, STATX_BASIC_STATS, &st) != 0 ||
	    statfs(bench->path, &fs) != 0) {
		report_error("give a file that you may read", "%s: %s", bench->path,
			     strerror(errno));
		return false;
	}
	if (!S_ISREG(st.stx_mode) || st.stx_size == 0) {
		report_error("give a model file", "%s: %s", bench->path,
			     S_ISREG(st.stx_mode) ? "the file is empty" : "not a regular file");
		return false;
	}
	if (access(bench->path, R_OK) != 0) {
		report_error("give a file that you may read", "%s: %s", bench->path,
			     strerror(errno));
		return false;
	}
	bench->size = st.stx_size;
	bench->device = (uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor;
	bench->file_system = (uint64_t)(uint32_t)fs.f_type;
	return true;
}

/* How much of the file is read: all, but not more than asked for or than half of what is free. */
static bool choose_bytes(struct bench *bench, uint64_t asked)
{
	struct stn_budget_view view;
	struct stn_budget_verdict verdict;
	const struct stn_budget_use use = {.memory_kind = 0};
	uint64_t most = asked ? asked : MOST_BYTES, room;

	stn_budget_read(&view);
	stn_budget_decide(&view, &use, 1, &verdict);
	room = verdict.fits ? verdict.available / 2 : 0;
	bench->limited = asked ? "as asked for" : "give --bytes for more";
	if (room < most) {
		most = room;
		bench->limited = "half of the memory that is free";
	}
	if (most >= bench->size) {
		bench->bytes = bench->size;
		bench->limited = NULL;
		return true;
	}
	bench->bytes = stn_round_down(most, PIECE);
	if (bench->bytes)
		return true;
	report_error("give a larger --bytes, or try where more memory is free",
		     "less than 2 MiB to be read");
	return false;
}

/* Empties the page cache of the file, and of the host where we may. */
static void drop_caches(const char *path)
{
	static bool told;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int control = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
		close(fd);
	}
	if ((control < 0 || write(control, "1", 1) != 1) && !told) {
		report_warning("run as root for those of servers on this host, too",
			       "only the cached pages of this file are dropped");
		told = true;
	}
	if (control >= 0)
		close(control);
}

/* What is tried, and in which order: what fills the page cache comes last. */
static void plan(struct bench *bench)
{
	static const struct {
		enum bench_way way;
		unsigned threads;
	} order[BENCH_RUNS] = {{BENCH_DIRECT, 1}, {BENCH_DIRECT, 2},  {BENCH_DIRECT, 4},
			       {BENCH_DIRECT, 8}, {BENCH_DIRECT, 16}, {BENCH_LIBRARY, 1},
			       {BENCH_MMAP, 1},	  {BENCH_READ, 1}};

	for (int i = 0; i < BENCH_RUNS; i++) {
		bench->runs[i].way = order[i].way;
		bench->runs[i].threads = order[i].threads;
	}
}

/* Runs all; after one that is stuck nothing, since any reader of the file could get stuck. */
static void run_all(struct bench *bench)
{
	const char *why = NULL;

	for (int i = 0; i < BENCH_RUNS; i++) {
		struct bench_run *run = &bench->runs[i];
		const char *skip =
			run->way == BENCH_LIBRARY && !bench->library[0] ? "no library" : why;

		if (skip) {
			run->status = BENCH_SKIPPED;
			snprintf(run->note, sizeof(run->note), "%s", skip);
			continue;
		}
		if (bench->drop_caches)
			drop_caches(bench->path);
		bench_run(bench, run);
		if (run->status == BENCH_STUCK)
			why = "a reader of the file is stuck";
	}
}

static int measure(const struct arguments *arguments)
{
	static struct bench bench;

	bench.path = arguments->path;
	bench.timeout = (unsigned)arguments->timeout;
	bench.drop_caches = arguments->drop_caches;
	if (!look_at_file(&bench) || !choose_bytes(&bench, arguments->bytes))
		return EXIT_NO;
	if (!library_find(bench.library))
		report_warning("install libstnommap.so beside stshim",
			       "the library is not found and not measured");
	plan(&bench);
	run_all(&bench);
	return (arguments->json ? bench_print_json : bench_print)(&bench) ? EXIT_YES : EXIT_NO;
}

int stn_tool_bench(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"json", 'j', NULL, 0, "Print JSON instead of a table", 0},
		{"bytes", 'b', "SIZE", 0,
		 "Read the first SIZE of the file (default: all, at most 2G and half of the "
		 "memory that is free)",
		 0},
		{"drop-caches", 'd', NULL, 0,
		 "Empty the page cache before each way: as root of the whole host, else of this "
		 "file",
		 0},
		{"timeout", 't', "SECONDS", 0, "Most seconds for one way (default 120)", 0},
		{"child", KEY_CHILD, "WAY", OPTION_HIDDEN, NULL, 0},
		{"threads", KEY_THREADS, "N", OPTION_HIDDEN, NULL, 0},
		{0}};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "FILE",
		.doc = "Reads this file, here, in four ways: direct reads with 1 to 16 threads, a "
		       "mapping under the library, a plain mapping, read. Says how fast each is "
		       "and which settings to use. Each way runs in a process of its own and ends "
		       "with the bytes in memory, each looked at once.\v"
		       "Exit status: 0 all ways read the same bytes, 1 one did not or could not, 2 "
		       "wrong usage.",
	};
	struct arguments arguments = {.timeout = 120, .threads = 1};

	argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	if (arguments.way)
		return bench_child(arguments.way, arguments.path, arguments.bytes,
				   (unsigned)arguments.threads);
	return measure(&arguments);
}
