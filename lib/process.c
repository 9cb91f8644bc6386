/* SPDX-License-Identifier: Apache-2.0 */
#include "process.h"

#include <errno.h>
#include <string.h>

#include "page.h"
#include "sys.h"

static struct stn_process *state;

/* Maps the state; of several threads that do so at once one wins. */
static struct stn_process *map_state(void)
{
	size_t size = stn_round_up(sizeof(struct stn_process), stn_page_size());
	struct stn_process *mapped = stn_sys_mmap(NULL, size, PROT_READ | PROT_WRITE,
						  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct stn_process *none = NULL;

	if (stn_sys_failed(mapped))
		return NULL;
	stn_sys_madvise(mapped, size, MADV_WIPEONFORK);
	if (__atomic_compare_exchange_n(&state, &none, mapped, false, __ATOMIC_ACQ_REL,
					__ATOMIC_ACQUIRE))
		return mapped;
	stn_sys_munmap(mapped, size);
	return none;
}

struct stn_process *stn_process_peek(void)
{
	return __atomic_load_n(&state, __ATOMIC_ACQUIRE);
}

/*
 * A child that shared our memory (vfork) came first and has gone, and its threads with it: what
 * they held is free. One thread takes over; others that come meanwhile find the owner -1.
 */
static void take_over(struct stn_process *process, int owner, int self)
{
	if (stn_sys_call(SYS_kill, owner, 0, 0, 0, 0, 0) != -ESRCH ||
	    !__atomic_compare_exchange_n(&process->owner, &owner, -1, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return;
	memset((char *)process + sizeof(process->owner), 0,
	       sizeof(*process) - sizeof(process->owner));
	__atomic_store_n(&process->owner, self, __ATOMIC_RELEASE);
}

struct stn_process *stn_process_get(void)
{
	struct stn_process *process = stn_process_peek();
	int self = stn_sys_getpid();
	int owner = 0;

	if (!process)
		process = map_state();
	if (!process)
		return NULL;
	__atomic_compare_exchange_n(&process->owner, &owner, self, false, __ATOMIC_ACQ_REL,
				    __ATOMIC_ACQUIRE);
	if (owner > 0 && owner != self)
		take_over(process, owner, self);
	return __atomic_load_n(&process->owner, __ATOMIC_ACQUIRE) == self ? process : NULL;
}

void stn_process_forget(void)
{
	struct stn_process *process = stn_process_peek();

	if (process)
		memset(process, 0, sizeof(*process));
}
