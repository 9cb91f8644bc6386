/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zeros at the end of a direct read of FUSE that are not the file's. What such a read lacks the
 * kernel looks for through the page cache (generic_file_read_iter). If it has been told the size
 * anew meanwhile, as each of several reads makes it ask where attributes may not be kept, it does
 * not believe a short answer there (fuse_read_update_size), and the rest of the page is zeros.
 */
#ifndef STN_ENDING_H
#define STN_ENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "names.h"

/* A read that has returned all of its bytes. */
struct stn_ending {
	int fd;			 /* direct */
	struct stn_model *model; /* the file; NULL: one that is not remembered */
	uint64_t size;		 /* of the file, as it was reported */
	const char *memory;	 /* what has been read; its end will do */
	uint64_t bytes;		 /* of that, at least 1 */
	uint64_t offset;	 /* in the file */
};

/*
 * False if the file ends before what has been read of it. The file system is asked only where the
 * last page is all zeros, for one byte: first for the file's last, which is remembered, then for
 * the read's. Under a seccomp filter, which may kill for io_setup, it is asked by pread, several
 * times. Blocks as the file system does, and for tens of milliseconds in io_destroy.
 * Async-signal-safe; no lock held.
 */
bool stn_ending_is_there(const struct stn_ending *ending);

/*
 * Where the file ends in [from, to), by halves; to if it does not, or cannot be read. fd: direct.
 * Blocks likewise. Async-signal-safe; no lock held.
 */
uint64_t stn_ending_find(int fd, uint64_t from, uint64_t to);

#endif
