/* SPDX-License-Identifier: Apache-2.0 */
#include "real.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#include "../lib/sys.h"
#include "symbols.h"
#include "write.h"

long stn_real_result(long result)
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
	return (int)stn_real_result(
		stn_sys_call(SYS_openat, AT_FDCWD, (long)path, flags, mode, 0, 0));
}

static int raw_openat(int directory, const char *path, int flags, ...)
{
	mode_t mode = 0;

	STN_TAKE_MODE(mode, flags);
	return (int)stn_real_result(
		stn_sys_call(SYS_openat, directory, (long)path, flags, mode, 0, 0));
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

/* Streams are not the kernel's: before the constructor has run libc is asked right here. The slot
 * stays as it is where the name does not exist. */
static void find_now(const char *name, void *slot)
{
	const struct stn_symbols_wanted wanted = {name, slot};

	stn_symbols_resolve(&wanted, 1);
}

static FILE *early_fopen(const char *path, const char *mode)
{
	stn_fopen_function *found = NULL;

	find_now("fopen", &found);
	if (found)
		return found(path, mode);
	errno = ENOSYS;
	return NULL;
}

static FILE *early_freopen(const char *path, const char *mode, FILE *stream)
{
	stn_freopen_function *found = NULL;

	find_now("freopen", &found);
	if (found)
		return found(path, mode, stream);
	errno = ENOSYS;
	return NULL;
}

static FILE *early_fdopen(int fd, const char *mode)
{
	FILE *(*found)(int, const char *) = NULL;

	find_now("fdopen", &found);
	if (found)
		return found(fd, mode);
	errno = ENOSYS;
	return NULL;
}

static size_t early_fread(void *to, size_t size, size_t count, FILE *stream)
{
	stn_fread_function *found = NULL;

	find_now("fread", &found);
	return found ? found(to, size, count, stream) : 0;
}

static size_t early_fread_chk(void *to, size_t room, size_t size, size_t count, FILE *stream)
{
	stn_fread_chk_function *found = NULL;

	find_now("__fread_chk", &found);
	return found ? found(to, room, size, count, stream) : 0;
}

static void *raw_mmap(void *address, size_t length, int prot, int flags, int fd, off_t offset)
{
	return (void *)stn_real_result(
		(long)stn_sys_mmap(address, length, prot, flags, fd, (uint64_t)offset));
}

static int raw_munmap(void *address, size_t length)
{
	return (int)stn_real_result(stn_sys_munmap(address, length));
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
	return (void *)stn_real_result((long)stn_sys_mremap(old, old_size, new_size, flags, to));
}

static int raw_mprotect(void *address, size_t length, int prot)
{
	return (int)stn_real_result(stn_sys_mprotect(address, length, prot));
}

static int raw_pkey_mprotect(void *address, size_t length, int prot, int key)
{
	return (int)stn_real_result(
		stn_sys_call(SYS_pkey_mprotect, (long)address, (long)length, prot, key, 0, 0));
}

static int raw_madvise(void *address, size_t length, int advice)
{
	return (int)stn_real_result(stn_sys_madvise(address, length, advice));
}

static int raw_posix_madvise(void *address, size_t length, int advice)
{
	/* As glibc does: the kernel's MADV_DONTNEED destroys data, POSIX's does not. */
	return advice == POSIX_MADV_DONTNEED ? 0 : -stn_sys_madvise(address, length, advice);
}

static int raw_mlock(const void *address, size_t length)
{
	return (int)stn_real_result(stn_sys_mlock((void *)address, length));
}

static int raw_mlock2(const void *address, size_t length, unsigned flags)
{
	return (int)stn_real_result(
		stn_sys_call(SYS_mlock2, (long)address, (long)length, (long)flags, 0, 0, 0));
}

static int raw_mlockall(int flags)
{
	return (int)stn_real_result(stn_sys_call(SYS_mlockall, flags, 0, 0, 0, 0, 0));
}

static int raw_msync(void *address, size_t length, int flags)
{
	return (int)stn_real_result(
		stn_sys_call(SYS_msync, (long)address, (long)length, flags, 0, 0, 0));
}

static ssize_t raw_read(int fd, void *buffer, size_t length)
{
	return stn_real_result(stn_sys_read(fd, buffer, length));
}

static ssize_t raw_read_chk(int fd, void *buffer, size_t length, size_t size)
{
	if (length > size)
		__builtin_trap();
	return raw_read(fd, buffer, length);
}

static ssize_t raw_pread(int fd, void *buffer, size_t length, off_t offset)
{
	return stn_real_result(stn_sys_pread(fd, buffer, length, (uint64_t)offset));
}

static ssize_t raw_pread_chk(int fd, void *buffer, size_t length, off_t offset, size_t size)
{
	if (length > size)
		__builtin_trap();
	return raw_pread(fd, buffer, length, offset);
}

static ssize_t raw_readv(int fd, const struct iovec *pieces, int count)
{
	return stn_real_result(stn_sys_call(SYS_readv, fd, (long)pieces, count, 0, 0, 0));
}

static ssize_t raw_preadv(int fd, const struct iovec *pieces, int count, off_t offset)
{
	return stn_real_result(stn_sys_preadv(fd, pieces, count, (uint64_t)offset));
}

static ssize_t raw_preadv2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
	return stn_real_result(
		stn_sys_call(SYS_preadv2, fd, (long)pieces, count, offset, 0, flags));
}

