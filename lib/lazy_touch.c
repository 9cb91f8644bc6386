/* SPDX-License-Identifier: Apache-2.0 */
/* What lazy fill makes of a touch. */
#include "lazy_engine.h"

#include "tensors.h"

#define HEADER_TRY ((uint64_t)128 << 10) /* read of a header whose length is not known */

/* True if what follows the header has been asked for by who asks for that again: who may store into
 * the memory has read the header by another map. That is seen where a tensor begins that near; a
 * small file is read as a whole. */
static bool comes_for_more(const struct stn_lazy *lazy)
{
	const struct stn_tensors *tensors = stn_tensors_find(lazy->plan.model);

	return lazy->moves &&
	       (stn_ahead_is_small(&lazy->ahead) || (tensors && stn_tensors_begins(tensors, 0)));
}

/* The first touch of a file's start: its header, as far as that is known, is wanted. True if
 * nothing else is. */
static bool touch_header(struct stn_lazy *lazy, uint64_t offset)
{
	uint64_t known;
	uint32_t end;

	if (offset >= STN_AHEAD_UNIT || lazy->plan.offset || lazy->header)
		return false;
	known = atomic_load(&lazy->plan.model->header);
	lazy->header = stn_round_up(known ? known : HEADER_TRY, STN_AHEAD_UNIT);
	end = (uint32_t)stn_min(lazy->header / STN_AHEAD_UNIT, lazy->units);
	stn_lazy_turn(lazy, 0, end, STN_UNIT_EMPTY, STN_UNIT_QUEUED);
	return !known || !comes_for_more(lazy);
}

static void turn_range(struct stn_lazy *lazy, uint64_t from, uint64_t to, enum stn_unit before,
		       enum stn_unit after)
{
	uint32_t first = (uint32_t)(from / STN_AHEAD_UNIT);
	uint32_t end = (uint32_t)((to + STN_AHEAD_UNIT - 1) / STN_AHEAD_UNIT);

	if (to > from)
		stn_lazy_turn(lazy, first, end - first, before, after);
}

/* Asks for what the touch of a byte makes likely. */
static void look_ahead(struct stn_lazy *lazy, uint64_t offset)
{
	struct stn_ahead_plan plan;

	lazy->ahead.tensors = lazy->plan.offset ? NULL : stn_tensors_find(lazy->plan.model);
	stn_ahead_touch(&lazy->ahead, offset, &plan);
	turn_range(lazy, plan.from, plan.to, STN_UNIT_EMPTY, STN_UNIT_QUEUED);
	turn_range(lazy, plan.from, plan.to, STN_UNIT_WANTED, STN_UNIT_QUEUED);
	turn_range(lazy, plan.ahead_from, plan.ahead_to, STN_UNIT_EMPTY, STN_UNIT_WANTED);
	for (int i = 0; plan.heads && i < STN_AHEAD_HEADS; i++)
		if (lazy->ahead.heads[i] != UINT64_MAX)
			turn_range(lazy, lazy->ahead.heads[i],
				   lazy->ahead.heads[i] + STN_AHEAD_UNIT, STN_UNIT_EMPTY,
				   STN_UNIT_WANTED);
}

/* The piece that is kept back and holds a unit; its units are to be placed. */
static bool take_kept(struct stn_lazy *lazy, uint32_t unit, struct stn_lazy_piece *piece)
{
	for (uint32_t i = 0; i < STN_LAZY_KEPT; i++) {
		*piece = lazy->kept[i];
		if (!piece->block || unit < piece->first || unit >= piece->first + piece->count)
			continue;
		lazy->kept[i].block = NULL;
		stn_lazy_turn(lazy, piece->first, piece->count, STN_UNIT_KEPT, STN_UNIT_PLACING);
		return true;
	}
	return false;
}

bool stn_lazy_touch(struct stn_lazy *lazy, uint64_t offset, struct stn_lazy_piece *piece)
{
	uint32_t unit = (uint32_t)(offset / STN_AHEAD_UNIT);

	if (!lazy->surrendered && !touch_header(lazy, offset))
		look_ahead(lazy, offset);
	if (!lazy->surrendered)
		stn_lazy_turn(lazy, unit, 1, STN_UNIT_EMPTY, STN_UNIT_QUEUED);
	stn_lazy_turn(lazy, unit, 1, STN_UNIT_READING, STN_UNIT_AWAITED);
	return lazy->unit[unit] == STN_UNIT_KEPT && take_kept(lazy, unit, piece);
}
