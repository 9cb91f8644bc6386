/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool: the process's few reading threads, which exist only while there is work and a moment
 * longer.
 *
 * Threads come in a crew that shares one table of descriptors, empty at first and never the
 * program's: what a crew opens, the program cannot close, and what the program has open, a crew
 * does not hold. A crew in which a thread waits for a server that has stopped answering is
 * condemned: it finishes what it has, takes nothing new, and another one is made.
 *
 * A job is work cut into steps. Three functions decide what a step is (claim), do it (run), and
 * take its result (settle). Everything in a job is guarded by the pool's lock but what run itself
 * uses.
 */
#ifndef STN_POOL_H
#define STN_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "source.h"

struct stn_job;
struct stn_process;

/* One piece of a job's work. */
struct stn_step {
	uint32_t kind;	  /* the job's own */
	uint32_t lane;	  /* the job's own */
	uint64_t offset;  /* the job's own */
	uint64_t length;  /* the job's own */
	int64_t result;	  /* bytes or -errno, by run */
	uint64_t detail;  /* more of the result, by run */
	uint64_t elapsed; /* nanoseconds that run took, by the pool */
};

struct stn_job_type {
	/* Cuts off the next step; false if there is none now. Pool lock held. */
	bool (*claim)(struct stn_job *job, struct stn_step *step);
	/* False if there is no other step now for a second thread. NULL: there may be. Pool lock
	 * held. */
	bool (*more)(const struct stn_job *job);
	/* Does it, on a thread of the pool; may block in a file system. No lock held. */
	void (*run)(struct stn_job *job, struct stn_step *step);
	/* Takes the result; true if the job is over. Not called once abandoned. Pool lock held. */
	bool (*settle)(struct stn_job *job, const struct stn_step *step);
	/* The caller has gone; or, with a step, a step has ended after that. May be NULL. Pool lock
	 * held. */
	void (*abandon)(struct stn_job *job, const struct stn_step *step);
	/* The last reference is gone: frees what the job owns but its memory. Pool lock held. */
	void (*release)(struct stn_job *job);
};

struct stn_job {
	const struct stn_job_type *type;
	struct stn_crew *crew; /* that works on it */
	struct stn_job *next;  /* in the crew's list */
	size_t size;	       /* of the memory that begins with this struct */
	uint32_t references;   /* the caller, the crew's list, each running step */
	uint32_t over;	       /* futex: 1 when settled */
	uint32_t width;	       /* most threads that could help */
	bool abandoned;	       /* the caller has gone */
	bool failed;	       /* over, but no thread could work on it */
	bool touched;	       /* a thread has looked for a step in it */
	bool reads;	       /* a fill: it may block for long, and more may follow at once */
	bool lazy;	       /* for the crew that serves lazily filled mappings */
	uint64_t progress;     /* grows with every settled step, read without the lock */
};

/* Called in the waiting thread now and then, for a progress bar. */
typedef void stn_job_tick(struct stn_job *job);

/*
 * Returns size bytes (at least sizeof(struct stn_job)) of zeroed memory for a job with one
 * reference; NULL if memory is refused.
 */
void *stn_job_make(size_t size, const struct stn_job_type *type);

/* Gives the caller's reference back. Takes the pool lock. */
void stn_job_put(struct stn_job *job);

/*
 * Has the pool do the job with at most threads threads, and waits. A caller in a signal handler
 * must not have interrupted a thread of the pool; signals are delivered while it waits.
 *
 * timeout: nanoseconds without progress after which the job is abandoned, 0 = never. tick may be
 * NULL. 0, -ETIMEDOUT (abandoned; memory that running steps use must stay until release), -ECHILD
 * (a signal handler has forked, and this is the child: the job is nobody's here), -EAGAIN
 * (no thread to be had), -ENOSYS (no private table of descriptors, before Linux 5.9), -EBUSY (every
 * crew waits for a server).
 */
int stn_pool_run(struct stn_job *job, unsigned threads, uint64_t timeout, stn_job_tick *tick);

/*
 * The two halves of stn_pool_run, for a caller that has something to do in between.
 * stn_pool_submit: pool lock held; 0 or -errno. stn_pool_await: no lock held.
 */
int stn_pool_submit(struct stn_process *process, struct stn_job *job, unsigned threads);
int stn_pool_await(struct stn_process *process, struct stn_job *job, unsigned threads,
		   uint64_t timeout, stn_job_tick *tick);

/* Frees a job that was never submitted; NULL is nothing. No lock held. */
void stn_job_free(struct stn_job *job);

/* Calls function(argument) on a thread of the pool and waits, as stn_pool_run. */
struct stn_call {
	struct stn_job job;
	void (*function)(struct stn_call *call);
	void (*released)(struct stn_call *call); /* the last reference is gone, also where no thread
						    could run it; NULL. Pool lock held */
	bool claimed;				 /* pool lock */
};

/* A call of a type whose struct begins with struct stn_call; see stn_job_make. */
void *stn_call_make(size_t size, void (*function)(struct stn_call *call));

/*
 * If the pool's threads have nothing to do and nothing to linger for, waits until the kernel has
 * forgotten them (at most some milliseconds): a process with a second thread cannot unshare().
 */
void stn_pool_settle_down(void);

/*
 * The crew's record of an open file version, an empty one if it is not open yet, or NULL if all are
 * taken; counts a user. Pool lock held.
 */
struct stn_source *stn_crew_source(struct stn_crew *crew, const struct stn_identity *identity);

/*
 * An open file that nobody uses and that should be closed so that count descriptors more can be
 * opened, or NULL if there is room for them or nothing to close. Pool lock held.
 */
struct stn_source *stn_crew_victim(struct stn_crew *crew, bool need_record, uint32_t count);

/* Most descriptors that a crew should have open; half of what the process may have. */
uint32_t stn_crew_most_descriptors(void);

#endif
