/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads of our own, made by clone(2) and unknown to libc.
 *
 * They have no thread-local storage, call nothing in libc but memory functions, and need no
 * allocation: libc goes on believing that a single-threaded program is single-threaded, and no
 * symbol version of pthread_create ties the library to a libc.
 */
#ifndef STN_THREAD_H
#define STN_THREAD_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Starts a thread that runs entry(argument) on the stack that ends at stack_end (16-byte aligned),
 * with all signals blocked, sharing the caller's memory and table of descriptors. *tid is set to
 * its id and cleared by the kernel when it has left its stack. The caller has blocked signals. Its
 * id or -errno.
 */
int stn_thread_start(void *stack_end, void (*entry)(void *), void *argument, int *tid);

/*
 * Waits, at most limit nanoseconds, until the kernel has forgotten the thread: until then unshare()
 * and setns() fail with EINVAL. True if it is gone.
 */
bool stn_thread_await(int tid, unsigned long limit);

#endif
