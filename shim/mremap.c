/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mremap. Memory of ours can be moved and shortened as it is; whatever needs the file (growing,
 * duplicating with an old size of 0, leaving the old place mapped) is done to the file's own
 * mapping, which it becomes first.
 */
#include "edge.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>

#include "../lib/giveback.h"
#include "../lib/page.h"
#include "../lib/taken.h"
#include "real.h"

/* mremap's arguments, sizes rounded up to pages. */
struct move {
	uintptr_t old;
	size_t old_size, new_size;
	int flags;
	void *to;
};

static void *real_move(const struct move *move)
{
	return stn_real.mremap((void *)move->old, move->old_size, move->new_size, move->flags,
			       move->to);
}

/* True if the range is one piece of ours and stays no longer than it is. */
static bool is_simple(const struct move *move)
{
	struct stn_region piece;

	return move->new_size && move->new_size <= move->old_size &&
	       !(move->flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) &&
	       stn_region_find(move->old, move->old + move->old_size, &piece) &&
	       piece.start == move->old && piece.end == move->old + move->old_size;
}

/* Moves or shortens one piece of ours, and its record with it. */
static void *move_piece(const struct move *move)
{
	struct stn_taken taken;
	struct stn_region piece;
	void *address;

	stn_taken_collect(&taken, move->old, move->old + move->old_size);
	address = real_move(move);
	if (address == MAP_FAILED || taken.count != 1) {
		stn_taken_settle(&taken, address != MAP_FAILED);
		return address;
	}
	piece = taken.pieces[0];
	piece.start = (uintptr_t)address;
	piece.end = piece.start + move->new_size;
	stn_region_add(&piece);
	/* What was cut off: only its keeper is left. */
	taken.pieces[0].start += move->new_size;
	if (taken.pieces[0].keeper)
		taken.pieces[0].keeper += move->new_size;
	if (move->new_size < move->old_size)
		stn_taken_settle(&taken, true);
	return address;
}

static void *move_range(const struct move *move)
{
	uintptr_t to = (uintptr_t)move->to;
	struct stn_region piece;
	struct stn_taken covered = {0};
	void *address;
	int saved = errno;

	if (move->flags & MREMAP_FIXED)
		stn_taken_collect(&covered, to, to + move->new_size);
	if (is_simple(move)) {
		address = move_piece(move);
	} else {
		if (stn_region_find(move->old, move->old + stn_max(move->old_size, 1), &piece))
			stn_giveback(move->old, move->old + stn_max(move->old_size, 1));
		errno = saved;
		address = real_move(move);
	}
	stn_taken_settle(&covered, address != MAP_FAILED);
	return address;
}

STN_EXPORT void *mremap(void *old, size_t old_size, size_t new_size, int flags, ...)
{
	struct move move = {
		.old = (uintptr_t)old,
		.old_size = stn_round_up(old_size, stn_page_size()),
		.new_size = stn_round_up(new_size, stn_page_size()),
		.flags = flags,
	};

	if (flags & MREMAP_FIXED) {
		va_list list;

		va_start(list, flags);
		move.to = va_arg(list, void *);
		va_end(list);
	}
	if (stn_region_none())
		return stn_real.mremap(old, old_size, new_size, flags, move.to);
	return move_range(&move);
}
