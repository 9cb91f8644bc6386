/* SPDX-License-Identifier: Apache-2.0 */
#include "prefetch.h"

#include <limits.h>
#include <string.h>

#include "config.h"
#include "crew.h"
#include "ending.h"
#include "page.h"
#include "pool.h"
#include "process.h"
#include "source.h"
#include "sys.h"
#include "text.h"

#define AHEAD	2u /* shards that are read in advance */
#define FILES	3u /* that are there at a time: one in hand as well */
#define FAMILY	4u /* a model of so few shards is not worth it */
#define ORDERED 2u /* shards in order: the next will follow */
#define WAIT	((uint64_t)1000000000)
#define UNIT	((uint64_t)64 << 10) /* what is noted of what was handed out */
#define UNITS	(STN_PREFETCH_MOST / UNIT)

/* A shard. */
struct item {
	enum { FREE, READING, READY } state;
	uint32_t over;		      /* futex: 1 when it is not being read any more */
	uint32_t users;		      /* threads that wait for it or copy from it */
	uint64_t family;	      /* the model's */
	uint64_t number;	      /* the shard's */
	struct stn_identity identity; /* once it is ready */
	char *memory;		      /* STN_PREFETCH_MOST bytes; NULL until they are needed */
	bool taken[UNITS];	      /* has been handed out */
	uint64_t checked_for;	      /* the mapping whose file has been found to be this version */
};

/* Of a process, under the pool's lock. */
struct stn_prefetch {
	uint64_t family;  /* which model the program goes through */
	uint64_t last;	  /* the shard that it has in hand */
	uint64_t ordered; /* shards that it has taken one after the other */
	uint64_t passed;  /* a model of which it has passed one by that was read */
	struct item items[FILES];
};

/* The reading of one shard. */
struct fetch {
	struct stn_call call;
	bool read; /* it was read, and is what identity says */
	bool fuse; /* it is on a FUSE file system, like the one before it */
	struct item *item;
	struct stn_identity identity;
	char path[4096];
};

bool stn_prefetch_path(const char *path, uint64_t number, char *out, size_t size)
{
	const char *end, *digits = stn_names_digits(path, &end);
	char figures[24];
	struct stn_text text, value;

	if (!digits || strlen(path) + sizeof(figures) > size)
		return false;
	stn_text_start(&value, figures, sizeof(figures));
	stn_text_add_number(&value, number);
	stn_text_start(&text, out, size);
	for (const char *p = path; p < digits; p++)
		stn_text_add_char(&text, *p);
	for (size_t width = value.length; width < (size_t)(end - digits); width++)
		stn_text_add_char(&text, '0');
	stn_text_add(&text, figures);
	stn_text_add(&text, end);
	return true;
}

/* Finds out what there is under the path. False if it is no file that may be read in advance. */
static bool identify(struct fetch *fetch)
{
	const unsigned type = 0170000, regular = 0100000;
	struct statx st = {0};

	if (stn_sys_statx_path(fetch->path, STATX_BASIC_STATS, &st) < 0)
		return false;
	stn_identity_from(&st, &fetch->identity);
	return (st.stx_mode & type) == regular && st.stx_size && st.stx_size <= STN_PREFETCH_MOST &&
	       stn_identity_is_settled(&fetch->identity);
}

/* Reads the file past the page cache; true if all of it is there. */
static bool read_whole(int fd, const struct fetch *fetch)
{
	uint64_t size = fetch->identity.size;
	char *memory = fetch->item->memory;
	struct stn_ending ending = {fd, NULL, size, memory, size, 0};
	bool direct = true;
	ssize_t got =
		stn_source_read(fd, &direct, memory, stn_round_up(size, stn_page_size()), size, 0);

	return direct && got == (ssize_t)size && (!fetch->fuse || stn_ending_is_there(&ending));
}

static void run_fetch(struct stn_call *call)
{
	struct fetch *fetch = (struct fetch *)(void *)call;
	const struct stn_source_way way = {.direct = true, .fuse = fetch->fuse};
	bool direct;
	int fd;

	if (!identify(fetch))
		return;
	fd = stn_source_open(fetch->path, &fetch->identity, &way, &direct);
	if (fd < 0)
		return;
	fetch->read = direct && read_whole(fd, fetch) && stn_source_unchanged(fd, &fetch->identity);
	stn_sys_close(fd);
}

