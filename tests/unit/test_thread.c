/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "sys.h"
#include "thread.h"
#include "unit.h"

#define STACK_SIZE 65536

static int tid, go;

/* What a thread has seen. */
static struct {
	int tid, pid, fd;
	uintptr_t stack;
	uint64_t blocked;
	uint64_t argument;
} seen;

static void report(void *argument)
{
	char here;

	seen.tid = (int)stn_sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
	seen.pid = stn_sys_getpid();
	seen.fd = stn_sys_open("/dev/null", O_RDONLY | O_CLOEXEC);
	seen.stack = (uintptr_t)&here;
	stn_sys_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&seen.blocked, 8, 0, 0);
	seen.argument = (uintptr_t)argument;
}

static void wait_for_go(void *argument)
{
	(void)argument;
	while (!__atomic_load_n(&go, __ATOMIC_ACQUIRE))
		stn_sys_sleep(1000000);
}

/* Starts a thread on a stack of its own with all signals blocked. */
static int start(void (*entry)(void *), void *argument)
{
	char *stack = unit_memory(STACK_SIZE);
	const uint64_t all = ~(uint64_t)0;
	uint64_t before;
	int rc;

	stn_sys_sigmask(&all, &before);
	rc = stn_thread_start(stack + STACK_SIZE, entry, argument, &tid);
	stn_sys_sigmask(&before, NULL);
	return rc;
}

static bool left_stack(void *argument)
{
	(void)argument;
	return __atomic_load_n(&tid, __ATOMIC_ACQUIRE) == 0;
}

START_TEST(runs)
{
	const uint64_t argument = 0xabcdef0123456789;
	int rc = start(report, (void *)argument);
	int flags;

	ck_assert_int_gt(rc, 0);
	ck_assert(unit_wait(left_stack, NULL, 5000));
	ck_assert(stn_thread_await(rc, 1000000000));
	ck_assert_int_eq(seen.tid, rc);
	ck_assert_int_ne(seen.tid, getpid());
	ck_assert_int_eq(seen.pid, getpid());
	ck_assert_uint_eq(seen.argument, argument);
	ck_assert_uint_eq(seen.blocked & (uint64_t)1 << (SIGTERM - 1),
			  (uint64_t)1 << (SIGTERM - 1));
	/* Memory and descriptors are shared. */
	flags = fcntl(seen.fd, F_GETFL);
	ck_assert_int_ge(flags, 0);
	ck_assert_uint_eq(unit_threads(), 1);
}
END_TEST

START_TEST(await_a_running_one)
{
	int rc = start(wait_for_go, NULL);
	double begun = unit_now();

	ck_assert_int_gt(rc, 0);
	ck_assert_int_eq(tid, rc);
	ck_assert(!stn_thread_await(rc, 50000000));
	ck_assert_double_ge(unit_now() - begun, 0.05);
	ck_assert_double_lt(unit_now() - begun, 2.0);
	ck_assert_uint_eq(unit_threads(), 2);
	__atomic_store_n(&go, 1, __ATOMIC_RELEASE);
	ck_assert(stn_thread_await(rc, 2000000000));
	ck_assert_uint_eq(unit_threads(), 1);
	ck_assert_int_eq(tid, 0);
	/* Only a process with one thread may do this. */
	ck_assert_int_eq(
		(int)stn_sys_call(SYS_unshare, 0x00000400 /* CLONE_FILES */, 0, 0, 0, 0, 0), 0);
}
END_TEST

START_TEST(await_nobody)
{
	ck_assert(stn_thread_await(INT32_MAX, 1000000000));
}
END_TEST

/* Ends only its own thread: libc's exit handlers run when the program ends, not before. */
static int exits;

static void at_exit(void)
{
	exits++;
}

static void nothing(void *argument)
{
	(void)argument;
}

START_TEST(many)
{
	ck_assert_int_eq(atexit(at_exit), 0);
	for (int i = 0; i < 200; i++) {
		int rc = start(nothing, NULL);

		ck_assert_int_gt(rc, 0);
		ck_assert(stn_thread_await(rc, 2000000000));
		ck_assert_int_eq(tid, 0);
	}
	ck_assert_int_eq(exits, 0);
	ck_assert_uint_eq(unit_threads(), 1);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("thread");
	TCase *tcase = unit_case(suite, "thread", 20);

	tcase_add_test(tcase, runs);
	tcase_add_test(tcase, await_a_running_one);
	tcase_add_test(tcase, await_nobody);
	tcase_add_test(tcase, many);
	return suite;
}
