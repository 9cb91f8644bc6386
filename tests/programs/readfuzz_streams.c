/* SPDX-License-Identifier: Apache-2.0 */
/* Random calls on streams. Their descriptors belong to them alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common.h"
#include "readfuzz.h"

size_t __fread_chk(void *to, size_t room, size_t size, size_t count, FILE *stream);

#define STREAMS 4

static FILE *streams[STREAMS][SIDES];

/* Fills in what a call has done, after it. */
static struct effect effect_of(FILE *stream, long rc)
{
	struct effect effect = {.rc = rc, .error = errno};

	effect.flags = (feof(stream) ? 1 : 0) + (ferror(stream) ? 2 : 0);
	effect.offset = ftello(stream);
	return effect;
}

/* The same call on both sides: STREAM and SIDE stand for them in it. */
#define BOTH(n, call)                                                                              \
	do {                                                                                       \
		struct effect effects_[SIDES];                                                     \
                                                                                                   \
		for (int SIDE = 0; SIDE < SIDES; SIDE++) {                                         \
			FILE *STREAM = streams[n][SIDE];                                           \
			long rc_;                                                                  \
                                                                                                   \
			errno = UNTOUCHED;                                                         \
			rc_ = (long)(call);                                                        \
			effects_[SIDE] = effect_of(STREAM, rc_);                                   \
		}                                                                                  \
		fuzz_compare(effects_);                                                            \
	} while (0)

/* Opens one file as a stream: by name under both names, or from a descriptor, as the twin always is
 * where it is set apart. */
static FILE *open_one(int side, const char *mode, unsigned way)
{
	const char *path = fuzz_files.paths[side];
	int fd;

	if (way < 2 && (side == 0 || fuzz_files.all))
		return way == 0 ? fopen(path, mode) : fopen64(path, mode);
	fd = open(path, way < 2 && strchr(mode, '+') ? O_RDWR : O_RDONLY);
	fd = side ? fuzz_set_apart(fd) : fd;
	return fd < 0 ? NULL : fdopen(fd, "rb");
}

/* Opens a pair of streams, often with a buffer of its own kind. */
static void open_streams(unsigned n)
{
	static const char *const modes[] = {"rb", "r", "rbe", "rce", "r+b"};
	static const size_t rooms[] = {1, 64, 4096, 65536, 1 << 20};
	const char *mode = modes[fuzz_below(5)];
	unsigned way = (unsigned)fuzz_below(3), buffering = (unsigned)fuzz_below(12);
	struct effect effects[SIDES] = {0};

	fuzz_describe("fopen(%s) in way %u, buffering %u", mode, way, buffering);
	for (int side = 0; side < SIDES; side++) {
		errno = UNTOUCHED;
		streams[n][side] = open_one(side, mode, way);
		effects[side].error = errno;
		effects[side].rc = streams[n][side] ? 0 : -1;
	}
	fuzz_compare(effects);
	if (!streams[n][0])
		return;
	if (buffering < 5)
		BOTH(n, setvbuf(STREAM, NULL, _IOFBF, rooms[buffering]));
	else if (buffering == 5)
		BOTH(n, setvbuf(STREAM, NULL, _IONBF, 0));
}

/* Closes a pair of streams. */
static void close_streams(unsigned n)
{
	struct effect effects[SIDES] = {0};

	fuzz_describe("fclose");
	for (int side = 0; side < SIDES; side++) {
		errno = UNTOUCHED;
		effects[side].rc = fclose(streams[n][side]);
		effects[side].error = errno;
		streams[n][side] = NULL;
	}
	fuzz_compare(effects);
}

/* fread under all its names, in elements of any size. */
static void read_elements(unsigned n)
{
	size_t size = fuzz_chance(2) ? 1 : fuzz_below(70), count = fuzz_size() % (9 << 20);
	struct spot spot;
	unsigned which = (unsigned)fuzz_below(3);

	if (fuzz_chance(3))
		count %= 64;
	if (size > 1)
		count %= 100000;
	spot = fuzz_good_spot(size * count);
	fuzz_describe("fread %u of %zu times %zu", which, size, count);
	fuzz_spot_prepare(&spot);
	BOTH(n, which == 0   ? fread(fuzz_spot_address(&spot, SIDE), size, count, STREAM)
		: which == 1 ? fread_unlocked(fuzz_spot_address(&spot, SIDE), size, count, STREAM)
			     : __fread_chk(fuzz_spot_address(&spot, SIDE), size * count, size,
					   count, STREAM));
	fuzz_spot_check(&spot);
}

