/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which files are models: the globs of STSHIM_FILES, and the set of inodes that were opened under
 * such a name. There is no table of descriptors: they are duplicated, closed, reused, passed and
 * inherited behind any table's back. The set is lock-free and never shrinks; an inode number that
 * the file system gives to another file later only makes that file a candidate, never wrong.
 */
#ifndef STN_NAMES_H
#define STN_NAMES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct statx;
struct stn_tensors;

/* Which file, which version of it. */
struct stn_identity {
	uint64_t device; /* major << 32 | minor */
	uint64_t inode;
	uint64_t size;	  /* bytes */
	int64_t modified; /* mtime in nanoseconds */
	int64_t changed;  /* ctime in nanoseconds */
};

/* What the name of a shard says ("-00001-of-00005.suffix"). */
struct stn_family {
	uint64_t key;	 /* digest of what the names of all shards have in common */
	uint64_t count;	 /* shards; 1 for another name */
	uint64_t number; /* of this shard; 0 for another name */
};

/* What is known of one model file in this process. */
struct stn_model {
	_Atomic uint64_t state;	  /* 0 free, 1 being written, 2 in use */
	uint64_t device, inode;	  /* key; constant once in use */
	struct stn_family family; /* by its name; constant once in use */
	_Atomic uint64_t version; /* digest of the identity that what follows belongs to */
	_Atomic uint64_t
		delivered; /* bytes of that version handed to the program, header peeks apart */
	_Atomic bool little_used; /* filled at once less than half was used: usage.h */
	_Atomic bool whole;	  /* its last byte is there, the file system says: ending.h */
	_Atomic uint64_t header;  /* bytes of its safetensors header with its length, 0 = unknown */
	struct stn_tensors *_Atomic tensors; /* where they begin: tensors.h; NULL = never known */
	_Atomic uint64_t file_system;	     /* f_type, 0 = not asked yet */
	struct stn_model_reads {
		_Atomic uint64_t requests, bytes, time; /* served and not in the journal yet; ns */
		_Atomic uint64_t direct_bytes, buffered_bytes; /* read for that */
		_Atomic uint64_t reported; /* bytes served that are in the journal */
		_Atomic uint64_t threads;  /* most that read at once */
		_Atomic uint64_t told;	   /* bit d: decision d is in the journal */
		_Atomic uint64_t cached;   /* the page cache has it: 0 not asked, 1 no, 2 yes */
		_Atomic uint64_t failures; /* requests that the kernel had to finish */
	} reads;			   /* by read() and its like, of that version */
	_Atomic uint64_t changes; /* fills that found another version than they began with */
};

/*
 * True if path matches one of the colon-separated globs. '*' matches any characters, '/' too; '?'
 * one; [a-z] and [!a-z] a set. Pure; async-signal-safe.
 */
bool stn_names_match(const char *globs, const char *path);

/* Takes the name of a file apart. Pure. */
void stn_names_family(const char *path, struct stn_family *out);

/* Where the number of a shard begins in its path, and in *end where it ends. NULL for another name.
 * Pure. */
const char *stn_names_digits(const char *path, const char **end);

/* Adds a file opened under the name path. False if the set is full. Lock-free, async-signal-safe.
 */
bool stn_names_add(uint64_t device, uint64_t inode, const char *path);

/* True while no model has been opened: one relaxed load. */
bool stn_names_empty(void);

/* Finds a file; NULL if it was never opened under a model's name. Lock-free, async-signal-safe. */
struct stn_model *stn_names_find(uint64_t device, uint64_t inode);

/*
 * Bytes of the model's family, by its name and this file's size, that no mapping has shown yet; and
 * counts bytes that one shows now. Lock-free.
 */
uint64_t stn_family_expected(const struct stn_model *model, uint64_t file_size);
void stn_family_mapped(const struct stn_model *model, uint64_t bytes);

/* Fills an identity from a statx with STATX_BASIC_STATS. */
void stn_identity_from(const struct statx *st, struct stn_identity *out);
bool stn_identity_equal(const struct stn_identity *a, const struct stn_identity *b);

/* True if the file was written so long ago that its next version will have another identity. */
bool stn_identity_is_settled(const struct stn_identity *identity);

/* Starts the model's counters anew if identity is another version than they belong to. */
void stn_model_version(struct stn_model *model, const struct stn_identity *identity);

#endif