/* What is left of a shard goes. Its memory stays for the next one, unless there is none. */
static void free_item(struct stn_prefetch *prefetch, struct item *item)
{
	bool others = false;

	item->state = FREE;
	item->checked_for = 0;
	memset(item->taken, 0, sizeof(item->taken));
	for (unsigned i = 0; i < FILES; i++)
		others |= prefetch->items[i].state != FREE;
	for (unsigned i = 0; i < FILES && !others; i++)
		if (prefetch->items[i].memory)
			stn_sys_madvise(prefetch->items[i].memory, STN_PREFETCH_MOST,
					MADV_DONTNEED);
}

/* Also of a job that no thread could run. */
static void release_fetch(struct stn_call *call)
{
	struct fetch *fetch = (struct fetch *)(void *)call;
	struct item *item = fetch->item;

	item->identity = fetch->identity;
	item->state = fetch->read ? READY : FREE;
	__atomic_store_n(&item->over, 1, __ATOMIC_RELEASE);
	stn_sys_futex_wake(&item->over, INT_MAX);
}

/* What the process has of this; made when first needed. NULL if memory is refused. */
static struct stn_prefetch *get(struct stn_process *process)
{
	size_t size = stn_round_up(sizeof(struct stn_prefetch), stn_page_size());
	struct stn_prefetch *made;

	if (process->prefetch)
		return process->prefetch;
	made = stn_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!stn_sys_failed(made))
		process->prefetch = made;
	return process->prefetch;
}

static struct item *find(struct stn_prefetch *prefetch, uint64_t family, uint64_t number)
{
	for (unsigned i = 0; i < FILES; i++) {
		struct item *item = &prefetch->items[i];

		if (item->state != FREE && item->family == family && item->number == number)
			return item;
	}
	return NULL;
}

/* Frees what another model has left, and notes what the program has passed by. */
static void sort_out(struct stn_prefetch *prefetch)
{
	for (unsigned i = 0; i < FILES; i++) {
		struct item *item = &prefetch->items[i];

		if (item->state != READY || item->users)
			continue;
		if (item->family != prefetch->family)
			free_item(prefetch, item);
		else if (item->number < prefetch->last && !memchr(item->taken, 1, UNITS)) {
			prefetch->passed = item->family;
			free_item(prefetch, item);
		}
	}
}

bool stn_prefetch_follows(const struct stn_model *model, uint64_t size)
{
	struct stn_process *process = stn_process_get();
	struct stn_prefetch *prefetch;
	bool follows = false;
	uint64_t mask;

	if (model->family.count < FAMILY || !model->family.number || size > STN_PREFETCH_MOST ||
	    !process)
		return false;
	mask = stn_lock_enter(&process->pool_lock);
	prefetch = get(process);
	if (prefetch) {
		bool same = prefetch->family == model->family.key;

		if (!same || model->family.number > prefetch->last + 1 ||
		    model->family.number < prefetch->last)
			prefetch->ordered = 0;
		else if (model->family.number == prefetch->last + 1)
			prefetch->ordered++;
		prefetch->family = model->family.key;
		prefetch->last = model->family.number;
		sort_out(prefetch);
		follows = prefetch->ordered >= ORDERED && prefetch->passed != prefetch->family;
	}
	stn_lock_leave(&process->pool_lock, mask);
	return follows;
}

/* An item to read a shard into; NULL if none is free. */
static struct item *take_free(struct stn_prefetch *prefetch)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	struct item *item = NULL;
	char *memory;

	for (unsigned i = 0; i < FILES && !item; i++)
		if (prefetch->items[i].state == FREE && !prefetch->items[i].users)
			item = &prefetch->items[i];
	if (!item || item->memory)
		return item;
	memory = stn_sys_mmap(NULL, STN_PREFETCH_MOST, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (stn_sys_failed(memory))
		return NULL;
	stn_sys_madvise(memory, STN_PREFETCH_MOST, MADV_DONTFORK);
	stn_sys_madvise(memory, STN_PREFETCH_MOST, MADV_DONTDUMP);
	item->memory = memory;
	return item;
}

