/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does anything that may be done to a private map, at random, from several threads, and compares
 * every byte with a copy: chaos SEED STEPS COPIES FILE... Each thread has a map of its own, of one
 * FILE after the other; COPIES is a directory with files of the same names and contents.
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

#define THREADS 4
#define LIMIT	60 /* seconds that a child may take */
#define MOST	96 /* pages of one step */

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* What a page of a map is. */
enum { OURS, STRANGE, GONE };

struct view {
	unsigned state; /* of chance */
	unsigned char *map, *want, *file, *kind;
	size_t size, pages;
	bool writable;
	unsigned next;
};

static const char *copies;
static char **paths;
static unsigned path_count, steps;
static size_t page;
static atomic_uint wrongs;

static size_t chance(struct view *view, size_t limit)
{
	return (size_t)rand_r(&view->state) % limit;
}

static void complain(const struct view *view, const char *what, size_t number)
{
	if (atomic_fetch_add(&wrongs, 1) < 5)
		say("%s: page %zu (kind %d, %s)", what, number, view->kind[number],
		    view->writable ? "writable" : "read-only");
}

static void compare(const struct view *view, const char *what, size_t first, size_t count)
{
	for (size_t i = first; i < first + count; i++)
		if (view->kind[i] != GONE &&
		    memcmp(view->map + i * page, view->want + i * page, page) != 0)
			complain(view, what, i);
}

static void read_copy(struct view *view, const char *path)
{
	char name[4096], copy[8192];
	FILE *stream;

	snprintf(name, sizeof(name), "%s", path);
	snprintf(copy, sizeof(copy), "%s/%s", copies, basename(name));
	view->size = file_size(copy);
	view->pages = round_page(view->size) / page;
	view->file = map_anonymous(view->pages * page, 0);
	view->want = map_anonymous(view->pages * page, 0);
	view->kind = map_anonymous(view->pages, OURS);
	stream = fopen(copy, "r");
	if (!stream || fread(view->file, 1, view->size, stream) != view->size)
		fail("cannot read %s", copy);
	fclose(stream);
	memcpy(view->want, view->file, view->size);
}

/* Touches the first byte of each tensor, as loaders do, and stores into some; if there are any. */
static void sweep(struct view *view)
{
	static const char key[] = "\"data_offsets\"";
	size_t header = 8 + *(const uint64_t *)(const void *)view->file;
	const char *at = (const char *)view->file + 8, *end = (const char *)view->file + header;

	if (*at != '{')
		return;
	while ((at = memmem(at, (size_t)(end - at), key, sizeof(key) - 1)) != NULL) {
		size_t first;

		at = (const char *)memchr(at, '[', (size_t)(end - at)) + 1;
		first = header + strtoull(at, NULL, 10);
		if (view->map[first] != view->want[first])
			complain(view, "sweep", first / page);
		if (view->writable && chance(view, 2))
			view->map[first] = view->want[first] = (unsigned char)chance(view, 256);
	}
}

static void open_map(struct view *view)
{
	const char *path = paths[view->next++ % path_count];

	read_copy(view, path);
	view->writable = chance(view, 3) != 0;
	view->map = view->writable ? map_write(path) : map_read(path);
	if (chance(view, 4))
		sweep(view);
}

static void close_map(struct view *view)
{
	compare(view, "at the end", 0, chance(view, 2) ? view->pages : 1);
	munmap(view->map, view->pages * page);
	munmap(view->file, view->pages * page);
	munmap(view->want, view->pages * page);
	munmap(view->kind, view->pages);
}

/* Picks some pages that are all there; their number, or 0. */
static size_t pick(struct view *view, size_t *first)
{
	size_t count = 1 + chance(view, MOST);

	*first = chance(view, view->pages);
	if (count > view->pages - *first)
		count = view->pages - *first;
	return memchr(view->kind + *first, GONE, count) ? 0 : count;
}

static void store(struct view *view, size_t first, size_t count)
{
	for (size_t i = first; view->writable && i < first + count; i += 1 + chance(view, 9)) {
		size_t at = i * page + chance(view, page);

		if (at >= view->size && view->kind[i] == OURS)
			continue;
		view->map[at] ^= 0x5a;
		view->want[at] ^= 0x5a;
	}
}

static void drop(struct view *view, size_t first, size_t count)
{
	if (madvise(view->map + first * page, count * page, MADV_DONTNEED) != 0)
		return;
	for (size_t i = first; i < first + count; i++)
		if (view->kind[i] == OURS)
			memcpy(view->want + i * page, view->file + i * page, page);
		else
			memset(view->want + i * page, 0, page);
}

