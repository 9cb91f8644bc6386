/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process.h"
#include "sys.h"
#include "unit.h"

/* Set up once, then always the same. */
START_TEST(set_up)
{
	struct stn_process *process;

	ck_assert_ptr_null(stn_process_peek());
	process = stn_process_get();
	ck_assert_ptr_nonnull(process);
	ck_assert_ptr_eq(stn_process_peek(), process);
	ck_assert_ptr_eq(stn_process_get(), process);
	ck_assert_int_eq(process->owner, getpid());
	ck_assert_uint_eq(process->planned, 0);
	ck_assert_ptr_null(process->crews[0]);
}
END_TEST

static void *get(void *argument)
{
	pthread_barrier_wait(argument);
	return stn_process_get();
}

/* Of several threads that come first at once all get the same. */
START_TEST(set_up_by_many)
{
	pthread_barrier_t barrier;
	pthread_t threads[8];
	void *got;

	ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, COUNT(threads)), 0);
	for (int i = 0; i < COUNT(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, get, &barrier), 0);
	for (int i = 0; i < COUNT(threads); i++) {
		ck_assert_int_eq(pthread_join(threads[i], &got), 0);
		ck_assert_ptr_nonnull(got);
		ck_assert_ptr_eq(got, stn_process_peek());
	}
}
END_TEST

/* What a child finds in the state that its parent has filled: 0 if it is as new. */
static int look_at_child(void)
{
	struct stn_process *process = stn_process_peek();

	if (!process || process->owner != 0 || process->pool_lock.word ||
	    process->regions_lock.word || process->crews[0] || process->planned || process->filled)
		return 1;
	process = stn_process_get();
	if (!process || process->owner != stn_sys_getpid())
		return 2;
	stn_lock_leave(&process->pool_lock, stn_lock_enter(&process->pool_lock));
	return 0;
}

/* The kinds of fork: with libc's handlers, and without any. */
static int fork_by(int kind)
{
	return kind == 0 ? fork() : (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/* A child finds free locks, no crews and no fills, whatever the parent was doing. */
START_TEST(forked_child)
{
	struct stn_process *process = stn_process_get();
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	int child;

	process->planned = process->filled = 12345;
	process->regions_lock.word = 2;
	process->crews[0] = (struct stn_crew *)process;
	child = fork_by(_i);
	if (child == 0)
		_exit(look_at_child());
	stn_lock_leave(&process->pool_lock, mask);
	ck_assert_int_gt(child, 0);
	ck_assert_int_eq(unit_reap(child), 0);
	/* The parent keeps what it has. */
	ck_assert_int_eq(process->owner, getpid());
	ck_assert_uint_eq(process->planned, 12345);
	ck_assert_ptr_nonnull(process->crews[0]);
}
END_TEST

static char child_stack[65536] __attribute__((aligned(16)));

static int refused(void *argument)
{
	return stn_process_get() == NULL && stn_process_peek() == argument ? 0 : 1;
}

/* A child that shares the memory may do nothing with it; the parent's state stays the parent's. */
START_TEST(sharing_child)
{
	struct stn_process *process = stn_process_get();
	int child = clone(refused, child_stack + sizeof(child_stack),
			  CLONE_VM | CLONE_VFORK | SIGCHLD, process);

	ck_assert_int_gt(child, 0);
	ck_assert_int_eq(unit_reap(child), 0);
	ck_assert_int_eq(process->owner, getpid());
	ck_assert_ptr_eq(stn_process_get(), process);
}
END_TEST

static int first(void *argument)
{
	(void)argument;
	return stn_process_get() && stn_process_peek()->owner == stn_sys_getpid() ? 0 : 1;
}

/* Such a child that came first and has gone leaves a state that the parent takes over, emptied. */
START_TEST(sharing_child_first)
{
	struct stn_process *process;
	int child = clone(first, child_stack + sizeof(child_stack),
			  CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);

	ck_assert_int_gt(child, 0);
	ck_assert_int_eq(stn_process_peek()->owner, child);
	stn_process_peek()->pool_lock.word = 2;
	stn_process_peek()->planned = 5;
	ck_assert_int_eq(unit_reap(child), 0);
	process = stn_process_get();
	ck_assert_ptr_nonnull(process);
	ck_assert_int_eq(process->owner, getpid());
	ck_assert_uint_eq(process->pool_lock.word, 0);
	ck_assert_uint_eq(process->planned, 0);
}
END_TEST

/* For kernels that do not empty it themselves. */
START_TEST(forget)
{
	struct stn_process *process = stn_process_get();

	process->planned = 1;
	process->pool_lock.word = 1;
	stn_process_forget();
	ck_assert_int_eq(process->owner, 0);
	ck_assert_uint_eq(process->planned, 0);
	ck_assert_uint_eq(process->pool_lock.word, 0);
	ck_assert_ptr_eq(stn_process_get(), process);
	ck_assert_int_eq(process->owner, getpid());
}
END_TEST

START_TEST(forget_nothing)
{
	stn_process_forget();
	ck_assert_ptr_null(stn_process_peek());
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("process");
	TCase *tcase = unit_case(suite, "process", 10);

	tcase_add_test(tcase, set_up);
	tcase_add_test(tcase, set_up_by_many);
	tcase_add_loop_test(tcase, forked_child, 0, 2);
	tcase_add_test(tcase, sharing_child);
	tcase_add_test(tcase, sharing_child_first);
	tcase_add_test(tcase, forget);
	tcase_add_test(tcase, forget_nothing);
	return suite;
}
