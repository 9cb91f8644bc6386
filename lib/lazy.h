/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lazy fill: the program gets its mapping at once, as memory full of holes; what it touches is read
 * and put there before it goes on, and what it is likely to touch next is read ahead (ahead.h).
 *
 * The holes are missing pages of anonymous memory that userfaultfd tells us about (uffd.h). Threads
 * of a crew of their own serve them; the one that waits for faults is there for as long as there
 * are holes, the readers only while there is something to read. A read goes into a staging block
 * and from there into its place in one step, so that nobody sees half of it. When nothing is
 * missing any more the memory is plain memory and the threads go.
 *
 * Whatever fails on the way, what is missing becomes the file's own mapping, from the keeper.
 */
#ifndef STN_LAZY_H
#define STN_LAZY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal.h"
#include "names.h"

#define STN_LAZY_HUGE_PAGE ((size_t)2 << 20) /* huge pages of this size are filled as such */

/* What to fill, and how. */
struct stn_lazy_plan {
	char descriptor[96];	  /* the program's descriptor below /proc, to be opened anew */
	char path[1024];	  /* the file's, for the journal; may be cut */
	struct stn_model *model;  /* whose delivered bytes are counted */
	struct stn_record record; /* identity and file system are set */
	char *memory;		  /* the area, with the program's access, seen by nobody yet */
	char *keeper;		  /* the file's own mapping, which begins at the same offset */
	uint64_t length;	  /* bytes of the file in it, from its start */
	uint64_t offset;	  /* of its start in the file */
	int prot;		  /* the program's access */
	uint64_t most;		  /* bytes to read; what is missing then is the file's */
	bool drop_cache;	  /* its page cache is dropped before and after */
	bool copies;		  /* what is in the page cache may be copied from there */
	bool huge;		  /* fill whole huge pages where they are missing as a whole */
	uint64_t timeout;	  /* nanoseconds without progress; 0 = wait for ever */
};

/* What is known of the kind of userfaultfd that this process gets. A relaxed load. */
enum stn_lazy_kind stn_lazy_kind(void);

/* Finds it out, on a thread of the pool. No lock held. */
enum stn_lazy_kind stn_lazy_probe(void);

/* The same for a caller that is such a thread. */
void stn_lazy_probe_here(void);

/*
 * Has the holes of an area served from now on. 0 with *id set, to be put into the area's records
 * (region.h) before anybody can touch it; or -errno, and the area is plain memory. No lock held.
 */
int stn_lazy_make(const struct stn_lazy_plan *plan, uint32_t *id);

/* The program has asked for its future mappings to be locked in memory, or no longer; and whether
 * it has. */
void stn_lazy_expect_locked(bool locked);
bool stn_lazy_will_be_locked(void);

/* True while any mapping is being filled lazily: one relaxed load. */
bool stn_lazy_any(void);

/*
 * Memory of the mapping id is the program's, or the file's, from now on: its record is out of the
 * registry and its place taken. id 0 is nothing. Async-signal-safe; no lock held.
 */
void stn_lazy_cut(uint32_t id, uintptr_t start, uintptr_t end);

/*
 * Waits until nothing is being placed in a part of the mapping id whose record is out of the
 * registry, so that nothing is put into what will be mapped there next. Placing waits for no
 * server. id 0 is nothing. Async-signal-safe; no lock held.
 */
void stn_lazy_await_placed(uint32_t id, uintptr_t start, uintptr_t end);

/*
 * Fills the holes of all lazily filled mappings in [start, end). If wait is set returns when none
 * is left there: filled, or the file's own mapping. No lock held, not for signal handlers.
 */
void stn_lazy_fill(uintptr_t start, uintptr_t end, bool wait);

/* Fills all of every mapping that has a part in [start, end), and returns when they are plain
 * memory and pieces of the file. No lock held, not for signal handlers. */
void stn_lazy_complete(uintptr_t start, uintptr_t end);

/* True if a system call that touches [start, end) could fail because of a hole. Lock-free. */
bool stn_lazy_fails_calls(uintptr_t start, uintptr_t end);

/* The program said how it goes about the mappings in [start, end): at random, or not. */
void stn_lazy_expect_random(uintptr_t start, uintptr_t end, bool random);

/* Bytes that are missing of all mappings. Pool lock held. */
uint64_t stn_lazy_holes(void);

/*
 * The program is about to give [start, end) another access: what becomes the file's own mapping at
 * the same moment gets it too, and so does a child. No lock held.
 */
void stn_lazy_reprotect(uintptr_t start, uintptr_t end, int prot);

/*
 * The three moments of a fork. A child inherits what is filled; the holes in it become the file's
 * own mapping. In a child that runs no handlers (_Fork, a raw clone) the memory is missing as a
 * whole.
 */
void stn_lazy_fork_prepare(void);
void stn_lazy_fork_parent(void);
void stn_lazy_fork_child(void);

#endif
