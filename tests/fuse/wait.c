/* SPDX-License-Identifier: Apache-2.0 */
#include "wait.h"

#include <errno.h>
#include <time.h>

/* Returns the monotonic time in nanoseconds. */
uint64_t wait_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

/* Sleeps until a time of wait_now; returns at once if it has passed. */
void wait_until(uint64_t time)
{
	struct timespec until = {(time_t)(time / 1000000000U), (long)(time % 1000000000U)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}
