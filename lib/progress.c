/* SPDX-License-Identifier: Apache-2.0 */
#include "progress.h"

#include "stderr.h"
#include "sys.h"
#include "text.h"

#define SECOND 1000000000u
#define WIDTH  30u

void stn_progress_draw(uint64_t done, uint64_t all, bool last)
{
	char buffer[160];
	struct stn_text line;

	stn_text_start(&line, buffer, sizeof(buffer));
	stn_text_add(&line, "\r[");
	for (unsigned i = 0; i < WIDTH; i++)
		stn_text_add_char(&line, i < done * WIDTH / all ? '#' : '.');
	stn_text_add(&line, "] ");
	stn_text_add_bytes(&line, done);
	stn_text_add(&line, " of ");
	stn_text_add_bytes(&line, all);
	stn_text_add(&line, last ? "  \n" : "   ");
	stn_stderr_write(line.data, line.length);
}

static void draw(const struct stn_fill *fill, bool last)
{
	stn_progress_draw(__atomic_load_n(&fill->settled, __ATOMIC_RELAXED), fill->plan.length,
			  last);
}

void stn_progress_tick(struct stn_job *job)
{
	struct stn_fill *fill = (struct stn_fill *)(void *)job;
	uint64_t now = stn_sys_clock(CLOCK_MONOTONIC);

	if (!fill->begun)
		fill->begun = now;
	if (now - fill->begun < SECOND)
		return;
	fill->drawn = true;
	draw(fill, false);
}

void stn_progress_end(struct stn_fill *fill)
{
	if (fill->drawn)
		draw(fill, true);
}
