/* SPDX-License-Identifier: Apache-2.0 */
/* Reads more in one call than a call gives, into memory of which all but the end is the
 * same 64 MiB, mapped many times. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"

#define PIECE  ((size_t)64 << 20)
#define PIECES 33
#define SAME   31 /* pieces; a call ends in the last but one, and the rest fits the first */

int main(int argc, char **argv)
{
	int fd = open_file(argc > 1 ? argv[1] : ""), memory = memfd_create("pieces", 0);
	char *to = mmap(NULL, PIECES * PIECE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ssize_t got;

	if (ftruncate(memory, (off_t)PIECE) != 0)
		fail("ftruncate: %s", strerror(errno));
	mprotect(to, PIECES * PIECE, PROT_READ | PROT_WRITE);
	for (size_t i = 0; i < SAME; i++)
		if (mmap(to + i * PIECE, PIECE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 memory, 0) == MAP_FAILED)
			fail("mmap: %s", strerror(errno));
	got = read(fd, to, PIECES * PIECE);
	say("read: %zd, at %ld, ends in: %.8s", got, (long)lseek(fd, 0, SEEK_CUR), to + got - 8);
	got = read(fd, to, PIECES * PIECE);
	say("again: %zd, at %ld, begins with: %.8s", got, (long)lseek(fd, 0, SEEK_CUR), to);
	return 0;
}
