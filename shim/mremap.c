/* SPDX-License-Identifier: Apache-2.0 */
/* mremap: lib/remap.c does to memory of ours what the kernel does to a mapping of the file. */
#include "edge.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>

#include "../lib/page.h"
#include "../lib/remap.h"
#include "../lib/sys.h"
#include "../lib/taken.h"
#include "real.h"

static void *real_move(const struct stn_remap_call *call)
{
	return stn_real.mremap((void *)call->old, call->old_size, call->new_size, call->flags,
			       call->to);
}

/* A call that does more than shorten: first memory of ours in its old place, then the kernel's. */
static void *move(const struct stn_remap_call *call)
{
	void *address = NULL;
	int saved = errno;
	bool done = stn_remap(call, &address);

	errno = saved;
	if (!done)
		return real_move(call);
	if (!stn_sys_failed(address))
		return address;
	errno = (int)-(intptr_t)address;
	return MAP_FAILED;
}

static void *remap(const struct stn_remap_call *call)
{
	uintptr_t to = call->flags & MREMAP_FIXED ? (uintptr_t)call->to : 0;
	struct stn_taken taken;
	void *address;

	/* What the call unmaps: what it cuts off, or what is where it puts the mapping. */
	if (stn_remap_shortens(call))
		stn_taken_collect(&taken, call->old + call->new_size, call->old + call->old_size);
	else
		stn_taken_collect(&taken, to, to ? to + call->new_size : 0);
	address = stn_remap_shortens(call) ? real_move(call) : move(call);
	stn_taken_settle(&taken, address != MAP_FAILED);
	return address;
}

STN_EXPORT void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...)
{
	struct stn_remap_call call = {
		.old = (uintptr_t)old,
		.old_size = stn_round_up(old_size, stn_page_size()),
		.new_size = stn_round_up(new_size, stn_page_size()),
		.flags = flags,
	};

	if (flags & MREMAP_FIXED) {
		va_list list;

		va_start(list, flags);
		call.to = va_arg(list, void *);
		va_end(list);
	}
	if (stn_region_none())
		return stn_real.mremap(old, old_size, new_size, flags, call.to);
	return remap(&call);
}
