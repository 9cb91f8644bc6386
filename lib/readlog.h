/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the journal says of reads. A program may read a file in ten thousand pieces: each decision
 * is told once a version of a file, and what was served in few lines, whose figures are those since
 * the line before and so add up.
 */
#ifndef STN_READLOG_H
#define STN_READLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "names.h"
#include "policy.h"

/* One request. */
struct stn_readlog_entry {
	int fd; /* the program's, to ask for the file's name */
	struct stn_model *model;
	const struct stn_identity *identity;
	uint64_t file_system;
	uint64_t bytes;			       /* served, or asked for */
	uint64_t elapsed;		       /* ns */
	uint64_t direct_bytes, buffered_bytes; /* read for it */
	unsigned threads;
};

/* A decision that is not to serve it, or only observed, or a failure. Not for signal handlers. */
void stn_readlog_decision(const struct stn_readlog_entry *entry, enum stn_decision decision);

/* A request that was served. May write to the journal: not for signal handlers then. */
void stn_readlog_served(const struct stn_readlog_entry *entry);

/*
 * True if a line is due when bytes have been served since the last one, which brought the total to
 * reported: at first; when half as much has come again, 64 MiB at least; and each time that the
 * whole file but a MiB has been read. Pure.
 */
bool stn_readlog_due(uint64_t reported, uint64_t bytes, uint64_t file_size);

#endif
