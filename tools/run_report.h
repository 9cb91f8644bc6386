/* SPDX-License-Identifier: Apache-2.0 */
/* stshim run --report: stays beside the program and shows at its end what the library did. */
#ifndef STSHIM_RUN_REPORT_H
#define STSHIM_RUN_REPORT_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

/* Where the library writes its statistics meanwhile. */
struct run_report {
	char path[PATH_MAX];
	bool temporary; /* ours, to be removed */
	off_t start;	/* what was in it before */
};

/*
 * Takes the file of STSHIM_STATS, or makes a temporary one and sets the variable. False if that is
 * not possible, with an error printed.
 */
bool run_report_begin(struct run_report *report);

/* Prints what has come into the file since, as a table or as JSON, to stderr. */
void run_report_print(const struct run_report *report, bool json);

/* Removes a temporary file. */
void run_report_end(const struct run_report *report);

#endif
