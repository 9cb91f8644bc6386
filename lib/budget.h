/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much more anonymous memory this process may take. An engaged mapping cannot be reclaimed as
 * page cache can: what survived in a small control group through mmap could be killed through us.
 */
#ifndef STN_BUDGET_H
#define STN_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

#define STN_BUDGET_UNLIMITED UINT64_MAX

/* What the host and the control groups offer at one moment; STN_BUDGET_UNLIMITED where nothing
 * limits. */
struct stn_budget_view {
	uint64_t host_total;	  /* MemTotal */
	uint64_t host_available;  /* MemAvailable */
	uint64_t group_limit;	  /* of the group that leaves least after its margin */
	uint64_t group_available; /* what that group leaves, reclaimable page cache counted as free
				   */
	uint64_t address_space_left; /* RLIMIT_AS */
	uint64_t data_left;	     /* RLIMIT_DATA */
	uint64_t commit_left; /* CommitLimit - Committed_AS where overcommit is off (mode 2) */
};

/* What this process has already taken or promised. */
struct stn_budget_use {
	uint64_t engaged;  /* bytes in live engaged mappings, holes not counted; resident, so no
			      longer  available */
	uint64_t planned;  /* bytes of mappings that are being engaged */
	uint64_t filled;   /* bytes of those that are resident already */
	uint64_t declined; /* unified memory: live model mappings left to the kernel, to be copied
			      too */
	uint64_t expected; /* unified memory: bytes of this model's other shards not mapped yet */
	uint64_t holes;	   /* bytes that are missing of lazily filled mappings */
	uint64_t reserve;  /* bytes of the mapping in question, if more than need: they count where
			      what is mapped is limited, filled or not */
	bool unified;	   /* CPU and GPU share memory: each model byte will be copied once more */
	uint64_t memory_kind, memory_value; /* STSHIM_MEMORY, see config.h */
};

/* The answer, with the figures for the log line. */
struct stn_budget_verdict {
	bool fits;
	const char
		*limit;	 /* what is tightest: "host", "cgroup", "RLIMIT_AS", ...; constant string */
	uint64_t needed; /* bytes asked of that limit */
	uint64_t available; /* bytes it has left after the margin */
	uint64_t margin;    /* bytes kept free of it */
};

/* Reads all limits. Opens files: see file.h. */
void stn_budget_read(struct stn_budget_view *view);

/* The bytes to leave free of a limit: a sixteenth, at least 64 MiB, at most 2 GiB. Pure. */
uint64_t stn_budget_margin(uint64_t limit);

/* Decides whether need more bytes can be engaged. Pure. */
void stn_budget_decide(const struct stn_budget_view *view, const struct stn_budget_use *use,
		       uint64_t need, struct stn_budget_verdict *verdict);

/* STSHIM_MEMORY, by its kind and value, as a cap on the bytes engaged in this process. Pure. */
uint64_t stn_budget_cap(const struct stn_budget_view *view, uint64_t kind, uint64_t value);

/* During a fill: the bytes that host and groups have left above half of their margins. Pure. */
uint64_t stn_budget_left(const struct stn_budget_view *view);

#endif
