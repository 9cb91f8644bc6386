/* SPDX-License-Identifier: Apache-2.0 */
#include "crew.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>

#include "page.h"
#include "sys.h"
#include "thread.h"

#define STACK_SIZE  (128u << 10)
#define LINGER	    50000000u /* ns that threads wait for more of the same */
#define PR_SET_NAME 15

static size_t crew_header(void)
{
	return stn_round_up(sizeof(struct stn_crew), stn_page_size());
}

/* Maps a crew and its stacks; not inherited by children, whose threads it would not have. */
static struct stn_crew *map_crew(void)
{
	size_t size = crew_header() + STN_CREW_WORKERS * STACK_SIZE;
	struct stn_crew *crew = stn_sys_mmap(NULL, size, PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (stn_sys_failed(crew))
		return NULL;
	stn_sys_madvise(crew, size, MADV_DONTFORK);
	stn_sys_madvise(crew, size, MADV_DONTDUMP);
	for (unsigned i = 0; i < STN_CREW_WORKERS; i++)
		crew->workers[i].crew = crew;
	return crew;
}

bool stn_crew_runs(const struct stn_process *process)
{
	const size_t size = crew_header() + STN_CREW_WORKERS * STACK_SIZE;
	uintptr_t here = (uintptr_t)&size;

	for (unsigned i = 0; i < STN_CREWS; i++)
		if (process->crews[i] && here - (uintptr_t)process->crews[i] < size)
			return true;
	return process->lazy_crew && here - (uintptr_t)process->lazy_crew < size;
}

static bool all_gone(const struct stn_crew *crew)
{
	for (unsigned i = 0; i < STN_CREW_WORKERS; i++)
		if (__atomic_load_n(&crew->workers[i].tid, __ATOMIC_ACQUIRE))
			return false;
	return true;
}

bool stn_crew_stuck(const struct stn_crew *crew)
{
	const uint64_t second = 1000000000;

	return crew->alive && !crew->idle &&
	       stn_sys_clock(CLOCK_MONOTONIC) - crew->moved_at > second;
}

struct stn_crew *stn_crew_current(struct stn_process *process, bool reads, int *rc)
{
	unsigned first = reads ? 1 : 0, limit = reads ? STN_CREWS : 1;
	struct stn_crew *slow = NULL;

	*rc = -EBUSY;
	for (unsigned i = first; i < limit; i++) {
		struct stn_crew *crew = process->crews[i];

		if (!crew) {
			crew = process->crews[i] = map_crew();
			*rc = -EAGAIN;
			return crew;
		}
		if (crew->condemned && crew->alive == 0 && all_gone(crew))
			crew->condemned = false;
		if (!crew->condemned && !stn_crew_stuck(crew))
			return crew;
		if (!crew->condemned && !slow)
			slow = crew;
	}
	/* Slow is not stuck for ever: waiting in line is better than the page faults of a refusal.
	 */
	return slow;
}

struct stn_crew *stn_crew_lazy(struct stn_process *process, int *rc)
{
	*rc = -EAGAIN;
	if (!process->lazy_crew)
		process->lazy_crew = map_crew();
	if (process->lazy_crew)
		process->lazy_crew->resident = true;
	return process->lazy_crew;
}

struct stn_source *stn_crew_source(struct stn_crew *crew, const struct stn_identity *identity)
{
	struct stn_source *found = NULL;

	for (unsigned i = 0; i < STN_CREW_SOURCES; i++) {
		struct stn_source *source = &crew->sources[i];

		if (source->valid && stn_identity_equal(&source->identity, identity)) {
			found = source;
			break;
		}
		if (!found && source->users == 0 && source->claimed == 0 && !source->closing)
			found = source;
	}
	if (!found)
		return NULL;
	found->identity = *identity;
	found->valid = true;
	found->users++;
	found->last_use = ++crew->uses;
	return found;
}

struct stn_source *stn_crew_victim(struct stn_crew *crew, bool need_record, uint32_t count)
{
	struct stn_source *oldest = NULL;
	uint32_t open = 0;

