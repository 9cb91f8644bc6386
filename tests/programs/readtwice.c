/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readtwice FILE PIPE: reads all of a file through read, pread and fread, waits until the other end
 * of the pipe is closed, reads it again through the same descriptors, and once more opened anew.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"

#define ROOM ((size_t)32 << 20)

static unsigned char *to;

/* Prints what the file is by all three ways. */
static void read_all(int fd, FILE *stream)
{
	ssize_t got;

	lseek(fd, 0, SEEK_SET);
	got = read(fd, to, ROOM);
	print_rc("read", got);
	print_sum("bytes", to, got > 0 ? (size_t)got : 0);
	got = pread(fd, to, 100000, 54321);
	print_rc("pread", got);
	print_sum("bytes", to, got > 0 ? (size_t)got : 0);
	print_rc("small", pread(fd, to, 100, 4000));
	print_sum("bytes", to, 100);
	fseeko(stream, 0, SEEK_SET);
	got = (ssize_t)fread(to, 1, ROOM, stream);
	print_rc("fread", got);
	print_sum("bytes", to, (size_t)got);
	print_rc("end", lseek(fd, 0, SEEK_END));
}

int main(int argc, char **argv)
{
	const char *path = argc == 3 ? argv[1] : "";
	FILE *stream = fopen(path, "rb");
	int fd = open_file(path), go;
	char byte;

	to = map_anonymous(ROOM, 1);
	read_all(fd, stream);
	go = open_file(argv[2]);
	if (read(go, &byte, 1) != 0)
		fail("pipe: %s", strerror(errno));
	read_all(fd, stream);
	read_all(open_file(path), fopen(path, "rb"));
	return 0;
}
