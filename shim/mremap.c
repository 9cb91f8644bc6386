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

/* Makes the program's call, which may unmap memory of ours in [start, end). */
static void *real_move_over(const struct stn_remap_call *call, uintptr_t start, uintptr_t end)
{
	struct stn_taken taken;
	void *address;

	stn_taken_collect(&taken, start, end);
	address = real_move(call);
	stn_taken_settle(&taken, address != MAP_FAILED);
	return address;
}

/* A call that may concern memory of ours, at its old or at its new place. */
static void *remap(const struct stn_remap_call *call)
{
	uintptr_t to = (uintptr_t)call->to;
	void *address = NULL;
	int saved = errno;

	if (stn_remap_shortens(call))
		return real_move_over(call, call->old + call->new_size, call->old + call->old_size);
	if (!stn_remap(call, &address)) {
		errno = saved;
		return real_move_over(call, to,
				      call->flags & MREMAP_FIXED ? to + call->new_size : to);
	}
	if (stn_sys_failed(address)) {
		errno = (int)-(intptr_t)address;
		return MAP_FAILED;
	}
	errno = saved;
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
