/* SPDX-License-Identifier: Apache-2.0 */
#include "pace.h"

#include "page.h"

#define LARGE	((uint64_t)1 << 20)
#define SMALLER ((uint64_t)2 << 20) /* pieces until more is known */
#define FEW	4u		    /* large reads at once until more is known */
#define TRIALS	2u		    /* reads one at a time that are compared */
#define SLOW	4u		    /* slow ones in a row after a good one are no accident */
#define PATIENT 50000000u	    /* ns, and so many first reads: what a small piece may take */
#define TIMES	4u
#define QUICK	5000000u /* ns more, and half as long again, a small read may take as the first */
#define PAIR	2u	 /* so quick ones that shared a descriptor */
#define JOINT	3u	 /* reads by one descriptor while it is not known whether that does */
#define HANGS	1000000000u /* ns without any begin or end */

bool stn_pace_allows(const struct stn_pace *pace, uint64_t bytes, bool urgent, uint64_t now)
{
	bool hangs = now > pace->moved_at && now - pace->moved_at > HANGS;

	switch (pace->state) {
	case STN_PACE_UNKNOWN:
		return urgent || bytes < LARGE || pace->large < FEW;
	case STN_PACE_DRAINING:
		return bytes < LARGE || (urgent && hangs);
	case STN_PACE_PARALLEL:
		return true;
	default:
		return pace->running == 0 || (urgent && hangs);
	}
}

bool stn_pace_apart(const struct stn_pace *pace, uint64_t bytes, uint32_t others)
{
	if (pace->shares || pace->state == STN_PACE_TRYING || pace->state == STN_PACE_IN_ORDER)
		return false;
	return bytes >= LARGE || others >= JOINT;
}

uint64_t stn_pace_piece(const struct stn_pace *pace, uint64_t block)
{
	bool compares = pace->request && stn_request_compares(pace->request);
	bool known =
		pace->state == STN_PACE_IN_ORDER || (pace->state == STN_PACE_PARALLEL && !compares);

	return known ? block : stn_min(block, SMALLER);
}

static void enter(struct stn_pace *pace, enum stn_pace_state state)
{
	pace->state = state;
	pace->begun = pace->bytes = 0;
	pace->pieces = 0;
}

void stn_pace_shared(struct stn_pace *pace, uint64_t bytes, uint64_t elapsed)
{
	if (bytes >= LARGE || !pace->latency || elapsed > pace->latency / 2 * 3 + QUICK ||
	    ++pace->quick < PAIR)
		return;
	pace->shares = true;
	if (pace->state == STN_PACE_UNKNOWN)
		enter(pace, STN_PACE_PARALLEL);
}

void stn_pace_begin(struct stn_pace *pace, uint64_t bytes, uint64_t now)
{
	pace->running++;
	pace->moved_at = now;
	if (bytes < LARGE)
		return;
	pace->large++;
	if (!pace->begun)
		pace->begun = now;
}

/* Bytes a second in this state. */
static uint64_t rate(const struct stn_pace *pace, uint64_t now)
{
	uint64_t microseconds = now > pace->begun ? (now - pace->begun) / 1000 : 0;

	return pace->bytes * 1000000 / stn_max(microseconds, 1);
}

/* True if a large read has taken longer than several readers explain. */
static bool is_slow(const struct stn_pace *pace, uint64_t bytes, uint64_t elapsed)
{
	return elapsed > PATIENT + TIMES * pace->latency * (1 + bytes / SMALLER);
}

/* A large read has ended. */
static void judge(struct stn_pace *pace, uint64_t bytes, uint64_t elapsed, uint64_t now)
{
	bool slow = is_slow(pace, bytes, elapsed), first = pace->state == STN_PACE_UNKNOWN;

	if (pace->state == STN_PACE_TRYING && pace->pieces >= TRIALS) {
		pace->tried = true;
		enter(pace,
		      rate(pace, now) / 2 > pace->rate ? STN_PACE_IN_ORDER : STN_PACE_PARALLEL);
	} else if (first || (pace->state == STN_PACE_PARALLEL && !pace->tried)) {
		pace->slow = slow ? pace->slow + 1 : 0;
		if (pace->slow >= SLOW || (first && slow))
			enter(pace, STN_PACE_DRAINING);
		else if (first)
			enter(pace, STN_PACE_PARALLEL);
	}
}

void stn_pace_end(struct stn_pace *pace, uint64_t bytes, uint64_t elapsed, uint64_t now)
{
	uint64_t begun = pace->begun, all = pace->bytes + bytes;

	pace->running--;
	pace->moved_at = now;
	if (!pace->latency)
		pace->latency = elapsed;
	if (bytes >= LARGE) {
		pace->large--;
		pace->pieces++;
		pace->bytes += bytes;
		judge(pace, bytes, elapsed, now);
	}
	if (pace->state != STN_PACE_DRAINING)
		return;
	/* What is on its way still belongs to the several readers. */
	pace->begun = begun;
	pace->bytes = all;
	if (pace->large)
		return;
	pace->rate = rate(pace, now);
	enter(pace, STN_PACE_TRYING);
}
