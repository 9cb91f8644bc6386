/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mremap does to memory of ours, as it would to a mapping of the file. Private memory keeps
 * what the program has stored in it: it is moved, never read again.
 */
#ifndef STN_REMAP_H
#define STN_REMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* mremap's arguments, sizes rounded up to pages. */
struct stn_remap_call {
	uintptr_t old;
	size_t old_size, new_size;
	int flags;
	void *to; /* with MREMAP_FIXED */
};

/*
 * Does a call that concerns memory of ours and leaves it elsewhere or longer: piece by piece, ours
 * and the file's own mappings between them, as if the whole were one mapping of the file. True if
 * it did (*address is the result, or an error, see stn_sys_failed); false if the program's call is
 * to be made: arguments that the kernel refuses, memory that is not ours, or shortening in place.
 * Takes a thread of the pool; no lock held, not for signal handlers.
 */
bool stn_remap(const struct stn_remap_call *call, void **address);

/* True if the call shortens a mapping in place, or leaves it as it is. Pure. */
bool stn_remap_shortens(const struct stn_remap_call *call);

#endif
