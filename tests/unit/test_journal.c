/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config.h"
#include "engaged.h"
#include "fs.h"
#include "journal.h"
#include "stderr.h"
#include "unit.h"

/* A record of a fill that went well. */
static struct stn_record record(void)
{
	return (struct stn_record){
		.event = "fill",
		.path = "/models/m.safetensors",
		.identity = {.device = (uint64_t)8 << 32 | 3, .inode = 42, .size = 2 * MIB},
		.file_system = STN_FS_FUSE,
		.decision = STN_ENGAGED,
		.bytes = 2 * MIB,
		.elapsed = 2000000,
		.threads = 8,
		.direct_bytes = 2 * MIB,
		.cache_before = 4096,
		.cache_after = 8192,
		.huge_bytes = 2 * MIB,
		.note = "",
	};
}

/* Sends descriptor 2 to a file and has the journal know it; the log goes there. */
static void redirect(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(dup2(fd, 2), 2);
	close(fd);
	stn_stderr_watch();
}

static unsigned lines_of(const char *name)
{
	unsigned count = 0;

	if (access(name, F_OK) < 0)
		return 0;
	for (const char *at = unit_read(name); *at; at++)
		count += *at == '\n';
	return count;
}

START_TEST(stats_line)
{
	struct stn_record fill = record();
	const char *line;
	char expected[1024];
	double time;

	unit_configure("STSHIM_MODE=auto", NULL);
	stn_journal_write(&fill);
	line = unit_last_line();
	ck_assert_int_eq(sscanf(line, "{\"time\":%lf,", &time), 1);
	ck_assert_double_gt(time, 1.6e9);
	snprintf(expected, sizeof(expected),
		 ",\"pid\":%d,\"event\":\"fill\",\"path\":\"/models/m.safetensors\","
		 "\"size\":2097152,\"dev\":\"8:3\",\"ino\":42,\"file_system\":\"fuse\","
		 "\"decision\":\"engaged\",\"reason\":\"\",\"bytes\":2097152,\"seconds\":0.002000,"
		 "\"gb_per_s\":1.04,\"threads\":8,\"requests\":0,\"direct_bytes\":2097152,"
		 "\"buffered_bytes\":0,\"returned_bytes\":0,\"huge_pages\":2097152,\"cache_"
		 "before\":4096,"
		 "\"cache_after\":8192,\"note\":\"\"}",
		 getpid());
	ck_assert_ptr_nonnull(strchr(line, ','));
	ck_assert_str_eq(strchr(line, ','), expected);
}
END_TEST

/* Names that have to be escaped, up to the longest; the line stays one, and ends. */
static const struct {
	const char *part, *escaped;
	unsigned times;
} paths[] = {
	{"\"", "\\\"", 10},	   {"\\", "\\\\", 10},		 {"\n", "\\u000a", 10},
	{"\xff", "\\u00ff", 10},   {"\xc3\xa9", "\xc3\xa9", 10}, {"x", "x", 4095},
	{"\xff", "\\u00ff", 4095}, {"\"", "\\\"", 4095},
};

START_TEST(stats_path)
{
	struct stn_record fill = record();
	char path[4096] = "", expected[256] = "\"path\":\"";

	for (unsigned i = 0; i < paths[_i].times; i++) {
		strcat(path, paths[_i].part);
		if (i < 10)
			strcat(expected, paths[_i].escaped);
	}
	fill.path = path;
	unit_configure("STSHIM_MODE=auto", NULL);
	stn_journal_write(&fill);
	stn_journal_write(&fill);
	ck_assert_uint_eq(lines_of(UNIT_STATS), 2);
	ck_assert_ptr_nonnull(strstr(unit_last_line(), expected));
	ck_assert_int_eq(strncmp(unit_last_line(), "{\"time\":", 8), 0);
	/* A path may be cut, but not what follows it. */
	ck_assert_ptr_nonnull(strstr(unit_last_line(), ",\"note\":\"\"}"));
}
END_TEST

