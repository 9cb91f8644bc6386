/* SPDX-License-Identifier: Apache-2.0 */
#include "engagement.h"

#include <errno.h>
#include <sys/vfs.h>

#include "config.h"
#include "fs.h"
#include "lazy.h"
#include "page.h"
#include "process.h"
#include "region.h"
#include "sys.h"

#define CHANGES_BORNE 2 /* fills of a file that changed meanwhile, before it is left alone */

/* Fills in what the descriptor shows. False if it is no model file: nothing more to be said about
 * it. */
static bool look_at_file(struct stn_engagement *e)
{
	struct stn_facts *facts = &e->facts;
	const unsigned type = 0170000, regular = 0100000;
	struct statx st = {0};
	struct statfs fs = {0};
	int flags;

	if (stn_sys_statx(e->call->fd, STATX_BASIC_STATS, &st) < 0)
		return false;
	stn_identity_from(&st, &e->record.identity);
	e->model = stn_names_find(e->record.identity.device, e->record.identity.inode);
	if (!e->model)
		return false;
	flags = stn_sys_fcntl(e->call->fd, F_GETFL, 0);
	if (flags < 0 || stn_sys_fstatfs(e->call->fd, &fs) < 0)
		return false;
	stn_model_version(e->model, &e->record.identity);
	facts->model = true;
	facts->regular = (st.stx_mode & type) == regular;
	facts->dax = (st.stx_attributes & 0x200000 /* STATX_ATTR_DAX */) != 0;
	facts->open_for_writing = (flags & O_ACCMODE) != O_RDONLY;
	facts->file_system = (uint32_t)fs.f_type;
	facts->file_size = st.stx_size;
	e->owned = st.stx_uid == stn_sys_geteuid() || stn_sys_geteuid() == 0;
	return true;
}

static void look_at_call(struct stn_engagement *e)
{
	struct stn_facts *facts = &e->facts;

	facts->mode = stn_config.mode;
	facts->fill = stn_config.fill;
	facts->io = stn_config.io;
	facts->mlock = stn_config.mlock;
	facts->cache = stn_config.cache;
	facts->file_systems = stn_config.file_systems;
	facts->prot = e->call->prot;
	facts->flags = e->call->flags;
	facts->offset = e->call->offset;
	facts->length = stn_round_up(e->call->length, stn_page_size());
	facts->header_reader = e->call->header_reader && e->call->header_reader(e->call->caller);
	facts->unified = stn_survey_unified() == 1;
	facts->fits = true;
}

bool stn_engagement_look(struct stn_engagement *e)
{
	if (!look_at_file(e))
		return false;
	look_at_call(e);
	return true;
}

void stn_engagement_record(struct stn_engagement *e, const char *event, enum stn_decision decision)
{
	struct stn_record *record = &e->record;

	if (!stn_journal_wants(decision))
		return;
	record->event = event;
	record->path = e->survey ? e->survey->path : "";
	record->file_system = e->facts.file_system;
	record->decision = decision;
	record->observed = stn_config.mode == STN_MODE_OBSERVE;
	record->elapsed = stn_sys_clock(CLOCK_MONOTONIC) - e->begun;
	record->note = e->note;
	stn_journal_write(record);
}

enum stn_decision stn_engagement_error(int error)
{
	switch (error) {
	case -EAGAIN:
	case -ENOSYS:
	case -EMFILE:
		return STN_DECLINED_NO_THREAD;
	case -ENOENT:
		return STN_DECLINED_NO_PROCFS;
	case -ENODEV:
		return STN_DECLINED_NO_FALLBACK;
	case -EBUSY:
		return STN_DECLINED_STALLED;
	case -ETIMEDOUT:
		return STN_ABANDONED_TIMEOUT;
	case -ENOMEM:
		return STN_ABANDONED_MEMORY;
	case -ESTALE:
		return STN_ABANDONED_CHANGED;
	default:
		return STN_ABANDONED_IO_ERROR;
	}
}

