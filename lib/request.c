/* SPDX-License-Identifier: Apache-2.0 */
#include "request.h"

#include <stddef.h>

#include "page.h"

#define LARGE	((uint64_t)1 << 20)
#define MOST	((uint64_t)512 << 10) /* of a small request */
#define SLOW	1000000u	      /* ns of a small read: then requests are not what costs */
#define WATCHED 16u		      /* whole reads */
#define TRIED	8u		      /* split reads that are compared with them */
#define ENOUGH	5u		      /* of them must be better */
#define LONGEST 64u		      /* split reads of a trial: some read hangs */

/* True if a cost is so much less than another that it is no accident. */
static bool is_cheaper(uint64_t cost, uint64_t than)
{
	return cost + cost / 3 <= than;
}

struct stn_request *stn_request_of(struct stn_request_mount mounts[STN_REQUEST_MOUNTS],
				   uint64_t device)
{
	for (uint32_t i = 0; i < STN_REQUEST_MOUNTS; i++) {
		if (!mounts[i].device)
			mounts[i].device = device;
		if (mounts[i].device == device)
			return &mounts[i].request;
	}
	return NULL;
}

bool stn_request_compares(const struct stn_request *request)
{
	return request->phase == STN_REQUEST_TRYING ||
	       (request->phase == STN_REQUEST_WATCHING && request->quickest &&
		request->quickest < SLOW);
}

void stn_request_begin(struct stn_request *request, uint64_t bytes, bool parallel,
		       struct stn_request_read *read)
{
	bool split;

	if (request->phase == STN_REQUEST_TRYING && parallel && bytes >= LARGE &&
	    ++request->begun > LONGEST)
		request->phase = STN_REQUEST_WHOLE;
	split = parallel &&
		(request->phase == STN_REQUEST_TRYING || request->phase == STN_REQUEST_SPLIT);
	*read = (struct stn_request_read){.most = split ? MOST : UINT64_MAX};
	if (bytes < LARGE)
		return;
	if (request->phase == STN_REQUEST_WATCHING && request->quickest >= SLOW)
		request->phase = STN_REQUEST_WHOLE;
	if (!stn_request_compares(request))
		return;
	/* Whole reads that still run take more of the server than split ones do. And those that
	 * began first are compared, not those that end first: of many the quick ones do. */
	read->counts = parallel && (!split || (!request->whole && request->tried < TRIED));
	read->split = split;
	request->tried += split && read->counts;
	read->running = ++request->running;
	request->whole += !split;
}

/* Puts a cost among the least ones. */
static void insert(uint64_t least[STN_REQUEST_LEAST], uint64_t cost)
{
	for (uint32_t i = 0; i < STN_REQUEST_LEAST; i++)
		if (!least[i] || cost < least[i]) {
			uint64_t other = least[i];

			least[i] = cost;
			cost = other;
			if (!cost)
				return;
		}
}

/* A whole read has taken so much. */
static void watch(struct stn_request *request, uint64_t alone, uint64_t shared)
{
	insert(request->alone, alone);
	insert(request->shared, shared);
	if (++request->watched < WATCHED)
		return;
	/* A request takes as long as a small one, at least. */
	request->phase = is_cheaper(request->quickest * (LARGE / MOST),
				    request->alone[STN_REQUEST_LEAST - 1])
				 ? STN_REQUEST_TRYING
				 : STN_REQUEST_WHOLE;
}

/* A split read has taken so much. */
static void compare(struct stn_request *request, uint64_t alone, uint64_t shared)
{
	if (is_cheaper(alone, request->alone[STN_REQUEST_LEAST - 1]) &&
	    is_cheaper(shared, request->shared[STN_REQUEST_LEAST - 1]))
		request->better++;
	else
		request->worse++;
	if (request->better >= ENOUGH)
		request->phase = STN_REQUEST_SPLIT;
	else if (request->worse > TRIED - ENOUGH)
		request->phase = STN_REQUEST_WHOLE;
}

/* What a read has taken says something. */
static void judge(struct stn_request *request, uint64_t bytes, const struct stn_request_read *read,
		  uint64_t elapsed, uint32_t running)
{
	uint64_t alone = stn_max(elapsed * 1024 / (bytes >> 10), 1);
	uint64_t shared = stn_max(2 * alone / (read->running + running), 1);

	if (read->split && request->phase == STN_REQUEST_TRYING)
		compare(request, alone, shared);
	else if (!read->split && request->phase == STN_REQUEST_WATCHING)
		watch(request, alone, shared);
}

void stn_request_end(struct stn_request *request, uint64_t bytes,
		     const struct stn_request_read *read, uint64_t elapsed, bool good)
{
	uint32_t running = request->running;

	if (bytes < LARGE && good && (!request->quickest || elapsed < request->quickest))
		request->quickest = stn_max(elapsed, 1);
	if (!read->running)
		return;
	request->running--;
	request->whole -= !read->split;
	if (read->counts && good)
		judge(request, bytes, read, elapsed, running);
	else if (read->counts && read->split)
		request->tried--;
}
