/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fork. What a child inherits is filled memory, which is copied on write like any other; areas that
 * are being filled are not inherited (MADV_DONTFORK), and the state of threads and locks is emptied
 * by the kernel (process.h). A handler repeats the latter for kernels before 4.14, which do not
 * know MADV_WIPEONFORK. Others see to it that no read into a program's memory is under way.
 */
#include "init.h"

#include <stdatomic.h>

#include "../lib/process.h"
#include "../lib/transfer.h"
#include "real.h"

extern void *__dso_handle __attribute__((visibility("hidden")));

void stn_fork_watch(void)
{
	static atomic_bool watched;

	if (stn_real.register_atfork && !atomic_load(&watched) && !atomic_exchange(&watched, true))
		stn_real.register_atfork(stn_transfer_hold, stn_transfer_resume, stn_process_forget,
					 __dso_handle);
}
