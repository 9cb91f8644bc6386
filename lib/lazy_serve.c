/* SPDX-License-Identifier: Apache-2.0 */
/* The thread of lazy fill that waits for the program to touch what is missing. */
#include "lazy_engine.h"

#include <errno.h>
#include <sys/epoll.h>

#include "config.h"
#include "crew.h"
#include "maps.h"
#include "process.h"
#include "region.h"
#include "sys.h"
#include "uffd.h"

#define BELL   UINT64_MAX /* what epoll says of the bell */
#define FAULTS 16	  /* read at once */
#define TICK   100	  /* ms between two looks at the time while something is being read */
#define SOON   5	  /* ms, where a mapping is about to end */

static int watch(int epoll, int fd, uint64_t what)
{
	const int add = 1;
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = what};

	return (int)stn_sys_call(SYS_epoll_ctl, epoll, add, fd, (long)&event, 0, 0);
}

int stn_lazy_watch(const struct stn_lazy_engine *engine, const struct stn_lazy *lazy)
{
	return engine->epoll >= 0 ? watch(engine->epoll, lazy->uffd, lazy->index) : 0;
}

/* Opens the thread's own descriptors. 0 or -errno. */
static int open_serving(const struct stn_lazy_engine *engine, int *epoll, int *bell)
{
	bool user_only;
	int rc;

	*epoll = (int)stn_sys_call(SYS_epoll_create1, O_CLOEXEC, 0, 0, 0, 0, 0);
	*bell = stn_uffd_open(&user_only);
	if (*epoll < 0 || *bell < 0)
		return *epoll < 0 ? *epoll : *bell;
	rc = stn_uffd_register(*bell, engine->bell_page, stn_page_size());
	return rc < 0 ? rc : watch(*epoll, *bell, BELL);
}

/* Starts to serve what is in the table. */
static int begin_serving(struct stn_lazy_engine *engine)
{
	struct stn_process *process = stn_process_peek();
	int epoll, bell, rc = open_serving(engine, &epoll, &bell);
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	engine->epoll = epoll;
	engine->bell = bell;
	for (uint32_t i = 0; rc == 0 && i < STN_LAZIES; i++)
		if (engine->lazies[i])
			rc = stn_lazy_watch(engine, engine->lazies[i]);
	stn_lock_leave(&process->pool_lock, mask);
	return rc;
}

/* Pool lock held: whoever adds a mapping starts a thread anew. */
static void end_serving(struct stn_lazy_engine *engine)
{
	if (engine->epoll >= 0)
		stn_sys_close(engine->epoll);
	if (engine->bell >= 0)
		stn_sys_close(engine->bell);
	engine->epoll = engine->bell = -1;
}

/* True if the page is there: a fault of it that is told of is an old one. */
static bool is_there(uintptr_t address)
{
	uintptr_t start = stn_round_down(address, stn_page_size());
	unsigned char page = 0;
	bool there;

	if (stn_sys_mincore((void *)start, stn_page_size(), &page) == 0)
		return page & 1;
	/* Taken for missing, it would be placed anew, and a child of that moment would not have
	 * what the program has stored there. */
	stn_lazy_look(start, 1, &there);
	return there;
}

/* What a fault asks for. */
enum answer {
	ANSWER_LATER, /* it is read, or placed: whoever does that answers */
	ANSWER_PLACE, /* a piece that was kept back */
	ANSWER_HELD,  /* something that is held */
	ANSWER_AGAIN, /* not now: the thread is to look again */
	ANSWER_GIVE,  /* the file's own mapping */
};

/*
 * A page that should be there is missing: the program dropped it by a system call that we did not
 * see. It is read again; what else there is in its unit stays. Pool lock held.
 */
static enum answer repair(const struct stn_lazy_engine *engine, struct stn_lazy *lazy,
			  uint32_t unit)
{
	/* A child may have been promised the unit as it was. */
	if (lazy->surrendering || engine->forks || stn_lazy_hold_is_busy(lazy, unit))
		return ANSWER_AGAIN;
	lazy->mixed = true;
	if (lazy->surrendered)
		return ANSWER_GIVE;
	stn_lazy_turn(lazy, unit, 1, STN_UNIT_PRESENT, STN_UNIT_QUEUED);
	stn_lazy_turn(lazy, unit, 1, STN_UNIT_GONE, STN_UNIT_QUEUED);
	stn_lazy_turn(lazy, unit, 1, STN_UNIT_PEEKED, STN_UNIT_HELD);
	return ANSWER_LATER;
}