/* Moves the position, by one of the calls that do. */
static void seek_stream(unsigned n)
{
	static const int whences[] = {SEEK_SET, SEEK_SET, SEEK_CUR, SEEK_END, 77};
	int whence = whences[fuzz_below(5)];
	off_t offset = fuzz_offset() % ((off_t)1 << 61);

	if (whence == SEEK_CUR || whence == SEEK_END)
		offset = fuzz_chance(2) ? offset % 5000 : -(offset % 100000);
	if (fuzz_chance(8)) {
		fuzz_describe("rewind");
		BOTH(n, (rewind(STREAM), 0));
	} else if (fuzz_chance(2)) {
		fuzz_describe("fseek(%ld, %d)", (long)offset, whence);
		BOTH(n, fseek(STREAM, offset, whence));
	} else {
		fuzz_describe("fseeko(%ld, %d)", (long)offset, whence);
		BOTH(n, fseeko(STREAM, offset, whence));
	}
}

/* Reads a line; what is in it counts as bytes. */
static void read_line(unsigned n)
{
	char *lines[SIDES] = {NULL, NULL};
	size_t rooms[SIDES] = {0, 0};
	ssize_t length = 0;

	fuzz_describe("getline");
	BOTH(n, length = getline(&lines[SIDE], &rooms[SIDE], STREAM));
	if (length > 0)
		fuzz_compare_bytes(lines[0], lines[1], (size_t)length);
	free(lines[0]);
	free(lines[1]);
}

/*
 * Pushes a byte back, often reads over it, and leaves the place: glibc's own streams go astray with
 * a relative seek when a byte is pushed back that the file does not have there. Not at the start:
 * the position is then unspecified.
 */
static void push_back(unsigned n)
{
	int byte = (int)fuzz_below(257) - 1;
	long offset = (long)fuzz_below(20 << 20);

	if (ftello(streams[n][1]) <= 0)
		return;
	fuzz_describe("ungetc(%d)", byte);
	BOTH(n, ungetc(byte, STREAM));
	if (fuzz_chance(2))
		read_elements(n);
	BOTH(n, fseek(STREAM, offset, SEEK_SET));
}

/* The descriptor below a stream that is flushed stands where the stream does, if nothing is pushed
 * back, which the seek sees to. */
static void use_descriptor(unsigned n)
{
	off_t offset = fuzz_offset();
	struct spot spot = fuzz_good_spot(fuzz_below(10000));

	fuzz_describe("fseek and fflush");
	BOTH(n, fseek(STREAM, 0, SEEK_CUR));
	BOTH(n, fflush(STREAM));
	fuzz_describe("lseek of the flushed stream's descriptor");
	BOTH(n, lseek(fileno(STREAM), 0, SEEK_CUR));
	fuzz_describe("pread of the stream's descriptor, %zu at %ld", spot.length, (long)offset);
	fuzz_spot_prepare(&spot);
	BOTH(n, pread(fileno(STREAM), fuzz_spot_address(&spot, SIDE), spot.length, offset));
	fuzz_spot_check(&spot);
}

/* Calls that only look, or reset the flags. */
static void look(unsigned n)
{
	switch (fuzz_below(4)) {
	case 0:
		fuzz_describe("clearerr");
		BOTH(n, (clearerr(STREAM), 0));
		return;
	case 1:
		fuzz_describe("getc");
		BOTH(n, getc(STREAM));
		return;
	case 2:
		fuzz_describe("ftell");
		BOTH(n, ftell(STREAM));
		return;
	default:
		read_line(n);
	}
}

void fuzz_stream_step(void)
{
	unsigned n = (unsigned)fuzz_below(STREAMS);

	if (!streams[n][0]) {
		open_streams(n);
		return;
	}
	switch (fuzz_below(20)) {
	case 0:
		close_streams(n);
		return;
	case 1 ... 4:
		seek_stream(n);
		return;
	case 5 ... 6:
		push_back(n);
		return;
	case 7:
		use_descriptor(n);
		return;
	case 8 ... 9:
		if (fuzz_files.all)
			look(n);
		return;
	default:
		read_elements(n);
	}
}
