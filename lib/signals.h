/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STN_SIGNALS_H
#define STN_SIGNALS_H

#include <stdint.h>

/*
 * The signals that have handlers, as a kernel mask, without those of faults and glibc's own. With
 * these blocked a thread waits as one does in the kernel's read of a regular file: a handler runs
 * afterwards, a signal that ends the process ends it at once. Some microseconds. Async-signal-safe.
 */
uint64_t stn_signals_handled(void);

/* Blocks all signals but glibc's own and returns the mask before. Async-signal-safe. */
uint64_t stn_signals_block(void);

#endif
