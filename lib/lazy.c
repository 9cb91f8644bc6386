/* SPDX-License-Identifier: Apache-2.0 */
#include "lazy_engine.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "config.h"
#include "crew.h"
#include "fs.h"
#include "process.h"
#include "region.h"
#include "source.h"
#include "sys.h"
#include "uffd.h"

#define SLOT_BITS 8 /* of an id; STN_LAZIES fit */

/* One mapping being set up, on a thread of the lazy crew. */
struct setup {
	struct stn_call call;
	struct stn_lazy *lazy;
	bool linked; /* pool lock */
	int result;
};

static _Atomic int known_kind;
static _Atomic uint32_t live;

enum stn_lazy_kind stn_lazy_kind(void)
{
	return (enum stn_lazy_kind)atomic_load_explicit(&known_kind, memory_order_relaxed);
}

void stn_lazy_probe_here(void)
{
	bool user_only;
	int fd;

	if (stn_lazy_kind() != STN_LAZY_UNKNOWN)
		return;
	fd = stn_uffd_open(&user_only);
	atomic_store(&known_kind, fd < 0      ? STN_LAZY_NONE
				  : user_only ? STN_LAZY_USER_ONLY
					      : STN_LAZY_FULL);
	if (fd >= 0)
		stn_sys_close(fd);
}

static void run_probe(struct stn_call *call)
{
	(void)call;
	stn_lazy_probe_here();
}

enum stn_lazy_kind stn_lazy_probe(void)
{
	struct stn_call *call;

	if (stn_lazy_kind() != STN_LAZY_UNKNOWN)
		return stn_lazy_kind();
	call = stn_call_make(sizeof(*call), run_probe);
	if (!call)
		return STN_LAZY_UNKNOWN;
	stn_pool_run(&call->job, 1, stn_config.timeout, NULL);
	stn_job_put(&call->job);
	return stn_lazy_kind();
}

bool stn_lazy_any(void)
{
	return atomic_load_explicit(&live, memory_order_relaxed) != 0;
}

struct stn_lazy_engine *stn_lazy_engine_peek(void)
{
	struct stn_process *process = stn_process_peek();

	return process ? process->lazy : NULL;
}

static bool claim(struct stn_job *job, struct stn_step *step)
{
	struct stn_lazy_engine *engine = (struct stn_lazy_engine *)(void *)job;

	if (engine->count && !engine->serving) {
		engine->serving = true;
		step->kind = STN_LAZY_SERVE;
		return true;
	}
	return stn_lazy_claim_record(engine, step) || stn_lazy_claim_end(engine, step) ||
	       stn_lazy_claim_read(engine, step);
}

static bool more(const struct stn_job *job)
{
	const struct stn_lazy_engine *engine = (const struct stn_lazy_engine *)(const void *)job;

	return (engine->count && !engine->serving) || stn_lazy_has_news(engine) ||
	       stn_lazy_has_reads(engine);
}

static void run(struct stn_job *job, struct stn_step *step)
{
	struct stn_lazy_engine *engine = (struct stn_lazy_engine *)(void *)job;

	if (step->kind == STN_LAZY_SERVE)
		stn_lazy_run_serve(engine);
	else if (step->kind == STN_LAZY_RECORD)
		stn_lazy_record(engine->lazies[step->lane]);
	else if (step->kind == STN_LAZY_END)
		stn_lazy_run_end((struct stn_lazy *)(uintptr_t)step->detail);
	else
		stn_lazy_run_read(engine, step);
}

static bool settle(struct stn_job *job, const struct stn_step *step)
{
	struct stn_lazy_engine *engine = (struct stn_lazy_engine *)(void *)job;

	if (step->kind == STN_LAZY_SERVE)
		engine->serving = false;
	else if (step->kind == STN_LAZY_END)
		engine->ending--;
	else
		stn_lazy_settle_read(engine, step);
	if (engine->count || engine->serving || engine->running || engine->ending ||
	    stn_lazy_has_ended(engine))
		return false;
	stn_staging_clean(&engine->staging);
	engine->listed = false;
	return true;
}

