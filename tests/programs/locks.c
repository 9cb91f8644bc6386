/* SPDX-License-Identifier: Apache-2.0 */
/* mlock, msync and their kin on a mapped file. */
#include <errno.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"

/* Prints how much more is locked than before, in kB. */
static void print_locked(const char *what, unsigned long before)
{
	say("%s: %ld kB locked", what, (long)(status_field("VmLck:") - before));
}

/* Pieces and all of it. */
static void lock(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);
	unsigned long before = status_field("VmLck:");

	print_rc("mlock a piece", mlock(p + 100, 5 * step));
	print_locked("piece", before);
	print_rc("munlock", munlock(p, size));
	print_locked("nothing", before);
	print_rc("mlock", mlock(p, size));
	print_locked("all", before);
	print_rc("munlock the tail", munlock(p + round_page(size) - step, step));
	print_locked("rest", before);
	print_rc("mlock2", mlock2(p, size, 0));
	print_rc("mlock2 on fault", mlock2(p, size, MLOCK_ONFAULT));
	print_rc("mlock2 flags", mlock2(p, size, 0x80));
	print_rc("drop locked", madvise(p, size, MADV_DONTNEED));
	print_rc("invalidate locked", msync(p, size, MS_INVALIDATE));
	print_sum("bytes", p, size);
	print_rc("munmap", munmap(p, size));
	print_locked("nothing", before);
	print_rc("mlock", mlock(p, size));
}

/* A locked private map keeps what is stored; drop is refused until unlocked. */
static void lock_dirty(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p = map_write(path);

	print_rc("mlock", mlock(p, size));
	p[0] ^= 0xff;
	print_rc("drop", madvise(p, size, MADV_DONTNEED));
	print_sum("bytes", p, size);
	print_rc("drop locked", madvise(p, size, MADV_DONTNEED_LOCKED));
	print_sum("bytes", p, size);
	print_rc("munlock", munlock(p, size));
	p[0] ^= 0xff;
	print_rc("drop", madvise(p, size, MADV_DONTNEED));
	print_sum("bytes", p, size);
}

/* Everything there is, then what comes. */
static void lock_all(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p = map_read(path), *later;

	print_rc("current", mlockall(MCL_CURRENT));
	print_sum("bytes", p, size);
	print_rc("future", mlockall(MCL_FUTURE));
	later = map_write(path);
	print_sum("later", later, size);
	print_store("store", later);
	print_rc("flags", mlockall(0x80));
	print_rc("munlockall", munlockall());
	print_rc("munmap", munmap(p, size));
	print_sum("later", later, size);
}

static void lock_all_on_fault(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p;

	print_rc("on fault", mlockall(MCL_FUTURE | MCL_ONFAULT));
	p = map_read(path);
	print_sum("bytes", p, size);
	print_rc("munlockall", munlockall());
}

/* Gives up the right to lock without limit; the right is not there for an ordinary user. */
static void drop_right_to_lock(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		fail("capget: %s", strerror(errno));
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	if (syscall(SYS_capset, &header, data) < 0)
		fail("capset: %s", strerror(errno));
}

/* More than may be locked. */
static void limited(const char *path)
{
	struct rlimit limit = {1 << 20, 1 << 20};
	size_t size = file_size(path);
	unsigned char *p = map_read(path);
	int fd = open_file(path);

	drop_right_to_lock();
	if (setrlimit(RLIMIT_MEMLOCK, &limit) < 0)
		fail("setrlimit: %s", strerror(errno));
	print_rc("mlock", mlock(p, size));
	print_rc("a piece", mlock(p, 4 * page_size()));
	print_rc("current", mlockall(MCL_CURRENT));
	print_rc("locked",
		 mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_LOCKED, fd, 0) == MAP_FAILED ? -1
											    : 0);
	print_sum("bytes", p, size);
}

/* Every flag of msync, on private and shared maps, whole and with a hole. */
static void sync_map(unsigned char *p, size_t size)
{
	print_rc("sync", msync(p, size, MS_SYNC));
	print_rc("async", msync(p, size, MS_ASYNC));
	print_rc("invalidate", msync(p, size, MS_INVALIDATE));
	print_rc("sync, invalidate", msync(p, size, MS_SYNC | MS_INVALIDATE));
	print_rc("none", msync(p, size, 0));
	print_rc("sync, async", msync(p, size, MS_SYNC | MS_ASYNC));
	print_rc("flags", msync(p, size, 0x100));
	print_rc("misaligned", msync(p + 1, size, MS_SYNC));
	print_rc("empty", msync(p, 0, MS_SYNC));
	print_sum("bytes", p, size);
	print_rc("munmap", munmap(p + 3 * page_size(), page_size()));
	print_rc("hole", msync(p, size, MS_SYNC));
}

static void sync_private(const char *path)
{
	unsigned char *p = map_write(path);

	p[0] ^= 0xff;
	sync_map(p, file_size(path));
}

static void sync_shared(const char *path)
{
	sync_map(map_file(path, 0, PROT_READ, MAP_SHARED, 0), file_size(path));
}

static const struct test_case cases[] = {
	{"lock", lock},
	{"lock-dirty", lock_dirty},
	{"lock-all", lock_all},
	{"lock-all-on-fault", lock_all_on_fault},
	{"limited", limited},
	{"sync-private", sync_private},
	{"sync-shared", sync_shared},
};
CASES_MAIN(cases)
