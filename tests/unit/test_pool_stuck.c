/* SPDX-License-Identifier: Apache-2.0 */
/* The pool when a step does not come back: jobs that are given up, crews that are condemned. */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "crew.h"
#include "pool.h"
#include "pooljob.h"
#include "process.h"
#include "sys.h"
#include "unit.h"

#define MS ((uint64_t)1000000)

static struct unit_gate stuck;

/* Runs a job of one step that waits at the gate; the caller gives up after 100 ms. */
static int run_stuck(struct unit_job **out)
{
	struct unit_job *job = unit_job_make(&stuck, 1, 1);

	job->waits = 1;
	job->job.reads = true;
	if (out)
		*out = job;
	return stn_pool_run(&job->job, 4, 100 * MS, NULL);
}

static bool is_unmapped(void *address)
{
	unsigned char state;

	return mincore(address, 1, &state) < 0 && errno == ENOMEM;
}

/* Given up in time; the job's memory is there until its step has come back, and not longer. */
START_TEST(abandoned)
{
	struct unit_job *job;
	double begun = unit_now();

	ck_assert_int_eq(run_stuck(&job), -ETIMEDOUT);
	ck_assert_double_ge(unit_now() - begun, 0.1);
	ck_assert_double_lt(unit_now() - begun, 1.5);
	ck_assert(job->job.abandoned);
	stn_job_put(&job->job);
	ck_assert_int_eq(stuck.released, 0);
	ck_assert(!is_unmapped(job));
	unit_gate_open(&stuck);
	ck_assert(unit_wait(is_unmapped, job, 2000));
	ck_assert_int_eq(stuck.released, 1);
	/* Once for the caller that has gone, and once for the step that came back late. */
	ck_assert_int_eq(stuck.left, 1);
	ck_assert_int_eq(stuck.late, 1);
	ck_assert(unit_wait_alone(2000));
}
END_TEST

/* While one thread is stuck another crew does the work, at once. */
START_TEST(others_go_on)
{
	struct unit_gate gate = {.meet = 3};
	struct unit_job *job, *next = unit_job_make(&gate, 30, 3);
	double begun;

	ck_assert_int_eq(run_stuck(&job), -ETIMEDOUT);
	next->job.reads = true;
	begun = unit_now();
	ck_assert_int_eq(stn_pool_run(&next->job, 3, 5000 * MS, NULL), 0);
	ck_assert_uint_eq(next->settled, 30);
	ck_assert_int_eq(gate.missed, 0);
	ck_assert_double_lt(unit_now() - begun, 1.0);
	stn_job_put(&next->job);
	stn_job_put(&job->job);
	unit_gate_open(&stuck);
	ck_assert(unit_wait_alone(2000));
}
END_TEST

/* Slow is not stuck: every step that ends starts the time anew. */
START_TEST(progress_counts)
{
	struct unit_gate gate = {0};
	struct unit_job *job = unit_job_make(&gate, 8, 1);

	job->pause = 100 * MS;
	ck_assert_int_eq(stn_pool_run(&job->job, 1, 400 * MS, NULL), 0);
	ck_assert_uint_eq(job->settled, 8);
	stn_job_put(&job->job);
}
END_TEST

static void *open_later(void *argument)
{
	(void)argument;
	stn_sys_sleep(300 * MS);
	unit_gate_open(&stuck);
	return NULL;
}

/* A time of zero means to wait for ever. */
START_TEST(never_abandoned)
{
	struct unit_job *job = unit_job_make(&stuck, 1, 1);
	pthread_t thread;

	job->waits = 1;
	ck_assert_int_eq(pthread_create(&thread, NULL, open_later, NULL), 0);
	ck_assert_int_eq(stn_pool_run(&job->job, 1, 0, NULL), 0);
	ck_assert_uint_eq(job->settled, 1);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	stn_job_put(&job->job);
}
END_TEST

/* A job of one short step, as fills are. */
static int run_short(void)
{
	struct unit_gate gate = {0};
	struct unit_job *job = unit_job_make(&gate, 1, 1);
	int rc;

	job->job.reads = true;
	rc = stn_pool_run(&job->job, 4, 5000 * MS, NULL);
	stn_job_put(&job->job);
	return rc;
}

/*
 * When every crew for fills waits for a server new ones are refused, while short calls go on; when
 * the servers answer nothing is refused.
 */
START_TEST(all_crews_stuck)
{
	struct unit_job *jobs[STN_CREWS - 1];

	for (int i = 0; i < COUNT(jobs); i++) {
		ck_assert_int_eq(run_short(), 0);
		ck_assert_int_eq(run_stuck(&jobs[i]), -ETIMEDOUT);
	}
	ck_assert_int_eq(run_short(), -EBUSY);
	ck_assert_int_eq(unit_pool_ping(4), 0);
	unit_gate_open(&stuck);
	ck_assert(unit_wait_alone(2000));
	for (int i = 0; i < COUNT(jobs); i++)
		stn_job_put(&jobs[i]->job);
	ck_assert_int_eq(stuck.released, COUNT(jobs));
	ck_assert_int_eq(run_short(), 0);
	ck_assert_int_eq(run_stuck(NULL), 0);
}
END_TEST

