/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a child, watching it, and not waiting for it for ever. */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "child.h"
#include "report.h"
#include "sys.h"

#define LINE_SIZE  512
#define BAR	   30
#define GRACE	   3000 /* milliseconds for a killed process to be gone */
#define STATS_NAME "/stshim-bench-XXXXXX"

/* A child and what it has said. */
struct watch {
	struct child child;
	int pipe; /* its standard output */
	char line[LINE_SIZE];
	size_t length;
	char stats[4096]; /* file for the library's statistics, or "" */
};

const char *bench_way_name(enum bench_way way)
{
	static const char *const names[] = {"direct", "library", "mmap", "read"};

	return names[way];
}

/* The path as a glob that only it, or hardly another, matches. */
static void set_files(const char *path)
{
	char *glob = strdup(path);

	for (char *c = glob; c && *c; c++)
		if (strchr("*?[]:", *c))
			*c = '?';
	if (glob)
		setenv("STSHIM_FILES", glob, 1);
	free(glob);
}

/* The child's environment: the library and what it needs, or not a trace of it. */
static void set_environment(const struct bench *bench, enum bench_way way, const char *stats)
{
	unsetenv("LD_PRELOAD");
	if (way != BENCH_LIBRARY)
		return;
	setenv("LD_PRELOAD", bench->library, 1);
	setenv("STSHIM_MODE", "always", 1);
	setenv("STSHIM_STATS", stats, 1);
	setenv("STSHIM_PROGRESS", "off", 1);
	set_files(bench->path);
}

/* In the child: becomes this program again, with the hidden option of bench. */
static void become_child(const struct bench *bench, const struct bench_run *run, pid_t parent,
			 int output, const char *stats)
{
	char bytes[32], threads[16], way[16];

	/* With the library it maps, as the program that is to be helped. */
	snprintf(way, sizeof(way), "%s",
		 bench_way_name(run->way == BENCH_LIBRARY ? BENCH_MMAP : run->way));
	snprintf(bytes, sizeof(bytes), "%" PRIu64, bench->bytes);
	snprintf(threads, sizeof(threads), "%u", run->threads);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	dup2(output, 1);
	set_environment(bench, run->way, stats);
	execl("/proc/self/exe", "stshim", "bench", "--child", way, "--threads", threads, "--bytes",
	      bytes, "--", bench->path, NULL);
	_exit(127);
}

/* Makes the file for the statistics; "" if there can be none. */
static void make_stats(struct watch *watch)
{
	const char *directory = getenv("TMPDIR");
	int fd;

	snprintf(watch->stats, sizeof(watch->stats), "%s" STATS_NAME,
		 directory && *directory ? directory : "/tmp");
	fd = mkostemp(watch->stats, O_CLOEXEC);
	if (fd < 0)
		watch->stats[0] = '\0';
	else
		close(fd);
}

static bool start(const struct bench *bench, const struct bench_run *run, struct watch *watch)
{
	pid_t parent = getpid(), pid;
	int ends[2];

	if (run->way == BENCH_LIBRARY)
		make_stats(watch);
	if (pipe2(ends, O_CLOEXEC) != 0)
		return false;
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		become_child(bench, run, parent, ends[1], watch->stats);
	close(ends[1]);
	watch->pipe = ends[0];
	watch->child.pid = pid < 0 ? 0 : pid;
	if (pid > 0)
		setpgid(pid, pid);
	return pid > 0;
}

static void use_line(struct watch *watch, struct bench_run *run)
{
	uint64_t bytes;

	if (sscanf(watch->line, BENCH_PROGRESS, &bytes) == 1)
		run->bytes = bytes;
	else if (sscanf(watch->line, BENCH_RESULT, &run->bytes, &run->seconds, &run->sum,
			&run->cached) == 4)
		run->status = BENCH_DONE;
	else if (strncmp(watch->line, BENCH_ERROR, strlen(BENCH_ERROR)) == 0)
		snprintf(run->note, sizeof(run->note), "%.200s", watch->line + strlen(BENCH_ERROR));
}

/* Takes what the child has written; false at the end. */
static bool take_output(struct watch *watch, struct bench_run *run)
{
	char piece[LINE_SIZE];
	ssize_t got = read(watch->pipe, piece, sizeof(piece));

	for (ssize_t i = 0; i < got; i++) {
		if (piece[i] != '\n') {
			if (watch->length + 1 < LINE_SIZE)
				watch->line[watch->length++] = piece[i];
			continue;
		}
		watch->line[watch->length] = '\0';
		watch->length = 0;
		use_line(watch, run);
	}
	return got > 0 || (got < 0 && errno == EINTR);
}