static void advise(struct view *view, size_t first, size_t count)
{
	static const int advice[] = {MADV_WILLNEED,  MADV_RANDOM,   MADV_SEQUENTIAL,
				     MADV_NORMAL,    MADV_COLD,	    MADV_PAGEOUT,
				     MADV_COLLAPSE,  MADV_HUGEPAGE, MADV_NOHUGEPAGE,
				     MADV_MERGEABLE, MADV_DONTDUMP, MADV_POPULATE_READ};

	madvise(view->map + first * page, count * page,
		advice[chance(view, sizeof(advice) / sizeof(advice[0]))]);
}

static void protect(struct view *view, size_t first, size_t count)
{
	int all = PROT_READ | (view->writable ? PROT_WRITE : 0);
	unsigned char *at = view->map + first * page;

	mprotect(at, count * page, chance(view, 2) ? PROT_READ : PROT_NONE);
	usleep((useconds_t)chance(view, 300));
	if (mprotect(at, count * page, all) != 0)
		fail("mprotect: %s", strerror(errno));
}

static void cover(struct view *view, size_t first, size_t count)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	int prot = PROT_READ | (view->writable ? PROT_WRITE : 0);

	if (mmap(view->map + first * page, count * page, prot, flags, -1, 0) == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	memset(view->want + first * page, 0, count * page);
	memset(view->kind + first, STRANGE, count);
}

static void cut(struct view *view, size_t first, size_t count)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE;
	unsigned char *at = view->map + first * page;

	munmap(at, count * page);
	memset(view->kind + first, GONE, count);
	/* So that no other thread gets the place, whose map would be unmapped with this one. */
	mmap(at, count * page, PROT_NONE, flags, -1, 0);
}

static void lock(struct view *view, size_t first, size_t count)
{
	if (mlock(view->map + first * page, count * page) == 0)
		munlock(view->map + first * page, count * page);
}

static void send(struct view *view, size_t first, size_t count)
{
	size_t length = count * page;
	struct iovec from = {view->map + first * page, length}, to = {malloc(length), length};

	if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)length &&
	    memcmp(to.iov_base, view->want + first * page, length) != 0)
		complain(view, "process_vm_readv", first);
	free(to.iov_base);
}

static void make_child(struct view *view, bool again)
{
	pid_t child = fork();
	int status;

	if (child < 0)
		fail("fork");
	if (child == 0) {
		alarm(LIMIT);
		atomic_store(&wrongs, 0);
		compare(view, "child", 0, view->pages);
		if (view->kind[0] == OURS)
			store(view, 0, 1);
		if (again)
			make_child(view, false);
		compare(view, "child", 0, view->pages);
		_exit(atomic_load(&wrongs) != 0);
	}
	if (waitpid(child, &status, 0) != child || status != 0) {
		say("child: status %x", status);
		atomic_fetch_add(&wrongs, 1);
	}
}

/* Moves the map elsewhere, if it still is one. */
static void move(struct view *view)
{
	void *moved;

	if (memchr(view->kind, GONE, view->pages) || memchr(view->kind, STRANGE, view->pages))
		return;
	moved = mremap(view->map, view->pages * page, view->pages * page + page, MREMAP_MAYMOVE);
	if (moved == MAP_FAILED)
		return;
	view->map = moved;
	munmap(view->map + view->pages * page, page);
}

static void step(struct view *view)
{
	size_t first, count = pick(view, &first), what = chance(view, 100);

	if (what < 4) {
		close_map(view);
		open_map(view);
	} else if (what < 6) {
		move(view);
	} else if (what < 10) {
		make_child(view, what == 6);
	} else if (count && what < 40) {
		compare(view, "read", first, count);
	} else if (count && what < 60) {
		store(view, first, count);
	} else if (count && what < 66) {
		drop(view, first, count);
	} else if (count && what < 80) {
		advise(view, first, count);
	} else if (count && what < 86) {
		protect(view, first, count);
	} else if (count && what < 89) {
		cover(view, first, count);
	} else if (count && what < 91) {
		cut(view, first, count);
	} else if (count && what < 94) {
		lock(view, first, count);
	} else if (count) {
		send(view, first, count);
	}
}

static void *run(void *argument)
{
	struct view *view = argument;

	open_map(view);
	for (unsigned i = 0; i < steps; i++)
		step(view);
	close_map(view);
	return NULL;
}

int main(int argc, char **argv)
{
	static struct view views[THREADS];
	pthread_t threads[THREADS];

	if (argc < 5)
		fail("usage: %s SEED STEPS COPIES FILE...", argv[0]);
	page = page_size();
	steps = (unsigned)atoi(argv[2]);
	copies = argv[3];
	paths = argv + 4;
	path_count = (unsigned)argc - 4;
	for (unsigned i = 0; i < THREADS; i++) {
		views[i].state = (unsigned)atoi(argv[1]) * THREADS + i;
		views[i].next = i * path_count / THREADS;
		if (pthread_create(&threads[i], NULL, run, &views[i]) != 0)
			fail("pthread_create");
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	say("wrong: %u", atomic_load(&wrongs));
	return 0;
}
