/* SPDX-License-Identifier: Apache-2.0 */
#include "ahead.h"

#include <string.h>

#include "page.h"
#include "tensors.h"

#define MIB	((uint64_t)1 << 20)
#define NEAR	MIB	   /* a touch so close to a run carries it on */
#define DEMAND	MIB	   /* read at once when a run is carried on */
#define CERTAIN (48 * MIB) /* a run so long is not going to stop soon */
#define WHOLE	(8 * MIB)  /* a window so long ends with a huge page: two reads would break it up */
#define TENSOR	(16 * MIB) /* a tensor of which so much is left is read to its end */
#define SMALL	(8 * MIB)  /* a mapping that is read as a whole */
#define SWEEP	3	   /* first touches of tensors one behind the other: more will follow */
#define SWEPT	8	   /* such touches: all will follow */
#define BEGUN	24	   /* first touches of tensors in any order: all will follow */
#define NOWHERE UINT64_MAX

void stn_ahead_start(struct stn_ahead *ahead, uint64_t size)
{
	memset(ahead, 0, sizeof(*ahead));
	ahead->size = size;
	ahead->lowest = NOWHERE;
	for (int i = 0; i < STN_AHEAD_HEADS; i++)
		ahead->heads[i] = NOWHERE;
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

/* Where the tensor ends, to the unit, that a byte lies in; the end of the mapping if that is not
 * known. */
static uint64_t end_of_tensor(const struct stn_ahead *ahead, uint64_t offset)
{
	uint64_t next = UINT64_MAX / STN_AHEAD_UNIT - 1;

	if (ahead->tensors)
		next = stn_tensors_next(ahead->tensors, (uint32_t)(offset / STN_AHEAD_UNIT));
	return stn_min((next + 1) * STN_AHEAD_UNIT, ahead->size);
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
		.asked = unit,
		.marker = NOWHERE,
		.used_at = ahead->touches,
		.live = true,
	};
	plan->from = unit;
	plan->to = end;
	ahead->covered += end - unit;
}

static void go_forwards(struct stn_ahead *ahead, struct stn_run *run, uint64_t unit,
			struct stn_ahead_plan *plan)
{
	uint64_t length = unit + STN_AHEAD_UNIT - run->first;
	uint64_t share = window(length), end = unit + share;
	uint64_t limit = end_of_tensor(ahead, ahead->confined ? unit : run->first);
	bool inside = ahead->tensors && limit > unit;

	if (share >= WHOLE)
		end = stn_round_up(end, 2 * MIB);
	if (inside)
		end = limit - run->first <= TENSOR ? limit : stn_min(end, limit);
	end = stn_min(end, ahead->size);
	plan->from = unit;
	plan->to =
		stn_min(stn_max(unit + STN_AHEAD_UNIT, stn_min(unit + DEMAND, end)), ahead->size);
	plan->ahead_from = stn_max(run->high, plan->to);
	plan->ahead_to = stn_max(end, plan->ahead_from);
	run->asked = stn_round_down(plan->ahead_from, STN_AHEAD_UNIT);
	/* There is nothing to follow at the end of the tensor. */
	if (plan->ahead_to > plan->ahead_from && !(inside && end == limit))
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
	if (ahead->confined && ahead->tensors)
		start = plan->from;
	plan->ahead_to = stn_min(run->low, plan->from);
	plan->ahead_from = stn_min(start, plan->ahead_to);
	run->asked = plan->ahead_to;
	if (plan->ahead_to > plan->ahead_from)
		plan->marker = plan->ahead_to - STN_AHEAD_UNIT;
	run->low = plan->ahead_from;
}

static void ask_for_all(struct stn_ahead *ahead, struct stn_ahead_plan *plan)
{
	ahead->all = true;
	plan->ahead_from = 0;
	plan->ahead_to = ahead->size;
	plan->marker = NOWHERE;
	stn_ahead_unmark(ahead, 0, NOWHERE);
}

/* Notes the first touch of a tensor. */
static void note_sweep(struct stn_ahead *ahead, uint64_t unit)
{
	uint64_t behind = stn_max(ahead->begun_at, minus(ahead->sweep_to, STN_AHEAD_UNIT));
	uint32_t next = stn_tensors_next(ahead->tensors, (uint32_t)(behind / STN_AHEAD_UNIT));
	bool on = ahead->sweep && unit > ahead->begun_at && unit <= next * STN_AHEAD_UNIT;

	ahead->begun++;
	ahead->begun_at = unit;
	ahead->sweep = on ? ahead->sweep + 1 : 1;
	if (on)
		return;
	ahead->sweep_from = unit;
	ahead->sweep_to = unit + STN_AHEAD_UNIT;
}

/* Chooses the heads of the tensors behind a unit, those that are longer than that. */
static void find_heads(struct stn_ahead *ahead, uint64_t unit)
{
	uint32_t at = stn_tensors_next(ahead->tensors, (uint32_t)(unit / STN_AHEAD_UNIT));
	int count = 0;

	for (int i = 0; i < 8 * STN_AHEAD_HEADS && count < STN_AHEAD_HEADS; i++) {
		uint32_t next = stn_tensors_next(ahead->tensors, at);

		if (at * STN_AHEAD_UNIT >= ahead->size)
			return;
		if (next > at + 1)
			ahead->heads[count++] = at * STN_AHEAD_UNIT;
		at = next;
	}
}

