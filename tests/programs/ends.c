/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that leave something behind: a core dump, another file where stderr was. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common.h"

/* Ends with a core dump while the file is mapped. */
static void dump(const char *path)
{
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

	if (setrlimit(RLIMIT_CORE, &limit) < 0)
		fail("setrlimit: %s", strerror(errno));
	print_sum("bytes", map_read(path), file_size(path));
	abort();
}

/* The same after a part of the map has been given back and protected. */
static void dump_pieces(const char *path)
{
	size_t size = file_size(path), step = page_size();
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};
	unsigned char *p = map_read(path);

	if (setrlimit(RLIMIT_CORE, &limit) < 0)
		fail("setrlimit: %s", strerror(errno));
	print_rc("drop", madvise(p + step, 9 * step, MADV_DONTNEED));
	print_rc("none", mprotect(p + 20 * step, step, PROT_NONE));
	p = mremap(p, size, round_page(size) - step, MREMAP_MAYMOVE);
	print_pages("pages", p, size - step);
	abort();
}

/* Another file takes the place of stderr; nothing may be written to it. */
static void stderr_replaced(const char *path)
{
	struct stat found;

	close(STDERR_FILENO);
	if (open("precious", O_RDWR | O_CREAT | O_TRUNC, 0600) != STDERR_FILENO)
		_exit(9);
	say("load: %016llx", (unsigned long long)load_sum(path));
	if (fstat(STDERR_FILENO, &found) < 0)
		_exit(10);
	say("written: %lld", (long long)found.st_size);
}

/* The same, but by dup2 onto it, as daemons do. */
static void stderr_dup2(const char *path)
{
	struct stat found;
	int fd = open("precious", O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (dup2(fd, STDERR_FILENO) != STDERR_FILENO)
		_exit(9);
	say("load: %016llx", (unsigned long long)load_sum(path));
	if (fstat(fd, &found) < 0)
		_exit(10);
	say("written: %lld", (long long)found.st_size);
}

/* Nothing where stderr was. */
static void stderr_closed(const char *path)
{
	close(STDERR_FILENO);
	say("load: %016llx", (unsigned long long)load_sum(path));
	say("next: %d", open("/dev/null", O_RDONLY));
}

static const struct test_case cases[] = {
	{"dump", dump},
	{"dump-pieces", dump_pieces},
	{"stderr-replaced", stderr_replaced},
	{"stderr-dup2", stderr_dup2},
	{"stderr-closed", stderr_closed},
};
CASES_MAIN(cases)
