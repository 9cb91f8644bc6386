/* SPDX-License-Identifier: Apache-2.0 */
#include "journal.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/vfs.h>

#include "config.h"
#include "fs.h"
#include "page.h"
#include "pool.h"
#include "stderr.h"
#include "sys.h"
#include "text.h"

#define LINE_SIZE   8192
#define APPEND_SIZE 32768 /* room for a path of 4096 bytes, each escaped */
#define SECOND	    1000000000u

static atomic_bool told_bad_values;

/* One line on its way to a file. */
struct append {
	struct stn_call call;
	char path[4096];
	size_t length;
	char line[APPEND_SIZE];
};

/* True if fd is a file that we may append to: regular, ours, with one name, not on FUSE. */
static bool is_safe(int fd)
{
	const unsigned type = 0170000, regular = 0100000;
	struct statx st = {0};
	struct statfs fs = {0};

	return stn_sys_statx(fd, STATX_BASIC_STATS, &st) == 0 && (st.stx_mode & type) == regular &&
	       st.stx_uid == stn_sys_geteuid() && st.stx_nlink == 1 &&
	       stn_sys_fstatfs(fd, &fs) == 0 && (uint32_t)fs.f_type != STN_FS_FUSE;
}

static void run_append(struct stn_call *call)
{
	const struct append *append = (const struct append *)(const void *)call;
	const int flags =
		O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
	int fd = stn_sys_create(append->path, flags, 0600);

	if (fd < 0)
		return;
	if (is_safe(fd))
		stn_sys_write(fd, append->line, append->length);
	stn_sys_close(fd);
}

/* Makes room for a line that is to be appended to a file; NULL if memory is refused. */
static struct append *start_append(const char *path, struct stn_text *line)
{
	struct append *append = stn_call_make(sizeof(*append), run_append);

	if (!append)
		return NULL;
	memcpy(append->path, path, strlen(path) + 1);
	stn_text_start(line, append->line, sizeof(append->line));
	return append;
}

/* Has a thread of the pool append the line. */
static void finish_append(struct append *append, const struct stn_text *line)
{
	append->length = line->length;
	stn_pool_run(&append->call.job, (unsigned)stn_config.threads, stn_config.timeout, NULL);
	stn_job_put(&append->call.job);
}

static void append_to(const char *path, const struct stn_text *text)
{
	struct stn_text line;
	struct append *append = start_append(path, &line);

	if (!append)
		return;
	stn_text_add(&line, text->data);
	finish_append(append, &line);
}

static void start_line(struct stn_text *line, char *buffer, const char *level)
{
	stn_text_start(line, buffer, LINE_SIZE);
	stn_text_add(line, "libstnommap[");
	stn_text_add_number(line, (uint64_t)stn_sys_getpid());
	stn_text_add(line, "]: ");
	stn_text_add(line, level);
	stn_text_add(line, ": ");
}

/* Ends a line, also one that was cut, with a newline and writes it where the log goes. */
static void log_line(struct stn_text *line)
{
	if (line->length + 2 > line->size)
		line->length = line->size - 2;
	stn_text_add_char(line, '\n');
	if (stn_config.log_file[0])
		append_to(stn_config.log_file, line);
	else
		stn_stderr_write(line->data, line->length);
}

static void tell_bad_value(size_t row_number)
{
	char buffer[LINE_SIZE];
	struct stn_text line;
	struct stn_config_row row;

	stn_config_row(row_number, &row);
	start_line(&line, buffer, "error");
	stn_text_add(&line, row.name);
	stn_text_add(&line, ": value not understood (");
	stn_text_add(&line, row.values);
	stn_text_add(&line, "), the default is used: ");
	stn_text_add(&line, row.fallback);
	log_line(&line);
}

static void tell_unknown(void)
{
	char buffer[LINE_SIZE];
	struct stn_text line;

	start_line(&line, buffer, "error");
	stn_text_add(&line, "no such variable: ");
	stn_text_add_plain(&line, stn_config.unknown);
	log_line(&line);
}

/* True if there is something to be said about the configuration that has not been said. */
static bool has_complaints(void)
{
	return stn_config.log_level != STN_LOG_OFF && (stn_config.bad || stn_config.unknown[0]) &&
	       !atomic_load(&told_bad_values);
}

/* Once in a process: the variables that were not understood. */
static void complain(void)
{
	if (!has_complaints() || atomic_exchange(&told_bad_values, true))
		return;
	for (size_t i = 0; i < stn_config_rows(); i++)
		if (stn_config.bad >> i & 1)
			tell_bad_value(i);
	if (stn_config.unknown[0])
		tell_unknown();
}

static uint64_t level_of(enum stn_decision decision, bool holes)
{
	bool trouble = (decision >= STN_ABANDONED_TIMEOUT && decision <= STN_ABANDONED_CHANGED) ||
		       decision == STN_RETURNED_IO_ERROR;

	return trouble || holes ? STN_LOG_WARN : STN_LOG_INFO;
}

static uint64_t level_of_record(const struct stn_record *record)
{
	return level_of(record->decision,
			stn_decision_engaged(record->decision) && record->returned_bytes != 0);
}

bool stn_journal_stats(void)
{
	return stn_config.stats_file[0] != '\0';
}

bool stn_journal_wants(enum stn_decision decision)
{
	return stn_journal_stats() || stn_config.log_level >= level_of(decision, true) ||
	       has_complaints();
}

