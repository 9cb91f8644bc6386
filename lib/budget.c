/* SPDX-License-Identifier: Apache-2.0 */
#include "budget.h"

#include <sys/resource.h>

#include "cgroup.h"
#include "config.h"
#include "file.h"
#include "page.h"
#include "sys.h"
#include "text.h"

#define KIB 1024u
#define MIB (1024u * KIB)
/* Left of the limits on address space and data for the program's own next allocations. */
#define PROCESS_SLACK (64u * MIB)

uint64_t stn_budget_margin(uint64_t limit)
{
	const uint64_t least = (uint64_t)64 * MIB, most = (uint64_t)2048 * MIB;
	uint64_t margin = limit / 16;

	return margin < least ? least : margin > most ? most : margin;
}

static uint64_t minus(uint64_t a, uint64_t b)
{
	return a == STN_BUDGET_UNLIMITED ? a : a > b ? a - b : 0;
}

/* Keeps the group that leaves least. */
static void visit_group(const struct stn_cgroup_limit *limit, void *argument)
{
	struct stn_budget_view *view = argument;
	uint64_t left = minus(limit->available, stn_budget_margin(limit->limit));

	if (left <= minus(view->group_available, stn_budget_margin(view->group_limit))) {
		view->group_available = limit->available;
		view->group_limit = limit->limit;
	}
}

static uint64_t kib_field(const char *text, const char *key)
{
	int64_t value = stn_text_field(text, key);

	return value < 0 ? STN_BUDGET_UNLIMITED : (uint64_t)value * KIB;
}

static void read_host(struct stn_budget_view *view)
{
	char text[4096];

	stn_file_read("/proc/meminfo", text, sizeof(text));
	view->host_total = kib_field(text, "MemTotal");
	view->host_available = kib_field(text, "MemAvailable");
	view->commit_left = STN_BUDGET_UNLIMITED;
	if (stn_file_number("/proc/sys/vm", "overcommit_memory") == 2)
		view->commit_left =
			minus(kib_field(text, "CommitLimit"), kib_field(text, "Committed_AS"));
}

/* Returns the number in the given column of /proc/self/statm in bytes, or 0. */
static uint64_t statm_bytes(const char *text, unsigned column, uint64_t page_size)
{
	uint64_t value = 0;

	for (unsigned i = 0; i <= column; i++) {
		size_t digits = 0;

		while (text[digits] >= '0' && text[digits] <= '9')
			digits++;
		if (!stn_text_number(text, digits, &value))
			return 0;
		text += digits;
		while (*text == ' ')
			text++;
	}
	return value * page_size;
}

static uint64_t limit_left(int resource, uint64_t used)
{
	uint64_t limit[2];

	if (stn_sys_getrlimit(resource, limit) < 0 || limit[0] == UINT64_MAX)
		return STN_BUDGET_UNLIMITED;
	return minus(limit[0], used);
}

static void read_limits(struct stn_budget_view *view)
{
	uint64_t page_size = (uint64_t)stn_page_size();
	char statm[256];

	stn_file_read("/proc/self/statm", statm, sizeof(statm));
	view->address_space_left = limit_left(RLIMIT_AS, statm_bytes(statm, 0, page_size));
	view->data_left = limit_left(RLIMIT_DATA, statm_bytes(statm, 5, page_size));
}

void stn_budget_read(struct stn_budget_view *view)
{
	struct stn_cgroup_place place;

	read_host(view);
	read_limits(view);
	view->group_limit = STN_BUDGET_UNLIMITED;
	view->group_available = STN_BUDGET_UNLIMITED;
	for (int v2 = 0; v2 <= 1; v2++) {
		stn_cgroup_find("/proc/self", v2, &place);
		stn_cgroup_walk(&place, visit_group, view);
	}
}

/* Records a limit if it is the tightest so far. */
static void consider(struct stn_budget_verdict *verdict, const char *name, uint64_t needed,
		     uint64_t available, uint64_t margin)
{
	uint64_t left = minus(available, margin);

	if (available == STN_BUDGET_UNLIMITED)
		return;
	if (verdict->limit && minus(left, needed) >= minus(verdict->available, verdict->needed) &&
	    (verdict->fits == false || left >= needed))
		return;
	verdict->limit = name;
	verdict->needed = needed;
	verdict->available = left;
	verdict->margin = margin;
	verdict->fits = verdict->fits && left >= needed;
}

uint64_t stn_budget_cap(const struct stn_budget_view *view, uint64_t kind, uint64_t value)
{
	uint64_t base = view->group_limit < view->host_total ? view->group_limit : view->host_total;

	if (kind == STN_MEMORY_SIZE)
		return value;
	if (kind == STN_MEMORY_PERCENT)
		return base / 100 * value;
	return STN_BUDGET_UNLIMITED;
}

void stn_budget_decide(const struct stn_budget_view *view, const struct stn_budget_use *use,
		       uint64_t need, struct stn_budget_verdict *verdict)
{
	/* On unified memory the device copy of every mapped model byte, of this mapping and of the
	 * model's shards that are still to come, is taken from the same memory while we hold ours.
	 */
	uint64_t planned = use->planned + (use->unified ? use->holes : 0);
	uint64_t copies =
		use->unified ? use->engaged + planned + use->declined + need + use->expected : 0;
	uint64_t memory = need + minus(planned, use->filled) + copies;
	uint64_t mapped = need > use->reserve ? need : use->reserve;
	uint64_t cap = stn_budget_cap(view, use->memory_kind, use->memory_value);

	*verdict = (struct stn_budget_verdict){.fits = true};
	consider(verdict, "host", memory, view->host_available,
		 stn_budget_margin(view->host_total));
	consider(verdict, "cgroup", memory, view->group_available,
		 stn_budget_margin(view->group_limit));
	/* The keeper takes address space of the mapping's size once more. */
	consider(verdict, "RLIMIT_AS", 2 * mapped, view->address_space_left, PROCESS_SLACK);
	consider(verdict, "RLIMIT_DATA", mapped, view->data_left, PROCESS_SLACK);
	consider(verdict, "overcommit", mapped, view->commit_left, PROCESS_SLACK);
	/* What is missing of others may never be read: that it is not too much is seen then. */
	consider(verdict, "STSHIM_MEMORY", mapped, minus(cap, use->engaged + use->planned), 0);
}

uint64_t stn_budget_left(const struct stn_budget_view *view)
{
	uint64_t host = minus(view->host_available, stn_budget_margin(view->host_total) / 2);
	uint64_t group = minus(view->group_available, stn_budget_margin(view->group_limit) / 2);

	return host < group ? host : group;
}
