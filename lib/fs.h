/* SPDX-License-Identifier: Apache-2.0 */
/* File systems: what they are called, which of them auto engages on, and what of a file is cached.
 */
#ifndef STN_FS_H
#define STN_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* f_type of FUSE, fuseblk and virtiofs alike (linux/magic.h). */
#define STN_FS_FUSE 0x65735546u

/* The name of the file system with this f_type ("fuse", "ext4", ...), or "other". Pure. */
const char *stn_fs_name(uint64_t magic);

/* True for file systems that live in memory or in the kernel: a copy of such a file gains nothing.
 */
bool stn_fs_memory_backed(uint64_t magic);

/*
 * True if the comma-separated list of names has this file system; "all" has every one. Several
 * names can mean one f_type (fuse, fuseblk, virtiofs). Pure.
 */
bool stn_fs_listed(const char *list, uint64_t magic);

/* True if name is one that the table knows, or "all". Pure. */
bool stn_fs_known(const char *name, size_t length);

/*
 * Marks which pages of a mapped piece of a file are in the page cache, one byte a page. The mapping
 * may be PROT_NONE. Returns 0 or -errno. mincore says "all resident" for files that one neither
 * owns nor may write (mm/mincore.c, since Linux 5.2).
 */
int stn_fs_resident(void *address, size_t length, unsigned char *pages);

/*
 * True if the page cache has nearly all of a file of size bytes, by a look at 64 places at most. fd
 * is any descriptor of it that may read; see above whose files can be asked about.
 */
bool stn_fs_cached(int fd, uint64_t size);

#endif
