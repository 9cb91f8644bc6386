/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <errno.h>

#include "crew.h"
#include "page.h"
#include "process.h"
#include "sys.h"

#define SLICE 100000000u /* ns between two looks of a waiting caller at the progress */

void *stn_job_make(size_t size, const struct stn_job_type *type)
{
	size_t mapped = stn_round_up(size, stn_page_size());
	struct stn_job *job = stn_sys_mmap(NULL, mapped, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stn_sys_failed(job))
		return NULL;
	job->type = type;
	job->size = mapped;
	job->references = 1;
	return job;
}

void stn_job_put(struct stn_job *job)
{
	struct stn_process *process = stn_process_peek();
	struct stn_job *last;
	uint64_t mask;

	/* Without memory for the process's state nobody has got the job. */
	if (!process) {
		stn_job_free(stn_job_drop(job));
		return;
	}
	mask = stn_lock_enter(&process->pool_lock);
	last = stn_job_drop(job);
	stn_lock_leave(&process->pool_lock, mask);
	stn_job_free(last);
}

/* Of the process's threads, those that this crew may have beside what works elsewhere; at least
 * one. */
static unsigned threads_left(const struct stn_process *process, const struct stn_crew *crew,
			     unsigned threads)
{
	unsigned others = 0;

	for (unsigned i = 1; i < STN_CREWS; i++)
		if (process->crews[i] && process->crews[i] != crew && !process->crews[i]->condemned)
			others += process->crews[i]->alive;
	return threads > others ? threads - others : 1;
}

/* True if the lazy crew has threads: the process is not alone anyway. Pool lock held. */
static bool is_serving(const struct stn_process *process)
{
	return process->lazy_crew && process->lazy_crew->alive;
}

/* True if other threads of ours are there, perhaps lingering: then short calls are likely to follow
 * too. */
static bool is_busy(const struct stn_process *process)
{
	for (unsigned i = 1; i < STN_CREWS; i++)
		if (process->crews[i] && process->crews[i]->alive)
			return true;
	return is_serving(process);
}

int stn_pool_submit(struct stn_process *process, struct stn_job *job, unsigned threads)
{
	struct stn_crew *crew;
	int rc;

	crew = job->lazy ? stn_crew_lazy(process, &rc) : stn_crew_current(process, job->reads, &rc);
	if (!crew)
		return rc;
	job->crew = crew;
	job->next = crew->jobs;
	crew->jobs = job;
	job->references++;
	crew->lingers |= job->reads || job->lazy || is_busy(process);
	crew->wanted = 0;
	for (struct stn_job *each = crew->jobs; each; each = each->next)
		crew->wanted += each->width;
	threads = threads_left(process, crew, threads);
	if (crew->wanted > threads)
		crew->wanted = threads;
	rc = crew->alive ? 0 : stn_crew_start(crew);
	if (rc < 0)
		stn_crew_unlink(job);
	else
		stn_crew_wake(crew);
	return rc;
}

/* Leaves a job that does not get on. Its crew is condemned if a step of it still runs. */
static int abandon(struct stn_process *process, struct stn_job *job)
{
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	int rc = job->over ? 0 : -ETIMEDOUT;

	if (rc < 0) {
		job->abandoned = true;
		stn_crew_unlink(job);
		if (job->type->abandon)
			job->type->abandon(job, NULL);
		/* A first thread can hang before any step: old kernels close foreign files there.
		 */
		if (!job->lazy)
			job->crew->condemned |= job->references > 1 || !job->crew->ready;
		stn_crew_wake(job->crew);
	}
	stn_lock_leave(&process->pool_lock, mask);
	return rc;
}

/* Gives a job that no thread has looked at yet to another crew, if its own is stuck. */
static void rescue(struct stn_process *process, struct stn_job *job, unsigned threads)
{
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	if (!job->over && !job->touched && stn_crew_stuck(job->crew)) {
		stn_crew_unlink(job);
		/* Refused, it has no crew and waits for its time limit, as it would have. */
		stn_pool_submit(process, job, threads);
	}
	stn_lock_leave(&process->pool_lock, mask);
}

