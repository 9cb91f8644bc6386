/* SPDX-License-Identifier: Apache-2.0 */
#include "region.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "lazy.h"
#include "process.h"
#include "sys.h"

/* A fraction of the default vm.max_map_count (65530): each record stands for two or more areas. */
#define RECORDS 16384u

/* One copy of the registry; in .bss, so that unused room costs nothing. */
struct table {
	uint32_t count;
	struct stn_region records[RECORDS + 2]; /* a cut may leave two pieces more */
};

static struct table tables[2];
/* Its lowest bit says which table is in use; a reader that finds it changed reads again. */
static _Atomic uint64_t generation;
static _Atomic uint32_t live;

bool stn_region_none(void)
{
	return atomic_load_explicit(&live, memory_order_relaxed) == 0;
}

bool stn_region_room(unsigned count)
{
	return atomic_load_explicit(&live, memory_order_relaxed) + count <= RECORDS;
}

/* The number of records; a reader may look at a table that is being written, so it is bounded. */
static uint32_t count_of(const struct table *table)
{
	return table->count <= RECORDS + 2 ? table->count : 0;
}

/* The index of the first record that ends after start. */
static uint32_t lower_bound(const struct table *table, uintptr_t start)
{
	uint32_t low = 0, high = count_of(table);

	while (low < high) {
		uint32_t middle = (low + high) / 2;

		if (table->records[middle].end <= start)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Leaves of a record what lies in [start, end); less than all of it is not a whole model. */
static void clip(struct stn_region *region, uintptr_t start, uintptr_t end)
{
	if (region->start < start || region->end > end)
		region->watched = NULL;
	if (region->start < start) {
		if (region->keeper)
			region->keeper += start - region->start;
		region->start = start;
	}
	if (region->end > end)
		region->end = end;
}

bool stn_region_find(uintptr_t start, uintptr_t end, struct stn_region *out)
{
	uint64_t seen;
	bool found;

	if (start >= end)
		return false;
	do {
		const struct table *table;
		uint32_t index;

		seen = atomic_load_explicit(&generation, memory_order_acquire);
		table = &tables[seen & 1];
		index = lower_bound(table, start);
		found = index < count_of(table) && table->records[index].start < end;
		if (found)
			*out = table->records[index];
		atomic_thread_fence(memory_order_acquire);
	} while (atomic_load_explicit(&generation, memory_order_relaxed) != seen);
	if (found)
		clip(out, start, end);
	return found;
}

uint64_t stn_region_bytes(enum stn_region_kind kind)
{
	uint64_t seen, bytes;

	do {
		const struct table *table;

		seen = atomic_load_explicit(&generation, memory_order_acquire);
		table = &tables[seen & 1];
		bytes = 0;
		for (uint32_t i = 0; i < count_of(table); i++)
			if (table->records[i].kind == kind)
				bytes += table->records[i].end - table->records[i].start;
		atomic_thread_fence(memory_order_acquire);
	} while (atomic_load_explicit(&generation, memory_order_relaxed) != seen);
	return bytes;
}

/* Starts a change: returns the spare table with the records of the one in use. Caller:
 * regions_lock. */
static struct table *begin_change(void)
{
	uint64_t now = atomic_load_explicit(&generation, memory_order_relaxed);
	const struct table *used = &tables[now & 1];
	struct table *spare = &tables[~now & 1];

	spare->count = used->count;
	memcpy(spare->records, used->records, used->count * sizeof(used->records[0]));
	return spare;
}

/* Ends a change: readers see the table that begin_change returned. Caller: regions_lock. */
static void end_change(const struct table *table)
{
	atomic_store_explicit(&live, table->count, memory_order_relaxed);
	atomic_fetch_add_explicit(&generation, 1, memory_order_release);
}

static void insert_at(struct table *table, uint32_t index, const struct stn_region *region)
{
	memmove(&table->records[index + 1], &table->records[index],
		(table->count - index) * sizeof(table->records[0]));
	table->records[index] = *region;
	table->count++;
}

static void remove_at(struct table *table, uint32_t index)
{
	table->count--;
	memmove(&table->records[index], &table->records[index + 1],
		(table->count - index) * sizeof(table->records[0]));
}

int stn_region_add(const struct stn_region *region)
{
	/* A vfork child changes its parent's registry as it changes its mappings: no owner check.
	 */
	struct stn_process *process = stn_process_peek();
	struct table *table;
	uint64_t mask;
	int rc = -ENOSPC;

	if (!process)
		process = stn_process_get();
	if (!process)
		return -ENOMEM;
	/* Memory that was unmapped behind our back may still have a record. */
	stn_region_forget(region->start, region->end);
	mask = stn_lock_enter(&process->regions_lock);
	if (stn_region_room(1)) {
		table = begin_change();
		insert_at(table, lower_bound(table, region->start), region);
		end_change(table);
		rc = 0;
	}
	stn_lock_leave(&process->regions_lock, mask);
	return rc;
}

/* Removes [start, end) from the record at index, leaving what lies before and behind it. */
static void cut(struct table *table, uint32_t index, uintptr_t start, uintptr_t end,
		struct stn_region *out)
{
	struct stn_region before = table->records[index], behind = before;

	*out = before;
	clip(out, start, end);
	remove_at(table, index);
	if (behind.end > end) {
		clip(&behind, end, behind.end);
		insert_at(table, index, &behind);
	}
	if (before.start < start) {
		clip(&before, before.start, start);
		insert_at(table, index, &before);
	}
}

/* True if taking [start, end) out of the record at index leaves more records than there is room
 * for. */
static bool splits_too_far(const struct table *table, uint32_t index, uintptr_t start,
			   uintptr_t end)
{
	const struct stn_region *record = &table->records[index];

	return table->count >= RECORDS && record->start < start && record->end > end;
}

/* Changes the record that begins the range; see stn_region_take and stn_region_replace. */
static bool take(uintptr_t start, uintptr_t end, stn_region_replacement *replace, int argument,
		 struct stn_region *out)
{
	/* See stn_region_add. */
	struct stn_process *process = stn_process_peek();
	bool taken = false;
	struct table *table;
	uint64_t mask;
	uint32_t index;

	if (!process || !stn_region_find(start, end, out))
		return false;
	mask = stn_lock_enter(&process->regions_lock);
	table = begin_change();
	index = lower_bound(table, start);
	if (index < table->count && table->records[index].start < end &&
	    !splits_too_far(table, index, start, end)) {
		cut(table, index, start, end, out);
		taken = !replace || replace(out, argument) == 0;
		if (taken)
			end_change(table);
	}
	stn_lock_leave(&process->regions_lock, mask);
	return taken;
}

bool stn_region_take(uintptr_t start, uintptr_t end, struct stn_region *out)
{
	return take(start, end, NULL, 0, out);
}

bool stn_region_replace(uintptr_t start, uintptr_t end, stn_region_replacement *replace,
			int argument, struct stn_region *out)
{
	return take(start, end, replace, argument, out);
}

void stn_region_settle(uintptr_t start, uintptr_t end, uint32_t lazy)
{
	struct stn_process *process = stn_process_get();
	struct table *table;
	uint64_t mask;

	if (!process)
		return;
	mask = stn_lock_enter(&process->regions_lock);
	table = begin_change();
	for (uint32_t i = lower_bound(table, start); i < table->count; i++) {
		if (table->records[i].start >= end)
			break;
		if (table->records[i].lazy == lazy)
			table->records[i].lazy = 0;
	}
	end_change(table);
	stn_lock_leave(&process->regions_lock, mask);
}

void stn_region_forget(uintptr_t start, uintptr_t end)
{
	struct stn_region piece;

	while (stn_region_take(start, end, &piece)) {
		if (piece.keeper)
			stn_sys_munmap((void *)piece.keeper, piece.end - piece.start);
		stn_lazy_cut(piece.lazy, piece.start, piece.end);
	}
}
