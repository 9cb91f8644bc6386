/* SPDX-License-Identifier: Apache-2.0 */
#include "lock.h"

#include "sys.h"

void stn_lock_retake(struct stn_lock *lock)
{
	uint32_t word = 0;

	if (__atomic_compare_exchange_n(&lock->word, &word, 1, false, __ATOMIC_ACQUIRE,
					__ATOMIC_RELAXED))
		return;
	while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0)
		stn_sys_futex_wait(&lock->word, 2, 0);
}

uint64_t stn_lock_enter(struct stn_lock *lock)
{
	/* Without glibc's own signals 32 and 33: setuid() waits for every thread to answer one. */
	const uint64_t all = ~((uint64_t)3 << 31);
	uint64_t mask = 0;

	stn_sys_sigmask(&all, &mask);
	stn_lock_retake(lock);
	return mask;
}

void stn_lock_drop(struct stn_lock *lock)
{
	if (__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2)
		stn_sys_futex_wake(&lock->word, 1);
}

void stn_lock_leave(struct stn_lock *lock, uint64_t mask)
{
	stn_lock_drop(lock);
	stn_sys_sigmask(&mask, NULL);
}
