/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <string.h>

#include "config.h"
#include "engagement.h"
#include "lazy.h"
#include "page.h"
#include "sys.h"
#include "text.h"

bool stn_engagement_may_be_lazy(const struct stn_engagement *e)
{
	return !e->not_lazy && !stn_lazy_will_be_locked() &&
	       stn_policy_suits_lazy(&e->facts, STN_LAZY_FULL);
}

bool stn_engagement_suits_lazy(const struct stn_engagement *e)
{
	return stn_engagement_may_be_lazy(e) && stn_policy_suits_lazy(&e->facts, stn_lazy_probe());
}

static void plan_lazy(const struct stn_engagement *e, struct stn_lazy_plan *plan)
{
	struct stn_text text;

	memcpy(plan->descriptor, e->survey->descriptor, sizeof(plan->descriptor));
	stn_text_start(&text, plan->path, sizeof(plan->path));
	stn_text_add(&text, e->survey->path);
	plan->model = e->model;
	plan->record = e->record;
	plan->record.file_system = e->facts.file_system;
	plan->memory = e->area.memory;
	plan->keeper = e->area.keeper;
	plan->length = stn_policy_bytes(&e->facts);
	plan->offset = e->call->offset;
	plan->prot = e->call->prot;
	plan->most = e->most;
	plan->drop_cache = stn_engagement_drops_cache(e);
	plan->copies = e->owned && stn_config.io == STN_IO_AUTO && !plan->drop_cache;
	plan->huge =
		stn_config.huge_pages != STN_HUGE_OFF && e->survey->huge_page == STN_LAZY_HUGE_PAGE;
	plan->timeout = stn_config.timeout;
}

/* Maps the keeper and the area with the program's access. 0 or -errno. */
static int reserve(struct stn_engagement *e)
{
	size_t page = stn_page_size(), size = stn_round_up(e->call->length, page);
	size_t data = stn_round_up(stn_policy_bytes(&e->facts), page);
	size_t huge = stn_config.huge_pages == STN_HUGE_OFF ? 0 : e->survey->huge_page;
	int rc = stn_area_keep(&e->area, e->call);

	if (rc == 0)
		rc = stn_area_reserve(&e->area, e->call->address, size, data,
				      huge == STN_LAZY_HUGE_PAGE ? huge : 0);
	if (rc == 0)
		rc = stn_sys_mprotect(e->area.memory, data, e->call->prot);
	/* Under mlockall(MCL_FUTURE) by a raw system call the holes would be filled here and now.
	 */
	if (rc == 0)
		rc = stn_sys_munlock(e->area.memory, data);
	return rc == 0 ? stn_sys_madvise(e->area.keeper, e->area.keeper_size, MADV_DOFORK) : rc;
}

bool stn_engagement_lazy(struct stn_engagement *e, void **address)
{
	bool shared = (e->call->flags & MAP_TYPE) != MAP_PRIVATE;
	const char *slash = strrchr(e->survey->path, '/');
	struct stn_lazy_plan plan = {.length = 0};
	int rc = reserve(e);

	if (rc == 0) {
		plan_lazy(e, &plan);
		rc = stn_lazy_make(&plan, &e->area.lazy);
	}
	if (rc == 0)
		rc = stn_area_publish_lazy(&e->area, e->call->prot, shared,
					   slash ? slash + 1 : e->survey->path);
	if (rc < 0) {
		stn_area_drop(&e->area);
		stn_lazy_cut(e->area.lazy, (uintptr_t)plan.memory,
			     (uintptr_t)plan.memory + plan.length);
		e->area = (struct stn_area){.file_system = e->area.file_system};
		return false;
	}
	*address = e->area.memory;
	e->record.bytes = plan.length;
	memcpy(e->note, "lazy", sizeof("lazy"));
	stn_engagement_record(e, "begin", STN_ENGAGED);
	return true;
}
