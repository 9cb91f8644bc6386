/* SPDX-License-Identifier: Apache-2.0 */
#include "area.h"

#include <errno.h>
#include <string.h>

#include "fs.h"
#include "maps.h"
#include "page.h"
#include "region.h"
#include "sys.h"
#include "text.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA	     0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define NAME_SIZE 80 /* the kernel's ANON_VMA_NAME_MAX_LEN */

int stn_area_keep(struct stn_area *area, const struct stn_map_call *call)
{
	size_t size = stn_round_up(call->length, stn_page_size());
	void *keeper =
		stn_sys_mmap(NULL, call->length, PROT_NONE,
			     call->flags & ~(MAP_POPULATE | MAP_LOCKED), call->fd, call->offset);

	if (stn_sys_failed(keeper))
		return (int)(intptr_t)keeper;
	/* Under mlockall(MCL_FUTURE) it would count against RLIMIT_MEMLOCK, and as a second copy.
	 */
	stn_sys_munlock(keeper, size);
	stn_sys_madvise(keeper, size, MADV_DONTFORK);
	area->keeper = keeper;
	area->keeper_size = size;
	return 0;
}

/* Reserves size bytes whose start is a multiple of alignment, at the hint if that is given and
 * free. */
static char *reserve(void *hint, size_t size, size_t alignment)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	char *base, *start;
	size_t before;

	if (hint) {
		base = stn_sys_mmap(hint, size, PROT_NONE, flags | MAP_FIXED_NOREPLACE, -1, 0);
		if (base == hint)
			return base;
		if (!stn_sys_failed(base))
			stn_sys_munmap(base, size);
	}
	base = stn_sys_mmap(NULL, size + alignment, PROT_NONE, flags, -1, 0);
	if (stn_sys_failed(base) || alignment == 0)
		return base;
	start = (char *)stn_round_up((uintptr_t)base, alignment);
	before = (size_t)(start - base);
	if (before)
		stn_sys_munmap(base, before);
	if (alignment > before)
		stn_sys_munmap(start + size, alignment - before);
	return start;
}

int stn_area_reserve(struct stn_area *area, void *hint, size_t size, size_t data, size_t huge_page)
{
	bool huge = huge_page && data >= huge_page;
	char *memory = reserve(hint, size, huge ? huge_page : 0);
	int rc;

	if (stn_sys_failed(memory))
		return (int)(intptr_t)memory;
	area->memory = memory;
	area->size = size;
	area->data = data;
	if (huge)
		stn_sys_madvise(memory, data, MADV_HUGEPAGE);
	stn_sys_madvise(memory, data, MADV_DONTDUMP);
	rc = stn_sys_madvise(memory, data, MADV_DONTFORK);
	if (rc == 0)
		rc = stn_sys_mprotect(memory, data, PROT_READ | PROT_WRITE);
	return rc;
}

void stn_area_drop(struct stn_area *area)
{
	if (area->keeper)
		stn_sys_munmap(area->keeper, area->keeper_size);
	if (area->memory)
		stn_sys_munmap(area->memory, area->size);
	area->keeper = area->memory = NULL;
}

bool stn_area_name(char *address, size_t length, const char *name)
{
	char shown[NAME_SIZE];
	struct stn_text text;

	stn_text_start(&text, shown, sizeof(shown));
	stn_text_add(&text, "stnommap:");
	for (const char *c = name; *c; c++)
		stn_text_add_char(&text,
				  *c > 0x20 && *c < 0x7f && !strchr("\\`$[]", *c) ? *c : '_');
	return stn_sys_prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, (unsigned long)address, length,
			     (unsigned long)shown) == 0;
}

/* Puts the keeper's piece at [at, at + length) of the area in the area's place. */
static int put_keeper(struct stn_area *area, size_t at, size_t length, int prot)
{
	void *moved;
	int rc;

	if (!area->keeper)
		return -ENODEV;
	rc = stn_sys_madvise(area->keeper + at, length, MADV_DOFORK);
	if (rc == 0)
		rc = stn_sys_mprotect(area->keeper + at, length, prot);
	if (rc < 0)
		return rc;
	moved = stn_sys_mremap(area->keeper + at, length, length, MREMAP_MAYMOVE | MREMAP_FIXED,
			       area->memory + at);
	return stn_sys_failed(moved) ? (int)(intptr_t)moved : 0;
}

/* Registers [from, to) of the area, whose keeper begins at the same offset. */
static int register_piece(const struct stn_area *area, size_t from, size_t to, bool shared)
{
	struct stn_region region = {
		.start = (uintptr_t)area->memory + from,
		.end = (uintptr_t)area->memory + to,
		.keeper = area->keeper ? (uintptr_t)area->keeper + from : 0,
		.kind = STN_REGION_ENGAGED,
		.file_system = area->file_system,
		.shared = shared,
		.lazy = area->lazy,
		.watcher = area->watched ? (uint32_t)stn_sys_getpid() : 0,
		.watched = area->watched,
	};
	int rc = 0;

	if (from == to)
		return 0;
	if (!area->lazy)
		rc = stn_sys_madvise(area->memory + from, to - from, MADV_DOFORK);
	if (rc == 0 && area->keeper)
		rc = stn_sys_madvise(area->keeper + from, to - from, MADV_DOFORK);
	return rc ? rc : stn_region_add(&region);
}