/* What a touch asks for as part of a sweep, if it is one; any other touch ends a sweep. */
static void sweep_on(struct stn_ahead *ahead, uint64_t unit, struct stn_ahead_plan *plan)
{
	uint64_t end = end_of_tensor(ahead, unit), length;

	if (!ahead->tensors ||
	    !stn_tensors_begins(ahead->tensors, (uint32_t)(unit / STN_AHEAD_UNIT))) {
		ahead->sweep = ahead->begun = 0;
		return;
	}
	/* Of one that its first touch reads nobody sees whether it is used. */
	if (end <= unit + 2 * STN_AHEAD_UNIT)
		return;
	note_sweep(ahead, unit);
	if (!atomic_exchange(&ahead->tensors->looked, true)) {
		find_heads(ahead, unit);
		plan->heads = true;
	}
	length = end - ahead->sweep_from;
	if (ahead->sweep < SWEEP && ahead->begun < BEGUN)
		return;
	if (ahead->sweep >= SWEPT || ahead->begun >= BEGUN || length >= CERTAIN) {
		ask_for_all(ahead, plan);
		ahead->swept = true;
		return;
	}
	ahead->sweep_to = stn_min(end + length, ahead->size);
	plan->ahead_from = ahead->sweep_from;
	plan->ahead_to = stn_max(plan->ahead_to, ahead->sweep_to);
}

/*
 * What lies between the runs and as much again beyond, once they have gone through most of that.
 * The next touch that is seen is beyond what was asked for last: that has been gone through then.
 */
static void go_beyond(struct stn_ahead *ahead, uint64_t unit, struct stn_ahead_plan *plan)
{
	uint64_t span;

	ahead->lowest = stn_min(ahead->lowest, unit);
	ahead->highest = stn_max(ahead->highest, unit + STN_AHEAD_UNIT);
	if (ahead->highest <= ahead->dense_to)
		return;
	span = ahead->highest - ahead->lowest;
	ahead->covered = stn_max(ahead->covered, minus(ahead->dense_to, ahead->lowest));
	if (ahead->covered < CERTAIN || ahead->covered < span / 3 * 2 ||
	    (ahead->tensors && ahead->highest <= end_of_tensor(ahead, ahead->lowest)))
		return;
	ahead->dense_to = stn_min(stn_round_up(ahead->highest + span, 2 * MIB), ahead->size);
	plan->ahead_from = ahead->lowest;
	plan->ahead_to = stn_max(plan->ahead_to, ahead->dense_to);
}

bool stn_ahead_is_small(const struct stn_ahead *ahead)
{
	return ahead->size <= SMALL;
}

/* The rest, once the runs have covered most of the mapping, or at once if that is little. */
static void ask_for_the_rest(struct stn_ahead *ahead, struct stn_ahead_plan *plan)
{
	if (stn_ahead_is_small(ahead) || ahead->covered >= ahead->size / 5 * 3)
		ask_for_all(ahead, plan);
}

/* What a touch asks for of that which is going to be read anyway. */
static void hurry(const struct stn_ahead *ahead, const struct stn_run *run, uint64_t unit,
		  struct stn_ahead_plan *plan)
{
	uint64_t end = stn_min(unit + STN_AHEAD_UNIT, ahead->size);

	plan->from = run->backwards ? stn_max(run->low, minus(end, DEMAND)) : unit;
	plan->from -= plan->from % STN_AHEAD_UNIT;
	plan->to = run->backwards ? end : stn_max(end, stn_min(unit + DEMAND, run->high));
}

static void carry_on(struct stn_ahead *ahead, struct stn_run *run, uint64_t unit,
		     struct stn_ahead_plan *plan)
{
	run->used_at = ahead->touches;
	if (run->high - run->low <= STN_AHEAD_UNIT)
		run->backwards = unit < run->at;
	ahead->covered += run->backwards ? run->at - unit : unit - run->at;
	run->at = unit;
	if (run->backwards ? unit >= run->asked : unit < run->asked) {
		hurry(ahead, run, unit, plan);
		return;
	}
	if (run->backwards)
		go_backwards(ahead, run, unit, plan);
	else
		go_forwards(ahead, run, unit, plan);
	run->marker = plan->marker;
}

void stn_ahead_touch(struct stn_ahead *ahead, uint64_t offset, struct stn_ahead_plan *plan)
{
	uint64_t unit = offset - offset % STN_AHEAD_UNIT;
	struct stn_run *run;

	*plan = (struct stn_ahead_plan){.marker = NOWHERE};
	ahead->touches++;
	if (ahead->all) {
		plan->from = unit;
		plan->to = stn_min(unit + STN_AHEAD_UNIT, ahead->size);
		return;
	}
	run = ahead->random ? NULL : find(ahead, unit);
	if (!run)
		begin(ahead, unit, plan);
	else
		carry_on(ahead, run, unit, plan);
	if (ahead->random || (ahead->confined && ahead->tensors))
		return;
	sweep_on(ahead, unit, plan);
	go_beyond(ahead, unit, plan);
	ask_for_the_rest(ahead, plan);
}

static bool lies_in(uint64_t marker, uint64_t from, uint64_t to)
{
	return marker != NOWHERE && marker >= from && marker < to;
}

bool stn_ahead_marked(const struct stn_ahead *ahead, uint64_t from, uint64_t to)
{
	for (int i = 0; i < STN_AHEAD_RUNS; i++)
		if (ahead->runs[i].live && lies_in(ahead->runs[i].marker, from, to))
			return true;
	for (int i = 0; i < STN_AHEAD_HEADS; i++)
		if (lies_in(ahead->heads[i], from, to))
			return true;
	return false;
}

void stn_ahead_unmark(struct stn_ahead *ahead, uint64_t from, uint64_t to)
{
	for (int i = 0; i < STN_AHEAD_RUNS; i++)
		if (lies_in(ahead->runs[i].marker, from, to))
			ahead->runs[i].marker = NOWHERE;
	for (int i = 0; i < STN_AHEAD_HEADS; i++)
		if (lies_in(ahead->heads[i], from, to))
			ahead->heads[i] = NOWHERE;
}
