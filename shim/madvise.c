/* SPDX-License-Identifier: Apache-2.0 */
/*
 * madvise. To anonymous memory some advice means loss of data or succeeds where it must fail for a
 * file; the rest is the kernel's, which treats our memory as it should.
 */
#include "edge.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "../lib/giveback.h"
#include "../lib/lazy.h"
#include "../lib/page.h"
#include "../lib/region.h"
#include "real.h"

/* Newer than some headers. */
#define ADVICE_DONTNEED_LOCKED 24
#define ADVICE_GUARD_INSTALL   102

#define ADVICE_POPULATE_READ  22
#define ADVICE_POPULATE_WRITE 23

/* Who answers. */
enum answer {
	ANSWER_KERNEL,
	ANSWER_FILE,	/* the kernel, after the memory has become the file's own mapping */
	ANSWER_NOTHING, /* success without effect: what is asked for is so already */
	ANSWER_EINVAL,	/* as for a mapping of a file */
	ANSWER_EACCES,
};

static enum answer answer_to(int advice)
{
	switch (advice) {
	case MADV_DONTNEED:
	case ADVICE_DONTNEED_LOCKED:
	case ADVICE_GUARD_INSTALL:
		return ANSWER_FILE;
	case MADV_WILLNEED:
		return ANSWER_NOTHING;
	case MADV_FREE:
	case MADV_WIPEONFORK:
		return ANSWER_EINVAL;
	case MADV_REMOVE:
		return ANSWER_EACCES;
	default:
		return ANSWER_KERNEL;
	}
}

/* The answer for a range: the advice's own if memory of ours lies in it. Lock-free. */
static enum answer answer_for(void *address, size_t length, int advice)
{
	uintptr_t start = (uintptr_t)address;
	uintptr_t end = start + stn_round_up(length, stn_page_size());
	struct stn_region piece;

	if (stn_region_none() || start % stn_page_size())
		return ANSWER_KERNEL;
	for (; stn_region_find(start, end, &piece); start = piece.end)
		if (piece.kind == STN_REGION_ENGAGED)
			return answer_to(advice);
	return ANSWER_KERNEL;
}

/* True if part of the range still is memory of ours. */
static bool is_still_ours(void *address, size_t length)
{
	uintptr_t start = (uintptr_t)address;
	int saved = errno;
	bool ours = stn_giveback_prune(start, start + stn_round_up(length, stn_page_size()));

	errno = saved;
	return ours;
}

/*
 * Makes the range the file's. -1: the kernel can take the advice; 0: our bytes must stay as they
 * are; EINVAL: locked memory is not dropped.
 */
static int give_to_file(void *address, size_t length, int advice)
{
	uintptr_t start = (uintptr_t)address;
	int saved = errno;
	int rc = stn_giveback(start, start + stn_round_up(length, stn_page_size()),
			      advice == ADVICE_DONTNEED_LOCKED);

	errno = saved;
	return rc == 0 ? -1 : rc == -EINVAL ? EINVAL : 0;
}

/* Advice about when memory of ours will be wanted, while parts of it may be missing. */
static void expect(void *address, size_t length, int advice)
{
	uintptr_t start = (uintptr_t)address;
	uintptr_t end = start + stn_round_up(length, stn_page_size());
	int saved = errno;

	if (advice == MADV_RANDOM || advice == MADV_NORMAL || advice == MADV_SEQUENTIAL)
		stn_lazy_expect_random(start, end, advice == MADV_RANDOM);
	else if (advice == ADVICE_POPULATE_READ || advice == ADVICE_POPULATE_WRITE)
		stn_lazy_fill(start, end, true);
	else if (advice == MADV_WILLNEED)
		stn_lazy_fill(start, end, false);
	else if (advice == MADV_DONTFORK || advice == MADV_DOFORK)
		stn_lazy_complete(start, end);
	errno = saved;
}

/* Carries out or refuses advice that concerns memory of ours. 0, a positive errno, or -1: ask the
 * kernel. */
static int take_advice(void *address, size_t length, int advice)
{
	switch (answer_for(address, length, advice)) {
	case ANSWER_FILE:
		return give_to_file(address, length, advice);
	case ANSWER_NOTHING:
		return 0;
	case ANSWER_EINVAL:
		return is_still_ours(address, length) ? EINVAL : -1;
	case ANSWER_EACCES:
		return is_still_ours(address, length) ? EACCES : -1;
	case ANSWER_KERNEL:
		break;
	}
	return -1;
}

STN_EXPORT int madvise(void *address, size_t length, int advice)
{
	int answer;

	if (stn_lazy_any())
		expect(address, length, advice);
	answer = take_advice(address, length, advice);
	if (answer < 0)
		return stn_real.madvise(address, length, advice);
	if (answer == 0)
		return 0;
	errno = answer;
	return -1;
}

STN_EXPORT int posix_madvise(void *address, size_t length, int advice)
{
	/* Its numbers are the kernel's, but POSIX_MADV_DONTNEED has no effect in libc. */
	if (stn_lazy_any())
		expect(address, length, advice);
	if (advice == POSIX_MADV_WILLNEED &&
	    answer_for(address, length, MADV_WILLNEED) == ANSWER_NOTHING)
		return 0;
	return stn_real.posix_madvise(address, length, advice);
}