/* Takes note of a fault. Pool lock held. */
static enum answer take_fault(const struct stn_lazy_engine *engine, struct stn_lazy *lazy,
			      uintptr_t address, struct stn_lazy_piece *piece)
{
	uint64_t offset = address - (uintptr_t)lazy->plan.memory;
	uint32_t unit = (uint32_t)(offset / STN_AHEAD_UNIT);
	enum stn_unit state = (enum stn_unit)lazy->unit[unit];
	enum answer answer = ANSWER_LATER;

	/* Looked at after the unit's state: it may just have been placed. */
	if (is_there(address))
		return ANSWER_AGAIN;
	if (state == STN_UNIT_PRESENT || state == STN_UNIT_PEEKED || state == STN_UNIT_GONE)
		answer = repair(engine, lazy, unit);
	if (stn_lazy_touch(lazy, offset, piece))
		return ANSWER_PLACE;
	return stn_lazy_hold_touch(engine, lazy, unit) && answer == ANSWER_LATER ? ANSWER_HELD
										 : answer;
}

static void serve_fault(struct stn_lazy_engine *engine, struct stn_lazy *lazy, uintptr_t address)
{
	struct stn_process *process = stn_process_peek();
	uint64_t offset = address - (uintptr_t)lazy->plan.memory;
	enum answer answer = ANSWER_AGAIN;
	struct stn_lazy_piece piece;
	struct stn_region region;

	/* mlockall touches what the program does not know of. */
	if (stn_lazy_hold_has(lazy, address)) {
		stn_uffd_zero(lazy->uffd, (void *)stn_round_down(address, stn_page_size()),
			      stn_page_size());
	} else if (stn_region_find(address, address + 1, &region) && region.lazy == lazy->id) {
		uint64_t mask = stn_lock_enter(&process->pool_lock);

		answer = take_fault(engine, lazy, address, &piece);
		stn_lock_leave(&process->pool_lock, mask);
	}
	if (answer == ANSWER_PLACE)
		stn_lazy_place(engine, lazy, &piece);
	else if (answer == ANSWER_HELD)
		stn_lazy_hold_serve(engine, lazy, (uint32_t)(offset / STN_AHEAD_UNIT));
	else if (answer == ANSWER_GIVE)
		stn_lazy_return_units(lazy, (uint32_t)(offset / STN_AHEAD_UNIT), 1);
	else if (answer == ANSWER_AGAIN)
		stn_uffd_wake(lazy->uffd, (void *)stn_round_down(address, stn_page_size()),
			      stn_page_size());
}

static void serve_faults(struct stn_lazy_engine *engine, uint64_t index)
{
	struct stn_lazy *lazy = engine->lazies[index];
	uintptr_t addresses[FAULTS];
	int count = lazy ? stn_uffd_read(lazy->uffd, addresses, FAULTS) : 0;

	for (int i = 0; i < count; i++)
		serve_fault(engine, lazy, addresses[i]);
	if (count < 0)
		stn_lazy_surrender(engine, lazy, STN_ABANDONED_IO_ERROR);
}

/* The thread is not told of faults any more, or nobody reads: all mappings are to be given up, and
 * who rings must not wait. */
static void go_deaf(struct stn_lazy_engine *engine, int error)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	engine->deaf = true;
	engine->error = error;
	if (engine->bell >= 0)
		stn_sys_close(engine->bell);
	engine->bell = -1;
	stn_lock_leave(&process->pool_lock, mask);
}

/* Answers whoever has rung; what for is seen in the table, which is looked at next. */
static void answer_bell(struct stn_lazy_engine *engine)
{
	uintptr_t addresses[FAULTS];
	int rc = 0;

	while (rc == 0 && stn_uffd_read(engine->bell, addresses, FAULTS) > 0) {
		rc = stn_uffd_zero(engine->bell, engine->bell_page, stn_page_size());
		if (rc == -EEXIST || rc == -EAGAIN)
			rc = stn_uffd_wake(engine->bell, engine->bell_page, stn_page_size());
	}
	if (rc < 0)
		go_deaf(engine, rc);
}

/* The threads that the crew may have: this one, the readers, those that wait for a server that will
 * not answer, and one for what others ask of the crew. Pool lock held. */
static uint32_t most_threads(const struct stn_lazy_engine *engine)
{
	const struct stn_crew *crew = engine->job.crew;
	uint32_t others = crew->jobs != &engine->job || engine->job.next ? 1 : 0;

	return (uint32_t)stn_min(1 + stn_config.threads + engine->stuck + others, STN_CREW_WORKERS);
}

/* Has readers for what there is to read. False if there are none to be had. */
static bool find_readers(struct stn_lazy_engine *engine)
{
	struct stn_process *process = stn_process_peek();
	struct stn_crew *crew = engine->job.crew;
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	bool more = stn_lazy_has_reads(engine) || stn_lazy_has_news(engine) ||
		    crew->jobs != &engine->job || engine->job.next;
	bool alone = false;

	crew->wanted = most_threads(engine);
	if (more && crew->idle)
		stn_crew_wake(crew);
	else if (more && crew->alive < crew->wanted && stn_crew_start(crew) < 0)
		alone = crew->alive == 1 && stn_lazy_has_reads(engine);
	stn_lock_leave(&process->pool_lock, mask);
	return !alone;
}

