/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STN_CALLER_H
#define STN_CALLER_H

#include <stdbool.h>

/*
 * True if the code at this return address is the safetensors extension and a read-only map of a
 * whole file is for its header: libtorch is loaded, which will map the file again for the data, or
 * neither it nor numpy is yet (a script that asks for framework="pt" before anything has imported
 * torch). Takes the loader's lock.
 */
bool stn_caller_reads_headers(const void *caller);

#endif
