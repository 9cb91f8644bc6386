/* SPDX-License-Identifier: Apache-2.0 */
/* LD_PRELOAD as stshim run leaves it. */
#ifndef STSHIM_RUN_PRELOAD_H
#define STSHIM_RUN_PRELOAD_H

#include <stdbool.h>

/*
 * Puts the library at path in front of LD_PRELOAD; other copies of it are taken out. Does nothing
 * if /etc/ld.so.preload has one already. 0, or -1 if ld.so could not read such a path there.
 */
int run_preload_set(const char *path);

/* True if LD_PRELOAD or /etc/ld.so.preload has a copy of the library. */
bool run_preload_present(void);

#endif
