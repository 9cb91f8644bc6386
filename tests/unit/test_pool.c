/* SPDX-License-Identifier: Apache-2.0 */
/* The pool at work: calls, jobs of many steps, limits, threads that come and go. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

#include "page.h"
#include "pool.h"
#include "pooljob.h"
#include "sys.h"
#include "unit.h"

/* A call that looks around. */
struct look {
	struct stn_call call;
	int tid, pid;
	uint64_t blocked;
	char name[16];
};

static void look_around(struct stn_call *call)
{
	const int get_name = 16; /* PR_GET_NAME */
	struct look *look = (struct look *)(void *)call;

	look->tid = (int)stn_sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
	look->pid = stn_sys_getpid();
	stn_sys_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&look->blocked, 8, 0, 0);
	stn_sys_prctl(get_name, (unsigned long)look->name, 0, 0, 0);
}

START_TEST(call)
{
	const uint64_t unblockable = (uint64_t)1 << (SIGKILL - 1) | (uint64_t)1 << (SIGSTOP - 1);
	struct look *look = stn_call_make(sizeof(*look), look_around);

	ck_assert_ptr_nonnull(look);
	ck_assert_int_eq(look->tid, 0);
	ck_assert_int_eq(stn_pool_run(&look->call.job, 8, 0, NULL), 0);
	ck_assert_int_eq(look->pid, getpid());
	ck_assert_int_gt(look->tid, 0);
	ck_assert_int_ne(look->tid, getpid());
	ck_assert_uint_eq(look->blocked | unblockable, ~(uint64_t)0);
	ck_assert_str_eq(look->name, "stnommap");
	stn_job_put(&look->call.job);
}
END_TEST

/* Memory of a job: empty, whole pages, gone with the last reference. */
START_TEST(job_memory)
{
	struct unit_gate gate = {0};
	struct unit_job *job = unit_job_make(&gate, 1, 1);
	unsigned char state;

	ck_assert_uint_eq(job->job.references, 1);
	ck_assert_uint_eq(job->job.size % stn_page_size(), 0);
	ck_assert_uint_ge(job->job.size, sizeof(*job));
	ck_assert_uint_eq(job->claimed, 0);
	ck_assert_int_eq(unit_pool_ping(1), 0);
	stn_job_put(&job->job);
	ck_assert_int_eq(gate.released, 1);
	ck_assert_int_lt(mincore(job, 1, &state), 0);
}
END_TEST

/* Every step once, whatever the number of threads. */
static const unsigned thread_counts[] = {1, 2, 3, 8, 64};

START_TEST(steps)
{
	struct unit_gate gate = {0};
	struct unit_job *job = unit_job_make(&gate, 1000, 64);

	ck_assert_int_eq(stn_pool_run(&job->job, thread_counts[_i], 0, NULL), 0);
	ck_assert_uint_eq(job->claimed, 1000);
	ck_assert_uint_eq(job->settled, 1000);
	ck_assert_uint_eq(job->sum, 1000 * 1001 / 2);
	ck_assert_uint_ge(job->job.progress, 1000);
	ck_assert_int_le(gate.most, (int)thread_counts[_i]);
	stn_job_put(&job->job);
	ck_assert_int_eq(gate.released, 1);
}
END_TEST

/* As many steps at once as both the job and the caller allow: no fewer, and no more. */
static const struct {
	unsigned width, threads;
	int at_once;
} limits[] = {{1, 8, 1}, {8, 1, 1}, {2, 8, 2}, {8, 3, 3}, {5, 5, 5}, {64, 64, 64}};

START_TEST(width)
{
	struct unit_gate gate = {.meet = limits[_i].at_once};
	struct unit_job *job = unit_job_make(&gate, 200, limits[_i].width);

	ck_assert_int_eq(stn_pool_run(&job->job, limits[_i].threads, 0, NULL), 0);
	ck_assert_int_eq(gate.missed, 0);
	ck_assert_int_eq(gate.most, limits[_i].at_once);
	stn_job_put(&job->job);
}
END_TEST

/* Runs a job of many steps; returns 0 if all were done. */
static void *run_job(void *argument)
{
	struct unit_job *job = unit_job_make(argument, 40, 8);
	uintptr_t wrong;

	job->job.reads = true;
	job->pause = 1000000;
	wrong = stn_pool_run(&job->job, 3, 0, NULL) != 0 || job->settled != 40;
	stn_job_put(&job->job);
	return (void *)wrong;
}

/* Jobs at the same time share the limit, and each ends. */
START_TEST(shared_limit)
{
	struct unit_gate gate = {0};
	pthread_t threads[4];
	void *wrong;

	for (int i = 0; i < COUNT(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, run_job, &gate), 0);
	for (int i = 0; i < COUNT(threads); i++) {
		ck_assert_int_eq(pthread_join(threads[i], &wrong), 0);
		ck_assert_uint_eq((uintptr_t)wrong, 0);
	}
	ck_assert_int_eq(gate.most, 3);
	ck_assert_int_eq(gate.released, COUNT(threads));
}
END_TEST

static void *ping_often(void *argument)
{
	uintptr_t failed = 0;

	(void)argument;
	for (int i = 0; i < 300; i++)
		failed += unit_pool_ping(4) != 0;
	return (void *)failed;
}

/* Calls from many threads: threads of the pool are started and end all the time. */
START_TEST(many_calls)
{
	pthread_t threads[4];
	void *failed;

	for (int i = 0; i < COUNT(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, ping_often, NULL), 0);
	for (int i = 0; i < COUNT(threads); i++) {
		ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
		ck_assert_uint_eq((uintptr_t)failed, 0);
	}
	ck_assert(unit_wait_alone(2000));
}
END_TEST

