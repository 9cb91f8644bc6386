/* SPDX-License-Identifier: Apache-2.0 */
#include "signals.h"

#include <signal.h>
#include <stdbool.h>

#include "sys.h"

#define LAST_SIGNAL 64

/* glibc's signals 32 and 33: setuid() waits for every thread to answer one. */
#define GLIBC ((uint64_t)3 << 31)

/* What rt_sigaction fills in, on x86-64 and aarch64; only the first member is of interest. */
struct action {
	uintptr_t handler; /* 0 the default, 1 ignore */
	uint64_t flags, restorer, mask;
};

static uint64_t bit_of(int number)
{
	return (uint64_t)1 << (number - 1);
}

static bool has_handler(int number)
{
	struct action action = {0};

	return stn_sys_call(SYS_rt_sigaction, number, 0, (long)&action, sizeof(action.mask), 0,
			    0) == 0 &&
	       action.handler > 1;
}

uint64_t stn_signals_handled(void)
{
	const uint64_t faults = bit_of(SIGSEGV) | bit_of(SIGBUS) | bit_of(SIGILL) | bit_of(SIGFPE) |
				bit_of(SIGTRAP);
	uint64_t handled = 0;

	for (int number = 1; number <= LAST_SIGNAL; number++)
		if (!((faults | GLIBC) & bit_of(number)) && has_handler(number))
			handled |= bit_of(number);
	return handled;
}

uint64_t stn_signals_block(void)
{
	const uint64_t all = ~GLIBC;
	uint64_t mask = 0;

	stn_sys_sigmask(&all, &mask);
	return mask;
}