/* Has one shard read. False if there is no room for it. Pool lock held. */
static bool start(struct stn_process *process, const struct stn_model *model, uint64_t number,
		  const char *path, bool fuse)
{
	struct item *item = take_free(process->prefetch);
	struct fetch *fetch = item ? stn_call_make(sizeof(*fetch), run_fetch) : NULL;

	if (!fetch)
		return false;
	item->state = READING;
	item->over = 0;
	item->family = model->family.key;
	item->number = number;
	fetch->item = item;
	fetch->fuse = fuse;
	fetch->call.released = release_fetch;
	fetch->call.job.reads = true;
	if (!stn_prefetch_path(path, number, fetch->path, sizeof(fetch->path)) ||
	    stn_pool_submit(process, &fetch->call.job, (unsigned)stn_config.threads) < 0) {
		item->state = FREE;
		stn_job_free(&fetch->call.job);
		return false;
	}
	/* Nobody waits for the job itself. */
	stn_job_drop(&fetch->call.job);
	return true;
}

void stn_prefetch_start(const struct stn_model *model, const char *path, bool fuse)
{
	struct stn_process *process = stn_process_get();
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	for (uint64_t next = model->family.number + 1;
	     next <= model->family.number + AHEAD && next <= model->family.count; next++)
		if (!find(process->prefetch, model->family.key, next) &&
		    !start(process, model, next, path, fuse))
			break;
	stn_lock_leave(&process->pool_lock, mask);
}

/* Waits until an item is not being read any more, or too long. Pool lock held, and given up
 * meanwhile. */
static void await(struct stn_process *process, struct item *item, uint64_t *mask)
{
	uint64_t until = stn_sys_clock(CLOCK_MONOTONIC) + WAIT;

	stn_lock_leave(&process->pool_lock, *mask);
	while (!__atomic_load_n(&item->over, __ATOMIC_ACQUIRE) &&
	       stn_sys_clock(CLOCK_MONOTONIC) < until)
		stn_sys_futex_wait(&item->over, 0, WAIT / 8);
	*mask = stn_lock_enter(&process->pool_lock);
}

/* Notes that a range was handed out; what has been as a whole is not needed any more. */
static void note_taken(struct stn_prefetch *prefetch, struct item *item, uint64_t offset,
		       size_t length)
{
	uint64_t units = (item->identity.size + UNIT - 1) / UNIT;

	memset(item->taken + offset / UNIT, 1, (offset + length + UNIT - 1) / UNIT - offset / UNIT);
	if (!memchr(item->taken, 0, units) && item->users == 1)
		free_item(prefetch, item);
}

/* True if an item is what the program's file is; the server is asked once for each mapping, for
 * what the kernel knows of a file may be as old as the read. No lock held. */
static bool is_same(const struct item *item, const struct stn_prefetch_want *want)
{
	return stn_identity_equal(&item->identity, want->identity) &&
	       (item->checked_for == want->called ||
		stn_source_is_current(want->fd, &item->identity));
}

/* Copies a range of an item that may be read still. Pool lock held, and given up meanwhile. */
static size_t copy(struct stn_process *process, struct item *item,
		   const struct stn_prefetch_want *want, void *memory, uint64_t *mask)
{
	bool same;

	if (item->state == READING)
		await(process, item, mask);
	if (item->state != READY)
		return 0;
	stn_lock_leave(&process->pool_lock, *mask);
	same = is_same(item, want);
	if (same)
		memcpy(memory, item->memory + want->offset, want->length);
	*mask = stn_lock_enter(&process->pool_lock);
	item->checked_for = same ? want->called : 0;
	if (same)
		note_taken(process->prefetch, item, want->offset, want->length);
	else if (item->users == 1)
		free_item(process->prefetch, item);
	return same ? want->length : 0;
}

size_t stn_prefetch_take(const struct stn_prefetch_want *want, void *memory)
{
	const struct stn_family *family = &want->model->family;
	struct stn_process *process = stn_process_peek();
	struct item *item;
	size_t copied = 0;
	uint64_t mask;

	if (!process || !__atomic_load_n(&process->prefetch, __ATOMIC_RELAXED) || !family->number ||
	    want->identity->size > STN_PREFETCH_MOST ||
	    want->offset + want->length > want->identity->size)
		return 0;
	mask = stn_lock_enter(&process->pool_lock);
	item = find(process->prefetch, family->key, family->number);
	if (item) {
		item->users++;
		copied = copy(process, item, want, memory, &mask);
		item->users--;
	}
	stn_lock_leave(&process->pool_lock, mask);
	return copied;
}
