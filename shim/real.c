/* SPDX-License-Identifier: Apache-2.0 */
#include "real.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#include "../lib/sys.h"
#include "symbols.h"
#include "write.h"

/* Turns a raw result into libc's: -1 and errno. */
static long finish(long result)
{
	if (result >= -4095 && result < 0) {
		errno = (int)-result;
		return -1;
	}
	return result;
}

static int raw_open(const char *path, int flags, ...)
{
	mode_t mode = 0;

	STN_TAKE_MODE(mode, flags);
	return (int)finish(stn_sys_call(SYS_openat, AT_FDCWD, (long)path, flags, mode, 0, 0));
}

static int raw_openat(int directory, const char *path, int flags, ...)
{
	mode_t mode = 0;

	STN_TAKE_MODE(mode, flags);
	return (int)finish(stn_sys_call(SYS_openat, directory, (long)path, flags, mode, 0, 0));
}

static int raw_creat(const char *path, mode_t mode)
{
	return raw_open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

static int raw_open_2(const char *path, int flags)
{
	return raw_open(path, flags, 0);
}

static int raw_openat_2(int directory, const char *path, int flags)
{
	return raw_openat(directory, path, flags, 0);
}

/* A stream cannot be made by a system call: before the constructor has run libc is asked right
 * here. */
static FILE *early_fopen(const char *path, const char *mode)
{
	stn_fopen_function *found = NULL;
	const struct stn_symbols_wanted wanted = {"fopen", &found};

	stn_symbols_resolve(&wanted, 1);
	if (found)
		return found(path, mode);
	errno = ENOSYS;
	return NULL;
}

static void *raw_mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return (void *)finish(
		(long)stn_sys_mmap(address, length, prot, flags, fd, (uint64_t)offset));
}

static int raw_munmap(void *address, size_t length)
{
	return (int)finish(stn_sys_munmap(address, length));
}

static void *raw_mremap(void *old, size_t old_size, size_t new_size, int flags, ...)
{
	void *to = NULL;

	if (flags & MREMAP_FIXED) {
		va_list list;

		va_start(list, flags);
		to = va_arg(list, void *);
		va_end(list);
	}
	return (void *)finish((long)stn_sys_mremap(old, old_size, new_size, flags, to));
}

static int raw_mprotect(void *address, size_t length, int prot)
{
	return (int)finish(stn_sys_mprotect(address, length, prot));
}

static int raw_pkey_mprotect(void *address, size_t length, int prot, int key)
{
	return (int)finish(
		stn_sys_call(SYS_pkey_mprotect, (long)address, (long)length, prot, key, 0, 0));
}

static int raw_madvise(void *address, size_t length, int advice)
{
	return (int)finish(stn_sys_madvise(address, length, advice));
}

static int raw_posix_madvise(void *address, size_t length, int advice)
{
	/* As glibc does: the kernel's MADV_DONTNEED destroys data, POSIX's does not. */
	return advice == POSIX_MADV_DONTNEED ? 0 : -stn_sys_madvise(address, length, advice);
}

static int raw_mlock(const void *address, size_t length)
{
	return (int)finish(stn_sys_mlock((void *)address, length));
}

static int raw_mlock2(const void *address, size_t length, unsigned flags)
{
	return (int)finish(
		stn_sys_call(SYS_mlock2, (long)address, (long)length, (long)flags, 0, 0, 0));
}

static int raw_mlockall(int flags)
{
	return (int)finish(stn_sys_call(SYS_mlockall, flags, 0, 0, 0, 0, 0));
}

static int raw_msync(void *address, size_t length, int flags)
{
	return (int)finish(stn_sys_call(SYS_msync, (long)address, (long)length, flags, 0, 0, 0));
}

static int raw_fadvise(int fd, off_t offset, off_t length, int advice)
{
	return -stn_sys_fadvise(fd, (uint64_t)offset, (uint64_t)length, advice);
}

static ssize_t raw_readahead(int fd, off_t offset, size_t count)
{
	return finish(stn_sys_call(SYS_readahead, fd, offset, (long)count, 0, 0, 0));
}

struct stn_real stn_real = {
	.open = raw_open,
	.open64 = raw_open,
	.openat = raw_openat,
	.openat64 = raw_openat,
	.creat = raw_creat,
	.creat64 = raw_creat,
	.open_2 = raw_open_2,
	.open64_2 = raw_open_2,
	.openat_2 = raw_openat_2,
	.openat64_2 = raw_openat_2,
	.fopen = early_fopen,
	.fopen64 = early_fopen,
	.mmap = raw_mmap,
	.mmap64 = raw_mmap,
	.munmap = raw_munmap,
	.mremap = raw_mremap,
	.mprotect = raw_mprotect,
	.pkey_mprotect = raw_pkey_mprotect,
	.madvise = raw_madvise,
	.posix_madvise = raw_posix_madvise,
	.mlock = raw_mlock,
	.mlock2 = raw_mlock2,
	.mlockall = raw_mlockall,
	.msync = raw_msync,
	.posix_fadvise = raw_fadvise,
	.posix_fadvise64 = raw_fadvise,
	.readahead = raw_readahead,
};

void stn_real_resolve(void)
{
	const struct stn_symbols_wanted wanted[] = {
		{"open", &stn_real.open},
		{"open64", &stn_real.open64},
		{"openat", &stn_real.openat},
		{"openat64", &stn_real.openat64},
		{"creat", &stn_real.creat},
		{"creat64", &stn_real.creat64},
		{"__open_2", &stn_real.open_2},
		{"__open64_2", &stn_real.open64_2},
		{"__openat_2", &stn_real.openat_2},
		{"__openat64_2", &stn_real.openat64_2},
		{"fopen", &stn_real.fopen},
		{"fopen64", &stn_real.fopen64},
		{"mmap", &stn_real.mmap},
		{"mmap64", &stn_real.mmap64},
		{"munmap", &stn_real.munmap},
		{"mremap", &stn_real.mremap},
		{"mprotect", &stn_real.mprotect},
		{"pkey_mprotect", &stn_real.pkey_mprotect},
		{"madvise", &stn_real.madvise},
		{"posix_madvise", &stn_real.posix_madvise},
		{"mlock", &stn_real.mlock},
		{"mlock2", &stn_real.mlock2},
		{"mlockall", &stn_real.mlockall},
		{"msync", &stn_real.msync},
		{"posix_fadvise", &stn_real.posix_fadvise},
		{"posix_fadvise64", &stn_real.posix_fadvise64},
		{"readahead", &stn_real.readahead},
		{"__register_atfork", &stn_real.register_atfork},
	};

	stn_symbols_resolve(wanted, sizeof(wanted) / sizeof(wanted[0]));
	stn_write_resolve();
}
