/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>

#include "signals.h"
#include "sys.h"
#include "unit.h"

static uint64_t bit_of(int number)
{
	return (uint64_t)1 << (number - 1);
}

static void on_signal(int number)
{
	(void)number;
}

static void handle(int number, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler};

	ck_assert_int_eq(sigaction(number, &action, NULL), 0);
}

/* Only what has a handler counts. */
START_TEST(handled)
{
	uint64_t before = stn_signals_handled();

	handle(SIGUSR1, SIG_IGN);
	handle(SIGUSR2, SIG_DFL);
	handle(SIGALRM, on_signal);
	handle(SIGRTMIN, on_signal);
	handle(SIGRTMAX, on_signal);
	ck_assert_uint_eq(stn_signals_handled(),
			  before | bit_of(SIGALRM) | bit_of(SIGRTMIN) | bit_of(SIGRTMAX));
	handle(SIGALRM, SIG_DFL);
	ck_assert_uint_eq(stn_signals_handled() & bit_of(SIGALRM), 0);
}
END_TEST

/* Faults must reach their handlers at once. */
START_TEST(faults)
{
	const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};

	for (int i = 0; i < COUNT(numbers); i++)
		handle(numbers[i], on_signal);
	for (int i = 0; i < COUNT(numbers); i++)
		ck_assert_uint_eq(stn_signals_handled() & bit_of(numbers[i]), 0);
}
END_TEST

START_TEST(blocked)
{
	uint64_t before = 0, now = 0, old;

	stn_sys_sigmask(NULL, &before);
	old = stn_signals_block();
	stn_sys_sigmask(NULL, &now);
	ck_assert_uint_eq(old, before);
	/* SIGKILL and SIGSTOP cannot be blocked, glibc's own two are not. */
	ck_assert_uint_eq(now, ~(bit_of(SIGKILL) | bit_of(SIGSTOP) | bit_of(32) | bit_of(33)));
	stn_sys_sigmask(&old, NULL);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("signals");
	TCase *tcase = unit_case(suite, "signals", 5);

	tcase_add_test(tcase, handled);
	tcase_add_test(tcase, faults);
	tcase_add_test(tcase, blocked);
	return suite;
}
