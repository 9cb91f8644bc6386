/* SPDX-License-Identifier: Apache-2.0 */
/* Inside the pool: its threads. Used by pool.c and crew.c only; see pool.h. */
#ifndef STN_CREW_H
#define STN_CREW_H

#include "pool.h"
#include "process.h"

#define STN_CREW_WORKERS 72u /* STSHIM_THREADS is at most 64; some may still be leaving */
#define STN_CREW_SOURCES 64u

/* One thread's place in a crew. */
struct stn_worker {
	struct stn_crew *crew;
	int tid;   /* 0 = free; cleared by the kernel when the thread has left its stack */
	int known; /* the id of the last thread in this place while the kernel may know it, else 0
		    */
};

/* Threads with one table of descriptors. Everything under the pool's lock but work, ready and tids.
 */
struct stn_crew {
	uint32_t work;	   /* futex: changes when there may be a step to claim */
	uint32_t alive;	   /* threads that take steps */
	uint32_t idle;	   /* threads that wait on work */
	uint32_t wanted;   /* threads that the jobs ask for */
	bool ready;	   /* the table is private */
	bool condemned;	   /* a thread waits for a server that has stopped answering */
	uint64_t moved_at; /* clock when a step last ended */
	bool lingers;	   /* wait a moment before leaving */
	bool resident; /* it has a job that outlasts its steps: idle threads leave all the same */
	struct stn_job *jobs;
	uint64_t uses; /* counts uses of sources, for last_use */
	struct stn_source sources[STN_CREW_SOURCES];
	struct stn_worker workers[STN_CREW_WORKERS];
};

/* True on a thread of a crew, by where its stack is. Lock-free. */
bool stn_crew_runs(const struct stn_process *process);

/*
 * The crew that takes a job, made if need be: the first one is for short calls, which never wait
 * behind a server; a fill gets one in which things move. NULL with *rc set to -EAGAIN (no memory)
 * or -EBUSY (every crew is condemned). Pool lock held.
 */
struct stn_crew *stn_crew_current(struct stn_process *process, bool reads, int *rc);

/* The crew that serves lazily filled mappings, made if need be. NULL with *rc set to -EAGAIN. Pool
 * lock held. */
struct stn_crew *stn_crew_lazy(struct stn_process *process, int *rc);

/* True if nothing has ended in this crew for a second while all of its threads were busy. Pool lock
 * held. */
bool stn_crew_stuck(const struct stn_crew *crew);

/* Starts one more thread in the caller's table of descriptors. 0 or -errno. Pool lock held. */
int stn_crew_start(struct stn_crew *crew);

/* Wakes one of the crew's idle threads for steps that may have become claimable; if it finds one it
 * wakes the next. Pool lock held. */
void stn_crew_wake(struct stn_crew *crew);

/* Marks a job as over, wakes its caller and takes it off the list. Pool lock held. */
void stn_crew_finish(struct stn_job *job);

/* Takes a job off its crew's list, whose reference is dropped. Pool lock held. */
void stn_crew_unlink(struct stn_job *job);

/* Drops one reference; returns the job if it was the last, to be given to stn_job_free. Pool lock
 * held. */
struct stn_job *stn_job_drop(struct stn_job *job);

/* Waits, some milliseconds at most, until the kernel has forgotten the crew's former threads. */
void stn_crew_await(struct stn_crew *crew);

#endif
