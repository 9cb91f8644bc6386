/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes on working after the server of a map has stopped answering: stalled FILE AT SECONDS
 * OTHER. A thread touches FILE at AT, which hangs; the start of FILE can be read, and all of OTHER.
 * Everything is done before and after the time limit. Each line ends in the seconds it took.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

#define WINDOW (1 << 20)

static unsigned char *map;
static size_t hangs_at;
static uint64_t begun;

static void *touch(void *unused)
{
	volatile unsigned char *at = map + hangs_at;

	(void)*at;
	return unused;
}

static void tell(const char *what, long result)
{
	uint64_t now = now_ms();

	say("%s: %ld in %llu s", what, result, (unsigned long long)(now - begun) / 1000);
	begun = now;
}

/* What a forked child sees of a byte. */
static long in_child_too(const unsigned char *at)
{
	pid_t child = fork();
	int status = -1;

	if (child == 0)
		_exit(*at);
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void use(const char *when, const char *other)
{
	size_t page = page_size(), length = file_size(other);
	unsigned char *moved, *second;

	say("%s", when);
	map[5 * page] = 0x77;
	tell("stored", map[5 * page]);
	tell("forked", in_child_too(map + 5 * page));
	tell("dropped", madvise(map + WINDOW + 8 * page, page, MADV_DONTNEED));
	tell("advised", madvise(map + WINDOW + 16 * page, page, MADV_DONTFORK));
	moved = mremap(map, WINDOW, WINDOW + page, MREMAP_MAYMOVE);
	tell("moved", moved == MAP_FAILED ? -1 : moved[5 * page]);
	tell("forked", in_child_too(moved + 5 * page));
	second = map_read(other);
	tell("another", sum_bytes(second, length) == load_sum(other));
	tell("unmapped", munmap(moved, WINDOW + page));
	tell("unmapped", munmap(map + WINDOW + page, WINDOW));
}

int main(int argc, char **argv)
{
	if (argc != 5)
		fail("usage: %s FILE AT SECONDS OTHER", argv[0]);
	hangs_at = (size_t)atol(argv[2]);
	map = map_write(argv[1]);
	start_thread(touch, NULL);
	sleep_ms(200);
	begun = now_ms();
	if (atoi(argv[3]) == 0)
		use("at once", argv[4]);
	sleep_ms((unsigned)atoi(argv[3]) * 1000);
	begun = now_ms();
	if (atoi(argv[3]) > 0)
		use("afterwards", argv[4]);
	say("end");
	_exit(0);
}
