/* SPDX-License-Identifier: Apache-2.0 */
/* Files of a root directory, named as its own programs would name them. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inject.h"
#include "library.h"

#define BLANKS	   " \t\n:"
#define TEMPORARY  ".stshim-inject"
#define MOST_BYTES (1 << 20) /* of a text */

/* As in linux/openat2.h, which older systems lack. */
struct how {
	uint64_t flags, mode, resolve;
};

enum { RESOLVE_WITHIN = 0x10 }; /* RESOLVE_IN_ROOT */

#ifndef SYS_openat2
#define SYS_openat2 437
#endif

int inject_open(const char *root, const char *path, int flags)
{
	struct how how = {.flags = (uint64_t)(flags | O_CLOEXEC), .resolve = RESOLVE_WITHIN};
	int directory = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	long fd = -1;

	if (directory < 0)
		return -errno;
	fd = syscall(SYS_openat2, directory, path, &how, sizeof(how));
	if (fd < 0)
		fd = -errno;
	close(directory);
	return (int)fd;
}

char *inject_read(const char *root, const char *path, int *error)
{
	int fd = inject_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_NOFOLLOW);
	char *text = calloc(1, MOST_BYTES + 1);
	ssize_t got = 0;
	size_t length = 0;

	if (!text)
		err(EXIT_FAILURE, "memory");
	*error = fd < 0 && fd != -ENOENT ? -fd : 0;
	while (fd >= 0 && (got = read(fd, text + length, MOST_BYTES - length)) > 0)
		length += (size_t)got;
	if (got < 0)
		*error = errno;
	if (length == MOST_BYTES || strlen(text) != length)
		*error = EFBIG;
	if (fd >= 0)
		close(fd);
	if (*error) {
		free(text);
		return NULL;
	}
	return text;
}

/* Compares what two descriptors have left. */
static bool same_bytes(int a, int b)
{
	static char left[65536], right[65536];
	ssize_t got;

	do {
		got = read(a, left, sizeof(left));
		if (got < 0 || read(b, right, sizeof(right)) != got)
			return false;
	} while (got > 0 && memcmp(left, right, (size_t)got) == 0);
	return got == 0;
}

bool inject_same(const char *root, const char *path, const char *ours)
{
	int a = inject_open(root, path, O_RDONLY | O_NONBLOCK);
	int b = open(ours, O_RDONLY | O_CLOEXEC);
	bool same = a >= 0 && b >= 0 && same_bytes(a, b);

	if (a >= 0)
		close(a);
	if (b >= 0)
		close(b);
	return same;
}

static int write_all(int fd, const char *bytes, size_t length)
{
	while (length) {
		ssize_t done = write(fd, bytes, length);

		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		bytes += done;
		length -= (size_t)done;
	}
	return 0;
}

/* Copies the bytes of a file of ours. */
static int copy_from(int fd, const char *from)
{
	static char buffer[65536];
	int source = open(from, O_RDONLY | O_CLOEXEC), rc = 0;
	ssize_t got;

	if (source < 0)
		return -errno;
	while (rc == 0 && (got = read(source, buffer, sizeof(buffer))) != 0)
		rc = got < 0 ? -errno : write_all(fd, buffer, (size_t)got);
	close(source);
	return rc;
}

/* Gives the new file owner and mode of the one that it replaces. */
static int take_after(int directory, const char *name, int fd)
{
	struct stat old;

	if (fstatat(directory, name, &old, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? (fchmod(fd, 0644) ? -errno : 0) : -errno;
	if (S_ISLNK(old.st_mode))
		return -ELOOP;
	if (!S_ISREG(old.st_mode))
		return -EINVAL;
	if (fchown(fd, old.st_uid, old.st_gid) != 0 || fchmod(fd, old.st_mode & 07777) != 0)
		return -errno;
	return 0;
}

int inject_write(const char *root, const char *directory, const char *name, const char *text,
		 const char *from)
{
	int parent = inject_open(root, directory, O_RDONLY | O_DIRECTORY), fd, rc;

	if (parent < 0)
		return parent;
	unlinkat(parent, TEMPORARY, 0);
	fd = openat(parent, TEMPORARY, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	rc = fd < 0 ? -errno : take_after(parent, name, fd);
	if (rc == 0)
		rc = from ? copy_from(fd, from) : write_all(fd, text, strlen(text));
	if (rc == 0 && fsync(fd) != 0)
		rc = -errno;
	if (rc == 0 && renameat(parent, TEMPORARY, parent, name) != 0)
		rc = -errno;
	if (fd >= 0) {
		if (rc < 0)
			unlinkat(parent, TEMPORARY, 0);
		close(fd);
	}
	fsync(parent);
	close(parent);
	return rc;
}

int inject_unlink(const char *root, const char *directory, const char *name)
{
	int parent = inject_open(root, directory, O_RDONLY | O_DIRECTORY), rc = 0;

	if (parent < 0)
		return parent == -ENOENT ? 0 : parent;
	if (unlinkat(parent, name, 0) != 0 && errno != ENOENT)
		rc = -errno;
	fsync(parent);
	close(parent);
	return rc;
}

/* The next entry of an ld.so.preload, comments passed over; NULL at the end. */
static const char *next_entry(const char *text, size_t *length)
{
	for (;;) {
		text += strspn(text, BLANKS);
		if (*text != '#')
			break;
		text += strcspn(text, "\n");
	}
	/* A comment may begin within a word, too (glibc, elf/rtld.c, dl_main). */
	*length = strcspn(text, BLANKS "#");
	return *length ? text : NULL;
}

bool inject_is_listed(const char *preload)
{
	size_t length;

	for (const char *entry = preload; (entry = next_entry(entry, &length)) != NULL;
	     entry += length)
		if (library_is(entry, length))
			return true;
	return false;
}

char *inject_listed(const char *preload)
{
	char *text;

	if (asprintf(&text, "%s\n%s", INJECT_LIBRARY, preload) < 0)
		err(EXIT_FAILURE, "memory");
	return text;
}

char *inject_unlisted(const char *preload)
{
	char *text = strdup(preload), *entry = text;
	size_t length;

	if (!text)
		err(EXIT_FAILURE, "memory");
	while ((entry = (char *)(uintptr_t)next_entry(entry, &length)) != NULL) {
		if (!library_is(entry, length)) {
			entry += length;
			continue;
		}
		/* With the line end, where it has the line for itself. */
		if ((entry == text || entry[-1] == '\n') && entry[length] == '\n')
			length++;
		memmove(entry, entry + length, strlen(entry + length) + 1);
	}
	return text;
}