/* Makes the engine; NULL if memory is refused. Pool lock held. */
static struct stn_lazy_engine *make_engine(void)
{
	static const struct stn_job_type type = {
		.claim = claim, .more = more, .run = run, .settle = settle};
	struct stn_lazy_engine *engine = stn_job_make(sizeof(*engine), &type);
	void *page;

	if (!engine)
		return NULL;
	page = stn_sys_mmap(NULL, stn_page_size(), PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stn_sys_failed(page) || stn_staging_reserve(&engine->staging) < 0) {
		stn_job_free(&engine->job);
		return NULL;
	}
	stn_sys_madvise(page, stn_page_size(), MADV_DONTFORK);
	stn_lazy_forget_all();
	engine->bell_page = page;
	engine->bell = engine->epoll = -1;
	engine->job.lazy = true;
	engine->job.width = 1;
	return engine;
}

/* Puts the engine into its crew's list, whose threads take its steps then. Pool lock held. */
static void list_engine(struct stn_lazy_engine *engine, struct stn_crew *crew)
{
	if (engine->listed)
		return;
	engine->listed = true;
	engine->job.over = 0;
	engine->job.crew = crew;
	engine->job.next = crew->jobs;
	crew->jobs = &engine->job;
	engine->job.references++;
}

/* What is known of a mount; NULL if there are too many. Pool lock held. */
static struct stn_pace *find_pace(struct stn_lazy_engine *engine, uint64_t device)
{
	for (uint32_t i = 0; i < STN_LAZY_PACES; i++) {
		struct stn_pace *pace = &engine->paces[i];

		if (pace->device == device)
			return pace;
		if (pace->device)
			continue;
		pace->device = device;
		pace->request = stn_request_of(stn_process_peek()->mounts, device);
		return pace;
	}
	return NULL;
}

/* Gives the mapping a place in the table. 0 or -errno. Pool lock held. */
static int link_lazy(struct stn_lazy_engine *engine, struct stn_lazy *lazy)
{
	static uint32_t generation;
	int rc;

	for (uint32_t i = 0; i < STN_LAZIES; i++) {
		if (engine->lazies[i])
			continue;
		lazy->index = i;
		lazy->id = (++generation << SLOT_BITS | i) + 1;
		rc = stn_lazy_watch(engine, lazy);
		if (rc < 0)
			return rc;
		engine->lazies[i] = lazy;
		lazy->pace = lazy->copy < 0 ? find_pace(engine, lazy->plan.record.identity.device)
					    : NULL;
		stn_lazy_fork_table[i] = lazy;
		engine->count++;
		atomic_fetch_add(&live, 1);
		return 0;
	}
	return -EMFILE;
}

void stn_lazy_unlink(struct stn_lazy_engine *engine, struct stn_lazy *lazy)
{
	stn_lazy_fork_table[lazy->index] = NULL;
	engine->lazies[lazy->index] = NULL;
	engine->count--;
	atomic_fetch_sub(&live, 1);
}

void stn_lazy_forget_all(void)
{
	memset(stn_lazy_fork_table, 0, sizeof(stn_lazy_fork_table));
	atomic_store(&live, 0);
	stn_lazy_handle_forget_all();
}

/* Opens the file a second time if some of it may be copied from the page cache. */
static void open_copy(struct stn_lazy *lazy)
{
	static const struct stn_source_way buffered = {.buffered = true};
	const struct stn_lazy_plan *plan = &lazy->plan;
	bool direct;

	if (plan->copies && stn_source_is_cached(plan->keeper, plan->length))
		lazy->copy = stn_source_open(plan->descriptor, &plan->record.identity, &buffered,
					     &direct);
}