/* Decisions as the log and the statistics have them. */
static const struct {
	enum stn_decision decision;
	bool observed;
	const char *logged, *stats;
} decisions[] = {
	{STN_ENGAGED, false, "info: engaged /models/m.safetensors: 2.00 MiB on fuse in 0.002 s, ",
	 "\"decision\":\"engaged\",\"reason\":\"\""},
	{STN_ENGAGED, true, "info: would be engaged /models/m", "\"decision\":\"would-engage\""},
	{STN_ENGAGED_PEEK, false, "info: engaged:header-peek /models/m",
	 "\"decision\":\"engaged\",\"reason\":\"header-peek\""},
	{STN_DECLINED_MEMORY, false, "info: declined:memory /models/m",
	 "\"decision\":\"declined\",\"reason\":\"memory\""},
	{STN_DECLINED_MEMORY, true, "info: would be declined:memory /models/m",
	 "\"decision\":\"declined\",\"reason\":\"memory\""},
	{STN_ABANDONED_TIMEOUT, false, "warn: abandoned:timeout /models/m",
	 "\"decision\":\"abandoned\",\"reason\":\"timeout\""},
	{STN_RETURNED_ADVICE, false, "info: returned:advice /models/m",
	 "\"decision\":\"returned\",\"reason\":\"advice\""},
};

START_TEST(decision)
{
	struct stn_record fill = record();
	char start[64];

	unit_configure("STSHIM_LOG=info", NULL);
	redirect("log");
	fill.decision = decisions[_i].decision;
	fill.observed = decisions[_i].observed;
	fill.note = "a note\nof two lines";
	stn_journal_write(&fill);
	snprintf(start, sizeof(start), "libstnommap[%d]: ", getpid());
	ck_assert_int_eq(strncmp(unit_read("log"), start, strlen(start)), 0);
	ck_assert_ptr_nonnull(strstr(unit_read("log"), decisions[_i].logged));
	ck_assert_ptr_nonnull(strstr(unit_read("log"), "; a note?of two lines\n"));
	ck_assert_uint_eq(lines_of("log"), 1);
	ck_assert_ptr_nonnull(strstr(unit_last_line(), decisions[_i].stats));
}
END_TEST

/* Which decisions each level shows. */
static const struct {
	const char *level;
	bool engaged, declined, abandoned;
} levels[] = {
	{"STSHIM_LOG=off", false, false, false}, {"STSHIM_LOG=error", false, false, false},
	{"STSHIM_LOG=warn", false, false, true}, {"STSHIM_LOG=info", true, true, true},
	{"STSHIM_LOG=debug", true, true, true},
};

static unsigned logged(enum stn_decision decided)
{
	struct stn_record fill = record();

	redirect("log");
	fill.decision = decided;
	stn_journal_write(&fill);
	return lines_of("log");
}

START_TEST(level)
{
	unit_configure(levels[_i].level, NULL);
	stn_config.stats_file[0] = '\0';
	ck_assert_uint_eq(logged(STN_ENGAGED), levels[_i].engaged);
	ck_assert_uint_eq(logged(STN_DECLINED_OFF), levels[_i].declined);
	ck_assert_uint_eq(logged(STN_ABANDONED_MEMORY), levels[_i].abandoned);
	ck_assert(stn_journal_wants(STN_ABANDONED_MEMORY) == levels[_i].abandoned);
	ck_assert(stn_journal_wants(STN_ENGAGED) >= levels[_i].engaged);
	ck_assert(!stn_journal_stats());
}
END_TEST

/* A fill of which pieces could not be read is worth a warning. */
START_TEST(holes_are_warned_of)
{
	struct stn_record fill = record();

	unit_configure("STSHIM_LOG=warn", NULL);
	redirect("log");
	fill.returned_bytes = 131072;
	stn_journal_write(&fill);
	ck_assert_ptr_nonnull(strstr(unit_read("log"), "warn: engaged "));
}
END_TEST

/* Silent unless asked. */
START_TEST(silent)
{
	unit_configure("STSHIM_MODE=auto", NULL);
	stn_config.stats_file[0] = '\0';
	for (int i = 0; i < STN_DECISIONS; i++) {
		ck_assert(!stn_journal_wants((enum stn_decision)i));
		ck_assert_uint_eq(logged((enum stn_decision)i), 0);
	}
	ck_assert_uint_eq(unit_threads(), 1);
}
END_TEST

