/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the library's own system calls fail: linked into build/tests/faults/libstnommap-faults.so
 * only, whose calls all come by here (lib/sys.h, lib/thread.c).
 *
 * STN_INJECT=STEP:FROM:COUNT:WHAT[,...]: of the calls of a STEP, COUNT from the FROMth on (COUNT 0:
 * all) fail with the error number WHAT, or, if WHAT is "half", are made with half of their length.
 * STEP "any": each call with the odds of 1 to COUNT, seeded with FROM, and its usual error.
 * STN_INJECT_LOG: a file that gets the name of the step for every call that failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

/* The calls made here do not fail. */
#undef STN_INJECT
#include "../../lib/sys.h"

#define SPECS 8
#define HALF  0

/* Newer than some headers; the first is of /dev/userfaultfd. */
#define IOCTL_NEW    _IO(UFFDIO, 0x00)
#define IOCTL_MOVE   _IOWR(UFFDIO, 0x05, char[40])
#define IOCTL_POISON _IOWR(UFFDIO, 0x08, char[32])

/* A kind of call, and the error with which it usually fails. */
struct kind {
	const char *name;
	long call;
	int error;
	unsigned long request; /* of an ioctl */
};

static const struct kind kinds[] = {
	{"uffd-open", SYS_userfaultfd, EPERM, 0},
	{"uffd-new", SYS_ioctl, EPERM, IOCTL_NEW},
	{"uffd-api", SYS_ioctl, EINVAL, UFFDIO_API},
	{"register", SYS_ioctl, ENOMEM, UFFDIO_REGISTER},
	{"wake", SYS_ioctl, EINVAL, UFFDIO_WAKE},
	{"copy", SYS_ioctl, ENOMEM, UFFDIO_COPY},
	{"zero", SYS_ioctl, ENOMEM, UFFDIO_ZEROPAGE},
	{"move", SYS_ioctl, EBUSY, IOCTL_MOVE},
	{"poison", SYS_ioctl, EINVAL, IOCTL_POISON},
	{"uffd-read", SYS_read, EIO, 0},
	{"epoll-create", SYS_epoll_create1, EMFILE, 0},
	{"epoll-ctl", SYS_epoll_ctl, ENOMEM, 0},
	{"epoll-wait", SYS_epoll_pwait, EINTR, 0},
	{"mmap", SYS_mmap, ENOMEM, 0},
	{"munmap", SYS_munmap, ENOMEM, 0},
	{"mremap", SYS_mremap, ENOMEM, 0},
	{"mprotect", SYS_mprotect, ENOMEM, 0},
	{"madvise", SYS_madvise, ENOMEM, 0},
	{"mincore", SYS_mincore, EAGAIN, 0},
	{"clone", SYS_clone, EAGAIN, 0},
	{"pread", SYS_pread64, EIO, 0},
	{"preadv", SYS_preadv, EIO, 0},
	{"vm-readv", SYS_process_vm_readv, EPERM, 0},
	{"lseek", SYS_lseek, EBADF, 0},
	{"statx", SYS_statx, EIO, 0},
	{"open", SYS_openat, EMFILE, 0},
	{"maps", SYS_openat, EACCES, 0},
	{"futex", SYS_futex, EAGAIN, 0},
};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

struct spec {
	unsigned kind; /* KINDS: any */
	unsigned from, count;
	int what;
};

static struct spec specs[SPECS];
static unsigned spec_count;
static _Atomic unsigned calls[KINDS];
static _Atomic uint32_t chance;
static const char *log_path;

bool stn_inject(long number, long a, long b, long *c, long *instead);

