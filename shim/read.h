/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STN_READ_H
#define STN_READ_H

#include "edge.h"

#include <sys/types.h>

/* read as the program calls it: ours for a model, else libc's. Sets errno. */
ssize_t stn_read(int fd, void *buffer, size_t length);

#endif
