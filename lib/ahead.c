/* SPDX-License-Identifier: Apache-2.0 */
#include "ahead.h"

#include <string.h>

#include "page.h"

#define MIB	((uint64_t)1 << 20)
#define NEAR	MIB	   /* a touch so close to a run carries it on */
#define DEMAND	MIB	   /* read at once when a run is carried on */
#define CERTAIN (48 * MIB) /* a run so long is not going to stop soon */
#define WHOLE	(8 * MIB)  /* a window so long ends with a huge page: two reads would break it up */
#define SWEEP	8	   /* tensors touched one after the other, and nothing else meanwhile */
#define NOWHERE UINT64_MAX

void stn_ahead_start(struct stn_ahead *ahead, uint64_t size)
{
	memset(ahead, 0, sizeof(*ahead));
	ahead->size = size;
}

/* How much more is read beyond a touch, when the run is length bytes long. */
static uint64_t window(uint64_t length)
{
	if (length >= CERTAIN)
		return length;
	return stn_max(2 * MIB, length * 9 / 32);
}

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* True if the touch carries the run on in the direction that it has, or may still take. */
static bool carries_on(const struct stn_run *run, uint64_t offset)
{
	bool fresh = run->high - run->low <= STN_AHEAD_UNIT;
	bool forwards = offset >= run->at && offset < run->high + NEAR;
	bool backwards = offset <= run->at && offset + NEAR >= run->low;

	if (!run->live)
		return false;
	return fresh ? forwards || backwards : run->backwards ? backwards : forwards;
}

/* The run that a touch carries on, or NULL. */
static struct stn_run *find(struct stn_ahead *ahead, uint64_t offset)
{
	struct stn_run *best = NULL;

	for (int i = 0; i < STN_AHEAD_RUNS; i++) {
		struct stn_run *run = &ahead->runs[i];

		if (carries_on(run, offset) && (!best || run->used_at > best->used_at))
			best = run;
	}
	return best;
}

/* A run for a touch that carries none on: a free one, or the one that has rested longest. */
static struct stn_run *replace(struct stn_ahead *ahead)
{
	struct stn_run *oldest = &ahead->runs[0];

	for (int i = 0; i < STN_AHEAD_RUNS; i++) {
		struct stn_run *run = &ahead->runs[i];

		if (!run->live)
			return run;
		if (run->used_at < oldest->used_at)
			oldest = run;
	}
	return oldest;
}

static void begin(struct stn_ahead *ahead, uint64_t unit, struct stn_ahead_plan *plan)
{
	struct stn_run *run = replace(ahead);
	uint64_t end = stn_min(unit + STN_AHEAD_UNIT, ahead->size);

	*run = (struct stn_run){
		.first = unit,
		.at = unit,
		.low = unit,
		.high = end,
		.marker = NOWHERE,
		.used_at = ahead->touches,
		.live = true,
	};
	plan->from = unit;
	plan->to = end;
}

static void go_forwards(struct stn_ahead *ahead, struct stn_run *run, uint64_t unit,
			struct stn_ahead_plan *plan)
{
	uint64_t length = unit + STN_AHEAD_UNIT - run->first;
	uint64_t share = window(length), end = unit + share;

	if (share >= WHOLE)
		end = stn_round_up(end, 2 * MIB);
	end = stn_min(end, ahead->size);
	plan->from = unit;
	plan->to =
		stn_min(stn_max(unit + STN_AHEAD_UNIT, stn_min(unit + DEMAND, end)), ahead->size);
	plan->ahead_from = stn_max(run->high, plan->to);
	plan->ahead_to = stn_max(end, plan->ahead_from);
	if (plan->ahead_to > plan->ahead_from)
		plan->marker = plan->ahead_from;
	run->high = plan->ahead_to;
}

static void go_backwards(struct stn_ahead *ahead, struct stn_run *run, uint64_t unit,
			 struct stn_ahead_plan *plan)
{
	uint64_t length = run->first + STN_AHEAD_UNIT - unit;
	uint64_t start = minus(unit + STN_AHEAD_UNIT, window(length));

	plan->to = stn_min(unit + STN_AHEAD_UNIT, ahead->size);
	plan->from = stn_min(unit, stn_max(minus(plan->to, DEMAND), start));
	plan->from -= plan->from % STN_AHEAD_UNIT;
	start -= start % (window(length) >= WHOLE ? 2 * MIB : STN_AHEAD_UNIT);
	plan->ahead_to = stn_min(run->low, plan->from);
	plan->ahead_from = stn_min(start, plan->ahead_to);
	if (plan->ahead_to > plan->ahead_from)
		plan->marker = plan->ahead_to - STN_AHEAD_UNIT;
	run->low = plan->ahead_from;
}

/* Everything, once the runs have covered three fifths of it, or a sweep goes through it. */
static void ask_for_the_rest(struct stn_ahead *ahead, struct stn_ahead_plan *plan)
{
	bool swept = ahead->tensors && ahead->sweep >= SWEEP;

	if (ahead->all || (!swept && ahead->covered < ahead->size / 5 * 3))
		return;
	ahead->all = true;
	plan->ahead_from = 0;
	plan->ahead_to = ahead->size;
	plan->marker = NOWHERE;
	for (int i = 0; i < STN_AHEAD_RUNS; i++)
		ahead->runs[i].marker = NOWHERE;
}

void stn_ahead_touch(struct stn_ahead *ahead, uint64_t offset, struct stn_ahead_plan *plan)
{
	uint64_t unit = offset - offset % STN_AHEAD_UNIT;
	struct stn_run *run = ahead->random ? NULL : find(ahead, unit);

	*plan = (struct stn_ahead_plan){.marker = NOWHERE};
	ahead->touches++;
	if (!run) {
		begin(ahead, unit, plan);
		ahead->covered += plan->to - plan->from;
		ahead->sweep = unit > ahead->lone_at ? ahead->sweep + 1 : 1;
		ahead->lone_at = unit;
		if (!ahead->random)
			ask_for_the_rest(ahead, plan);
		return;
	}
	ahead->sweep = 0;
	run->used_at = ahead->touches;
	if (run->high - run->low <= STN_AHEAD_UNIT)
		run->backwards = unit < run->at;
	ahead->covered += run->backwards ? run->at - unit : unit - run->at;
	if (run->backwards)
		go_backwards(ahead, run, unit, plan);
	else
		go_forwards(ahead, run, unit, plan);
	run->at = unit;
	run->marker = plan->marker;
	ask_for_the_rest(ahead, plan);
}

static bool lies_in(const struct stn_run *run, uint64_t from, uint64_t to)
{
	return run->live && run->marker >= from && run->marker < to;
}

bool stn_ahead_marked(const struct stn_ahead *ahead, uint64_t from, uint64_t to)
{
	for (int i = 0; i < STN_AHEAD_RUNS; i++)
		if (lies_in(&ahead->runs[i], from, to))
			return true;
	return false;
}

void stn_ahead_unmark(struct stn_ahead *ahead, uint64_t from, uint64_t to)
{
	for (int i = 0; i < STN_AHEAD_RUNS; i++)
		if (lies_in(&ahead->runs[i], from, to))
			ahead->runs[i].marker = NOWHERE;
}