	for (unsigned i = 0; i < STN_CREW_SOURCES; i++) {
		struct stn_source *source = &crew->sources[i];

		open += source->claimed + source->copy_claimed;
		if (source->users == 0 && source->claimed && !source->closing &&
		    (!oldest || source->last_use < oldest->last_use))
			oldest = source;
	}
	return need_record || open + count > stn_crew_most_descriptors() ? oldest : NULL;
}

uint32_t stn_crew_most_descriptors(void)
{
	const uint32_t most = 128;
	uint64_t limit[2];

	if (stn_sys_getrlimit(RLIMIT_NOFILE, limit) < 0 || limit[0] / 2 >= most)
		return most;
	return limit[0] >= 2 ? (uint32_t)(limit[0] / 2) : 1;
}

struct stn_job *stn_job_drop(struct stn_job *job)
{
	if (--job->references)
		return NULL;
	if (job->type->release)
		job->type->release(job);
	return job;
}

void stn_job_free(struct stn_job *job)
{
	if (job)
		stn_sys_munmap(job, job->size);
}

void stn_crew_unlink(struct stn_job *job)
{
	struct stn_job **link = &job->crew->jobs;

	while (*link && *link != job)
		link = &(*link)->next;
	if (!*link)
		return;
	*link = job->next;
	/* Whoever calls this holds a reference of their own, so this is never the last. */
	stn_job_drop(job);
}

static void wake(struct stn_crew *crew, uint32_t count)
{
	__atomic_fetch_add(&crew->work, 1, __ATOMIC_RELEASE);
	if (crew->idle)
		stn_sys_futex_wake(&crew->work, (int)count);
}

void stn_crew_wake(struct stn_crew *crew)
{
	wake(crew, 1);
}

void stn_crew_finish(struct stn_job *job)
{
	struct stn_crew *crew = job->crew;

	__atomic_store_n(&job->over, 1, __ATOMIC_RELEASE);
	stn_sys_futex_wake(&job->over, 1);
	stn_crew_unlink(job);
	/* Threads that do not linger are to leave. */
	if (!crew->jobs && !crew->lingers)
		wake(crew, crew->idle);
}

/* True if another thread may find a step. Pool lock held. */
static bool has_more(const struct stn_crew *crew)
{
	for (const struct stn_job *job = crew->jobs; job; job = job->next)
		if (!job->type->more || job->type->more(job))
			return true;
	return false;
}

/* Finds a step in any of the crew's jobs; the job is moved to the end of the list. Pool lock held.
 */
static struct stn_job *claim_step(struct stn_crew *crew, struct stn_step *step)
{
	for (struct stn_job **link = &crew->jobs; *link; link = &(*link)->next) {
		struct stn_job *job = *link;

		memset(step, 0, sizeof(*step));
		job->touched = true;
		if (!job->type->claim(job, step))
			continue;
		*link = job->next;
		job->next = NULL;
		for (link = &crew->jobs; *link; link = &(*link)->next)
			;
		*link = job;
		job->references++;
		return job;
	}
	return NULL;
}

/* Hands a finished step to its job; returns a job to be freed or NULL. Pool lock held. */
static struct stn_job *settle_step(struct stn_crew *crew, struct stn_job *job,
				   const struct stn_step *step)
{
	crew->moved_at = stn_sys_clock(CLOCK_MONOTONIC);
	if (job->abandoned) {
		if (job->type->abandon)
			job->type->abandon(job, step);
	} else {
		bool over = job->type->settle(job, step);

		__atomic_fetch_add(&job->progress, 1 + step->length, __ATOMIC_RELAXED);
		if (over && !job->over)
			stn_crew_finish(job);
	}
	return stn_job_drop(job);
}

static void worker_main(void *argument);

int stn_crew_start(struct stn_crew *crew)
{
	for (unsigned i = 0; i < STN_CREW_WORKERS; i++) {
		struct stn_worker *worker = &crew->workers[i];
		char *stack = (char *)crew + crew_header() + i * STACK_SIZE;
		int tid;

		if (__atomic_load_n(&worker->tid, __ATOMIC_ACQUIRE))
			continue;
		tid = stn_thread_start(stack + STACK_SIZE, worker_main, worker, &worker->tid);
		if (tid < 0) {
			worker->tid = 0;
			return tid;
		}
		worker->known = tid;
		crew->moved_at = stn_sys_clock(CLOCK_MONOTONIC);
		crew->alive++;
		return 0;
	}
	return -EAGAIN;
}

/* Waits for work. False if the thread should leave. Pool lock held, and given up meanwhile. */
static bool wait_for_work(struct stn_process *process, struct stn_crew *crew, uint64_t *mask)
{
	uint32_t seen = crew->work;
	int rc;

	if (!crew->jobs && (!crew->lingers || crew->condemned))
		return false;
	crew->idle++;
	stn_lock_leave(&process->pool_lock, *mask);
	rc = stn_sys_futex_wait(&crew->work, seen, LINGER);
	*mask = stn_lock_enter(&process->pool_lock);
	crew->idle--;
	return rc != -ETIMEDOUT || crew->work != seen || (crew->jobs && !crew->resident);
}

/* The last thread of a crew takes the table of descriptors with it. Pool lock held. */
static void leave(struct stn_crew *crew)
{
	if (--crew->alive)
		return;
	crew->ready = false;
	crew->lingers = false;
	memset(crew->sources, 0, sizeof(crew->sources));
}

/* Fails all jobs of a crew whose table of descriptors could not be made private. Pool lock held. */
static void fail_jobs(struct stn_crew *crew)
{
	while (crew->jobs) {
		crew->jobs->failed = true;
		stn_crew_finish(crew->jobs);
	}
}

/* Takes steps until there are none. Pool lock held, and given up while a step runs. */
static void work(struct stn_process *process, struct stn_crew *crew, uint64_t *mask)
{
	struct stn_step step;
	struct stn_job *job;
	uint64_t begun;
	bool more;

	do {
		while ((job = claim_step(crew, &step)) != NULL) {
			/* Threads are started from inside the private table, which they share. */
			if (crew->alive < crew->wanted && !crew->condemned)
				stn_crew_start(crew);
			more = crew->idle && has_more(crew);
			stn_lock_leave(&process->pool_lock, *mask);
			/* Each thread that finds something wakes the next: all at once would only
			 * meet at the lock. */
			if (more)
				wake(crew, 1);
			begun = stn_sys_clock(CLOCK_MONOTONIC);
			job->type->run(job, &step);
			step.elapsed = stn_sys_clock(CLOCK_MONOTONIC) - begun;
			*mask = stn_lock_enter(&process->pool_lock);
			stn_job_free(settle_step(crew, job, &step));
		}
	} while (wait_for_work(process, crew, mask));
}

static void worker_main(void *argument)
{
	const uint64_t all_signals = ~(uint64_t)0;
	struct stn_worker *worker = argument;
	struct stn_crew *crew = worker->crew;
	struct stn_process *process = stn_process_peek();
	uint64_t mask;
	int rc = 0;

	stn_sys_sigmask(&all_signals, NULL);
	stn_sys_prctl(PR_SET_NAME, (unsigned long)"stnommap", 0, 0, 0);
	if (!__atomic_load_n(&crew->ready, __ATOMIC_ACQUIRE))
		rc = stn_sys_empty_fd_table();
	mask = stn_lock_enter(&process->pool_lock);
	if (rc < 0) {
		fail_jobs(crew);
	} else {
		__atomic_store_n(&crew->ready, true, __ATOMIC_RELEASE);
		work(process, crew, &mask);
	}
	leave(crew);
	stn_lock_leave(&process->pool_lock, mask);
}

void stn_crew_await(struct stn_crew *crew)
{
	const unsigned long limit = 5000000;

	for (unsigned i = 0; i < STN_CREW_WORKERS; i++) {
		int tid = crew->workers[i].known;

		if (!tid)
			continue;
		if (!stn_thread_await(tid, limit))
			return;
		crew->workers[i].known = 0;
	}
}
