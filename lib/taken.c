/* SPDX-License-Identifier: Apache-2.0 */
#include "taken.h"

#include "sys.h"

static void free_keeper(const struct stn_region *piece)
{
	if (piece->keeper)
		stn_sys_munmap((void *)piece->keeper, piece->end - piece->start);
}

void stn_taken_collect(struct stn_taken *taken, uintptr_t start, uintptr_t end)
{
	struct stn_region piece;

	taken->count = 0;
	while (stn_region_take(start, end, &piece)) {
		if (taken->count < STN_TAKEN_PIECES)
			taken->pieces[taken->count++] = piece;
		else
			free_keeper(&piece);
	}
}

void stn_taken_settle(struct stn_taken *taken, bool succeeded)
{
	for (unsigned i = 0; i < taken->count; i++) {
		if (succeeded)
			free_keeper(&taken->pieces[i]);
		else
			stn_region_add(&taken->pieces[i]);
	}
}
