/* SPDX-License-Identifier: Apache-2.0 */
/* What programs do to have a file in memory before they use it. Each case ends with the sum of the
 * map. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"

/* Maps a descriptor with extra flags and adds the map up. */
static void finish(int fd, size_t size, int flags)
{
	unsigned char *p = mmap(NULL, size, PROT_READ, flags, fd, 0);

	if (p == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	print_sum("bytes", p, size);
}

static void fadvise(const char *path)
{
	int fd = open_file(path);

	say("willneed: %d", posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
	say("willneed: %d", posix_fadvise64(fd, 4096, 1 << 20, POSIX_FADV_WILLNEED));
	sleep_ms(100);
	finish(fd, file_size(path), MAP_PRIVATE);
	say("willneed: %d", posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
	sleep_ms(100);
}

static void read_ahead(const char *path)
{
	int fd = open_file(path);

	print_rc("readahead", readahead(fd, 0, file_size(path)));
	sleep_ms(100);
	finish(fd, file_size(path), MAP_PRIVATE);
	print_rc("readahead", readahead(fd, 0, file_size(path)));
	sleep_ms(100);
}

static void willneed(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p = map_read(path);

	print_rc("willneed", madvise(p, size, MADV_WILLNEED));
	print_rc("posix", posix_madvise(p, size, POSIX_MADV_WILLNEED));
	print_rc("populate", madvise(p, size, MADV_POPULATE_READ));
	print_rc("sequential", madvise(p, size, MADV_SEQUENTIAL));
	print_sum("bytes", p, size);
}

static void populate(const char *path)
{
	finish(open_file(path), file_size(path), MAP_PRIVATE | MAP_POPULATE);
}

static void populate_shared(const char *path)
{
	finish(open_file(path), file_size(path), MAP_SHARED | MAP_POPULATE);
}

static void locked(const char *path)
{
	finish(open_file(path), file_size(path), MAP_PRIVATE | MAP_LOCKED);
}

static void lock_future(const char *path)
{
	print_rc("mlockall", mlockall(MCL_CURRENT | MCL_FUTURE));
	finish(open_file(path), file_size(path), MAP_PRIVATE);
}

static void lock_after(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p = map_read(path);

	print_rc("mlock", mlock(p, size));
	print_rc("mlockall", mlockall(MCL_CURRENT));
	print_sum("bytes", p, size);
}

static void writable(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p = map_write(path);

	print_rc("populate", madvise(p, size, MADV_POPULATE_WRITE));
	print_sum("bytes", p, size);
}

/* Advice that is no prefetching passes; so do the errors. */
static void other_advice(const char *path)
{
	int fd = open_file(path), ends[2];

	if (pipe(ends) < 0)
		fail("pipe: %s", strerror(errno));
	for (int advice = 0; advice < 7; advice++)
		if (advice != POSIX_FADV_WILLNEED)
			say("advice %d: %d", advice, posix_fadvise(fd, 0, 0, advice));
	say("negative: %d", posix_fadvise(fd, 0, -1, POSIX_FADV_WILLNEED));
	say("bad descriptor: %d", posix_fadvise(-1, 0, 0, POSIX_FADV_WILLNEED));
	say("pipe: %d", posix_fadvise(ends[0], 0, 0, POSIX_FADV_WILLNEED));
	print_rc("readahead, bad descriptor", readahead(-1, 0, 4096));
	print_rc("readahead, pipe", readahead(ends[0], 0, 4096));
	print_rc("readahead, directory", readahead(open("/", O_RDONLY), 0, 4096));
	finish(fd, file_size(path), MAP_PRIVATE);
}

static const struct test_case cases[] = {
	{"fadvise", fadvise},
	{"readahead", read_ahead},
	{"willneed", willneed},
	{"populate", populate},
	{"populate-shared", populate_shared},
	{"locked", locked},
	{"lock-future", lock_future},
	{"lock-after", lock_after},
	{"writable", writable},
	{"other-advice", other_advice},
};
CASES_MAIN(cases)
