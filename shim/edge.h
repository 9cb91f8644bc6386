/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Included first by every file that exports symbols of libc.
 *
 * With _FILE_OFFSET_BITS=64 the headers rename open to open64 and so on, and with _FORTIFY_SOURCE
 * they define inline versions; here each name must mean itself.
 */
#ifndef STN_EDGE_H
#define STN_EDGE_H

#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#define STN_EXPORT __attribute__((visibility("default")))

#endif
