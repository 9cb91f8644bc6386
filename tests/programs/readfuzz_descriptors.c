/* SPDX-License-Identifier: Apache-2.0 */
/* Random calls on descriptors: opened, duplicated, moved, closed, read. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"
#include "readfuzz.h"

#define SLOTS 8
#define APART 1100 /* where the numbers begin that are set apart */

/* The descriptors in use, the model's and the twin's; fd -1 where there is none. */
static struct {
	bool used;
	int fds[SIDES];
} slots[SLOTS];

int fuzz_set_apart(int fd)
{
	int moved, error = errno;

	if (fd < 0 || fd >= APART || fuzz_files.all)
		return fd;
	moved = fcntl(fd, F_DUPFD, APART);
	if (moved < 0)
		fail("fcntl: %s", strerror(errno));
	close(fd);
	errno = error;
	return moved;
}

/* Prints and compares what a call that makes descriptors has given. Their numbers differ. */
static bool made(const int fds[SIDES], const int errors[SIDES])
{
	struct effect effects[SIDES];

	for (int side = 0; side < SIDES; side++)
		effects[side] = (struct effect){fds[side] < 0 ? -1 : 0, errors[side], 0, 0};
	fuzz_compare(effects);
	return fds[0] >= 0;
}

/* Opens both files, or both times the third one, under one of the names of open. */
static void open_slot(unsigned slot)
{
	static const int flags[] = {0,	      0,	 0,	 O_CLOEXEC, O_NONBLOCK, O_APPEND,
				    O_DIRECT, O_NOATIME, O_PATH, O_RDWR,    O_NOFOLLOW};
	int flag = flags[fuzz_below(sizeof(flags) / sizeof(flags[0]))];
	unsigned way = (unsigned)fuzz_below(4);
	bool other = fuzz_chance(6);
	int fds[SIDES], errors[SIDES];

	fuzz_describe("open(%s, %#x) in way %u", other ? "other" : "file", (unsigned)flag, way);
	for (int side = 0; side < SIDES; side++) {
		const char *path = other ? fuzz_files.other : fuzz_files.paths[side];

		errno = UNTOUCHED;
		fds[side] = way == 0   ? open(path, flag)
			    : way == 1 ? open64(path, flag)
			    : way == 2 ? openat(AT_FDCWD, path, flag)
				       : (int)syscall(SYS_openat, AT_FDCWD, path, flag, 0);
		errors[side] = errno;
		if (side || other)
			fds[side] = fuzz_set_apart(fds[side]);
	}
	if (!made(fds, errors))
		return;
	slots[slot].used = true;
	slots[slot].fds[0] = fds[0];
	slots[slot].fds[1] = fds[1];
}

/* Closes the descriptors of a slot, by libc or behind its back. */
static void close_slot(unsigned slot)
{
	bool raw = fuzz_chance(3);
	struct effect effects[SIDES];

	fuzz_describe("close(%d/%d)", slots[slot].fds[0], slots[slot].fds[1]);
	for (int side = 0; side < SIDES; side++) {
		int fd = slots[slot].fds[side];

		errno = UNTOUCHED;
		effects[side].rc = raw ? syscall(SYS_close, fd) : close(fd);
		effects[side].error = errno;
		effects[side].offset = effects[side].flags = 0;
	}
	fuzz_compare(effects);
	slots[slot].used = false;
}

/* Duplicates the descriptors of one slot into another, which may be in use. */
static void duplicate_slot(unsigned from, unsigned to)
{
	bool raw = fuzz_chance(3);
	int fds[SIDES], errors[SIDES];

	if (slots[to].used && !fuzz_files.all &&
	    (slots[from].fds[0] >= APART) != (slots[to].fds[0] >= APART))
		return;
	fuzz_describe("dup(%d/%d)", slots[from].fds[0], slots[from].fds[1]);
	for (int side = 0; side < SIDES; side++) {
		int old = slots[from].fds[side], new = slots[to].fds[side];

		errno = UNTOUCHED;
		if (!slots[to].used)
			fds[side] = raw ? fcntl(old, F_DUPFD_CLOEXEC, 10) : dup(old);
		else
			fds[side] =
				raw ? (int)syscall(SYS_dup3, old, new, O_CLOEXEC) : dup2(old, new);
		errors[side] = errno;
		if (old >= APART && !slots[to].used)
			fds[side] = fuzz_set_apart(fds[side]);
	}
	if (!made(fds, errors))
		return;
	slots[to].used = true;
	slots[to].fds[0] = fds[0];
	slots[to].fds[1] = fds[1];
}

/* Moves the offset. */
static void seek_slot(unsigned slot)
{
	static const int whences[] = {SEEK_SET, SEEK_SET,  SEEK_SET,  SEEK_CUR,
				      SEEK_END, SEEK_DATA, SEEK_HOLE, 77};
	int whence = whences[fuzz_below(8)];
	off_t offset = fuzz_offset();
	struct effect effects[SIDES];

	if (whence == SEEK_END || whence == SEEK_CUR)
		offset = fuzz_chance(2) ? -offset : offset % 100000;
	fuzz_describe("lseek(%d/%d, %ld, %d)", slots[slot].fds[0], slots[slot].fds[1], (long)offset,
		      whence);
	for (int side = 0; side < SIDES; side++) {
		int fd = slots[slot].fds[side];

		errno = UNTOUCHED;
		effects[side].rc = lseek(fd, offset, whence);
		effects[side].error = errno;
		effects[side].offset = lseek(fd, 0, SEEK_CUR);
		effects[side].flags = 0;
	}
	fuzz_compare(effects);
}

/* Maps a page of both and compares: the descriptors stay good for that. */
static void map_slot(unsigned slot)
{
	off_t offset = (off_t)(fuzz_below(fuzz_files.size) & ~4095ul);
	struct effect effects[SIDES] = {0};
	unsigned char *maps[SIDES];
	char byte;

	fuzz_describe("mmap(%d/%d, %ld)", slots[slot].fds[0], slots[slot].fds[1], (long)offset);
	for (int side = 0; side < SIDES; side++) {
		int fd = slots[slot].fds[side];

		errno = UNTOUCHED;
		maps[side] = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, offset);
		effects[side].error = errno;
		effects[side].rc = maps[side] == MAP_FAILED ? -1 : 0;
	}
	fuzz_compare(effects);
	if (maps[0] == MAP_FAILED)
		return;
	if (try_read(maps[1], (unsigned char *)&byte) == DONE)
		fuzz_compare_bytes(maps[0], maps[1], 4096);
	munmap(maps[0], 4096);
	munmap(maps[1], 4096);
}

void fuzz_descriptor_step(void)
{
	unsigned slot = (unsigned)fuzz_below(SLOTS);

	if (!slots[slot].used) {
		open_slot(slot);
		return;
	}
	switch (fuzz_below(32)) {
	case 0:
		close_slot(slot);
		return;
	case 1:
		duplicate_slot(slot, (slot + 1 + (unsigned)fuzz_below(SLOTS - 1)) % SLOTS);
		return;
	case 2:
		map_slot(slot);
		return;
	case 3 ... 8:
		seek_slot(slot);
		return;
	default:
		fuzz_read_step(slots[slot].fds);
	}
}