/* Opens the file and a userfaultfd, and registers the memory. 0 or -errno. */
static int open_lazy(struct stn_lazy *lazy)
{
	const struct stn_lazy_plan *plan = &lazy->plan;
	const struct stn_source_way way = {.direct = true,
					   .fuse = plan->record.file_system == STN_FS_FUSE};
	size_t size = stn_round_up(plan->length, stn_page_size());
	bool direct, user_only;
	int rc;

	lazy->file = stn_source_open(plan->descriptor, &plan->record.identity, &way, &direct);
	if (lazy->file < 0)
		return lazy->file;
	if (plan->drop_cache)
		stn_source_drop_cache(lazy->file, plan->offset, plan->length);
	open_copy(lazy);
	lazy->uffd = stn_uffd_open(&user_only);
	if (lazy->uffd < 0)
		return lazy->uffd;
	lazy->user_only = user_only;
	if (user_only && plan->prot & PROT_WRITE)
		return -EPERM;
	/* Pages of zeros that are there would stay: under mlockall(MCL_FUTURE) by a raw system call
	 * the kernel has put them there. */
	rc = stn_sys_madvise(plan->memory, size, MADV_DONTNEED);
	return rc ? rc : stn_uffd_register(lazy->uffd, plan->memory, size);
}

void stn_lazy_free(struct stn_lazy *lazy)
{
	if (lazy->uffd >= 0)
		stn_sys_close(lazy->uffd);
	if (lazy->file >= 0)
		stn_sys_close(lazy->file);
	if (lazy->copy >= 0)
		stn_sys_close(lazy->copy);
	stn_lazy_handle_close_all(lazy);
	stn_lazy_hold_end(lazy);
	stn_sys_munmap(lazy, lazy->mapped);
}

static void run_setup(struct stn_call *call)
{
	struct setup *setup = (struct setup *)(void *)call;
	struct stn_process *process = stn_process_peek();
	int rc = open_lazy(setup->lazy);
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	/* A caller that has given up has dropped the memory as well. */
	if (rc == 0 && call->job.abandoned)
		rc = -ETIMEDOUT;
	if (rc == 0)
		rc = link_lazy(process->lazy, setup->lazy);
	if (rc == 0)
		list_engine(process->lazy, call->job.crew);
	setup->linked = rc == 0;
	stn_lock_leave(&process->pool_lock, mask);
	if (rc < 0)
		stn_lazy_free(setup->lazy);
	setup->result = rc;
}

static struct stn_lazy *map_lazy(const struct stn_lazy_plan *plan)
{
	uint64_t units = (plan->length + STN_AHEAD_UNIT - 1) / STN_AHEAD_UNIT;
	uint64_t blocks = (units + STN_LAZY_UNITS - 1) / STN_LAZY_UNITS;
	size_t size = stn_round_up(sizeof(struct stn_lazy) + units + (units + 7) / 8 + blocks,
				   stn_page_size());
	struct stn_lazy *lazy = stn_sys_mmap(NULL, size, PROT_READ | PROT_WRITE,
					     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stn_sys_failed(lazy))
		return NULL;
	lazy->plan = *plan;
	lazy->mapped = size;
	lazy->inherited = lazy->unit + units;
	lazy->blocks = lazy->inherited + (units + 7) / 8;
	lazy->uffd = lazy->file = lazy->copy = -1;
	stn_lazy_handle_start(lazy);
	lazy->units = (uint32_t)units;
	lazy->counts[STN_UNIT_EMPTY] = lazy->units;
	lazy->moves = (plan->prot & PROT_WRITE) != 0;
	lazy->begun = lazy->moved_at = stn_sys_clock(CLOCK_MONOTONIC);
	lazy->outcome = STN_ENGAGED;
	stn_ahead_start(&lazy->ahead, plan->length);
	lazy->ahead.confined = stn_config.ahead == STN_AHEAD_TENSOR;
	return lazy;
}

