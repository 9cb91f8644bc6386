/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at every page of a map of FILE, in several orders and from two threads, while parts of the
 * map are protected, dropped, unmapped and inherited: pages FILE COPY read|write ORDER SECONDS.
 * COPY has the same contents, elsewhere. A page is right, wrong, or a signal (dead); SIGALRM ends
 * what hangs.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

#define STRIDE (size_t)37 /* pages; no divisor of their number */
#define PRIME  (size_t)7919

enum order { FORWARDS, BACKWARDS, STRIDED, SHUFFLED };

enum { RIGHT, WRONG, DEAD, SKIPPED, RESULTS };

/* What may have become of a page. */
enum { IS_PLAIN, IS_STORED, IS_DROPPED, IS_UNMAPPED };

static unsigned char *map, *file;
static unsigned char *state;
static size_t size, pages, step;
static bool writes;
static enum order order;
static atomic_uint seen[RESULTS];

static __thread sigjmp_buf after_signal;

static void on_fault(int number)
{
	siglongjmp(after_signal, number);
}

/* Copies within memory; false if that ends in a signal. */
static bool copy(void *to, const void *from, size_t length)
{
	if (sigsetjmp(after_signal, 1) != 0)
		return false;
	memcpy(to, from, length);
	return true;
}

static unsigned char *read_file(const char *path)
{
	int fd = open_file(path);
	unsigned char *bytes = map_anonymous(round_page(size), 0);

	for (size_t done = 0; done < size;) {
		ssize_t got = read(fd, bytes + done, size - done);

		if (got <= 0)
			fail("cannot read %s", path);
		done += (size_t)got;
	}
	close(fd);
	return bytes;
}

/* The number of the nth page to look at. */
static size_t nth(size_t n)
{
	switch (order) {
	case BACKWARDS:
		return pages - 1 - n;
	case STRIDED:
		return n * STRIDE % pages;
	case SHUFFLED:
		return n * PRIME % pages;
	default:
		return n;
	}
}

/* True if the page holds the file's bytes, but for the one that may be stored into. */
static bool is_right(const unsigned char *page, size_t number)
{
	const unsigned char *want = file + number * step;
	unsigned char stored = (unsigned char)(want[8] ^ 0x5a);

	if (memcmp(page, want, 8) != 0 || memcmp(page + 9, want + 9, step - 9) != 0)
		return false;
	if (state[number] == IS_DROPPED)
		return page[8] == want[8] || page[8] == stored;
	return page[8] == (state[number] == IS_STORED ? stored : want[8]);
}

/* Looks at one page. */
static int look(size_t number)
{
	unsigned char page[65536];

	if (state[number] == IS_UNMAPPED)
		return SKIPPED;
	if (!copy(page, map + number * step, step))
		return DEAD;
	return is_right(page, number) ? RIGHT : WRONG;
}

static void look_and_store(size_t number)
{
	unsigned char byte = file[number * step + 8] ^ 0x5a;
	int result = look(number);

	if (result == WRONG)
		say("page %zu is wrong (%d)", number, state[number]);
	atomic_fetch_add(&seen[result], 1);
	if (!writes || result != RIGHT || number % 3)
		return;
	if (copy(map + number * step + 8, &byte, 1))
		state[number] = IS_STORED;
}

static void *look_at_half(void *argument)
{
	size_t half = (size_t)(uintptr_t)argument;

	for (size_t n = half; n < pages; n += 2)
		look_and_store(nth(n));
	return NULL;
}

/* Looks at all pages; what they are. */
static void look_at_all(const char *who)
{
	unsigned count[RESULTS] = {0};

	for (size_t n = 0; n < pages; n++) {
		int result = look(n);

		count[result]++;
		if (result == WRONG)
			say("%s: page %zu is wrong (%d)", who, n, state[n]);
	}
	say("%s: right %u wrong %u dead %u", who, count[RIGHT], count[WRONG], count[DEAD]);
}

static void in_a_child(const char *who, unsigned seconds)
{
	pid_t child = fork();

	if (child == 0) {
		alarm(seconds);
		look_at_all(who);
		_exit(0);
	}
	print_end(who, child);
}

/* The page at a share of the map, in hundredths. */
static unsigned char *at(size_t hundredths)
{
	return map + pages * hundredths / 100 * step;
}

static void set_state(size_t from, size_t to, unsigned char what)
{
	memset(state + pages * from / 100, what, pages * to / 100 - pages * from / 100);
}

/* Does things to parts of the map that nobody looks at meanwhile. */
static void meddle(unsigned seconds)
{
	in_a_child("child", seconds);
	mprotect(at(40), (size_t)(at(50) - at(40)), writes ? PROT_READ : PROT_NONE);
	madvise(at(60), (size_t)(at(65) - at(60)), MADV_DONTNEED);
	set_state(60, 65, IS_DROPPED);
	munmap(at(80), (size_t)(at(82) - at(80)));
	set_state(80, 82, IS_UNMAPPED);
	mprotect(at(40), (size_t)(at(50) - at(40)), PROT_READ | (writes ? PROT_WRITE : 0));
	in_a_child("late child", seconds);
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = on_fault};
	pthread_t other;
	unsigned seconds;

	if (argc != 6)
		fail("usage: %s FILE COPY read|write ORDER SECONDS", argv[0]);
	seconds = (unsigned)atoi(argv[5]);
	alarm(2 * seconds);
	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
	size = file_size(argv[2]);
	step = page_size();
	pages = round_page(size) / step;
	state = map_anonymous(pages, IS_PLAIN);
	file = read_file(argv[2]);
	writes = strcmp(argv[3], "write") == 0;
	order = (enum order)atoi(argv[4]);
	map = writes ? map_write(argv[1]) : map_read(argv[1]);
	for (size_t n = 0; n < pages / 3; n++)
		look_and_store(nth(n));
	meddle(seconds);
	if (pthread_create(&other, NULL, look_at_half, (void *)1) != 0)
		fail("pthread_create");
	look_at_half(NULL);
	pthread_join(other, NULL);
	look_at_all("all");
	say("on the way: right %u wrong %u dead %u", seen[RIGHT], seen[WRONG], seen[DEAD]);
	munmap(map, size);
	return 0;
}
