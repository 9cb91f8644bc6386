/* SPDX-License-Identifier: Apache-2.0 */
#include "taken.h"

#include "lazy.h"
#include "sys.h"

/* The piece is gone. */
static void free_piece(const struct stn_region *piece)
{
	if (piece->keeper)
		stn_sys_munmap((void *)piece->keeper, piece->end - piece->start);
	stn_lazy_cut(piece->lazy, piece->start, piece->end);
}

void stn_taken_collect(struct stn_taken *taken, uintptr_t start, uintptr_t end)
{
	struct stn_region piece;

	taken->count = 0;
	while (stn_region_take(start, end, &piece)) {
		stn_lazy_await_placed(piece.lazy, piece.start, piece.end);
		if (taken->count < STN_TAKEN_PIECES)
			taken->pieces[taken->count++] = piece;
		else
			free_piece(&piece);
	}
}

void stn_taken_settle(struct stn_taken *taken, bool succeeded)
{
	for (unsigned i = 0; i < taken->count; i++) {
		if (succeeded)
			free_piece(&taken->pieces[i]);
		else
			stn_region_add(&taken->pieces[i]);
	}
}