/* Waits until the job is over or has not got on for timeout nanoseconds. */
static int await(struct stn_process *process, struct stn_job *job, unsigned threads,
		 uint64_t timeout, stn_job_tick *tick)
{
	uint64_t moved_at = stn_sys_clock(CLOCK_MONOTONIC), seen = 0;
	int owner = stn_sys_getpid();

	while (!__atomic_load_n(&job->over, __ATOMIC_ACQUIRE)) {
		uint64_t progress = __atomic_load_n(&job->progress, __ATOMIC_RELAXED);
		uint64_t now = stn_sys_clock(CLOCK_MONOTONIC);

		/* In a child that a signal handler of this thread has forked. */
		if (process->owner != owner)
			return -ECHILD;
		if (progress != seen) {
			seen = progress;
			moved_at = now;
		} else if (timeout && now - moved_at >= timeout) {
			return abandon(process, job);
		}
		if (!job->touched && !job->lazy)
			rescue(process, job, threads);
		if (tick)
			tick(job);
		stn_sys_futex_wait(&job->over, 0, SLICE);
	}
	return 0;
}

int stn_pool_await(struct stn_process *process, struct stn_job *job, unsigned threads,
		   uint64_t timeout, stn_job_tick *tick)
{
	int rc = await(process, job, threads, timeout, tick);

	return rc == 0 && job->failed ? -ENOSYS : rc;
}

int stn_pool_run(struct stn_job *job, unsigned threads, uint64_t timeout, stn_job_tick *tick)
{
	struct stn_process *process = stn_process_get();
	uint64_t mask;
	int rc;

	if (!process)
		return -EAGAIN;
	mask = stn_lock_enter(&process->pool_lock);
	rc = stn_pool_submit(process, job, threads);
	stn_lock_leave(&process->pool_lock, mask);
	return rc ? rc : stn_pool_await(process, job, threads, timeout, tick);
}

static bool claim_call(struct stn_job *job, struct stn_step *step)
{
	struct stn_call *call = (struct stn_call *)(void *)job;
	bool claimed = call->claimed;

	(void)step;
	call->claimed = true;
	return !claimed;
}

static bool more_calls(const struct stn_job *job)
{
	return !((const struct stn_call *)(const void *)job)->claimed;
}

static void run_call(struct stn_job *job, struct stn_step *step)
{
	struct stn_call *call = (struct stn_call *)(void *)job;

	(void)step;
	call->function(call);
}

static bool settle_call(struct stn_job *job, const struct stn_step *step)
{
	(void)job;
	(void)step;
	return true;
}

static void release_call(struct stn_job *job)
{
	struct stn_call *call = (struct stn_call *)(void *)job;

	if (call->released)
		call->released(call);
}

void *stn_call_make(size_t size, void (*function)(struct stn_call *call))
{
	static const struct stn_job_type type = {.claim = claim_call,
						 .more = more_calls,
						 .run = run_call,
						 .settle = settle_call,
						 .release = release_call};
	struct stn_call *call = stn_job_make(size, &type);

	if (call) {
		call->function = function;
		call->job.width = 1;
	}
	return call;
}

void stn_pool_settle_down(void)
{
	struct stn_process *process = stn_process_get();

	for (unsigned i = 0; process && i < STN_CREWS; i++) {
		struct stn_crew *crew = process->crews[i];
		uint64_t mask = stn_lock_enter(&process->pool_lock);
		bool leaving = crew && !crew->jobs && !crew->lingers && !crew->condemned &&
			       !is_serving(process);

		stn_lock_leave(&process->pool_lock, mask);
		if (leaving)
			stn_crew_await(crew);
	}
}