/* "declined:memory", or "would be engaged" when only observing. */
static void add_decision(struct stn_text *line, const struct stn_record *record)
{
	if (record->observed)
		stn_text_add(line, "would be ");
	stn_text_add(line, stn_decision_verb(record->decision));
	if (*stn_decision_reason(record->decision)) {
		stn_text_add_char(line, ':');
		stn_text_add(line, stn_decision_reason(record->decision));
	}
}

/* Gigabytes a second in hundredths; 0 for no time at all. */
static uint64_t rate(uint64_t bytes, uint64_t nanoseconds)
{
	return nanoseconds / 1000 ? bytes / 10 / (nanoseconds / 1000) : 0;
}

/* Of what was read, which of a lazily filled mapping may be little; 0 if nothing was. */
static uint64_t read_rate(const struct stn_record *record)
{
	uint64_t read = record->direct_bytes + record->buffered_bytes;

	return rate(stn_min(read, record->bytes), record->elapsed);
}

static void write_log(const struct stn_record *record)
{
	char buffer[LINE_SIZE];
	struct stn_text line;

	start_line(&line, buffer, level_of_record(record) == STN_LOG_WARN ? "warn" : "info");
	add_decision(&line, record);
	stn_text_add_char(&line, ' ');
	stn_text_add_plain(&line, record->path);
	stn_text_add(&line, ": ");
	stn_text_add_bytes(&line, record->bytes);
	stn_text_add(&line, " on ");
	stn_text_add(&line, stn_fs_name(record->file_system));
	if (record->direct_bytes + record->buffered_bytes) {
		stn_text_add(&line, " in ");
		stn_text_add_fraction(&line, record->elapsed / (SECOND / 1000), 3);
		stn_text_add(&line, " s, ");
		stn_text_add_fraction(&line, read_rate(record), 2);
		stn_text_add(&line, " GB/s, ");
		stn_text_add_number(&line, record->threads);
		stn_text_add(&line, record->threads == 1 ? " thread" : " threads");
		stn_text_add(&line, record->buffered_bytes ? ", buffered" : ", direct");
	}
	if (*record->note) {
		stn_text_add(&line, "; ");
		stn_text_add_plain(&line, record->note);
	}
	log_line(&line);
}

static void add_key(struct stn_text *line, const char *key)
{
	stn_text_add(line, line->length == 1 ? "\"" : ",\"");
	stn_text_add(line, key);
	stn_text_add(line, "\":");
}

static void add_number(struct stn_text *line, const char *key, uint64_t value)
{
	add_key(line, key);
	stn_text_add_number(line, value);
}

static void add_string(struct stn_text *line, const char *key, const char *value)
{
	add_key(line, key);
	stn_text_add_char(line, '"');
	stn_text_add_json(line, value);
	stn_text_add_char(line, '"');
}

static void add_file(struct stn_text *line, const struct stn_record *record)
{
	add_string(line, "path", record->path);
	add_number(line, "size", record->identity.size);
	add_key(line, "dev");
	stn_text_add_char(line, '"');
	stn_text_add_number(line, record->identity.device >> 32);
	stn_text_add_char(line, ':');
	stn_text_add_number(line, record->identity.device & 0xffffffffu);
	stn_text_add_char(line, '"');
	add_number(line, "ino", record->identity.inode);
	add_string(line, "file_system", stn_fs_name(record->file_system));
}

static void add_figures(struct stn_text *line, const struct stn_record *record)
{
	add_number(line, "bytes", record->bytes);
	add_key(line, "seconds");
	stn_text_add_fraction(line, record->elapsed / 1000, 6);
	add_key(line, "gb_per_s");
	stn_text_add_fraction(line, read_rate(record), 2);
	add_number(line, "threads", record->threads);
	add_number(line, "requests", record->requests);
	add_number(line, "direct_bytes", record->direct_bytes);
	add_number(line, "buffered_bytes", record->buffered_bytes);
	add_number(line, "returned_bytes", record->returned_bytes);
	add_number(line, "huge_pages", record->huge_bytes);
	add_number(line, "cache_before", record->cache_before);
	add_number(line, "cache_after", record->cache_after);
	add_string(line, "note", record->note);
}

static void write_stats(const struct stn_record *record)
{
	struct stn_text line;
	struct append *append = start_append(stn_config.stats_file, &line);

	if (!append)
		return;
	stn_text_add_char(&line, '{');
	add_key(&line, "time");
	stn_text_add_fraction(&line, stn_sys_clock(CLOCK_REALTIME) / 1000, 6);
	add_number(&line, "pid", (uint64_t)stn_sys_getpid());
	add_string(&line, "event", record->event);
	add_file(&line, record);
	add_string(&line, "decision",
		   record->observed && stn_decision_engaged(record->decision)
			   ? "would-engage"
			   : stn_decision_verb(record->decision));
	add_string(&line, "reason", stn_decision_reason(record->decision));
	add_figures(&line, record);
	stn_text_add(&line, "}\n");
	finish_append(append, &line);
}

void stn_journal_write(const struct stn_record *record)
{
	complain();
	if (stn_config.log_level >= level_of_record(record))
		write_log(record);
	if (stn_journal_stats())
		write_stats(record);
}

void stn_journal_budget(const struct stn_budget_verdict *verdict, char *out, size_t size)
{
	struct stn_text text;

	stn_text_start(&text, out, size);
	stn_text_add(&text, verdict->limit ? verdict->limit : "no limit");
	stn_text_add(&text, ": ");
	stn_text_add_bytes(&text, verdict->needed);
	stn_text_add(&text, " needed, ");
	stn_text_add_bytes(&text, verdict->available);
	stn_text_add(&text, " left beside a margin of ");
	stn_text_add_bytes(&text, verdict->margin);
}