/* Hands the set-up to the lazy crew; its waiting thread, if there is one, must look at it. A crew
 * half of which waits for dead servers takes nothing new. */
static int submit_setup(struct stn_process *process, struct setup *setup)
{
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	int rc = -ENOMEM;

	if (!process->lazy)
		process->lazy = make_engine();
	if (process->lazy && process->lazy->stuck > STN_CREW_WORKERS / 2)
		rc = -EBUSY;
	else if (process->lazy)
		rc = stn_pool_submit(process, &setup->call.job, 1);
	stn_lock_leave(&process->pool_lock, mask);
	if (rc == 0)
		stn_lazy_ring(process->lazy);
	return rc;
}

/* Waits for the set-up. If it comes when the time is up, nothing is to come of it. */
static int await_setup(struct stn_process *process, struct setup *setup, uint64_t timeout)
{
	int rc = stn_pool_await(process, &setup->call.job, 1, timeout, NULL);
	uint64_t mask;
	bool linked;

	if (rc != -ETIMEDOUT)
		return rc ? rc : setup->result;
	mask = stn_lock_enter(&process->pool_lock);
	linked = setup->linked;
	stn_lock_leave(&process->pool_lock, mask);
	if (linked)
		stn_lazy_cut(setup->lazy->id, (uintptr_t)setup->lazy->plan.memory,
			     (uintptr_t)setup->lazy->plan.memory + setup->lazy->plan.length);
	return rc;
}

int stn_lazy_make(const struct stn_lazy_plan *plan, uint32_t *id)
{
	struct stn_process *process = stn_process_get();
	struct setup *setup = stn_call_make(sizeof(*setup), run_setup);
	struct stn_lazy *lazy = process && setup ? map_lazy(plan) : NULL;
	int rc = -ENOMEM;

	if (lazy) {
		setup->lazy = lazy;
		setup->call.job.lazy = true;
		rc = submit_setup(process, setup);
		if (rc < 0)
			stn_lazy_free(lazy);
	}
	if (rc == 0)
		rc = await_setup(process, setup, plan->timeout);
	if (rc == 0)
		*id = lazy->id;
	if (setup)
		stn_job_put(&setup->call.job);
	return rc;
}

void stn_lazy_ring(struct stn_lazy_engine *engine)
{
	/* The page is missing again, so that reading it is a fault that the thread is told of. */
	stn_sys_madvise(engine->bell_page, stn_page_size(), MADV_DONTNEED);
	(void)*(volatile char *)engine->bell_page;
}

uint32_t stn_lazy_turn(struct stn_lazy *lazy, uint32_t first, uint32_t count, enum stn_unit from,
		       enum stn_unit to)
{
	uint32_t turned = 0;

	for (uint32_t i = first; i < first + count; i++) {
		if (lazy->unit[i] != from)
			continue;
		lazy->unit[i] = (uint8_t)to;
		turned++;
	}
	lazy->counts[from] -= turned;
	lazy->counts[to] += turned;
	if (turned && (to == STN_UNIT_QUEUED || to == STN_UNIT_WANTED) && !lazy->running)
		lazy->moved_at = stn_sys_clock(CLOCK_MONOTONIC);
	return turned;
}

struct stn_lazy *stn_lazy_find(const struct stn_lazy_engine *engine, uint32_t id)
{
	struct stn_lazy *lazy =
		id && engine ? engine->lazies[(id - 1) & ((1u << SLOT_BITS) - 1)] : NULL;

	return lazy && lazy->id == id ? lazy : NULL;
}

bool stn_lazy_is_published(struct stn_lazy *lazy)
{
	uintptr_t at = (uintptr_t)lazy->plan.memory, end = at + lazy->plan.length;
	struct stn_region region;

	for (; !lazy->published && stn_region_find(at, end, &region); at = region.end)
		lazy->published = region.lazy == lazy->id;
	return lazy->published;
}
