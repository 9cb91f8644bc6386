/* SPDX-License-Identifier: Apache-2.0 */
/* The program's descriptors, file offset, flags and locks while it maps a file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"

/* Prints the descriptors that the process has, with what they lead to for those of a model. */
static void print_fds(const char *what)
{
	char line[512] = "", path[64], target[4096];

	for (int fd = 0; fd < 256; fd++) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		length = readlink(path, target, sizeof(target) - 1);
		if (length > 0)
			snprintf(line + strlen(line), sizeof(line) - strlen(line), " %d", fd);
	}
	say("%s:%s", what, line);
}

/* Offset, status flags and descriptor flags before and after; the same for a second descriptor. */
static void state(const char *path)
{
	size_t size = file_size(path);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOATIME), copy = dup(fd);
	unsigned char *p;

	if (fd < 0)
		fail("open: %s", strerror(errno));
	print_rc("seek", lseek(fd, 4321, SEEK_SET));
	print_fds("before");
	say("flags: %x %x", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
	p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	print_sum("bytes", p, size);
	print_fds("after");
	say("flags: %x %x", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
	say("copy: %x %x", fcntl(copy, F_GETFL), fcntl(copy, F_GETFD));
	print_rc("offset", lseek(fd, 0, SEEK_CUR));
	print_rc("offset of the copy", lseek(copy, 0, SEEK_CUR));
	print_rc("next descriptor", open("/dev/null", O_RDONLY));
}

/* What a child can tell about the parent's POSIX lock. */
static void print_lock(void *path)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open_file(path);

	print_rc("F_GETLK", fcntl(fd, F_GETLK, &lock));
	say("type %d, from %lld, %lld bytes", lock.l_type, (long long)lock.l_start,
	    (long long)lock.l_len);
	print_rc("flock", flock(open_file(path), LOCK_EX | LOCK_NB));
}

/* Locks stay; a second descriptor of the file, closed anywhere in the process, would release them.
 */
static void record_lock(const char *path)
{
	struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 20};
	size_t size = file_size(path);
	int fd = open_file(path);
	unsigned char *p;

	print_rc("F_SETLK", fcntl(fd, F_SETLK, &lock));
	print_rc("flock", flock(fd, LOCK_SH));
	p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	print_sum("bytes", p, size);
	in_child("child", print_lock, (void *)path);
	print_rc("drop", madvise(p, size, MADV_DONTNEED));
	print_rc("munmap", munmap(p, size));
	in_child("child", print_lock, (void *)path);
}

/* The descriptor goes at once, then all of them. */
static void closed_at_once(const char *path)
{
	size_t size = file_size(path);
	int fd = open_file(path);
	unsigned char *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);

	close(fd);
	print_rc("close_range", (long)syscall(SYS_close_range, 3, ~0u, 0));
	print_sum("bytes", p, size);
	print_rc("drop", madvise(p, size, MADV_DONTNEED));
	print_sum("bytes", p, size);
	print_rc("descriptor", open("/dev/null", O_RDONLY));
}

static int shared_fd;
static const char *other_path;
static unsigned hold_back;

/* Closes everything from 3 up after a while, and opens another file under the same number. */
static void *close_all(void *unused)
{
	sleep_ms(hold_back);
	syscall(SYS_close_range, 3, ~0u, 0);
	if (open(other_path, O_RDONLY) != shared_fd)
		fail("another descriptor");
	return unused;
}

/* Maps a file while another thread closes its descriptor; delay in ms. */
static void close_during(const char *path, unsigned delay)
{
	size_t size = file_size(path);
	pthread_t thread;
	unsigned char *p;

	hold_back = delay;
	other_path = "/proc/self/exe";
	syscall(SYS_close_range, 3, ~0u, 0);
	shared_fd = open_file(path);
	if (pthread_create(&thread, NULL, close_all, NULL) != 0)
		fail("no thread");
	p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, shared_fd, 0);
	if (p == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	pthread_join(thread, NULL);
	print_pages("pages", p, size);
	print_fds("descriptors");
	print_rc("munmap", munmap(p, size));
}

/* Long after mmap was called; with a slow server, in the middle of whatever it does. */
static void closed_during(const char *path)
{
	close_during(path, 100);
}

static atomic_int watch_over;
static unsigned long watch_rounds, watch_most;

/* Watches the number of descriptors. */
static void *watch(void *unused)
{
	while (!atomic_load(&watch_over)) {
		unsigned count = count_entries("fd");

		watch_most = count > watch_most ? count : watch_most;
		watch_rounds++;
		sleep_ms(2);
	}
	return unused;
}

/* No descriptor appears while the file is mapped, as seen by another thread. */
static void watched(const char *path)
{
	size_t size = file_size(path);
	int fd = open_file(path);
	unsigned before = count_entries("fd");
	pthread_t thread;
	unsigned char *p;

	if (pthread_create(&thread, NULL, watch, NULL) != 0)
		fail("no thread");
	sleep_ms(10);
	p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	print_sum("bytes", p, size);
	atomic_store(&watch_over, 1);
	pthread_join(thread, NULL);
	say("watched: %s", watch_rounds > 3 ? "yes" : "no");
	say("more descriptors: %lu", watch_most - before);
}

/* The write end of a pipe is closed while the file is mapped: the reader sees the end at once. */
static void pipe_end(const char *path)
{
	size_t size = file_size(path);
	int ends[2], fd = open_file(path);
	unsigned char *p, byte;

	if (pipe(ends) < 0)
		fail("pipe: %s", strerror(errno));
	p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(ends[1]);
	print_rc("read", read(ends[0], &byte, 1));
	print_sum("bytes", p, size);
}

static const struct test_case cases[] = {
	{"state", state},
	{"record-lock", record_lock},
	{"closed-at-once", closed_at_once},
	{"closed-during", closed_during},
	{"watched", watched},
	{"pipe-end", pipe_end},
};
CASES_MAIN(cases)