/* With one thread again a process may do what only such a process may. */
START_TEST(settles_down)
{
	for (int i = 0; i < 50; i++) {
		ck_assert_int_eq(unit_pool_ping(8), 0);
		stn_pool_settle_down();
		ck_assert_msg(unshare(CLONE_THREAD) == 0, "call %d: %s", i, strerror(errno));
		ck_assert_uint_eq(unit_threads(), 1);
	}
}
END_TEST

/* Threads of a job that may be followed by others stay a moment, no longer. */
START_TEST(lingers)
{
	struct unit_gate gate = {.meet = 4};
	struct unit_job *job = unit_job_make(&gate, 20, 4);
	double begun;

	job->job.reads = true;
	ck_assert_int_eq(stn_pool_run(&job->job, 4, 0, NULL), 0);
	stn_job_put(&job->job);
	begun = unit_now();
	/* Waits for nobody while they linger. */
	stn_pool_settle_down();
	ck_assert(unit_wait_alone(1000));
	ck_assert_double_lt(unit_now() - begun, 0.5);
	ck_assert_int_eq(unit_pool_ping(4), 0);
}
END_TEST

START_TEST(settle_down_before_any_use)
{
	stn_pool_settle_down();
	ck_assert_uint_eq(unit_threads(), 1);
}
END_TEST

static int ticks;
static struct stn_job *ticked;

static void tick(struct stn_job *job)
{
	ticks++;
	ticked = job;
}

/* The waiting thread is told several times a second. */
START_TEST(ticks_while_waiting)
{
	struct unit_gate gate = {0};
	struct unit_job *job = unit_job_make(&gate, 1, 1);

	job->pause = 450000000;
	ck_assert_int_eq(stn_pool_run(&job->job, 1, 0, tick), 0);
	ck_assert_ptr_eq(ticked, &job->job);
	ck_assert_int_ge(ticks, 3);
	ck_assert_int_le(ticks, 50);
	stn_job_put(&job->job);
}
END_TEST

static volatile sig_atomic_t alarms, ping_failed;

/* A handler may use the pool while the program waits for it. */
static void on_alarm(int signal)
{
	(void)signal;
	alarms++;
	if (unit_pool_ping(4) != 0)
		ping_failed = 1;
}

START_TEST(signals_while_waiting)
{
	const struct itimerval often = {{0, 20000}, {0, 20000}};
	struct sigaction action = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
	struct unit_gate gate = {0};
	struct unit_job *job = unit_job_make(&gate, 40, 2);

	job->pause = 10000000;
	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
	ck_assert_int_eq(stn_pool_run(&job->job, 4, 0, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &(struct itimerval){0}, NULL), 0);
	ck_assert_uint_eq(job->settled, 40);
	ck_assert_int_ge(alarms, 2);
	ck_assert_int_eq(ping_failed, 0);
	stn_job_put(&job->job);
}
END_TEST

/* The process that made the job, and what its child found. */
static int parent, child_status;
static bool child_uses_pool;

/* Forks; the child goes back into the wait for a job that is not its own. */
static void fork_in_handler(int signal)
{
	int child = fork();

	(void)signal;
	if (child > 0)
		child_status = unit_reap(child);
	else if (child_uses_pool && unit_pool_ping(4) != 0)
		_exit(2);
}

/* A handler may fork while the program waits: in the child the job is nobody's. */
START_TEST(fork_while_waiting)
{
	const struct itimerval once = {{0, 0}, {0, 50000}};
	struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART};
	struct unit_gate gate = {0};
	struct unit_job *job = unit_job_make(&gate, 1, 1);
	int rc;

	parent = getpid();
	child_status = -1;
	child_uses_pool = _i;
	job->job.reads = true;
	job->pause = 400000000;
	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &once, NULL), 0);
	rc = stn_pool_run(&job->job, 1, 2000000000, NULL);
	if (getpid() != parent) {
		stn_job_put(&job->job);
		_exit(rc == -ECHILD && unit_pool_ping(4) == 0 ? 0 : 1);
	}
	ck_assert_int_eq(rc, 0);
	ck_assert_int_eq(child_status, 0);
	ck_assert_uint_eq(job->settled, 1);
	stn_job_put(&job->job);
}
END_TEST

/* The caller's signals and errno are its own. */
START_TEST(leaves_no_trace)
{
	sigset_t before, after;

	errno = 1234;
	ck_assert_int_eq(sigprocmask(SIG_SETMASK, NULL, &before), 0);
	ck_assert_int_eq(unit_pool_ping(4), 0);
	ck_assert_int_eq(errno, 1234);
	ck_assert_int_eq(sigprocmask(SIG_SETMASK, NULL, &after), 0);
	for (int i = 1; i < 65; i++)
		if (i != 32 && i != 33)
			ck_assert_int_eq(sigismember(&before, i), sigismember(&after, i));
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("pool");
	TCase *tcase = unit_case(suite, "work", 20);

	tcase_add_test(tcase, call);
	tcase_add_test(tcase, job_memory);
	tcase_add_loop_test(tcase, steps, 0, COUNT(thread_counts));
	tcase_add_loop_test(tcase, width, 0, COUNT(limits));
	tcase_add_test(tcase, shared_limit);
	tcase_add_test(tcase, many_calls);
	tcase = unit_case(suite, "threads", 20);
	tcase_add_test(tcase, settles_down);
	tcase_add_test(tcase, lingers);
	tcase_add_test(tcase, settle_down_before_any_use);
	tcase_add_test(tcase, ticks_while_waiting);
	tcase_add_test(tcase, signals_while_waiting);
	tcase_add_loop_test(tcase, fork_while_waiting, 0, 2);
	tcase_add_test(tcase, leaves_no_trace);
	return suite;
}
