/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Symbols of the objects that were loaded after this library, found in their tables.
 *
 * dlsym would do the same with three risks: it can allocate (jemalloc on glibc 2.31 deadlocks), its
 * symbol version depends on the libc that the library was built with, and before glibc 2.34 it is
 * in another library.
 */
#ifndef STN_SYMBOLS_H
#define STN_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>

/* A name to be found and where to put its address, which stays as it is if nobody defines the name.
 */
struct stn_symbols_wanted {
	const char *name;
	void *slot; /* of a function pointer */
};

/*
 * Finds the first definition, in the default version, of each name behind this library in the order
 * of loading. Takes the loader's lock, nothing else; allocates nothing.
 */
void stn_symbols_resolve(const struct stn_symbols_wanted *wanted, size_t count);

#endif
