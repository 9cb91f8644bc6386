/* SPDX-License-Identifier: Apache-2.0 */
/* Whether what a sweep reads is held (lazy_hold.c), and the memory for it. */
#include "lazy_engine.h"

#include <sys/utsname.h>

#include "sys.h"
#include "uffd.h"

#define MOST	(STN_LAZIES / 2) /* mappings: one that holds something does not end */
#define LATENCY 1000000u /* ns of a read, below which reading again costs less than holding */

/* True if the kernel frees a page table of which MADV_DONTNEED leaves nothing (Linux 6.14 for
 * x86-64): where it stays a huge page is taken apart to be moved there, which takes 0.4 ms. */
static bool frees_page_tables(void)
{
#ifdef __x86_64__
	const unsigned needed = 6 << 8 | 14;
	struct utsname name;
	unsigned major = 0, minor = 0;
	const char *at = name.release;

	if (stn_sys_call(SYS_uname, (long)&name, 0, 0, 0, 0, 0) < 0)
		return false;
	for (; *at >= '0' && *at <= '9'; at++)
		major = major * 10 + (unsigned)(*at - '0');
	for (at += *at == '.'; *at >= '0' && *at <= '9'; at++)
		minor = minor * 10 + (unsigned)(*at - '0');
	return (major << 8 | minor) >= needed;
#else
	return false;
#endif
}

/* True if what is read of a mapping from now on had better be held. */
static bool is_worth_holding(const struct stn_lazy *lazy)
{
	return stn_lazy_engine_peek()->count <= MOST && lazy->moves && !lazy->user_only &&
	       lazy->plan.huge && lazy->pace && lazy->pace->latency >= LATENCY &&
	       (uintptr_t)lazy->plan.memory % STN_LAZY_BLOCK == 0 &&
	       stn_identity_is_settled(&lazy->plan.record.identity) && !stn_lazy_will_be_locked() &&
	       !__atomic_load_n(&stn_lazy_engine_peek()->limited, __ATOMIC_RELAXED) &&
	       frees_page_tables();
}

/* Reserves the addresses. 0 or -errno. */
static int reserve(struct stn_lazy *lazy)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	size_t half = stn_round_up(lazy->plan.length, STN_LAZY_BLOCK);
	size_t size = 2 * half + STN_LAZY_BLOCK;
	char *held, *base = stn_sys_mmap(NULL, size, PROT_NONE, flags, -1, 0);
	int rc;

	if (stn_sys_failed(base))
		return (int)(intptr_t)base;
	held = (char *)stn_round_up((uintptr_t)base, STN_LAZY_BLOCK);
	/* Under mlockall(MCL_FUTURE) by a raw system call it would be filled here and now. */
	rc = stn_sys_munlock(base, size);
	if (rc == 0)
		rc = stn_sys_mprotect(base, size, PROT_READ | PROT_WRITE);
	if (rc == 0)
		rc = stn_sys_madvise(base, size, MADV_DONTFORK);
	/* Pages are moved only to where somebody would be told of their want. */
	if (rc == 0)
		rc = stn_uffd_register(lazy->uffd, held + half, half);
	if (rc < 0) {
		stn_sys_munmap(base, size);
		return rc;
	}
	stn_sys_madvise(base, size, MADV_DONTDUMP);
	stn_sys_madvise(held, half, MADV_HUGEPAGE);
	lazy->held = held;
	lazy->held_area = base;
	lazy->held_mapped = size;
	return 0;
}

void stn_lazy_hold_begin(struct stn_lazy *lazy)
{
	lazy->held_tried = true;
	if (is_worth_holding(lazy))
		reserve(lazy);
}

bool stn_lazy_hold_has(const struct stn_lazy *lazy, uintptr_t address)
{
	uintptr_t start = (uintptr_t)lazy->held_area;

	return lazy->held && address >= start && address - start < lazy->held_mapped;
}

void stn_lazy_hold_end(struct stn_lazy *lazy)
{
	if (lazy->held)
		stn_sys_munmap(lazy->held_area, lazy->held_mapped);
	lazy->held = NULL;
}
