/* SPDX-License-Identifier: Apache-2.0 */
/* errno after every call that succeeds: what it was before. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"

int __open_2(const char *path, int flags);
int __openat_2(int directory, const char *path, int flags);

/* Runs one call with errno 77 and prints whether it succeeded and what errno is then. */
#define KEEP(what, good)                                                                           \
	do {                                                                                       \
		int now;                                                                           \
                                                                                                   \
		errno = 77;                                                                        \
		if (!(good))                                                                       \
			fail("%s: %s", what, strerror(errno));                                     \
		now = errno;                                                                       \
		say("%s: %d", what, now);                                                          \
	} while (0)

/* The calls that open the file. */
static void opening(const char *path)
{
	FILE *stream;

	KEEP("open", open(path, O_RDONLY) >= 0);
	KEEP("open64", open64(path, O_RDONLY) >= 0);
	KEEP("openat", openat(AT_FDCWD, path, O_RDONLY) >= 0);
	KEEP("openat64", openat64(AT_FDCWD, path, O_RDONLY) >= 0);
	KEEP("__open_2", __open_2(path, O_RDONLY) >= 0);
	KEEP("__openat_2", __openat_2(AT_FDCWD, path, O_RDONLY) >= 0);
	KEEP("fopen", (stream = fopen(path, "r")));
	KEEP("fopen64", (stream = fopen64(path, "r")));
	KEEP("open of something else", open("/proc/self/maps", O_RDONLY) >= 0);
	KEEP("fopen of something else", (stream = fopen("/proc/self/maps", "r")));
}

/* The calls on a map of it. */
static void mapping(const char *path)
{
	size_t size = file_size(path), step = page_size();
	int fd = open_file(path);
	unsigned char *p, *small;

	KEEP("mmap", (p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0)) != MAP_FAILED);
	KEEP("mmap64", (small = mmap64(NULL, step, PROT_READ, MAP_PRIVATE, fd, 0)) != MAP_FAILED);
	KEEP("mprotect", mprotect(p, step, PROT_READ | PROT_WRITE) == 0);
	KEEP("pkey_mprotect", pkey_mprotect(p, step, PROT_READ, -1) == 0);
	KEEP("madvise willneed", madvise(p, size, MADV_WILLNEED) == 0);
	KEEP("madvise dontneed", madvise(p, 4 * step, MADV_DONTNEED) == 0);
	KEEP("madvise populate", madvise(p, size, MADV_POPULATE_READ) == 0);
	KEEP("posix_madvise", posix_madvise(p, size, POSIX_MADV_WILLNEED) == 0);
	KEEP("mlock", mlock(p, step) == 0);
	KEEP("mlock2", mlock2(p, step, MLOCK_ONFAULT) == 0);
	KEEP("munlock", munlock(p, step) == 0);
	KEEP("msync", msync(p, size, MS_SYNC) == 0);
	KEEP("posix_fadvise", posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED) == 0);
	KEEP("posix_fadvise64", posix_fadvise64(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
	KEEP("readahead", readahead(fd, 0, 4096) == 0);
	KEEP("mremap", (p = mremap(p, size, size / 2, MREMAP_MAYMOVE)) != MAP_FAILED);
	print_sum("bytes", p, size / 2);
	KEEP("munmap of a part", munmap(p + step, step) == 0);
	KEEP("munmap", munmap(p, size / 2) == 0);
	KEEP("munmap of a small map", munmap(small, step) == 0);
}

/* The same calls on memory that has nothing to do with it. */
static void elsewhere(const char *path)
{
	size_t size = 16 * page_size();
	unsigned char *p;

	close(open_file(path));
	KEEP("mmap", (p = map_anonymous(size, 1)));
	KEEP("mprotect", mprotect(p, size, PROT_READ) == 0);
	KEEP("madvise", madvise(p, size, MADV_DONTNEED) == 0);
	KEEP("mlockall", mlockall(MCL_CURRENT) == 0);
	KEEP("munlockall", munlockall() == 0);
	KEEP("msync", msync(p, size, MS_SYNC) == 0);
	KEEP("mremap", (p = mremap(p, size, 2 * size, MREMAP_MAYMOVE)) != MAP_FAILED);
	KEEP("munmap", munmap(p, 2 * size) == 0);
}

static const struct test_case cases[] = {
	{"opening", opening},
	{"mapping", mapping},
	{"elsewhere", elsewhere},
};
CASES_MAIN(cases)
