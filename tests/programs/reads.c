/* SPDX-License-Identifier: Apache-2.0 */
/* What the read calls return at the edges: ends, bad places, bad arguments, kinds of descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

ssize_t __read_chk(int fd, void *buffer, size_t length, size_t room);

#define ROOM ((size_t)8 << 20)

/* Prints the result of a call, with errno kept and the descriptor's offset afterwards. */
static void print_call(const char *what, int fd, long rc)
{
	int error = errno;
	long at = lseek(fd, 0, SEEK_CUR);

	say("%s: %ld %s, at %ld", what, rc, rc < 0 ? strerrorname_np(error) : "", at);
}

/* Short at the end of the file, nothing behind it. */
static void ends(const char *path)
{
	int fd = open_file(path);
	long size = (long)file_size(path);
	unsigned char *to = map_anonymous(ROOM, 1);

	lseek(fd, size - 100, SEEK_SET);
	print_call("over the end", fd, read(fd, to, 4096));
	print_sum("bytes", to, 4096);
	print_call("at the end", fd, read(fd, to, 4096));
	print_call("one at the end", fd, read(fd, to, 1));
	print_call("none at the end", fd, read(fd, to, 0));
	print_call("pread over the end", fd, pread(fd, to, ROOM, size - (1 << 20) - 7));
	print_call("pread at the end", fd, pread(fd, to, ROOM, size));
	print_call("pread far behind", fd, pread(fd, to, ROOM, (off_t)1 << 40));
	lseek(fd, size + 12345, SEEK_SET);
	print_call("read behind the end", fd, read(fd, to, ROOM));
	lseek(fd, 0, SEEK_SET);
	print_call("more than there is", fd, read(fd, to, ROOM));
	print_sum("bytes", to, ROOM);
	print_call("once more", fd, read(fd, to, ROOM));
	print_call("seek to the end", fd, lseek(fd, 0, SEEK_END));
	print_call("last byte", fd, pread(fd, to, 1, size - 1));
	print_sum("byte", to, 1);
}

/* A place that is bad from its start, or from somewhere on. */
static void try_place(const char *what, int fd, unsigned char *to, size_t good, size_t length)
{
	print_call(what, fd, pread(fd, to, length, 12345));
	lseek(fd, 777, SEEK_SET);
	print_call(what, fd, read(fd, to, length));
	if (good)
		print_sum("bytes", to, good);
}

/* Places that cannot be written: an error, or the bytes before them. */
static void places(const char *path)
{
	static const size_t lengths[] = {16, 5000, 300000, 3 << 20};
	int fd = open_file(path);
	unsigned char *p = map_anonymous(2 * ROOM, 1), *edge = p + ROOM;

	mprotect(edge, ROOM, PROT_NONE);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		size_t length = lengths[i];

		try_place("null", fd, NULL, 0, length);
		try_place("nowhere", fd, (unsigned char *)UINTPTR_MAX - 4095, 0, length);
		try_place("no access", fd, edge, 0, length);
		try_place("no access from the middle on", fd, edge - length / 2, length / 2,
			  length);
		try_place("no access but one byte", fd, edge - 1, 1, length);
		try_place("no access at the last byte", fd, edge - length + 1, length - 1, length);
		mprotect(edge, ROOM, PROT_READ);
		try_place("read-only", fd, edge, 0, length);
		try_place("read-only from the middle on", fd, edge - length / 2, length / 2,
			  length);
		mprotect(edge, ROOM, PROT_NONE);
	}
	munmap(edge, ROOM);
	try_place("unmapped from the middle on", fd, edge - ROOM / 4, ROOM / 4, ROOM / 2);
}

