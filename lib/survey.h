/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The facts about a mapping that need files to be opened: memory, unified memory, the file's name.
 * They are collected by a thread of the pool, whose table of descriptors is its own.
 */
#ifndef STN_SURVEY_H
#define STN_SURVEY_H

#include <stdbool.h>
#include <stddef.h>

#include "budget.h"
#include "pool.h"

struct stn_survey {
	struct stn_call call;
	char descriptor[96];	     /* in: the program's descriptor below /proc */
	bool lazy;		     /* in: find out the kind of userfaultfd as well */
	struct stn_budget_view view; /* out */
	bool unified;		     /* out: CPU and GPU share memory */
	size_t huge_page;	     /* out: bytes of a huge page, 0 = none */
	char path[4096];	     /* out: what the descriptor's link says, or "" */
};

/*
 * Writes the path of the calling thread's descriptor fd as any thread of the process may open it
 * ("/proc/PID/task/TID/fd/N") to out. 0, or -errno without /proc.
 */
int stn_survey_descriptor(int fd, char *out, size_t size);

/* Makes and runs a survey of fd; with lazy set the kind of userfaultfd is known after it (lazy.h).
 * NULL if that is not possible, with *error set to -errno. */
struct stn_survey *stn_survey_run(int fd, bool lazy, int *error);
void stn_survey_put(struct stn_survey *survey);

/*
 * What is known of unified memory without opening a file: 1 yes, 0 no, -1 unknown before the first
 * survey.
 */
int stn_survey_unified(void);

/* Where the user's run-time directory is, to be set before the first survey; NULL for none. */
void stn_survey_set_runtime_dir(const char *directory);

#endif
