/* SPDX-License-Identifier: Apache-2.0 */
/* Random calls that read through a descriptor. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common.h"
#include "readfuzz.h"

ssize_t __read_chk(int fd, void *buffer, size_t length, size_t room);
ssize_t __pread_chk(int fd, void *buffer, size_t length, off_t offset, size_t room);
ssize_t __pread64_chk(int fd, void *buffer, size_t length, off64_t offset, size_t room);

#define PIECES 6

/* The arguments of a call with several places. */
struct vector {
	struct spot spots[PIECES];
	int made;  /* places */
	int count; /* what is passed as their number */
	bool wild; /* the list itself is nowhere */
	off_t offset;
	int flags;
};

/* Fills in what a call has done, after it. */
static struct effect effect_of(int fd, long rc)
{
	int error = errno;

	return (struct effect){rc, error, lseek(fd, 0, SEEK_CUR), 0};
}

/* True if the kernel reads directly, which may write something before it fails. */
static bool is_direct(int fd)
{
	return (fcntl(fd, F_GETFL) & O_DIRECT) != 0;
}

/* A place that may be bad, but for a direct read, which fails in this way or that as the file lies
 * on the disk. */
static struct spot some_spot(size_t length, bool direct)
{
	return direct ? fuzz_good_spot(length) : fuzz_any_spot(length);
}

/* read and pread under all their names. */
static void plain_read(const int fds[SIDES])
{
	static const char *const names[] = {"read",    "__read_chk",  "pread",
					    "pread64", "__pread_chk", "__pread64_chk"};
	unsigned which = (unsigned)fuzz_below(6);
	struct spot spot = some_spot(fuzz_size(), is_direct(fds[0]));
	off_t offset = fuzz_offset();
	struct effect effects[SIDES];

	fuzz_describe("%s(%d/%d, %s%#zx, %zu, %ld)", names[which], fds[0], fds[1],
		      spot.wild ? "" : "arena+", spot.at, spot.length, (long)offset);
	fuzz_spot_prepare(&spot);
	for (int side = 0; side < SIDES; side++) {
		void *to = fuzz_spot_address(&spot, side);
		size_t length = spot.length;
		int fd = fds[side];

		errno = UNTOUCHED;
		effects[side] =
			effect_of(fd, which == 0   ? read(fd, to, length)
				      : which == 1 ? __read_chk(fd, to, length, length)
				      : which == 2 ? pread(fd, to, length, offset)
				      : which == 3 ? pread64(fd, to, length, offset)
				      : which == 4 ? __pread_chk(fd, to, length, offset, length)
						   : __pread64_chk(fd, to, length, offset, length));
	}
	fuzz_compare(effects);
	if (effects[0].rc >= 0 || !is_direct(fds[0]))
		fuzz_spot_check(&spot);
}

/* A number of places as the kernel may get to see it. */
static int odd_count(int made)
{
	static const int odd[] = {0, -1, 1025, IOV_MAX, INT_MIN};

	return fuzz_chance(20) ? odd[fuzz_below(5)] : made;
}

/* True if a place shares bytes with one before it. */
static bool overlaps(const struct vector *vector, int last)
{
	const struct spot *spot = &vector->spots[last];

	for (int i = 0; i < last; i++)
		if (spot->at < vector->spots[i].at + vector->spots[i].length &&
		    vector->spots[i].at < spot->at + spot->length)
			return true;
	return false;
}

/*
 * Makes up a list of places; now and then one is bad. Of those that overlap the last one wins,
 * unless the kernel reads directly.
 */
static struct vector make_vector(bool direct)
{
	static const int flags[] = {0x1 /* HIPRI */, 0x2 /* DSYNC */, 0x8 /* NOWAIT */,
				    0x80 /* DONTCACHE */, 0x4000};
	struct vector vector = {.made = 1 + (int)fuzz_below(PIECES), .wild = fuzz_chance(40)};

	for (int i = 0; i < vector.made; i++) {
		vector.spots[i] = some_spot(fuzz_size() % (1 << 20), direct);
		if (direct && overlaps(&vector, i))
			vector.spots[i].length = 0;
	}
	if (fuzz_chance(30))
		vector.spots[fuzz_below((unsigned)vector.made)].length = SIZE_MAX - 4;
	vector.count = odd_count(vector.made);
	vector.offset = fuzz_offset();
	if (fuzz_files.all && fuzz_chance(4))
		vector.flags = flags[fuzz_below(5)];
	return vector;
}

/* One call with several places on one side. */
static long vector_call(unsigned which, int fd, const struct vector *vector, int side)
{
	static struct iovec list[1025];
	const struct iovec *passed = vector->wild ? (const struct iovec *)8 : list;

	for (int i = 0; i < 1025; i++)
		list[i] = (struct iovec){NULL, 0};
	for (int i = 0; i < vector->made; i++)
		list[i] = (struct iovec){fuzz_spot_address(&vector->spots[i], side),
					 vector->spots[i].length};
	errno = UNTOUCHED;
	switch (which) {
	case 0:
		return readv(fd, passed, vector->count);
	case 1:
		return preadv(fd, passed, vector->count, vector->offset);
	case 2:
		return preadv64(fd, passed, vector->count, vector->offset);
	case 3:
		return preadv2(fd, passed, vector->count, vector->offset, vector->flags);
	default:
		return preadv64v2(fd, passed, vector->count, vector->offset, vector->flags);
	}
}

/* Writes the places down: where they are in the arena, and their length. */
static void describe_places(const struct vector *vector, char *text, size_t size)
{
	size_t used = 0;

	text[0] = '\0';
	for (int i = 0; i < vector->made && used < size; i++)
		used += (size_t)snprintf(text + used, size - used, " %#zx+%zu", vector->spots[i].at,
					 vector->spots[i].length);
}

/* readv and preadv under all their names. */
static void vector_read(const int fds[SIDES])
{
	static const char *const names[] = {"readv", "preadv", "preadv64", "preadv2", "preadv64v2"};
	unsigned which = (unsigned)fuzz_below(5);
	struct vector vector = make_vector(is_direct(fds[0]));
	struct effect effects[SIDES];
	char places[256];

	describe_places(&vector, places, sizeof(places));
	fuzz_describe("%s(%d/%d, %d of %d places:%s, offset %ld, flags %#x)", names[which], fds[0],
		      fds[1], vector.count, vector.made, places, (long)vector.offset,
		      (unsigned)vector.flags);
	for (int i = 0; i < vector.made; i++)
		fuzz_spot_prepare(&vector.spots[i]);
	for (int side = 0; side < SIDES; side++)
		effects[side] = effect_of(fds[side], vector_call(which, fds[side], &vector, side));
	fuzz_compare(effects);
	for (int i = 0; i < vector.made && (effects[0].rc >= 0 || !is_direct(fds[0])); i++)
		fuzz_spot_check(&vector.spots[i]);
}

void fuzz_read_step(const int fds[SIDES])
{
	if (fuzz_chance(3))
		vector_read(fds);
	else
		plain_read(fds);
}
