/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the library says: a log for people and statistics for programs, one line a decision or a
 * finished fill. Silent unless asked. Files are written by a thread of the pool, so that no
 * descriptor of ours appears in the program's table.
 */
#ifndef STN_JOURNAL_H
#define STN_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "budget.h"
#include "names.h"
#include "policy.h"

/* One line's worth. */
struct stn_record {
	/* "map" (left to the kernel), "fill", "begin" and "end" (lazy), "read" or "return" */
	const char *event;
	const char *path;	      /* of the file; may be empty */
	struct stn_identity identity; /* of the file */
	uint64_t file_system;	      /* f_type */
	enum stn_decision decision;
	bool observed;	   /* STSHIM_MODE=observe: it would be so */
	uint64_t bytes;	   /* of the mapping */
	uint64_t elapsed;  /* nanoseconds of the whole call */
	unsigned threads;  /* that read at once */
	uint64_t requests; /* of a read event */
	uint64_t direct_bytes, buffered_bytes;
	uint64_t returned_bytes;	    /* given back to the file's own mapping */
	uint64_t huge_bytes;		    /* in huge pages */
	uint64_t cache_before, cache_after; /* page cache of the mapped range, bytes */
	const char *note;		    /* a few words more for the log, or "" */
};

/* True if a record of this decision would be written anywhere: then it is worth collecting figures.
 */
bool stn_journal_wants(enum stn_decision decision);
bool stn_journal_stats(void);

/* Writes the record. No lock held; not for signal handlers. */
void stn_journal_write(const struct stn_record *record);

/* Puts a budget's figures into words: "cgroup: 1.50 GiB needed, 1.20 GiB left after ...". */
void stn_journal_budget(const struct stn_budget_verdict *verdict, char *out, size_t size);

#endif