static int raw_fadvise(int fd, off_t offset, off_t length, int advice)
{
	return -stn_sys_fadvise(fd, (uint64_t)offset, (uint64_t)length, advice);
}

static ssize_t raw_readahead(int fd, off_t offset, size_t count)
{
	return stn_real_result(stn_sys_call(SYS_readahead, fd, offset, (long)count, 0, 0, 0));
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
	.freopen = early_freopen,
	.freopen64 = early_freopen,
	.fdopen = early_fdopen,
	.fread = early_fread,
	.fread_unlocked = early_fread,
	.fread_chk = early_fread_chk,
	.fread_unlocked_chk = early_fread_chk,
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
	.read = raw_read,
	.read_chk = raw_read_chk,
	.pread = raw_pread,
	.pread64 = raw_pread,
	.pread_chk = raw_pread_chk,
	.pread64_chk = raw_pread_chk,
	.readv = raw_readv,
	.preadv = raw_preadv,
	.preadv64 = raw_preadv,
	.preadv2 = raw_preadv2,
	.preadv64v2 = raw_preadv2,
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
		{"freopen", &stn_real.freopen},
		{"freopen64", &stn_real.freopen64},
		{"fdopen", &stn_real.fdopen},
		{"fread", &stn_real.fread},
		{"fread_unlocked", &stn_real.fread_unlocked},
		{"__fread_chk", &stn_real.fread_chk},
		{"__fread_unlocked_chk", &stn_real.fread_unlocked_chk},
		{"fopencookie", &stn_real.fopencookie},
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
		{"read", &stn_real.read},
		{"__read_chk", &stn_real.read_chk},
		{"pread", &stn_real.pread},
		{"pread64", &stn_real.pread64},
		{"__pread_chk", &stn_real.pread_chk},
		{"__pread64_chk", &stn_real.pread64_chk},
		{"readv", &stn_real.readv},
		{"preadv", &stn_real.preadv},
		{"preadv64", &stn_real.preadv64},
		{"preadv2", &stn_real.preadv2},
		{"preadv64v2", &stn_real.preadv64v2},
		{"posix_fadvise", &stn_real.posix_fadvise},
		{"posix_fadvise64", &stn_real.posix_fadvise64},
		{"readahead", &stn_real.readahead},
		{"pthread_testcancel", &stn_real.pthread_testcancel},
		{"__register_atfork", &stn_real.register_atfork},
	};

	stn_symbols_resolve(wanted, sizeof(wanted) / sizeof(wanted[0]));
	stn_write_resolve();
}
