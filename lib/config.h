/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration: one table of STSHIM_* variables, read once when the library starts, then
 * frozen. A value that is not understood leaves the default in place and is remembered for the log.
 */
#ifndef STN_CONFIG_H
#define STN_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum stn_mode { STN_MODE_AUTO, STN_MODE_ALWAYS, STN_MODE_OBSERVE, STN_MODE_OFF };
enum stn_answer { STN_ANSWER_AUTO, STN_ANSWER_YES, STN_ANSWER_NO };
enum stn_fill_mode { STN_FILL_AUTO, STN_FILL_EAGER, STN_FILL_LAZY };
enum stn_ahead_mode { STN_AHEAD_AUTO, STN_AHEAD_TENSOR };
enum stn_io_mode { STN_IO_AUTO, STN_IO_DIRECT, STN_IO_BUFFERED };
enum stn_cache_mode { STN_CACHE_AUTO, STN_CACHE_RESTORE, STN_CACHE_KEEP, STN_CACHE_DROP };
enum stn_mlock_mode { STN_MLOCK_OFF, STN_MLOCK_TRY, STN_MLOCK_REQUIRE };
enum stn_huge_mode { STN_HUGE_AUTO, STN_HUGE_OFF };
enum stn_log_level { STN_LOG_OFF, STN_LOG_ERROR, STN_LOG_WARN, STN_LOG_INFO, STN_LOG_DEBUG };

#define STN_READ_OFF UINT64_MAX /* STSHIM_READ_MIN=off: no read is served anywhere */

/* How STSHIM_MEMORY was written. */
enum stn_memory_kind { STN_MEMORY_AUTO, STN_MEMORY_SIZE, STN_MEMORY_PERCENT };

/* Every setting; immutable once stn_config_read has returned. */
struct stn_config {
	uint64_t mode;	       /* enum stn_mode */
	uint64_t uma;	       /* enum stn_answer: does CPU and GPU share memory */
	uint64_t fill;	       /* enum stn_fill_mode */
	uint64_t ahead;	       /* enum stn_ahead_mode */
	uint64_t io;	       /* enum stn_io_mode */
	uint64_t threads;      /* most reading threads in the process */
	uint64_t block;	       /* bytes of one read */
	uint64_t memory_kind;  /* enum stn_memory_kind */
	uint64_t memory_value; /* bytes or percent, by memory_kind */
	uint64_t cache;	       /* enum stn_cache_mode */
	uint64_t mlock;	       /* enum stn_mlock_mode */
	uint64_t timeout; /* nanoseconds without progress before a fill is abandoned; 0 = never */
	uint64_t huge_pages;	 /* enum stn_huge_mode */
	uint64_t read_min;	 /* bytes of the smallest read served off FUSE, or STN_READ_OFF */
	uint64_t log_level;	 /* enum stn_log_level */
	uint64_t progress;	 /* 1: draw a bar on stderr */
	char files[4096];	 /* colon-separated globs of model names */
	char file_systems[1024]; /* comma-separated names that auto engages on */
	char log_file[4096];	 /* empty: stderr */
	char stats_file[4096];	 /* empty: no stats */
	uint32_t bad;		 /* bit i: the value of row i was not understood */
	char unknown[256];	 /* STSHIM_ variables that do not exist, blanks between them, cut */
};

/* Where a value comes from: a variable's name in, its value or NULL out (getenv's shape). */
typedef char *stn_config_source(const char *name);

/*
 * Reads all variables through source into config. Not thread-safe, called once; touches nothing
 * else.
 */
void stn_config_read(struct stn_config *config, stn_config_source *source);

/*
 * Notes the STSHIM_ variables of an environment (an array of "NAME=value", NULL at the end) that
 * the table does not have. Not thread-safe, called once.
 */
void stn_config_find_unknown(struct stn_config *config, char *const *environment);

/* One row of the table as people see it, for logs, the doctor and the manual's test. */
struct stn_config_row {
	const char *name;     /* STSHIM_... */
	const char *fallback; /* the default, as it would be written */
	const char *values;   /* what is accepted, in words */
};

/* Returns the number of rows; fills *row for index < that number. */
size_t stn_config_rows(void);
void stn_config_row(size_t index, struct stn_config_row *row);

/* The process's configuration: defaults until the library has started. */
extern struct stn_config stn_config;

#endif