/*
 * After a failure half-way: takes what has been registered out again, with its keepers. The rest of
 * the keeper is given up, since parts of its addresses may belong to somebody else by now.
 */
static int withdraw(struct stn_area *area, int rc)
{
	stn_region_forget((uintptr_t)area->memory, (uintptr_t)area->memory + area->size);
	area->keeper = NULL;
	return rc;
}

/* Puts the fill's holes in order of their offsets; they were noted as the threads met them. */
static void sort_holes(const struct stn_fill *fill, struct stn_fill_hole *holes)
{
	for (uint32_t i = 0; i < fill->hole_count; i++) {
		struct stn_fill_hole hole = fill->holes[i];
		uint32_t at = i;

		for (; at && holes[at - 1].offset > hole.offset; at--)
			holes[at] = holes[at - 1];
		holes[at] = hole;
	}
}

int stn_area_publish(struct stn_area *area, const struct stn_fill *fill, int prot, bool shared,
		     const char *name)
{
	struct stn_fill_hole holes[STN_FILL_HOLES];
	size_t page = stn_page_size(), from = 0;
	int rc = stn_sys_mprotect(area->memory, area->data, prot);

	if (rc < 0)
		return rc;
	stn_area_name(area->memory, area->data, name);
	sort_holes(fill, holes);
	for (uint32_t i = 0; rc == 0 && i < fill->hole_count; i++) {
		size_t at = holes[i].offset - fill->plan.offset;
		size_t length = stn_round_up(holes[i].length, page);

		rc = put_keeper(area, at, length, prot);
		if (rc == 0)
			rc = register_piece(area, from, at, shared);
		from = at + length;
	}
	if (rc == 0 && area->size > area->data)
		rc = put_keeper(area, area->data, area->size - area->data, prot);
	if (rc == 0)
		rc = register_piece(area, from, area->data, shared);
	return rc == 0 ? 0 : withdraw(area, rc);
}

int stn_area_publish_lazy(struct stn_area *area, int prot, bool shared, const char *name)
{
	int rc = 0;

	stn_area_name(area->memory, area->data, name);
	if (area->size > area->data)
		rc = put_keeper(area, area->data, area->size - area->data, prot);
	if (rc == 0)
		rc = register_piece(area, 0, area->data, shared);
	return rc == 0 ? 0 : withdraw(area, rc);
}

int stn_area_overlay(struct stn_area *area, char *base, size_t from, int prot)
{
	struct stn_area placed = *area;
	struct stn_region piece;
	void *moved;
	int rc = stn_sys_mprotect(area->memory, area->data, prot);

	placed.keeper = area->keeper ? area->keeper + from : NULL;
	placed.memory = base;
	if (rc == 0)
		rc = stn_sys_madvise(area->memory, area->data, MADV_DOFORK);
	if (rc == 0)
		rc = register_piece(&placed, 0, area->data, false);
	if (rc < 0)
		return rc;
	moved = stn_sys_mremap(area->memory, area->size, area->size, MREMAP_MAYMOVE | MREMAP_FIXED,
			       base);
	if (!stn_sys_failed(moved)) {
		area->memory = NULL;
		return 0;
	}
	stn_region_take((uintptr_t)base, (uintptr_t)base + area->data, &piece);
	return (int)(intptr_t)moved;
}

char *stn_area_open_keeper(struct stn_area *area, int prot)
{
	char *keeper = area->keeper;

	if (!keeper || stn_sys_madvise(keeper, area->keeper_size, MADV_DOFORK) < 0 ||
	    stn_sys_mprotect(keeper, area->keeper_size, prot) < 0)
		return NULL;
	area->keeper = NULL;
	return keeper;
}

void stn_area_trim_keeper(struct stn_area *area, size_t bytes)
{
	if (area->keeper && area->keeper_size > bytes)
		stn_sys_munmap(area->keeper + bytes, area->keeper_size - bytes);
}

uint64_t stn_area_cached(const struct stn_area *area, size_t length)
{
	unsigned char pages[4096];
	size_t page = stn_page_size(), step = sizeof(pages) * page;
	uint64_t cached = 0;

	for (size_t at = 0; area->keeper && at < length; at += step) {
		size_t piece = stn_min(step, length - at);

		if (stn_fs_resident(area->keeper + at, piece, pages) < 0)
			return cached;
		for (size_t i = 0; i < (piece + page - 1) / page; i++)
			cached += pages[i] & 1 ? page : 0;
	}
	return cached;
}

int stn_area_give_back(const struct stn_region *piece, int prot)
{
	struct stn_area area = {
		.keeper = (char *)piece->keeper, /* NULL if 0 */
		.memory = (char *)piece->start,
	};

	return put_keeper(&area, 0, piece->end - piece->start, prot);
}

uint64_t stn_area_huge(const struct stn_area *area)
{
	uintptr_t start = (uintptr_t)area->memory;
	struct stn_maps_area found;

	return stn_maps_find(start, start + area->data, &found) == 0 ? found.huge_bytes : 0;
}