/* What has become of descriptor 2 since the start: nothing is written to what it is now. */
START_TEST(stderr_replaced)
{
	struct stn_record fill = record();
	int fd;

	unit_configure("STSHIM_LOG=info", NULL);
	redirect("log");
	if (_i == 0) {
		close(2);
	} else {
		fd = open("database", O_RDWR | O_CREAT, 0600);
		ck_assert_int_eq(dup2(fd, 2), 2);
	}
	stn_journal_write(&fill);
	stn_stderr_write("text", 4);
	ck_assert_uint_eq(lines_of("log"), 0);
	ck_assert_uint_eq(lines_of("database"), 0);
}
END_TEST

/* A process that was started without a descriptor 2 gets nothing in what is opened there later. */
START_TEST(stderr_closed_at_start)
{
	unit_configure("STSHIM_LOG=info", NULL);
	close(2);
	stn_stderr_watch();
	ck_assert_int_eq(open("database", O_RDWR | O_CREAT, 0600), 2);
	stn_stderr_write("text", 4);
	ck_assert_str_eq(unit_read("database"), "");
}
END_TEST

static volatile sig_atomic_t pipe_signals;

static void on_pipe(int signal)
{
	(void)signal;
	pipe_signals++;
}

/* Nobody reads the log any more: that is no reason to end the program, or to tell it. */
START_TEST(stderr_broken)
{
	struct sigaction action = {.sa_handler = _i ? on_pipe : SIG_DFL};
	sigset_t pending;
	int ends[2];

	unit_configure("STSHIM_LOG=info", NULL);
	ck_assert_int_eq(sigaction(SIGPIPE, &action, NULL), 0);
	ck_assert_int_eq(pipe(ends), 0);
	ck_assert_int_eq(dup2(ends[1], 2), 2);
	stn_stderr_watch();
	close(ends[0]);
	stn_stderr_write("text", 4);
	ck_assert_int_eq(sigpending(&pending), 0);
	ck_assert(!sigismember(&pending, SIGPIPE));
	ck_assert_int_eq(pipe_signals, 0);
	ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &pending), 0);
	ck_assert(!sigismember(&pending, SIGPIPE));
}
END_TEST

/* Files that may not be appended to, and one that may. */
static const char *const kinds[] = {"missing", "file",	    "symbolic link", "hard link",
				    "fifo",    "directory", "another's"};

static void make_log(const char *kind)
{
	if (strcmp(kind, "missing") == 0)
		return;
	unit_text("other", "before\n");
	if (strcmp(kind, "symbolic link") == 0)
		ck_assert_int_eq(symlink("other", "log"), 0);
	else if (strcmp(kind, "hard link") == 0)
		ck_assert_int_eq(link("other", "log"), 0);
	else if (strcmp(kind, "fifo") == 0)
		ck_assert_int_eq(mkfifo("log", 0600), 0);
	else if (strcmp(kind, "directory") == 0)
		ck_assert_int_eq(mkdir("log", 0700), 0);
	else
		unit_text("log", "before\n");
	/* Only root can make a file of somebody else's; to others one is as good as read-only. */
	if (strcmp(kind, "another's") == 0 && chown("log", 12345, 12345) < 0)
		ck_assert_int_eq(chmod("log", 0400), 0);
}

START_TEST(log_file)
{
	bool safe = _i < 2;
	char variable[4200];
	struct stn_record fill = record();

	snprintf(variable, sizeof(variable), "STSHIM_LOG_FILE=%s", unit_path("log"));
	unit_configure("STSHIM_LOG=info", variable, NULL);
	make_log(kinds[_i]);
	stn_journal_write(&fill);
	stn_journal_write(&fill);
	if (safe) {
		ck_assert_uint_eq(lines_of("log"), 2 + (unsigned)_i);
		ck_assert_ptr_nonnull(strstr(unit_read("log"), "info: engaged"));
	} else if (strcmp(kinds[_i], "another's") == 0) {
		ck_assert_str_eq(unit_read("log"), "before\n");
	} else {
		ck_assert_str_eq(unit_read("other"), "before\n");
	}
}
END_TEST

