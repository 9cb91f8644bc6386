/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decision about one mapping: facts in, decision and reason out. Everything here is pure, so
 * that the library, its tests and `stshim doctor` answer alike.
 */
#ifndef STN_POLICY_H
#define STN_POLICY_H

#include <stdbool.h>
#include <stdint.h>

/* What can become of a mapping. The names are part of the log and stats format. */
enum stn_decision {
	STN_ENGAGED,
	STN_ENGAGED_PEEK, /* the header only; the rest stays the kernel's mapping */
	STN_DECLINED_OFF,
	STN_DECLINED_NOT_A_MODEL,
	STN_DECLINED_NOT_REGULAR,
	STN_DECLINED_FILE_SYSTEM,
	STN_DECLINED_MEMORY_BACKED,
	STN_DECLINED_DAX,
	STN_DECLINED_WRITABLE_SHARED,
	STN_DECLINED_EXECUTABLE,
	STN_DECLINED_FIXED,
	STN_DECLINED_HUGE_TLB,
	STN_DECLINED_NO_ACCESS,
	STN_DECLINED_OPEN_FOR_WRITING,
	STN_DECLINED_EMPTY,
	STN_DECLINED_PAST_END,
	STN_DECLINED_NO_FALLBACK, /* the kernel refuses the map, and without it this one cannot be
				     had */
	STN_DECLINED_CACHED,	  /* a read: the page cache has the file */
	STN_DECLINED_REREAD,
	STN_DECLINED_MEMORY,
	STN_DECLINED_REGIONS,
	STN_DECLINED_NO_THREAD,
	STN_DECLINED_NO_PROCFS,
	STN_DECLINED_STALLED,
	STN_ABANDONED_TIMEOUT,
	STN_ABANDONED_MEMORY,
	STN_ABANDONED_IO_ERROR,
	STN_ABANDONED_CHANGED,
	STN_RETURNED_IO_ERROR, /* part of a lazily filled mapping could not be read */
	STN_RETURNED_ADVICE, /* the program's madvise or mremap made it the file's own mapping again
			      */
	STN_DECISIONS
};

/* Which kind of userfaultfd a process gets. */
enum stn_lazy_kind {
	STN_LAZY_UNKNOWN, /* nobody has asked yet */
	STN_LAZY_NONE,
	STN_LAZY_USER_ONLY, /* system calls that touch a hole fail */
	STN_LAZY_FULL,
};

/* What the policy looks at, as far as it is known; see the two functions. */
struct stn_facts {
	uint64_t mode;		  /* enum stn_mode */
	uint64_t fill;		  /* enum stn_fill_mode */
	uint64_t io;		  /* enum stn_io_mode */
	uint64_t mlock;		  /* enum stn_mlock_mode */
	uint64_t cache;		  /* enum stn_cache_mode */
	const char *file_systems; /* STSHIM_FSTYPES */
	bool model;		  /* opened under a model's name */
	bool regular;		  /* a regular file */
	bool dax;		  /* the file is memory (STATX_ATTR_DAX) */
	bool open_for_writing;	  /* the descriptor may write */
	bool unified;		  /* CPU and GPU share memory */
	uint64_t file_system;	  /* f_type */
	int prot, flags;	  /* of mmap */
	uint64_t file_size;	  /* bytes */
	/* length rounded up to pages */
	uint64_t offset, length; /* of mmap, bytes; offset is a multiple of the page size */
	bool lazy;		 /* it would be filled lazily */
	bool header_reader;	 /* the caller maps files to read their header (caller.h) */
	uint64_t delivered;	 /* bytes of this file version handed to the program so far */
	bool fits;		 /* the budget's verdict */
	bool cached;		 /* the page cache has the file */
};

/*
 * Decides from what the call itself and the file show, without unified, delivered and fits.
 * STN_ENGAGED and STN_ENGAGED_PEEK are provisional. A file system that auto does not engage on is
 * declined only if unified is false.
 */
enum stn_decision stn_policy_screen(const struct stn_facts *facts);

/*
 * Decides about read() of the file at offset; prot, flags and fits do not count. Provisional while
 * unified is false and not known, and until cached is known. Where the file is not on FUSE what the
 * page cache has is the kernel's to copy, and bytes delivered count: it answers repeated reads
 * faster than we do. On FUSE it is what may hang.
 */
enum stn_decision stn_policy_read(const struct stn_facts *facts);

/* Decides with everything known. */
enum stn_decision stn_policy_decide(const struct stn_facts *facts);

/*
 * True if a mapping is the kernel's where the page cache has the file, off FUSE and unified memory:
 * nothing is nearer to the program than that. Who says how to fill, or that it is to be locked or
 * dropped, wants it filled.
 */
bool stn_policy_asks_cache(const struct stn_facts *facts);

/* True if auto's answer for this file system depends on unified memory. */
bool stn_policy_needs_unified(const struct stn_facts *facts);

/*
 * True if the mapping is to be filled lazily where userfaultfd is of this kind; facts.lazy does not
 * count. What is false with STN_LAZY_FULL is so with every kind.
 */
bool stn_policy_suits_lazy(const struct stn_facts *facts, enum stn_lazy_kind kind);

/* The bytes of the file that a mapping shows: from offset to its end or the end of the file. */
uint64_t stn_policy_bytes(const struct stn_facts *facts);

/* The memory that must be there when the program gets the mapping, bytes. On unified memory a
 * program copies all of what it has mapped: there it is the whole. */
uint64_t stn_policy_need(const struct stn_facts *facts);

/* "engaged", "declined" or "abandoned"; and what follows the colon, or "". Constant strings. */
const char *stn_decision_verb(enum stn_decision decision);
const char *stn_decision_reason(enum stn_decision decision);
bool stn_decision_engaged(enum stn_decision decision);

#endif
