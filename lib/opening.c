/* SPDX-License-Identifier: Apache-2.0 */
#include "opening.h"

#include <errno.h>
#include <string.h>

#include "page.h"
#include "sys.h"

/* Gets the file's record, and another file to be closed if there is no room. Pool lock held. */
static void find_source(struct stn_opening *opening, struct stn_crew *crew)
{
	uint32_t missing = opening->needed;

	if (!opening->source)
		opening->source = stn_crew_source(crew, &opening->identity);
	if (opening->source)
		missing -= (uint32_t)stn_min(missing, opening->source->claimed);
	if (missing)
		opening->victim = stn_crew_victim(crew, !opening->source, missing);
	if (!opening->victim)
		return;
	opening->victim->closing = true;
	opening->victim->valid = false;
}

static enum stn_opening_state fail(struct stn_opening *opening, int error)
{
	opening->error = error;
	return STN_OPENING_FAILED;
}

enum stn_opening_state stn_opening_claim(struct stn_opening *opening, struct stn_crew *crew,
					 struct stn_step *step)
{
	struct stn_source *source;

	if (opening->error)
		return STN_OPENING_FAILED;
	if (opening->victim)
		return STN_OPENING_WAIT;
	find_source(opening, crew);
	if (opening->victim) {
		step->kind = STN_OPENING_CLOSE;
		return STN_OPENING_STEP;
	}
	source = opening->source;
	if (!source)
		return fail(opening, -EMFILE);
	if (!source->valid)
		return fail(opening, -ESTALE);
	if (source->claimed < opening->needed) {
		step->kind = STN_OPENING_OPEN;
		step->lane = source->claimed++;
		return STN_OPENING_STEP;
	}
	return source->opened < source->claimed ? STN_OPENING_WAIT : STN_OPENING_READY;
}

void stn_opening_run(const struct stn_opening *opening, struct stn_step *step)
{
	bool direct;

	if (step->kind == STN_OPENING_OPEN) {
		step->result =
			stn_source_open(opening->path, &opening->identity, &opening->way, &direct);
		step->detail = step->result >= 0 && direct;
		return;
	}
	stn_source_close(opening->victim);
}

void stn_opening_settle(struct stn_opening *opening, const struct stn_step *step)
{
	struct stn_source *source = opening->source;
	uint64_t bit = (uint64_t)1 << step->lane;

	if (step->kind == STN_OPENING_CLOSE) {
		memset(opening->victim, 0, sizeof(*opening->victim));
		opening->victim = NULL;
		return;
	}
	source->fds[step->lane] = (int)step->result;
	source->opened++;
	if (step->detail)
		__atomic_fetch_or(&source->direct, bit, __ATOMIC_RELAXED);
	else
		__atomic_fetch_and(&source->direct, ~bit, __ATOMIC_RELAXED);
	if (step->result < 0) {
		opening->error = (int)step->result;
		source->valid = false;
	}
}

void stn_opening_leave(struct stn_opening *opening)
{
	if (!opening->source)
		return;
	opening->source->users--;
	opening->source->valid &= opening->error != -ESTALE;
	opening->source = NULL;
}

bool stn_opening_direct(const struct stn_opening *opening)
{
	const struct stn_source *source = opening->source;

	return source->direct == ((uint64_t)2 << (source->opened - 1)) - 1;
}