/* A line that stays where it is: the way, a bar, seconds. */
static void draw(const struct bench *bench, const struct bench_run *run, uint64_t began)
{
	double seconds = (double)(stn_sys_clock(CLOCK_MONOTONIC) - began) * 1e-9;
	double share = (double)run->bytes / (double)bench->bytes;
	char threads[24] = "";

	if (!isatty(2))
		return;
	if (run->way == BENCH_DIRECT)
		snprintf(threads, sizeof(threads), " %u", run->threads);
	fprintf(stderr, "\r\033[K%8s%-3s [%-*.*s] %5.1f s", bench_way_name(run->way), threads, BAR,
		(int)(share * BAR), "##############################", seconds);
}

static void clear_line(void)
{
	if (isatty(2))
		fputs("\r\033[K", stderr);
}

/* Until the child closes its output or the time is over; true if it has closed it. */
static bool follow(const struct bench *bench, struct bench_run *run, struct watch *watch)
{
	uint64_t began = stn_sys_clock(CLOCK_MONOTONIC);
	uint64_t deadline = child_deadline(bench->timeout * 1000);
	struct pollfd poll_for = {.fd = watch->pipe, .events = POLLIN};
	bool over = false;

	while (!over && stn_sys_clock(CLOCK_MONOTONIC) < deadline) {
		if (poll(&poll_for, 1, 100) > 0)
			over = !take_output(watch, run);
		draw(bench, run, began);
	}
	clear_line();
	return over;
}

/* What the library has decided, from the last line of its statistics. */
static void take_decision(const char *path, char *out, size_t size)
{
	FILE *stream = fopen(path, "re");
	char line[32768];
	cJSON *value = NULL, *last = NULL;
	const char *decision, *reason;

	while (stream && fgets(line, sizeof(line), stream)) {
		value = cJSON_Parse(line);
		if (value) {
			cJSON_Delete(last);
			last = value;
		}
	}
	if (stream)
		fclose(stream);
	decision = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(last, "decision"));
	reason = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(last, "reason"));
	snprintf(out, size, "%s%s%s", decision ? decision : "it was not asked",
		 reason && *reason ? ":" : "", reason ? reason : "");
	cJSON_Delete(last);
}

/* What became of a child whose output has ended, or whose time is over. */
static void judge(const struct bench *bench, struct bench_run *run, struct watch *watch, bool over)
{
	if (over && child_await(&watch->child, child_deadline(GRACE))) {
		if (run->status != BENCH_DONE && WIFSIGNALED(watch->child.status))
			snprintf(run->note, sizeof(run->note), "the process was ended by %s",
				 strsignal(WTERMSIG(watch->child.status)));
		return;
	}
	run->status = BENCH_TIMEOUT;
	snprintf(run->note, sizeof(run->note), "not done after %u s", bench->timeout);
	child_kill(&watch->child);
	if (child_await(&watch->child, child_deadline(GRACE)))
		return;
	run->status = BENCH_STUCK;
	snprintf(run->note, sizeof(run->note),
		 "has waited in the kernel for %u s and cannot be killed", bench->timeout);
}

void bench_run(const struct bench *bench, struct bench_run *run)
{
	struct watch watch = {.pipe = -1};
	bool over;

	run->status = BENCH_FAILED;
	run->cached = -1;
	if (!start(bench, run, &watch)) {
		snprintf(run->note, sizeof(run->note), "no process: %s", strerror(errno));
	} else {
		over = follow(bench, run, &watch);
		judge(bench, run, &watch, over);
	}
	if (watch.stats[0]) {
		if (run->status == BENCH_DONE)
			take_decision(watch.stats, run->note, sizeof(run->note));
		unlink(watch.stats);
	}
	if (watch.pipe >= 0)
		close(watch.pipe);
}

bool bench_warm(const struct bench_run *run)
{
	return run->status == BENCH_DONE && run->cached > 0 &&
	       (uint64_t)run->cached * 20 > run->bytes;
}

double bench_rate(const struct bench_run *run)
{
	return run->status == BENCH_DONE && run->seconds > 0
		       ? (double)run->bytes / run->seconds / 1e9
		       : 0;
}
