/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A small lock over a futex. It is taken with all signals blocked, so that a handler which unmaps
 * an engaged region cannot wait for the thread that it interrupted. Held for microseconds, never
 * across a call into libc or into a file system.
 */
#ifndef STN_LOCK_H
#define STN_LOCK_H

#include <stdint.h>

/* 0 free, 1 held, 2 held and waited for. */
struct stn_lock {
	uint32_t word;
};

/* Blocks signals, then takes the lock. Returns the signal mask to give back to stn_lock_leave. */
uint64_t stn_lock_enter(struct stn_lock *lock);
void stn_lock_leave(struct stn_lock *lock, uint64_t mask);

/* The same while signals stay blocked, between an enter and a leave. */
void stn_lock_drop(struct stn_lock *lock);
void stn_lock_retake(struct stn_lock *lock);

#endif
