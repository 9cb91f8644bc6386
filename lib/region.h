/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The registry of engaged memory: which addresses of the program are ours, and where the keeper of
 * each is.
 *
 * A record covers exactly the pages that are anonymous memory of ours; pieces that are the file's
 * own mapping (past the end of the file, given back, the rest of a peek) are not in it. Records are
 * kept sorted in two copies: a writer changes the copy that is not in use, then switches. A reader
 * takes no lock, waits for nobody and may run in a signal handler or in a forked child at any
 * moment.
 */
#ifndef STN_REGION_H
#define STN_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum stn_region_kind {
	STN_REGION_ENGAGED,  /* our memory */
	STN_REGION_DECLINED, /* the kernel's mapping of a model, counted on unified memory */
};

struct stn_model;

struct stn_region {
	uintptr_t start, end; /* page multiples, end exclusive */
	uintptr_t keeper;     /* the keeper's address for start; 0 if there is none */
	enum stn_region_kind kind;
	uint32_t file_system;	   /* f_type of the file's, for the journal */
	bool shared;		   /* MAP_SHARED: must not become writable */
	uint32_t lazy;		   /* its id while it may have holes, see lazy.h; else 0 */
	uint32_t watcher;	   /* process in which watched means something: a child's page
				      tables begin without the marks */
	struct stn_model *watched; /* of which all of this is the whole, and whose use is looked at
				      in the end (usage.h); NULL: neither */
};

/* True while nothing is registered: one relaxed load. */
bool stn_region_none(void);

/* True if room for count more records is left. */
bool stn_region_room(unsigned count);

/* Registers a record. What overlaps it is stale and forgotten, its keepers with it. 0, -ENOSPC or
 * -ENOMEM. Takes regions_lock. */
int stn_region_add(const struct stn_region *region);

/*
 * Copies the first record that overlaps [start, end), clipped to it. False if there is none.
 * Lock-free.
 */
bool stn_region_find(uintptr_t start, uintptr_t end, struct stn_region *out);

/*
 * Removes the first record's part that overlaps [start, end), splitting the record if need be, and
 * returns it in *out. False if there is
 * none, or too many records to split one: it stays then. Takes regions_lock.
 */
bool stn_region_take(uintptr_t start, uintptr_t end, struct stn_region *out);

/* Takes everything out of the registry that overlaps [start, end), and unmaps the keepers. */
void stn_region_forget(uintptr_t start, uintptr_t end);

/* Puts something else in the place of a record's memory, by raw system calls. 0 or -errno. */
typedef int stn_region_replacement(const struct stn_region *piece, int argument);

/*
 * As stn_region_take, but the record goes only after replace has put something else in the memory's
 * place, and only if it could: whoever finds no record finds what has replaced the memory. replace
 * is called with regions_lock held.
 */
bool stn_region_replace(uintptr_t start, uintptr_t end, stn_region_replacement *replace,
			int argument, struct stn_region *out);

/* What is registered in [start, end) with this id of a lazily filled mapping has no holes any more.
 * Takes regions_lock. */
void stn_region_settle(uintptr_t start, uintptr_t end, uint32_t lazy);

/* Bytes registered of a kind. Lock-free. */
uint64_t stn_region_bytes(enum stn_region_kind kind);

#endif
