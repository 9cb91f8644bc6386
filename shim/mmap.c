/* SPDX-License-Identifier: Apache-2.0 */
/* mmap: where a model's file mapping becomes memory of ours. */
#include "edge.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "../lib/engage.h"
#include "../lib/names.h"
#include "../lib/page.h"
#include "../lib/taken.h"
#include "caller.h"
#include "init.h"
#include "real.h"

/* The program maps over memory of ours: that part is the program's from now on. */
static void *map_over(stn_mmap_function *real, const struct stn_map_call *call)
{
	uintptr_t start = (uintptr_t)call->address;
	struct stn_taken taken;
	void *address;

	stn_taken_collect(&taken, start, start + stn_round_up(call->length, stn_page_size()));
	address = real(call->address, call->length, call->prot, call->flags, call->fd,
		       (off_t)call->offset);
	stn_taken_settle(&taken, address != MAP_FAILED);
	return address;
}

/* A file mapping in a process that has opened a model. */
static void *map_file(stn_mmap_function *real, const struct stn_map_call *call)
{
	int saved = errno, error = 0;
	void *address = NULL;
	enum stn_outcome outcome;

	stn_fork_watch();
	outcome = stn_engage_map(call, &address, &error);
	errno = saved;
	if (outcome == STN_OUTCOME_DONE)
		return address;
	if (outcome == STN_OUTCOME_FAILED) {
		errno = error;
		return MAP_FAILED;
	}
	address = real(call->address, call->length, call->prot, call->flags, call->fd,
		       (off_t)call->offset);
	if (outcome == STN_OUTCOME_KERNEL_COUNTED && address != MAP_FAILED)
		stn_engage_count(address, call->length);
	return address;
}

/* True for a call that the kernel would refuse, whatever the file: it may do so itself. */
static bool is_malformed(const struct stn_map_call *call)
{
	int type = call->flags & MAP_TYPE;

	return call->length == 0 || call->offset % stn_page_size() ||
	       (type != MAP_PRIVATE && type != MAP_SHARED && type != MAP_SHARED_VALIDATE);
}

/* The cheap gates, in order; async-signal-safe unless the file is a model. */
static void *map(stn_mmap_function *real, const struct stn_map_call *call)
{
	if (call->flags & MAP_FIXED && !stn_region_none())
		return map_over(real, call);
	if (stn_names_empty() || call->flags & (MAP_ANONYMOUS | MAP_FIXED | MAP_HUGETLB) ||
	    call->fd < 0 || call->prot & PROT_EXEC || is_malformed(call))
		return real(call->address, call->length, call->prot, call->flags, call->fd,
			    (off_t)call->offset);
	return map_file(real, call);
}

STN_EXPORT void *mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	const struct stn_map_call call = {
		.address = address,
		.length = length,
		.prot = prot,
		.flags = flags,
		.fd = fd,
		.offset = (uint64_t)offset,
		.header_reader = stn_caller_reads_headers,
		.caller = __builtin_return_address(0),
	};

	return map(stn_real.mmap, &call);
}

STN_EXPORT void *mmap64(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	const struct stn_map_call call = {
		.address = address,
		.length = length,
		.prot = prot,
		.flags = flags,
		.fd = fd,
		.offset = (uint64_t)offset,
		.header_reader = stn_caller_reads_headers,
		.caller = __builtin_return_address(0),
	};

	return map(stn_real.mmap64, &call);
}