/* Asks the budget whether need bytes more may be taken. Pool lock held. */
static void ask_budget(const struct stn_engagement *e, const struct stn_process *process,
		       uint64_t need, struct stn_budget_verdict *verdict)
{
	uint64_t holes = stn_lazy_holes();
	uint64_t engaged = stn_region_bytes(STN_REGION_ENGAGED);
	struct stn_budget_use use = {
		.engaged = engaged - stn_min(engaged, holes),
		.declined = stn_region_bytes(STN_REGION_DECLINED),
		.planned = process->planned,
		.holes = holes,
		.reserve = e->facts.lazy ? stn_policy_bytes(&e->facts) : 0,
		.filled = process->filled,
		.unified = e->survey->unified,
		.memory_kind = stn_config.memory_kind,
		.memory_value = stn_config.memory_value,
	};
	uint64_t expected = stn_family_expected(e->model, e->facts.file_size);

	use.expected = expected > need ? expected - need : 0;
	stn_budget_decide(&e->survey->view, &use, need, verdict);
}

/* True if the file is not to be filled again like that, however little of it was delivered. */
static bool is_given_up(const struct stn_engagement *e)
{
	return atomic_load(&e->model->changes) > CHANGES_BORNE ||
	       (!e->facts.lazy && atomic_load(&e->model->little_used));
}

/*
 * The last look, at what other threads of the process change: the decision and what it takes are
 * one step, so that threads that map at the same moment see each other.
 */
static enum stn_decision decide_and_reserve(struct stn_engagement *e, bool peek)
{
	struct stn_process *process = stn_process_get();
	bool lazy = e->facts.lazy;
	uint64_t bytes = stn_policy_bytes(&e->facts), mask;
	uint64_t need = peek ? STN_PEEK_FIRST : stn_policy_need(&e->facts);
	struct stn_budget_verdict verdict;
	enum stn_decision decision;

	mask = stn_lock_enter(&process->pool_lock);
	ask_budget(e, process, bytes, &verdict);
	/* What can never be filled as a whole leaves most memory to the page cache of the rest. */
	e->most = verdict.fits ? UINT64_MAX : verdict.available / 4;
	if (need < bytes)
		ask_budget(e, process, need, &verdict);
	e->facts.fits = verdict.fits;
	e->facts.delivered = is_given_up(e) ? UINT64_MAX / 2 : atomic_load(&e->model->delivered);
	decision = stn_policy_decide(&e->facts);
	if (stn_decision_engaged(decision) && stn_config.mode != STN_MODE_OBSERVE) {
		e->planned = need;
		e->peek = peek || lazy;
		process->planned += need;
		if (!e->peek)
			atomic_fetch_add(&e->model->delivered, need);
	}
	stn_lock_leave(&process->pool_lock, mask);
	if (decision == STN_DECLINED_MEMORY)
		stn_journal_budget(&verdict, e->note, sizeof(e->note));
	return decision;
}

void stn_engagement_settle(struct stn_engagement *e)
{
	struct stn_process *process = stn_process_get();
	uint64_t unread = e->planned > e->got ? e->planned - e->got : 0, mask;

	if (!e->planned || !process)
		return;
	mask = stn_lock_enter(&process->pool_lock);
	process->planned -= e->planned;
	process->filled -= e->got;
	if (!e->peek)
		atomic_fetch_sub(&e->model->delivered, unread);
	stn_lock_leave(&process->pool_lock, mask);
}

enum stn_decision stn_engagement_decide(struct stn_engagement *e)
{
	enum stn_decision decision = stn_policy_screen(&e->facts);
	bool ask_hardware = decision == STN_DECLINED_FILE_SYSTEM && stn_survey_unified() < 0;
	int error;

	if (!stn_decision_engaged(decision) && !ask_hardware && !stn_journal_wants(decision))
		return decision;
	if (!e->survey)
		e->survey = stn_survey_run(
			e->call->fd,
			stn_decision_engaged(decision) && stn_engagement_may_be_lazy(e), &error);
	if (!e->survey)
		return stn_decision_engaged(decision) ? stn_engagement_error(error) : decision;
	e->facts.unified = e->survey->unified;
	decision = stn_policy_screen(&e->facts);
	if (!stn_decision_engaged(decision))
		return decision;
	e->facts.cached = stn_policy_asks_cache(&e->facts) && e->owned &&
			  stn_fs_cached(e->call->fd, e->facts.file_size);
	if (e->facts.cached)
		return STN_DECLINED_CACHED;
	e->facts.lazy = stn_engagement_suits_lazy(e);
	decision = stn_policy_screen(&e->facts);
	if (!stn_region_room(STN_FILL_HOLES + 2))
		return STN_DECLINED_REGIONS;
	return decide_and_reserve(e, decision == STN_ENGAGED_PEEK);
}
