/* SPDX-License-Identifier: Apache-2.0 */
/* Inside engage: one mapping while it is decided and made. Used by decide.c, engage.c,
 * engage_lazy.c and peek.c only. */
#ifndef STN_ENGAGEMENT_H
#define STN_ENGAGEMENT_H

#include "area.h"
#include "engage.h"
#include "journal.h"
#include "policy.h"
#include "survey.h"

#define STN_PEEK_FIRST (128u << 10) /* read of a header whose length is not known yet */

struct stn_engagement {
	const struct stn_map_call *call;
	struct stn_model *model;
	struct stn_facts facts;
	struct stn_survey *survey; /* NULL until it was needed */
	struct stn_area area;
	struct stn_record record;
	uint64_t begun;	  /* clock */
	uint64_t planned; /* bytes reserved in the budget and the reread guard */
	uint64_t got;	  /* bytes of them that were read */
	uint64_t most;	  /* bytes of it that may be read lazily */
	bool owned;	  /* the process's user owns the file */
	bool not_lazy;	  /* lazy fill has been tried, and did not work */
	bool peek;	  /* what is planned is a header, which the reread guard does not count */
	char note[160];	  /* for the log */
};

/*
 * Fills in what the descriptor and the call show. False if it is no model file: nothing more to be
 * said about it. A few system calls, no thread.
 */
bool stn_engagement_look(struct stn_engagement *e);

/*
 * The whole decision; runs the survey where one is needed. If it is to engage, memory and the right
 * to read are reserved until stn_engagement_settle.
 */
enum stn_decision stn_engagement_decide(struct stn_engagement *e);

/* Gives back what was reserved and not used. */
void stn_engagement_settle(struct stn_engagement *e);

/* Writes the decision to the journal, if anybody wants it. */
void stn_engagement_record(struct stn_engagement *e, const char *event, enum stn_decision decision);

/* What an error of a survey or a fill means. Pure. */
enum stn_decision stn_engagement_error(int error);

/*
 * Fills the area with length bytes of the file from offset; *out is the fill, to be put by the
 * caller, or NULL. 0 or -errno; what may still be written to is no longer in the area then.
 */
int stn_engagement_fill(struct stn_engagement *e, uint64_t offset, uint64_t length,
			struct stn_fill **out);

/* True if the file's page cache is to be dropped. Pure. */
bool stn_engagement_drops_cache(const struct stn_engagement *e);

/* True if the mapping would be filled lazily with the best kind of userfaultfd. */
bool stn_engagement_may_be_lazy(const struct stn_engagement *e);

/* True if the mapping may be filled lazily. May take a thread of the pool. */
bool stn_engagement_suits_lazy(const struct stn_engagement *e);

/* Makes a mapping that is filled lazily, *address. False if that cannot be done: nothing is left of
 * the attempt. */
bool stn_engagement_lazy(struct stn_engagement *e, void **address);

/* Makes a header peek: see engage.h for the result. */
enum stn_outcome stn_engagement_peek(struct stn_engagement *e, void **address);

#endif
