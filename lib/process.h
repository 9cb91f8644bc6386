/* SPDX-License-Identifier: Apache-2.0 */
/*
 * State that belongs to one process and must not survive into a forked child: locks, threads,
 * running fills. It lies in memory that the kernel empties at every fork (MADV_WIPEONFORK,
 * Linux 4.14), also at one that runs no handlers (_Fork, a raw clone), so a child finds free locks
 * and no threads. A child that shares our memory (vfork) finds the parent's state and its own pid
 * different: it engages nothing.
 */
#ifndef STN_PROCESS_H
#define STN_PROCESS_H

#include <stdint.h>

#include "lock.h"
#include "request.h"

struct stn_prefetch;
struct stn_readblocks;
struct stn_crew;
struct stn_lazy_engine;

/* One for short calls, one for fills, and more while servers do not answer. */
#define STN_CREWS 6

struct stn_process {
	int owner;			   /* pid; 0 before the first use and in a forked child */
	struct stn_lock regions_lock;	   /* writers of the registry (region.c) */
	struct stn_lock pool_lock;	   /* everything in the crews and their jobs (pool.c) */
	struct stn_crew *crews[STN_CREWS]; /* made when first needed, then kept */
	struct stn_crew *lazy_crew;    /* serves lazily filled mappings; made when first needed */
	struct stn_lazy_engine *lazy;  /* what it serves; pool_lock */
	uint64_t planned;	       /* bytes of mappings that are being engaged; pool_lock */
	uint64_t filled;	       /* bytes of those that have been read already; pool_lock */
	struct stn_prefetch *prefetch; /* made when first needed; pool_lock */
	struct stn_readblocks *readblocks; /* made when first needed; pool_lock */
	uint32_t transfers_running; /* reads into callers' memory under way; futex; pool_lock */
	uint32_t transfers_held;    /* forks that wait for them, or are happening; pool_lock */
	struct stn_request_mount mounts[STN_REQUEST_MOUNTS]; /* read so far; pool_lock */
};

/*
 * The state of this process, set up if need be. NULL if memory is refused or the caller is a child
 * that shares another process's memory. Async-signal-safe.
 */
struct stn_process *stn_process_get(void);

/* The state without that check and without setting it up: NULL if there is none yet. */
struct stn_process *stn_process_peek(void);

/* In a forked child: empties the state, for kernels that do not do it themselves. */
void stn_process_forget(void);

#endif
