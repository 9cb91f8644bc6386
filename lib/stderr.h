/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program's standard error, as long as it is the file that it was at start-up: daemons reuse
 * descriptor 2. Threads of the pool have no descriptor 2; they borrow the program's (pidfd_getfd,
 * Linux 5.6).
 */
#ifndef STN_STDERR_H
#define STN_STDERR_H

#include <stddef.h>

/* Remembers which file descriptor 2 is. Called once at start-up, if anything may be said. */
void stn_stderr_watch(void);

/* Writes text, on any thread; nothing where it cannot be written. A thread of the pool does not
 * wait for a reader. */
void stn_stderr_write(const char *text, size_t length);

#endif
