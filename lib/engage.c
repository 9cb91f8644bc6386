/* SPDX-License-Identifier: Apache-2.0 */
#include "engage.h"

#include <errno.h>
#include <string.h>
#include <sys/vfs.h>

#include "config.h"
#include "fs.h"
#include "journal.h"
#include "page.h"
#include "policy.h"
#include "process.h"
#include "progress.h"
#include "region.h"
#include "survey.h"
#include "sys.h"
#include "text.h"

#define FIRST_HEADER (128u << 10) /* read of a header whose length is not known yet */
#define HEADER_MOST  (100u << 20) /* safetensors' own limit */

/* Everything about one mapping while it is made. */
struct engagement {
	const struct stn_map_call *call;
	struct stn_model *model;
	struct stn_facts facts;
	struct stn_survey *survey;
	struct stn_area area;
	struct stn_record record;
	uint64_t begun; /* clock */
	char note[160];
};

/* Fills in what the descriptor shows. False if it is no model file: nothing more to be said about
 * it. */
static bool look_at_file(struct engagement *e)
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
	facts->delivered = atomic_load(&e->model->delivered);
	return true;
}

static void look_at_call(struct engagement *e)
{
	struct stn_facts *facts = &e->facts;

	facts->mode = stn_config.mode;
	facts->fill = stn_config.fill;
	facts->file_systems = stn_config.file_systems;
	facts->prot = e->call->prot;
	facts->flags = e->call->flags;
	facts->offset = e->call->offset;
	facts->length = stn_round_up(e->call->length, stn_page_size());
	facts->header_reader = e->call->header_reader && e->call->header_reader(e->call->caller);
	facts->unified = stn_survey_unified() == 1;
	facts->fits = true;
}

static void record_decision(struct engagement *e, const char *event, enum stn_decision decision)
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