/* A new file is nobody else's business. */
START_TEST(file_mode)
{
	struct stn_record fill = record();
	struct stat st;

	umask(0);
	unit_configure("STSHIM_MODE=auto", NULL);
	stn_journal_write(&fill);
	ck_assert_int_eq(stat(UNIT_STATS, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
}
END_TEST

static void *write_many(void *argument)
{
	struct stn_record fill = record();

	(void)argument;
	for (int i = 0; i < 50; i++)
		stn_journal_write(&fill);
	return NULL;
}

/* Lines of several threads do not run into each other. */
START_TEST(whole_lines)
{
	pthread_t threads[4];
	unsigned count = 0;

	unit_configure("STSHIM_MODE=auto", NULL);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_many, NULL), 0);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	for (const char *at = unit_read(UNIT_STATS); *at; at = strchr(at, '\n') + 1) {
		const char *end = strchr(at, '\n');

		ck_assert_int_eq(strncmp(at, "{\"time\":", 8), 0);
		ck_assert_int_eq(end[-1], '}');
		ck_assert_ptr_null(memchr(at + 1, '{', (size_t)(end - at) - 1));
		count++;
	}
	ck_assert_uint_eq(count, 200);
}
END_TEST

/* Values that were not understood are told once, with what is used instead. */
START_TEST(complaints)
{
	char *environment[] = {(char[]){"STSHIM_MODUS=x"}, (char[]){"PATH=/bin"}, NULL};
	struct stn_record fill = record();

	unit_configure("STSHIM_LOG=error", NULL);
	redirect("log");
	stn_config.bad = 1;
	stn_config_find_unknown(&stn_config, environment);
	ck_assert(stn_journal_wants(STN_ENGAGED));
	stn_journal_write(&fill);
	stn_journal_write(&fill);
	ck_assert_uint_eq(lines_of("log"), 2);
	ck_assert_ptr_nonnull(strstr(unit_read("log"), "error: STSHIM_MODE: value not understood "
						       "(auto, always, observe or off), the "
						       "default is used: auto\n"));
	ck_assert_ptr_nonnull(strstr(unit_read("log"), "no such variable: STSHIM_MODUS\n"));
}
END_TEST

START_TEST(budget)
{
	const struct stn_budget_verdict none = {.fits = true};
	const struct stn_budget_verdict verdict = {
		.limit = "cgroup", .needed = 3 * GIB / 2, .available = GIB, .margin = 64 * MIB};
	char out[160], small[12];

	stn_journal_budget(&verdict, out, sizeof(out));
	ck_assert_str_eq(out,
			 "cgroup: 1.50 GiB needed, 1.00 GiB left beside a margin of 64.00 MiB");
	stn_journal_budget(&none, out, sizeof(out));
	ck_assert_int_eq(strncmp(out, "no limit: ", 10), 0);
	stn_journal_budget(&verdict, small, sizeof(small));
	ck_assert_str_eq(small, "cgroup: 1.5");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("journal");
	TCase *tcase = unit_case_in_dir(suite, "lines", 10);

	tcase_add_test(tcase, stats_line);
	tcase_add_loop_test(tcase, stats_path, 0, COUNT(paths));
	tcase_add_loop_test(tcase, decision, 0, COUNT(decisions));
	tcase_add_loop_test(tcase, level, 0, COUNT(levels));
	tcase_add_test(tcase, holes_are_warned_of);
	tcase_add_test(tcase, complaints);
	tcase_add_test(tcase, budget);
	tcase = unit_case_in_dir(suite, "files", 10);
	tcase_add_test(tcase, silent);
	tcase_add_loop_test(tcase, stderr_replaced, 0, 2);
	tcase_add_test(tcase, stderr_closed_at_start);
	tcase_add_loop_test(tcase, stderr_broken, 0, 2);
	tcase_add_loop_test(tcase, log_file, 0, COUNT(kinds));
	tcase_add_test(tcase, file_mode);
	tcase_add_test(tcase, whole_lines);
	return suite;
}
