/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <signal.h>

#include "lock.h"
#include "sys.h"
#include "unit.h"

static struct stn_lock lock;
static unsigned counter;
static volatile sig_atomic_t handled;

static void handle(int signal)
{
	(void)signal;
	handled++;
}

static void *count(void *argument)
{
	(void)argument;
	for (int i = 0; i < 20000; i++) {
		uint64_t mask = stn_lock_enter(&lock);
		unsigned seen = counter;

		/* Gives others the chance to come between. */
		if (i % 1000 == 0)
			stn_sys_sleep(10000);
		counter = seen + 1;
		stn_lock_leave(&lock, mask);
	}
	return NULL;
}

/* Nobody comes between, and nobody waits for ever. */
START_TEST(excludes)
{
	pthread_t threads[4];

	for (int i = 0; i < COUNT(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, count, NULL), 0);
	for (int i = 0; i < COUNT(threads); i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	ck_assert_uint_eq(counter, 4 * 20000);
	ck_assert_uint_eq(lock.word, 0);
}
END_TEST

/* A signal waits until the lock is free; the mask is then what it was. */
START_TEST(signals_wait)
{
	struct sigaction action = {.sa_handler = handle};
	sigset_t before, after;
	uint64_t mask;

	ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
	sigemptyset(&before);
	sigaddset(&before, SIGUSR2);
	ck_assert_int_eq(sigprocmask(SIG_SETMASK, &before, NULL), 0);
	mask = stn_lock_enter(&lock);
	raise(SIGUSR1);
	ck_assert_int_eq(handled, 0);
	stn_lock_leave(&lock, mask);
	ck_assert_int_eq(handled, 1);
	ck_assert_int_eq(sigprocmask(SIG_SETMASK, NULL, &after), 0);
	for (int i = 1; i < 65; i++)
		if (i != 32 && i != 33)
			ck_assert_int_eq(sigismember(&after, i), i == SIGUSR2);
}
END_TEST

static uint64_t blocked_signals(void)
{
	uint64_t mask = 0;

	stn_sys_call(SYS_rt_sigprocmask, SIG_BLOCK, 0, (long)&mask, 8, 0, 0);
	return mask;
}

/* Every signal but the two by which libc makes all threads change their user. */
START_TEST(blocks_all_but_libc)
{
	const uint64_t unblockable = (uint64_t)1 << (SIGKILL - 1) | (uint64_t)1 << (SIGSTOP - 1);
	uint64_t mask = stn_lock_enter(&lock);
	uint64_t held = blocked_signals();

	stn_lock_leave(&lock, mask);
	ck_assert_uint_eq(held | unblockable, ~((uint64_t)3 << 31));
	ck_assert_uint_eq(blocked_signals(), mask);
}
END_TEST

/* Two locks, one inside the other. */
START_TEST(nested)
{
	static struct stn_lock inner;
	uint64_t before = blocked_signals();
	uint64_t first = stn_lock_enter(&lock), second = stn_lock_enter(&inner);

	stn_lock_leave(&inner, second);
	ck_assert_uint_ne(blocked_signals(), before);
	stn_lock_leave(&lock, first);
	ck_assert_uint_eq(blocked_signals(), before);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("lock");
	TCase *tcase = unit_case(suite, "lock", 20);

	tcase_add_test(tcase, excludes);
	tcase_add_test(tcase, signals_wait);
	tcase_add_test(tcase, blocks_all_but_libc);
	tcase_add_test(tcase, nested);
	return suite;
}
