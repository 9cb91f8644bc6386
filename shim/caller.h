/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STN_CALLER_H
#define STN_CALLER_H

#include <stdbool.h>

/*
 * True if the code at this return address is the safetensors extension and libtorch is loaded: then
 * a read-only map of a whole file is for its header, and torch will map the file again for the
 * data. Takes the loader's lock.
 */
bool stn_caller_reads_headers(const void *caller);

#endif
