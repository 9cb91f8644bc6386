/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mapsum whole FILE...      maps every file before any is read, copies each out, sums the bytes
 * mapsum pieces N FILE      maps N pieces of 4 to 16 KiB, each overlapping the one before by a
 *                           page, reads and unmaps one after the other
 *
 * Prints one line of JSON: seconds for mapping, for everything, and a sum that depends on places.
 */
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE	  ((size_t)4096)
#define MAX_FILES 64

static uint64_t sum;
static double seconds_mapping;

/* Seconds of the monotonic clock. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Adds the bytes to the sum; every byte and its place count. */
static void add(const unsigned char *bytes, size_t length)
{
	uint64_t word;

	for (size_t at = 0; at < length; at += sizeof word) {
		word = 0;
		memcpy(&word, bytes + at, length - at < sizeof word ? length - at : sizeof word);
		sum = (sum ^ word) * 0x9e3779b97f4a7c15ULL;
	}
}

/* Maps a piece of a file and adds the time it took; ends the program where that fails. */
static unsigned char *map(int fd, size_t offset, size_t length)
{
	double start = now();
	void *memory = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, (off_t)offset);

	seconds_mapping += now() - start;
	if (memory == MAP_FAILED)
		err(1, "mmap");
	return memory;
}

/* Opens a file and says how long it is. */
static int open_file(const char *path, size_t *size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) != 0)
		err(1, "%s", path);
	*size = (size_t)st.st_size;
	return fd;
}

/* All files are mapped, then copied out in turn through one buffer, as to a device. */
static void whole(int n, char **paths)
{
	static unsigned char buffer[1 << 20];
	unsigned char *memory[MAX_FILES];
	size_t size[MAX_FILES];

	for (int i = 0; i < n; i++) {
		int fd = open_file(paths[i], &size[i]);

		memory[i] = map(fd, 0, size[i]);
		close(fd);
	}
	for (int i = 0; i < n; i++) {
		for (size_t at = 0; at < size[i]; at += sizeof buffer) {
			size_t part = size[i] - at < sizeof buffer ? size[i] - at : sizeof buffer;

			memcpy(buffer, memory[i] + at, part);
			add(buffer, part);
		}
		munmap(memory[i], size[i]);
	}
}

/* Small maps, one after the other. */
static void pieces(int n, const char *path)
{
	size_t size, offset = 0;
	int fd = open_file(path, &size);

	for (int i = 0; i < n; i++) {
		size_t length = PAGE * (size_t)(1 + i % 4);
		unsigned char *memory;

		if (offset + length > size)
			errx(1, "%s: too small for %d pieces", path, n);
		memory = map(fd, offset, length);
		add(memory, length);
		munmap(memory, length);
		offset += length > PAGE ? length - PAGE : length;
	}
	close(fd);
}

int main(int argc, char **argv)
{
	double start = now();

	if (argc > 2 && argc - 2 <= MAX_FILES && strcmp(argv[1], "whole") == 0)
		whole(argc - 2, argv + 2);
	else if (argc == 4 && strcmp(argv[1], "pieces") == 0)
		pieces(atoi(argv[2]), argv[3]);
	else
		errx(2, "usage: mapsum whole FILE... | mapsum pieces N FILE");
	printf("{\"seconds\": %.6f, \"mapping\": %.6f, \"sum\": \"%016llx\"}\n", now() - start,
	       seconds_mapping, (unsigned long long)sum);
	return 0;
}
