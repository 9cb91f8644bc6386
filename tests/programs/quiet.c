/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that opens no model. It prints what it finds when main starts, and makes the calls that
 * a library might take an interest in. A call of sync_file_range(-1) marks in a trace where main
 * starts.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

/* Prints descriptors and where they lead. */
static void print_fds(void)
{
	char path[64], target[256];

	for (int fd = 0; fd < 64; fd++) {
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		length = readlink(path, target, sizeof(target) - 1);
		if (length < 0)
			continue;
		target[length] = '\0';
		say("fd %d: %s", fd, fd > 2 ? target : "-");
	}
}

/* Prints the lines of /proc/self/status that describe signals and threads. */
static void print_status(void)
{
	char line[256];
	FILE *status = fopen("/proc/self/status", "r");

	while (fgets(line, sizeof(line), status))
		if (strncmp(line, "Sig", 3) == 0 || strncmp(line, "Shd", 3) == 0 ||
		    strncmp(line, "Threads", 7) == 0) {
			line[strcspn(line, "\n")] = '\0';
			say("%s", line);
		}
	fclose(status);
}

static void *thread(void *unused)
{
	free(malloc(100000));
	return unused;
}

/* Maps, advises, protects and unmaps a file that is no model, and anonymous memory. */
static void use_memory(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	unsigned char *p = mmap(NULL, 65536, PROT_READ, MAP_PRIVATE, fd, 0), *own;

	print_rc("madvise", madvise(p, 65536, MADV_WILLNEED));
	print_rc("fadvise", posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED));
	print_rc("readahead", readahead(fd, 0, 4096));
	close(fd);
	print_rc("munmap", munmap(p, 65536));
	own = map_anonymous(1 << 20, 1);
	print_rc("mprotect", mprotect(own, 4096, PROT_READ));
	print_rc("drop", madvise(own, 1 << 20, MADV_DONTNEED));
	print_rc("msync", msync(own, 4096, MS_SYNC));
	print_rc("mlock", mlock(own, 4096));
	own = mremap(own, 1 << 20, 2 << 20, MREMAP_MAYMOVE);
	print_rc("munmap", munmap(own, 2 << 20));
}

/* Reads a file that is no model in all ways. */
static void use_reads(const char *path)
{
	FILE *stream = fopen(path, "rb");
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char to[3000];
	struct iovec places[2] = {{to, 1000}, {to + 1000, 2000}};

	print_rc("read", read(fd, to, sizeof(to)));
	print_rc("pread", pread(fd, to, sizeof(to), 100));
	print_rc("pread64", pread64(fd, to, sizeof(to), 100));
	print_rc("readv", readv(fd, places, 2));
	print_rc("preadv", preadv(fd, places, 2, 100));
	print_rc("preadv64", preadv64(fd, places, 2, 100));
	print_rc("preadv2", preadv2(fd, places, 2, 100, 0));
	print_rc("preadv64v2", preadv64v2(fd, places, 2, -1, 0));
	print_rc("fread", (long)fread(to, 3, 900, stream));
	print_rc("fread_unlocked", (long)fread_unlocked(to, 3, 900, stream));
	print_rc("fseek", fseek(stream, 200000, SEEK_SET));
	print_rc("fread", (long)fread(to, 3, 900, stream));
	fclose(stream);
	close(fd);
}

/* Children and threads. */
static void use_processes(void)
{
	pid_t child = fork();

	if (child == 0)
		_exit(7);
	print_end("child", child);
	in_thread(thread, NULL);
	print_rc("system", system("echo from the shell; exit 3"));
}

int main(int argc, char **argv)
{
	int at_start = errno;
	size_t allocated = mallinfo2().uordblks;

	sync_file_range(-1, 0, 0, 0);
	if (argc != 2)
		fail("usage: %s FILE", argv[0]);
	say("errno: %d, allocated: %zu", at_start, allocated);
	print_fds();
	print_status();
	use_memory(argv[1]);
	use_reads(argv[1]);
	use_processes();
	return 0;
}
