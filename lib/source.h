/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading a file without leaving it in the page cache: open files of the pool's private table,
 * direct where the file system allows it, else buffered with what was brought in dropped again.
 */
#ifndef STN_SOURCE_H
#define STN_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "names.h"

#define STN_SOURCE_FDS 64

/* The open files of one file version. All but opened files' numbers under the pool's lock. */
struct stn_source {
	struct stn_identity identity;
	bool valid;	   /* identity is set and the file has not failed */
	uint64_t direct;   /* bit i: descriptor i reads past the page cache */
	bool closing;	   /* a thread closes its descriptors */
	uint32_t users;	   /* fills that use it */
	uint32_t claimed;  /* descriptors opened or being opened */
	uint32_t opened;   /* descriptors opened */
	uint64_t last_use; /* for replacing the oldest */
	int fds[STN_SOURCE_FDS];
	bool copy_claimed; /* the descriptor for what is cached is opened or being opened */
	bool copy_opened;
	int copy_fd; /* buffered; -errno where it could not be had */
};

/* What to do with the page cache after a buffered read. */
struct stn_source_cache {
	bool owned;    /* the mapping's residency can be asked for: see stn_fs_resident */
	void *mapping; /* a mapping of the file's bytes that are read, PROT_NONE will do; or NULL */
	bool restore;  /* drop what was not cached before */
};

/* How a file may be read. */
struct stn_source_way {
	bool direct;   /* past the page cache, if that can be had */
	bool buffered; /* through it, if not */
	bool fuse;     /* it is on a FUSE file system */
};

/*
 * Opens a file for direct reads; fuse: it is on a FUSE file system. Returns a descriptor or -errno,
 * -EINVAL where there are none.
 *
 * What is direct on FUSE concerns the kernel alone. A server that sees O_DIRECT when the file is
 * opened may hand it on to a file system below (mergerfs does), and would read from the disk what
 * it has in memory; so the flag is set afterwards.
 */
int stn_source_open_direct(const char *path, bool fuse);

/*
 * Opens the file behind path, direct if wanted and possible, and checks that it is still this
 * version. Returns a descriptor in the calling thread's table and sets *direct, or -errno (-ESTALE:
 * another version). Blocks as the file system does.
 */
int stn_source_open(const char *path, const struct stn_identity *identity,
		    const struct stn_source_way *way, bool *direct);

/* True if fd still shows this version of the file; the server may be asked. */
bool stn_source_unchanged(int fd, const struct stn_identity *identity);

/* True if it does as far as the kernel knows. An answer of the server's would make it forget that a
 * read has found the end before the size that the server reports. */
bool stn_source_seems_unchanged(int fd, const struct stn_identity *identity);

/* True if the server says so, asked now: what the kernel knows may be as old as what has been read
 * of the file. */
bool stn_source_is_current(int fd, const struct stn_identity *identity);

/* False if fd is closed or shows another file than this, in whatever version. No server is asked.
 */
bool stn_source_is_file(int fd, const struct stn_identity *identity);

/*
 * Reads length bytes at offset, of which the first wanted must be had; memory must be page-aligned
 * for a direct descriptor, length and offset too. A refused direct read turns the descriptor into a
 * buffered one
 * (*direct is cleared). Retries what can be retried. Returns bytes, fewer than wanted only at the
 * end of the file, never more, or -errno. Blocks as the file system does.
 */
ssize_t stn_source_read(int fd, bool *direct, void *memory, size_t length, size_t wanted,
			uint64_t offset);

/*
 * Reads bytes at offset, no more than most at a time, a page multiple or UINT64_MAX, each to whole
 * pages. Otherwise as stn_source_read.
 */
ssize_t stn_source_read_pieces(int fd, bool *direct, char *memory, uint64_t bytes, uint64_t offset,
			       uint64_t most);

/* What the page cache has of a file, to be copied from there. */
struct stn_source_copy {
	int fd;	       /* buffered */
	bool fuse;     /* the file system is FUSE */
	char *mapping; /* of the file, PROT_NONE will do, at the offset that is asked for; its
			* residency can be asked for (see stn_fs_resident) */
};

/* True if some of a file is in the page cache, by a look at a few pages of such a mapping. */
bool stn_source_is_cached(char *mapping, uint64_t length);

/*
 * Copies the first run of length bytes at offset that the page cache has. Nothing is read into it.
 * Returns bytes, a page multiple or length; 0 if the first page is not cached: *gap is how much to
 * read instead then, which may be more than is missing, since a request costs more than copying.
 */
size_t stn_source_copy(const struct stn_source_copy *copy, void *memory, size_t length,
		       uint64_t offset, size_t *gap);

/* Reads length bytes through a buffered descriptor, with the page cache left as it was. */
ssize_t stn_source_read_buffered(int fd, void *memory, size_t length, uint64_t offset,
				 const struct stn_source_cache *cache);

/* Drops the page cache of a range of the file, whoever has brought it in. */
void stn_source_drop_cache(int fd, uint64_t offset, uint64_t length);

/*
 * For a server that delivers less than it has reported, of a range where that has been seen. What a
 * direct read of FUSE lacks the kernel looks for through the page cache, and of several reads in
 * flight behind the end it may believe the wrong one, and keep zeros (generic_file_read_iter,
 * fuse_read_update_size). So it is made to forget the pages, and to find the end with one page in
 * flight at a time; fd: buffered. Blocks as the file system does.
 */
void stn_source_find_end(int fd, uint64_t offset, uint64_t length);

/* The same by the program's descriptor behind path, opened anew, if it still is this file. */
void stn_source_find_end_of(const char *path, const struct stn_identity *identity, uint64_t offset,
			    uint64_t length);

/* Closes all that is open of a record, in the table of the calling thread. May wait for the server.
 */
void stn_source_close(const struct stn_source *source);

#endif