/* True if reads of a mapping have not got on for longer than the time limit. */
static bool is_stuck(const struct stn_lazy *lazy, uint64_t now)
{
	bool reading = lazy->running || lazy->counts[STN_UNIT_QUEUED];

	return reading && !lazy->surrendered && lazy->plan.timeout &&
	       now - lazy->moved_at > lazy->plan.timeout;
}

/* Places what is held of a mapping and has been asked for. */
static void place_held(struct stn_lazy_engine *engine, struct stn_lazy *lazy)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	lazy->release = false;
	stn_lock_leave(&process->pool_lock, mask);
	stn_lazy_hold_settle(engine, lazy, 0, lazy->units);
}

/* Looks after one mapping: places what need not be kept back, ends it, or gives it up. */
static void look_after(struct stn_lazy_engine *engine, struct stn_lazy *lazy)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	bool complete = stn_lazy_unread(lazy) == lazy->counts[STN_UNIT_KEPT];
	bool flush = lazy->counts[STN_UNIT_KEPT] && (lazy->flush || complete);
	bool stuck = is_stuck(lazy, stn_sys_clock(CLOCK_MONOTONIC));
	uint32_t wake_from = lazy->wake_from, wake_to = lazy->wake_to;
	bool settled, over;

	lazy->flush = false;
	lazy->wake_from = lazy->wake_to = 0;
	settled = stn_lazy_is_published(lazy) && stn_lazy_left(lazy) == 0 && !lazy->surrendering;
	over = settled && !lazy->running && !lazy->lent;
	stn_lock_leave(&process->pool_lock, mask);
	stn_lazy_draw(lazy);
	/* Nobody else: a thread that waits a second time holds the lock of the address space while
	 * it waits for what is the file's own mapping by then. */
	if (wake_from != wake_to)
		stn_lazy_wake(lazy, wake_from, wake_to - wake_from);
	if (flush)
		stn_lazy_place_kept(engine, lazy);
	if (lazy->release)
		place_held(engine, lazy);
	if (lazy->published && (stuck || engine->deaf))
		stn_lazy_surrender(engine, lazy,
				   stuck ? STN_ABANDONED_TIMEOUT : STN_DECLINED_NO_THREAD);
	if (settled && !lazy->plain)
		stn_lazy_make_plain(engine, lazy);
	if (over)
		stn_lazy_end(engine, lazy);
}

/* True if nothing more is read of a mapping, and something is left to be done about it: what is
 * held stays so until it is touched. */
static bool is_ending(const struct stn_lazy *lazy)
{
	return stn_lazy_unread(lazy) == lazy->counts[STN_UNIT_KEPT] &&
	       (lazy->counts[STN_UNIT_KEPT] || !lazy->counts[STN_UNIT_HELD]);
}

/*
 * When to look again, in ms; -1: when told. The thread is not told when reads end, nor of what has
 * come to its end since it was looked at. Pool lock held.
 */
static int next_look(const struct stn_lazy_engine *engine)
{
	int wait = engine->running || stn_lazy_has_reads(engine) ? TICK : -1;

	for (uint32_t i = 0; i < STN_LAZIES; i++) {
		const struct stn_lazy *lazy = engine->lazies[i];

		if (!lazy)
			continue;
		if (!lazy->published)
			wait = TICK;
		else if (is_ending(lazy))
			return lazy->surrendered ? TICK : SOON;
	}
	return wait;
}

/* Looks after all mappings; false if there are none left. *wait: ms until the next look. */
static bool look_around(struct stn_lazy_engine *engine, int *wait)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	bool left;

	engine->looks_begun++;
	stn_lock_leave(&process->pool_lock, mask);
	for (uint32_t i = 0; i < STN_LAZIES; i++)
		if (engine->lazies[i])
			look_after(engine, engine->lazies[i]);
	if (!find_readers(engine))
		go_deaf(engine, -EAGAIN);
	mask = stn_lock_enter(&process->pool_lock);
	engine->looks_ended = engine->looks_begun;
	*wait = next_look(engine);
	left = engine->count != 0;
	if (!left)
		end_serving(engine);
	stn_lock_leave(&process->pool_lock, mask);
	return left;
}

/* Waits for something to happen and answers it. */
static void wait_for_faults(struct stn_lazy_engine *engine, int wait)
{
	const int interrupted = -EINTR;
	struct epoll_event events[8];
	long count;

	if (engine->deaf) {
		stn_sys_sleep(TICK * 1000000 / 10);
		return;
	}
	count = stn_sys_call(SYS_epoll_pwait, engine->epoll, (long)events, 8, wait, 0, 0);
	if (count < 0 && count != interrupted)
		go_deaf(engine, (int)count);
	for (long i = 0; i < count; i++) {
		if (events[i].data.u64 == BELL)
			answer_bell(engine);
		else
			serve_faults(engine, events[i].data.u64);
	}
}

void stn_lazy_run_serve(struct stn_lazy_engine *engine)
{
	int rc, wait;

	engine->deaf = false;
	rc = begin_serving(engine);
	if (rc < 0)
		go_deaf(engine, rc);
	while (look_around(engine, &wait))
		wait_for_faults(engine, wait);
}