/* Lists of places with something wrong in them. */
static void lists(const char *path)
{
	volatile int negative_count = -1, many = IOV_MAX + 1;
	const struct iovec *volatile nowhere = (const struct iovec *)8;
	int fd = open_file(path);
	unsigned char *to = map_anonymous(ROOM, 1);
	struct iovec good[2] = {{to, 1000}, {to + 4096, 2000000}};
	struct iovec bad[3] = {{to, 3000}, {NULL, 10}, {to + 4096, 50}};
	struct iovec negative[2] = {{to, 10}, {to, (size_t)-1}};
	struct iovec empty[3] = {{NULL, 0}, {to, 70000}, {NULL, 0}};

	print_call("good", fd, readv(fd, good, 2));
	print_sum("bytes", to, 3 << 20);
	print_call("none", fd, readv(fd, good, 0));
	print_call("negative count", fd, readv(fd, good, negative_count));
	print_call("too many", fd, readv(fd, good, many));
	print_call("list nowhere", fd, readv(fd, nowhere, 2));
	print_call("second is bad", fd, readv(fd, bad, 3));
	print_call("negative length", fd, readv(fd, negative, 2));
	print_call("empty ones", fd, readv(fd, empty, 3));
	print_call("preadv", fd, preadv(fd, good, 2, 99));
	print_sum("bytes", to, 3 << 20);
	print_call("preadv before the start", fd, preadv(fd, good, 2, -1));
	print_call("preadv2", fd, preadv2(fd, good, 2, 99, 0));
	print_call("preadv2 at the offset", fd, preadv2(fd, good, 2, -1, 0));
	print_call("preadv2 unknown flag", fd, preadv2(fd, good, 2, 5, 0x40000000));
	print_call("preadv2 before the start", fd, preadv2(fd, good, 2, -2, 0));
}

/* As many places as there may be, of all lengths. */
static void scattered(const char *path)
{
	int fd = open_file(path);
	unsigned char *to = map_anonymous(ROOM, 1);
	struct iovec list[IOV_MAX];
	size_t at = 0;

	for (int i = 0; i < IOV_MAX; i++) {
		list[i] = (struct iovec){to + at, (size_t)(i * 37 % 8191)};
		at += list[i].iov_len + (size_t)(i % 3);
	}
	print_call("readv", fd, readv(fd, list, IOV_MAX));
	print_sum("bytes", to, ROOM);
	print_call("preadv", fd, preadv(fd, list, IOV_MAX, (off_t)file_size(path) - 300000));
	print_sum("bytes", to, ROOM);
}

/* Numbers that no call takes. */
static void arguments(const char *path)
{
	volatile size_t most = SIZE_MAX, large = (size_t)SSIZE_MAX + 1;
	int fd = open_file(path), directory, named;
	char parent[4096];
	unsigned char to[64];

	print_rc("read of -1", read(-1, to, 1));
	print_rc("pread of 999", pread(999, to, 1, 0));
	print_call("before the start", fd, pread(fd, to, 1, -1));
	print_call("before the start, none", fd, pread(fd, to, 0, -1));
	print_call("over the last offset", fd, pread(fd, to, 64, INT64_MAX - 3));
	print_call("read too much", fd, read(fd, to, most));
	print_call("pread too much", fd, pread(fd, to, large, 0));
	print_call("seek before the start", fd, lseek(fd, -1, SEEK_SET));
	snprintf(parent, sizeof(parent), "%s", path);
	directory = open(dirname(parent), O_RDONLY | O_DIRECTORY);
	print_rc("directory", read(directory, to, 64));
	named = open(path, O_PATH);
	print_rc("name only", read(named, to, 64));
	print_rc("name only, pread", pread(named, to, 64, 0));
	close(fd);
	print_rc("closed", read(fd, to, 64));
}