/* What an error of a survey or a fill means. */
static enum stn_decision decision_of(int error)
{
	switch (error) {
	case -EAGAIN:
	case -ENOSYS:
	case -EMFILE:
		return STN_DECLINED_NO_THREAD;
	case -ENOENT:
		return STN_DECLINED_NO_PROCFS;
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

/* Asks the budget whether need bytes more may be taken. */
static bool fits_budget(struct engagement *e, uint64_t need)
{
	struct stn_process *process = stn_process_peek();
	struct stn_budget_use use = {
		.engaged = stn_region_bytes(STN_REGION_ENGAGED),
		.declined = stn_region_bytes(STN_REGION_DECLINED),
		.filling = process ? __atomic_load_n(&process->filling, __ATOMIC_RELAXED) : 0,
		.unified = e->survey->unified,
		.memory_kind = stn_config.memory_kind,
		.memory_value = stn_config.memory_value,
	};
	struct stn_budget_verdict verdict;
	uint64_t expected = stn_family_expected(e->model, e->facts.file_size);

	use.expected = expected > need ? expected - need : 0;
	stn_budget_decide(&e->survey->view, &use, need, &verdict);
	if (!verdict.fits)
		stn_journal_budget(&verdict, e->note, sizeof(e->note));
	return verdict.fits;
}

/* The whole decision; runs the survey where one is needed. */
static enum stn_decision decide(struct engagement *e)
{
	enum stn_decision decision = stn_policy_screen(&e->facts);
	bool ask_hardware = decision == STN_DECLINED_FILE_SYSTEM && stn_survey_unified() < 0;
	int error;

	if (!stn_decision_engaged(decision) && !ask_hardware && !stn_journal_wants(decision))
		return decision;
	e->survey = stn_survey_run(e->call->fd, &error);
	if (!e->survey)
		return stn_decision_engaged(decision) ? decision_of(error) : decision;
	e->facts.unified = e->survey->unified;
	decision = stn_policy_screen(&e->facts);
	if (!stn_decision_engaged(decision))
		return decision;
	if (!stn_region_room(STN_FILL_HOLES + 2))
		return STN_DECLINED_REGIONS;
	e->facts.fits = fits_budget(e, decision == STN_ENGAGED_PEEK ? FIRST_HEADER
								    : stn_policy_bytes(&e->facts));
	return stn_policy_decide(&e->facts);
}

static bool restores_cache(const struct engagement *e)
{
	return stn_config.cache == STN_CACHE_RESTORE ||
	       (stn_config.cache == STN_CACHE_AUTO && !e->survey->unified);
}

static bool drops_cache(const struct engagement *e)
{
	/* On unified memory cached pages count as used: the model must leave none behind. */
	return stn_config.cache == STN_CACHE_DROP ||
	       (stn_config.cache == STN_CACHE_AUTO && e->survey->unified);
}

/* Plans to fill the area with length bytes of the file from offset. */
static void plan_fill(const struct engagement *e, uint64_t offset, uint64_t length,
		      struct stn_fill_plan *plan)
{
	const struct stn_area *area = &e->area;

	*plan = (struct stn_fill_plan){
		.identity = e->record.identity,
		.memory = area->memory,
		.keeper = area->keeper ? area->keeper + (offset - e->call->offset) : NULL,
		.offset = offset,
		.length = length,
		.owned = area->memory,
		.owned_size = area->size,
		.block = stn_config.block,
		.timeout = stn_config.timeout,
		.threads = (unsigned)stn_config.threads,
		.fuse = e->facts.file_system == STN_FS_FUSE,
		.want_direct = stn_config.io != STN_IO_BUFFERED,
		.want_buffered = stn_config.io != STN_IO_DIRECT,
		.restore_cache = restores_cache(e),
		.drop_cache = drops_cache(e),
	};
	memcpy(plan->path, e->survey->descriptor, sizeof(plan->path));
}

/* Notes where a fill that was abandoned stood. */
static void note_stuck(struct engagement *e, const struct stn_fill *fill)
{
	struct stn_text text;

	stn_text_start(&text, e->note, sizeof(e->note));
	stn_text_add(&text, "stopped at offset ");
	stn_text_add_number(&text, stn_fill_stuck_at(fill));
}

/* Notes what could not be read and is the file's own mapping therefore. */
static void note_holes(struct engagement *e, const struct stn_fill *fill)
{
	struct stn_text text;

	e->record.returned_bytes += fill->hole_bytes;
	stn_text_start(&text, e->note, sizeof(e->note));
	stn_text_add(&text, "io-error at offset ");
	stn_text_add_number(&text, fill->holes[0].offset);
	stn_text_add(&text, ", left to the kernel: ");
	stn_text_add_bytes(&text, fill->hole_bytes);
}

/*
 * Fills the area; *out is the fill, to be put by the caller. 0 or -errno; after -ETIMEDOUT the
 * area's memory is the fill's.
 */
static int fill_area(struct engagement *e, uint64_t offset, uint64_t length, struct stn_fill **out)
{
	struct stn_fill_plan plan;
	struct stn_fill *fill;
	int rc;

	plan_fill(e, offset, length, &plan);
	fill = *out = stn_fill_make(&plan, stn_budget_left(&e->survey->view));
	if (!fill)
		return -ENOMEM;
	rc = stn_fill_run(fill, stn_config.progress ? stn_progress_tick : NULL);
	if (stn_config.progress)
		stn_progress_end(fill);
	if (rc < 0)
		note_stuck(e, fill);
	if (rc == -ETIMEDOUT)
		e->area.memory = NULL;
	e->record.threads = fill->most_running;
	e->record.direct_bytes += fill->direct_bytes;
	e->record.buffered_bytes += fill->buffered_bytes;
	if (rc == 0 && fill->hole_count)
		note_holes(e, fill);
	return rc;
}

/* The last part of a path. */
static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Locks what was filled, as STSHIM_MLOCK and MAP_LOCKED ask. 0 or -errno. */
static int lock_area(const struct engagement *e)
{
	bool asked = (e->call->flags & MAP_LOCKED) != 0;
	int rc;

	if (stn_config.mlock == STN_MLOCK_OFF && !asked)
		return 0;
	rc = stn_sys_mlock(e->area.memory, e->area.data);
	return stn_config.mlock == STN_MLOCK_TRY && !asked ? 0 : rc;
}

/* Maps the keeper; a refusal that reading the file does not care about is no obstacle. */
static int keep(struct engagement *e, bool needed)
{
	int rc = stn_area_keep(&e->area, e->call);
	struct stn_text text;

	if (needed || (rc != -ENODEV && rc != -EINVAL))
		return rc;
	stn_text_start(&text, e->note, sizeof(e->note));
	stn_text_add(&text, "the kernel itself cannot map this file");
	return 0;
}

/* Maps the keeper and the area of the whole mapping. 0 or -errno. */
static int reserve_whole(struct engagement *e, uint64_t bytes)
{
	size_t page = stn_page_size();
	size_t size = stn_round_up(e->call->length, page), data = stn_round_up(bytes, page);
	size_t huge = stn_config.huge_pages == STN_HUGE_OFF ? 0 : e->survey->huge_page;
	int rc = keep(e, size > data);

	/* A huge page must not be larger than what one read fills (512 MiB with 64 KiB pages). */
	if (huge > stn_config.block)
		huge = 0;
	if (rc == 0)
		rc = stn_area_reserve(&e->area, e->call->address, size, data, huge);
	if (rc == 0 && stn_journal_stats())
		e->record.cache_before = stn_area_cached(&e->area, data);
	return rc;
}

/* Gives the program the filled area. 0 or -errno. */
static int publish(struct engagement *e, const struct stn_fill *fill)
{
	bool shared = (e->call->flags & MAP_TYPE) != MAP_PRIVATE;

	if (stn_journal_stats()) {
		e->record.cache_after = stn_area_cached(&e->area, e->area.data);
		e->record.huge_bytes = stn_area_huge(&e->area);
	}
	return stn_area_publish(&e->area, fill, e->call->prot, shared, base_name(e->survey->path));
}

/*
 * After a failure: the program gets the keeper, which is the mapping that it asked for. Its
 * descriptor may be another file's by now, if another thread has closed it while we read.
 */
static enum stn_outcome fall_back(struct engagement *e, void **address)
{
	*address =
		e->call->flags & MAP_LOCKED ? NULL : stn_area_open_keeper(&e->area, e->call->prot);
	stn_area_drop(&e->area);
	return *address ? STN_OUTCOME_DONE : STN_OUTCOME_KERNEL;
}

static enum stn_outcome engage_whole(struct engagement *e, void **address, int *error)
{
	uint64_t bytes = stn_policy_bytes(&e->facts);
	struct stn_fill *fill = NULL;
	bool lock_failed = false;
	int rc = reserve_whole(e, bytes);

	if (rc == 0) {
		rc = fill_area(e, e->call->offset, bytes, &fill);
		atomic_fetch_add(&e->model->delivered, fill ? fill->settled : 0);
	}
	if (rc == 0) {
		rc = lock_area(e);
		lock_failed = rc < 0;
	}
	if (rc == 0)
		rc = publish(e, fill);
	if (fill)
		stn_fill_put(fill);
	record_decision(e, "fill", rc == 0 ? STN_ENGAGED : decision_of(rc));
	if (rc == 0) {
		*address = e->area.memory;
		return STN_OUTCOME_DONE;
	}
	*error = -rc;
	if (lock_failed && stn_config.mlock == STN_MLOCK_REQUIRE) {
		stn_area_drop(&e->area);
		return STN_OUTCOME_FAILED;
	}
	return fall_back(e, address);
}

/* Fills [from, to) of a peek at base with memory of ours. 0 or -errno. */
static int fill_peek(struct engagement *e, char *base, uint64_t from, uint64_t to)
{
	uint64_t end = stn_min(to, e->facts.file_size);
	struct stn_fill *fill = NULL;
	int rc = stn_area_reserve(&e->area, NULL, stn_round_up(end - from, stn_page_size()),
				  stn_round_up(end - from, stn_page_size()), 0);

	if (rc == 0)
		rc = fill_area(e, from, end - from, &fill);
	if (rc == 0 && fill->hole_count)
		rc = -EIO;
	if (fill)
		stn_fill_put(fill);
	if (rc == 0)
		rc = stn_area_overlay(&e->area, base + from, from, e->call->prot);
	if (rc < 0 && e->area.memory)
		stn_sys_munmap(e->area.memory, e->area.size);
	e->area.memory = NULL;
	return rc;
}

/* The length that the first eight bytes say plus those eight, or 0 if that cannot be a header. */
static uint64_t header_length(const char *base, uint64_t file_size)
{
	uint64_t length = 0;

	for (int i = 7; i >= 0 && file_size >= 8; i--)
		length = length << 8 | (unsigned char)base[i];
	return length && length <= HEADER_MOST && length <= file_size - 8 ? length + 8 : 0;
}

/*
 * The header in our memory, the rest the kernel's mapping. Whatever goes wrong, base is what the
 * program asked for.
 */
static enum stn_outcome engage_peek(struct engagement *e, void **address)
{
	const struct stn_map_call *call = e->call;
	uint64_t size = e->facts.file_size, page = stn_page_size();
	uint64_t known = atomic_load(&e->model->header);
	uint64_t end = stn_min(size, known ? stn_round_up(known, page) : FIRST_HEADER);
	char *base = stn_sys_mmap(call->address, call->length, call->prot,
				  call->flags & ~MAP_POPULATE, call->fd, call->offset);
	uint64_t header;
	int rc;

	if (stn_sys_failed(base))
		return STN_OUTCOME_KERNEL;
	rc = stn_area_keep(&e->area, call);
	if (rc == 0)
		rc = fill_peek(e, base, 0, end);
	header = rc == 0 ? header_length(base, size) : 0;
	atomic_store(&e->model->header, header);
	if (header > end) {
		rc = fill_peek(e, base, end, stn_round_up(header, page));
		end = rc == 0 ? stn_min(size, stn_round_up(header, page)) : end;
	} else if (rc < 0) {
		end = 0;
	}
	stn_area_trim_keeper(&e->area, stn_round_up(end, page));
	e->record.bytes = end;
	record_decision(e, "fill", end ? STN_ENGAGED_PEEK : decision_of(rc));
	*address = base;
	return STN_OUTCOME_DONE;
}

/* What the program is told to do about a mapping that stays the kernel's. */
static enum stn_outcome decline(struct engagement *e, enum stn_decision decision)
{
	record_decision(e, "map", decision);
	return decision == STN_DECLINED_MEMORY && e->facts.unified ? STN_OUTCOME_KERNEL_COUNTED
								   : STN_OUTCOME_KERNEL;
}

enum stn_outcome stn_engage_map(const struct stn_map_call *call, void **address, int *error)
{
	struct engagement e = {.call = call, .begun = stn_sys_clock(CLOCK_MONOTONIC)};
	enum stn_decision decision;
	enum stn_outcome outcome;

	if (!look_at_file(&e) || !stn_process_get())
		return STN_OUTCOME_KERNEL;
	look_at_call(&e);
	e.area.file_system = (uint32_t)e.facts.file_system;
	decision = decide(&e);
	e.record.bytes = e.facts.offset < e.facts.file_size ? stn_policy_bytes(&e.facts) : 0;
	if (!stn_decision_engaged(decision) || stn_config.mode == STN_MODE_OBSERVE)
		outcome = decline(&e, decision);
	else if (decision == STN_ENGAGED_PEEK)
		outcome = engage_peek(&e, address);
	else
		outcome = engage_whole(&e, address, error);
	if (decision == STN_ENGAGED || decision == STN_DECLINED_MEMORY)
		stn_family_mapped(e.model, e.record.bytes);
	if (e.survey)
		stn_survey_put(e.survey);
	stn_pool_settle_down();
	return outcome;
}

void stn_engage_count(void *address, size_t length)
{
	struct stn_region region = {
		.start = (uintptr_t)address,
		.end = (uintptr_t)address + stn_round_up(length, stn_page_size()),
		.kind = STN_REGION_DECLINED,
	};

	stn_region_add(&region);
}

bool stn_engage_covers(int fd)
{
	struct stn_map_call call = {.fd = fd, .length = 1, .prot = PROT_READ, .flags = MAP_SHARED};
	struct engagement e = {.call = &call};

	if (stn_names_empty() || stn_config.mode == STN_MODE_OBSERVE || !look_at_file(&e))
		return false;
	look_at_call(&e);
	return stn_policy_screen(&e.facts) == STN_ENGAGED;
}