/* Makes it two seconds ago that anything ended in the pool. */
static void age_crews(void)
{
	struct stn_process *process = stn_process_get();
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	for (int i = 0; i < STN_CREWS; i++)
		if (process->crews[i])
			process->crews[i]->moved_at -= 2000 * MS;
	stn_lock_leave(&process->pool_lock, mask);
}

/* A job of one step that waits at the gate; whoever submitted it waits for it. */
static void *run_slow(void *argument)
{
	struct unit_job *job = unit_job_make(&stuck, 1, 1);
	uintptr_t rc;

	job->waits = 1;
	job->job.reads = argument != NULL;
	rc = (uintptr_t)stn_pool_run(&job->job, 4, 0, NULL);
	stn_job_put(&job->job);
	return (void *)rc;
}

static void *open_soon(void *argument)
{
	(void)argument;
	stn_sys_sleep(500 * MS);
	unit_gate_open(&stuck);
	return NULL;
}

/*
 * Steps that take more than a second, with nobody given up yet: a slow server, a long smaps. What
 * comes next may have to wait, but is not refused.
 */
START_TEST(slow_is_not_stuck)
{
	int slow = _i ? STN_CREWS - 1 : 1;
	pthread_t threads[STN_CREWS], opener;
	void *rc;

	for (int i = 0; i < slow; i++) {
		ck_assert_int_eq(pthread_create(&threads[i], NULL, run_slow, _i ? &stuck : NULL),
				 0);
		ck_assert(unit_gate_reached(&stuck, i + 1));
		age_crews();
	}
	ck_assert_int_eq(pthread_create(&opener, NULL, open_soon, NULL), 0);
	ck_assert_int_eq(_i ? run_short() : unit_pool_ping(4), 0);
	ck_assert_int_eq(pthread_join(opener, NULL), 0);
	for (int i = 0; i < slow; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &rc), 0);
		ck_assert_ptr_null(rc);
	}
}
END_TEST

/* Of a job's steps one is stuck: the others are done, then the job is given up. */
START_TEST(one_of_many)
{
	struct unit_job *job = unit_job_make(&stuck, 50, 4);

	job->waits = 1;
	job->job.reads = true;
	ck_assert_int_eq(stn_pool_run(&job->job, 4, 200 * MS, NULL), -ETIMEDOUT);
	ck_assert_uint_eq(job->settled, 49);
	ck_assert_int_eq(unit_pool_ping(4), 0);
	stn_job_put(&job->job);
	ck_assert_int_eq(stuck.released, 0);
	unit_gate_open(&stuck);
	ck_assert(unit_wait_alone(2000));
	ck_assert_int_eq(stuck.released, 1);
}
END_TEST

/* Runs a job that is stuck and whose caller never gives up. */
static void *wait_for_ever(void *argument)
{
	struct unit_job *job = unit_job_make(&stuck, 1, 1);
	uintptr_t rc;

	(void)argument;
	job->waits = 1;
	job->job.reads = true;
	rc = (uintptr_t)stn_pool_run(&job->job, 4, 0, NULL);
	stn_job_put(&job->job);
	return (void *)rc;
}

/* How long after the other thread began to wait. */
static const uint64_t later[] = {0, 1200 * MS};

/*
 * One thread of the program waits for a server that does not answer; the work of another thread,
 * with a file that can be read, must not wait with it.
 */
START_TEST(nobody_waits_behind)
{
	pthread_t thread;
	double begun;
	void *rc;
	int ping, fill;

	ck_assert_int_eq(pthread_create(&thread, NULL, wait_for_ever, NULL), 0);
	ck_assert(unit_gate_reached(&stuck, 1));
	stn_sys_sleep(later[_i]);
	begun = unit_now();
	ping = unit_pool_ping(4);
	fill = run_short();
	unit_gate_open(&stuck);
	ck_assert_int_eq(pthread_join(thread, &rc), 0);
	ck_assert_uint_eq((uintptr_t)rc, 0);
	ck_assert_int_eq(ping, 0);
	ck_assert_int_eq(fill, 0);
	ck_assert_double_lt(unit_now() - begun, 4.0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("pool_stuck");
	TCase *tcase = unit_case(suite, "stuck", 20);

	tcase_add_test(tcase, abandoned);
	tcase_add_test(tcase, others_go_on);
	tcase_add_test(tcase, progress_counts);
	tcase_add_test(tcase, never_abandoned);
	tcase_add_test(tcase, all_crews_stuck);
	tcase_add_loop_test(tcase, slow_is_not_stuck, 0, 2);
	tcase_add_test(tcase, one_of_many);
	tcase_add_loop_test(tcase, nobody_waits_behind, 0, COUNT(later));
	return suite;
}