/* Descriptors of all kinds give the same bytes. */
static void flags(const char *path)
{
	static const int some[] = {O_RDONLY,  O_NONBLOCK, O_APPEND,  O_DIRECT,
				   O_NOATIME, O_SYNC,	  O_CLOEXEC, O_NOFOLLOW};
	unsigned char *to = map_anonymous(ROOM, 1);

	for (size_t i = 0; i < sizeof(some) / sizeof(some[0]); i++) {
		int fd = open(path, O_RDONLY | some[i]);

		if (fd < 0) {
			print_rc("open", fd);
			continue;
		}
		memset(to, 1, ROOM);
		print_call("4096", fd, read(fd, to, 4096));
		print_call("all", fd, read(fd, to + 4096, ROOM - 4096));
		print_sum("bytes", to, ROOM);
		print_call("odd", fd, pread(fd, to + 1, 100001, 4097));
		say("flags %#x", (unsigned)fcntl(fd, F_GETFL));
		close(fd);
	}
}

/* Flags that only the kernel can serve: not for this file system, or what is cached. */
static void nowait(const char *path)
{
	int fd = open_file(path);
	unsigned char *to = map_anonymous(ROOM, 1);
	struct iovec list = {to, 4096};

	print_call("cold", fd, preadv2(fd, &list, 1, 1 << 20, RWF_NOWAIT));
	print_call("at the offset", fd, preadv2(fd, &list, 1, -1, RWF_NOWAIT));
	print_call("high priority", fd, preadv2(fd, &list, 1, 5, RWF_HIPRI));
	print_sum("bytes", to, ROOM);
}

/* A descriptor that may write sees what it writes. */
static void written(const char *path)
{
	int fd = open(path, O_RDWR);
	unsigned char *to = map_anonymous(ROOM, 1);

	print_call("read", fd, read(fd, to, ROOM));
	print_sum("bytes", to, ROOM);
	print_call("write", fd, pwrite(fd, "changed", 7, 4096));
	print_call("read it", fd, pread(fd, to, 2 << 20, 0));
	print_sum("bytes", to, ROOM);
}

static void too_long(void *argument)
{
	int *fd = argument;
	char to[16];
	volatile size_t length = 17;

	setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
	dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
	setsid();
	if (__read_chk(*fd, to, length, sizeof(to)) == 17)
		_exit(5);
}

/* A fortified program that reads over the end of its buffer is ended. */
static void checked(const char *path)
{
	int fd = open_file(path);
	char to[16];

	print_call("fits", fd, __read_chk(fd, to, 16, sizeof(to)));
	print_sum("bytes", to, 16);
	in_child("does not fit", too_long, &fd);
}

/* Reads into memory of one kind and prints what is in it. */
static void into(const char *what, int fd, unsigned char *to, size_t length)
{
	print_call(what, fd, pread(fd, to, length, 4097));
	print_sum("bytes", to, length);
}

/* Memory of all kinds to read into. */
static void targets(const char *path)
{
	const size_t length = 3 << 20;
	int fd = open_file(path), memory = memfd_create("target", 0);
	int file = open(".", O_TMPFILE | O_RDWR, 0600);
	unsigned char *model = map_write(path), *heap = malloc(length), stack[70000], *p;

	into("stack", fd, stack, sizeof(stack));
	into("heap", fd, heap, length);
	free(heap);
	into("private map of the model", fd, model, length);
	into("the same, within a page", fd, model + 100, length);
	print_sum("its other bytes", model + length + 100, file_size(path) - length - 100);
	if (ftruncate(memory, (off_t)length) != 0 || ftruncate(file, (off_t)length) != 0)
		fail("ftruncate: %s", strerror(errno));
	p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
	into("memory file", fd, p, length);
	p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	into("file on disk", fd, p, length);
	p = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	madvise(p, length, MADV_DONTFORK);
	into("not inherited", fd, p, length);
	p = mmap(NULL, length, PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	print_call("write-only", fd, pread(fd, p, length, 0));
	mprotect(p, length, PROT_READ);
	print_sum("bytes", p, length);
}

static const struct test_case cases[] = {
	{"ends", ends},		  {"places", places},	{"lists", lists},
	{"scattered", scattered}, {"flags", flags},	{"arguments", arguments},
	{"nowait", nowait},	  {"written", written}, {"checked", checked},
	{"targets", targets},
};
CASES_MAIN(cases)
