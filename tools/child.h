/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A function in a process of its own: what crashes or hangs there (a driver, a file system whose
 * server has died) does so alone. The result comes back through shared memory.
 */
#ifndef STSHIM_CHILD_H
#define STSHIM_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct child {
	pid_t pid;  /* 0 = not started, or ended and reaped */
	int status; /* of wait(2), once it has ended */
};

/* Memory that a child shares with this process, zeroed; NULL if refused. munmap(2)
 * frees it. */
void *child_share(size_t size);

/*
 * Starts function(argument) in a child: a process group of its own, /dev/null as its standard
 * files, no other descriptor, no core dump, killed when this process ends. False if there can be no
 * process.
 */
bool child_start(struct child *child, void (*function)(void *), void *argument);

/* True if it has ended before the deadline (nanoseconds of CLOCK_MONOTONIC); true if not started.
 */
bool child_await(struct child *child, uint64_t deadline);

/* Sends SIGKILL to the child and its process group. child_await then reaps it, unless a system call
 * keeps it. */
void child_kill(const struct child *child);

/* The deadline so many milliseconds from now. */
uint64_t child_deadline(unsigned milliseconds);

#endif
