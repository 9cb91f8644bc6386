/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads files from the start to the end, the way loaders do that do not map, and prints what the
 * calls returned and a sum of the bytes.
 *
 *   reading [-k KIND] [-b BYTES] [-n TIMES] [-s SKIP] [-z MS] [-t] FILE...
 *
 *   -k read, pread, readv (two places), fread, or random (pread all over the file)
 *   -b bytes of one call (all of the file)   -n every file so many times, opened anew
 *   -s after an error, go on so many bytes further (0: stop)   -z sleep before the end
 *   -t threads and descriptors at the end, after the pool's linger
 *   -o writes the bytes up to the last one that was read to a file
 *
 * A line for each call that did not give all that was asked for: "BYTES at OFFSET: RC ERRNO".
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common.h"

static struct {
	const char *kind, *dump;
	size_t block, skip;
	unsigned times, pause;
	bool threads;
} options = {.kind = "read", .times = 1};

/* A file being read. */
struct reading {
	int fd;
	FILE *stream;
	size_t size, offset;
	unsigned char *memory; /* of size bytes */
};

/* One call for length bytes at the offset. */
static ssize_t read_once(struct reading *reading, size_t length)
{
	unsigned char *to = reading->memory + reading->offset;
	struct iovec places[2] = {{to, length / 3}, {to + length / 3, length - length / 3}};

	if (strcmp(options.kind, "pread") == 0)
		return pread(reading->fd, to, length, (off_t)reading->offset);
	if (strcmp(options.kind, "readv") == 0)
		return readv(reading->fd, places, 2);
	if (strcmp(options.kind, "fread") == 0) {
		size_t got = fread(to, 1, length, reading->stream);

		return got == 0 && ferror(reading->stream) ? -1 : (ssize_t)got;
	}
	return read(reading->fd, to, length);
}

/* Puts descriptor and stream where the next call is to read. */
static void move_to(struct reading *reading, size_t offset)
{
	reading->offset = offset;
	clearerr(reading->stream);
	if (strcmp(options.kind, "fread") == 0)
		fseeko(reading->stream, (off_t)offset, SEEK_SET);
	else
		lseek(reading->fd, (off_t)offset, SEEK_SET);
}

/* Prints a call that did not give what was asked for, and where the descriptor stands then. */
static void print_call(const struct reading *reading, size_t length, ssize_t got)
{
	int error = errno;
	long at = strcmp(options.kind, "fread") == 0 ? ftell(reading->stream)
						     : lseek(reading->fd, 0, SEEK_CUR);

	say("%zu at %zu: %zd %s, then at %ld", length, reading->offset, got,
	    got < 0 ? strerrorname_np(error) : "", at);
}

/* Reads from front to back. */
static void read_through(struct reading *reading)
{
	size_t block = options.block ? options.block : reading->size;

	while (reading->offset < reading->size) {
		ssize_t got = read_once(reading, block);

		if (got != (ssize_t)block)
			print_call(reading, block, got);
		if (got > 0)
			reading->offset += (size_t)got;
		else if (options.skip)
			move_to(reading, reading->offset + options.skip);
		else
			return;
		if (reading->offset + block > reading->size)
			block = reading->size - reading->offset;
	}
	if (read_once(reading, 1) != 0)
		print_call(reading, 1, -1);
}

/* Reads blocks all over the file, one for each that fits. */
static void read_about(struct reading *reading)
{
	size_t block = options.block ? options.block : 4096, count = reading->size / block;
	uint64_t random = 1;

	for (size_t i = 0; i < count; i++) {
		size_t at;

		random = random * 6364136223846793005u + 1442695040888963407u;
		at = (random >> 33) % (reading->size - block);
		if (pread(reading->fd, reading->memory + at, block, (off_t)at) != (ssize_t)block)
			say("pread at %zu: %s", at, strerror(errno));
	}
}

/* Writes what was read, up to where reading ended, to the file of the options. */
static void dump(const struct reading *reading)
{
	FILE *out = fopen(options.dump, "w");

	if (!out || fwrite(reading->memory, 1, reading->offset, out) != reading->offset)
		fail("%s: %s", options.dump, strerror(errno));
	fclose(out);
}

/* Reads one file. */
static void read_file(const char *path)
{
	struct reading reading = {.size = file_size(path)};

	reading.stream = fopen(path, "rb");
	if (!reading.stream)
		fail("%s: %s", path, strerror(errno));
	reading.fd = fileno(reading.stream);
	reading.memory = mmap(NULL, reading.size + 1, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (reading.memory == MAP_FAILED)
		fail("mmap: %s", strerror(errno));
	if (strcmp(options.kind, "random") == 0)
		read_about(&reading);
	else
		read_through(&reading);
	print_sum("sum", reading.memory, reading.size);
	if (options.dump)
		dump(&reading);
	munmap(reading.memory, reading.size + 1);
	fclose(reading.stream);
}

/* Reads the options; returns the index of the first file. */
static int parse(int argc, char **argv)
{
	int letter;

	while ((letter = getopt(argc, argv, "k:b:n:s:z:o:t")) != -1) {
		switch (letter) {
		case 'k':
			options.kind = optarg;
			break;
		case 'b':
			options.block = strtoul(optarg, NULL, 10);
			break;
		case 'n':
			options.times = (unsigned)atoi(optarg);
			break;
		case 's':
			options.skip = strtoul(optarg, NULL, 10);
			break;
		case 'z':
			options.pause = (unsigned)atoi(optarg);
			break;
		case 'o':
			options.dump = optarg;
			break;
		case 't':
			options.threads = true;
			break;
		default:
			exit(2);
		}
	}
	return optind;
}

int main(int argc, char **argv)
{
	int first = parse(argc, argv);
	unsigned fds = options.threads ? count_entries("fd") : 0;

	for (int i = first; i < argc; i++)
		for (unsigned turn = 0; turn < options.times; turn++)
			read_file(argv[i]);
	if (options.threads) {
		say("descriptors more than before: %u", count_entries("fd") - fds);
		sleep_ms(200);
		say("threads: %u", count_entries("task"));
	}
	sleep_ms(options.pause);
	return 0;
}