/* Reads one STEP:FROM:COUNT:WHAT. */
static void parse(const char *text)
{
	struct spec *spec = &specs[spec_count++];
	const char *colon = strchr(text, ':');
	char *end;

	for (spec->kind = 0; spec->kind < KINDS; spec->kind++)
		if (strncmp(text, kinds[spec->kind].name, (size_t)(colon - text)) == 0 &&
		    kinds[spec->kind].name[colon - text] == '\0')
			break;
	spec->from = (unsigned)strtoul(colon + 1, &end, 10);
	spec->count = (unsigned)strtoul(end + 1, &end, 10);
	spec->what = strncmp(end + 1, "half", 4) == 0 ? HALF : atoi(end + 1);
	if (spec->kind == KINDS)
		chance = spec->from;
}

__attribute__((constructor)) static void read_specs(void)
{
	const char *text = getenv("STN_INJECT");

	log_path = getenv("STN_INJECT_LOG");
	while (text && *text && spec_count < SPECS) {
		parse(text);
		text = strchr(text, ',');
		text += text != NULL;
	}
}

/* True if a descriptor of the calling thread is a userfaultfd. */
static bool is_userfaultfd(long fd)
{
	char path[64] = "/proc/thread-self/fd/", target[64] = "";
	size_t length = strlen(path);

	for (long unit = 1000000000; unit; unit /= 10)
		if (fd >= unit || unit == 1)
			path[length++] = (char)('0' + fd / unit % 10);
	return stn_sys_readlink(path, target, sizeof(target) - 1) > 0 &&
	       strstr(target, "userfaultfd") != NULL;
}

/* True for the list of the process's mappings, and for what is said of their pages. */
static bool is_maps(const char *path)
{
	return strncmp(path, "/proc/self/", 11) == 0 && strstr(path, "map") != NULL;
}

static bool is_kind(const struct kind *kind, long number, long a, long b)
{
	if (kind->call != number)
		return false;
	switch (number) {
	case SYS_ioctl:
		return (unsigned long)b == kind->request;
	case SYS_read:
		return is_userfaultfd(a);
	case SYS_openat:
		return is_maps((const char *)b) == (kind->error == EACCES);
	case SYS_futex:
		return (b & ~FUTEX_PRIVATE_FLAG) == FUTEX_WAIT;
	default:
		return true;
	}
}

static uint32_t throw_dice(void)
{
	uint32_t x = atomic_fetch_add(&chance, 0x9e3779b9u);

	x = (x ^ x >> 16) * 0x85ebca6bu;
	x = (x ^ x >> 13) * 0xc2b2ae35u;
	return x ^ x >> 16;
}

/* The error with which the nth call of a kind fails, HALF, or -1 for none. */
static int verdict(unsigned kind, unsigned nth)
{
	for (unsigned i = 0; i < spec_count; i++) {
		const struct spec *spec = &specs[i];

		if (spec->kind == KINDS && spec->count && throw_dice() % spec->count == 0)
			return kinds[kind].error;
		if (spec->kind == kind && nth >= spec->from &&
		    (!spec->count || nth < spec->from + spec->count))
			return spec->what;
	}
	return -1;
}

static void note(const char *name)
{
	char line[32];
	size_t length = strlen(name);
	int fd = log_path ? stn_sys_create(log_path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;

	if (fd < 0)
		return;
	memcpy(line, name, length);
	line[length] = '\n';
	stn_sys_write(fd, line, length + 1);
	stn_sys_close(fd);
}

/* Halves the length of a read, or of what is copied or moved, in whole pages. */
static void halve(const struct kind *kind, long *c)
{
	const uint64_t page = 4096;
	uint64_t *length = kind->call == SYS_ioctl ? (uint64_t *)*c + 2 : (uint64_t *)c;

	if (*length >= 2 * page)
		*length = *length / 2 / page * page;
}

bool stn_inject(long number, long a, long b, long *c, long *instead)
{
	for (unsigned i = 0; spec_count && i < KINDS; i++) {
		int what;

		if (!is_kind(&kinds[i], number, a, b))
			continue;
		what = verdict(i, atomic_fetch_add(&calls[i], 1) + 1);
		if (what < 0)
			return false;
		note(kinds[i].name);
		*instead = -what;
		if (what == HALF)
			halve(&kinds[i], c);
		return what != HALF;
	}
	return false;
}
