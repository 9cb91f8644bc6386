/* SPDX-License-Identifier: Apache-2.0 */
/* Where libstnommap.so is. */
#ifndef STSHIM_LIBRARY_H
#define STSHIM_LIBRARY_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/*
 * Finds the library that belongs to this program: in the same directory, in the library directory
 * it was installed to, relative to the program, or in the directory above (the build directory);
 * built for a Python package: in the package, where pip puts it relative to the program. Writes its
 * absolute path; false if there is none, with out = "".
 */
bool library_find(char out[PATH_MAX]);

/* True if an entry of length bytes, of a list of libraries, is a libstnommap.so, wherever it lies.
 */
bool library_is(const char *entry, size_t length);

#endif
