/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork. What a child inherits is filled memory, which is copied on write like any other; areas that
 * are being filled are not inherited (MADV_DONTFORK), and the state of threads and locks is emptied
 * by the kernel (process.h). The child's handler repeats the latter for kernels before 4.14, which
 * do not know MADV_WIPEONFORK. Lazily filled mappings are handed over by the handlers (lazy.h), and
 * no read into a program's memory is under way when the memory is copied (transfer.h).
 */
#include "init.h"

#include <stdatomic.h>

#include "../lib/lazy.h"
#include "../lib/process.h"
#include "../lib/transfer.h"
#include "real.h"

/* What is being read may be waiting for holes to be filled: it is waited for first. */
static void prepare(void)
{
	stn_transfer_hold();
	stn_lazy_fork_prepare();
}

static void in_parent(void)
{
	stn_lazy_fork_parent();
	stn_transfer_resume();
}

/* In the child: first the state of the parent's threads goes, then what they had not filled. */
static void in_child(void)
{
	stn_process_forget();
	stn_lazy_fork_child();
}

extern void *__dso_handle __attribute__((visibility("hidden")));

void stn_fork_watch(void)
{
	static atomic_bool watched;

	if (stn_real.register_atfork && !atomic_load(&watched) && !atomic_exchange(&watched, true))
		stn_real.register_atfork(prepare, in_parent, in_child, __dso_handle);
}
