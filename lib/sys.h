/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System calls as inline functions that return -errno and never touch errno.
 *
 * Nothing here goes through the PLT: a call by name could come back to our own hooks, or to those
 * of another preloaded library, and the pool's threads have no thread-local storage of their own in
 * which errno could live (see thread.h). All functions are async-signal-safe.
 */
#ifndef STN_SYS_H
#define STN_SYS_H

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/stat.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct statfs;

/* Bits of a program's addresses, if it has not asked for more. */
#if defined(__x86_64__)
#define STN_SYS_ADDRESS_BITS 47
#else
#define STN_SYS_ADDRESS_BITS 48
#endif

#ifdef STN_INJECT
/* tests/faults: true if the call is to fail with *instead; may change its third argument. */
bool stn_inject(long number, long a, long b, long *c, long *instead);
#endif

/* Makes one system call; returns what the kernel returned, errors as -errno. */
static inline long stn_sys_call(long number, long a, long b, long c, long d, long e, long f)
{
#ifdef STN_INJECT
	long instead;

	if (stn_inject(number, a, b, &c, &instead))
		return instead;
#endif
#if defined(__x86_64__)
	long result;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = number;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory", "cc");
	return x0;
#else
#error "libstnommap supports x86-64 and aarch64"
#endif
}

/* True if a value returned by stn_sys_mmap or stn_sys_mremap is an error (-4095 to -1). */
static inline bool stn_sys_failed(const void *address)
{
	return (uintptr_t)address >= (uintptr_t)-4095;
}

static inline int stn_sys_open(const char *path, int flags)
{
	return (int)stn_sys_call(SYS_openat, AT_FDCWD, (long)path, flags, 0, 0, 0);
}

static inline int stn_sys_create(const char *path, int flags, unsigned mode)
{
	return (int)stn_sys_call(SYS_openat, AT_FDCWD, (long)path, flags, mode, 0, 0);
}

static inline int stn_sys_close(int fd)
{
	return (int)stn_sys_call(SYS_close, fd, 0, 0, 0, 0, 0);
}

static inline ssize_t stn_sys_read(int fd, void *buffer, size_t length)
{
	return stn_sys_call(SYS_read, fd, (long)buffer, (long)length, 0, 0, 0);
}

static inline ssize_t stn_sys_pread(int fd, void *buffer, size_t length, uint64_t offset)
{
	return stn_sys_call(SYS_pread64, fd, (long)buffer, (long)length, (long)offset, 0, 0);
}

/* Reads into count pieces of memory (struct iovec). */
static inline ssize_t stn_sys_preadv(int fd, const struct iovec *pieces, int count, uint64_t offset)
{
	return stn_sys_call(SYS_preadv, fd, (long)pieces, count, (long)offset, 0, 0);
}

static inline int64_t stn_sys_lseek(int fd, int64_t offset, int whence)
{
	return stn_sys_call(SYS_lseek, fd, offset, whence, 0, 0, 0);
}

static inline ssize_t stn_sys_write(int fd, const void *buffer, size_t length)
{
	return stn_sys_call(SYS_write, fd, (long)buffer, (long)length, 0, 0, 0);
}

/* statx of an open descriptor. */
static inline int stn_sys_statx(int fd, unsigned mask, struct statx *out)
{
	const int at_empty_path = 0x1000;

	return (int)stn_sys_call(SYS_statx, fd, (long)"", at_empty_path, mask, (long)out, 0);
}

/* statx of a path. */
static inline int stn_sys_statx_path(const char *path, unsigned mask, struct statx *out)
{
	const int at_fdcwd = -100;

	return (int)stn_sys_call(SYS_statx, at_fdcwd, (long)path, 0, mask, (long)out, 0);
}

/* statx of an open descriptor, from the server's own words. */
static inline int stn_sys_statx_synced(int fd, unsigned mask, struct statx *out)
{
	const int at_empty_path = 0x1000, at_statx_force_sync = 0x2000;

	return (int)stn_sys_call(SYS_statx, fd, (long)"", at_empty_path | at_statx_force_sync, mask,
				 (long)out, 0);
}

/* The same, from what the kernel knows already: no server is asked. */
static inline int stn_sys_statx_cached(int fd, unsigned mask, struct statx *out)
{
	const int at_empty_path = 0x1000, at_statx_dont_sync = 0x4000;

	return (int)stn_sys_call(SYS_statx, fd, (long)"", at_empty_path | at_statx_dont_sync, mask,
				 (long)out, 0);
}

static inline int stn_sys_fstatfs(int fd, struct statfs *out)
{
	return (int)stn_sys_call(SYS_fstatfs, fd, (long)out, 0, 0, 0, 0);
}

static inline ssize_t stn_sys_readlink(const char *path, char *out, size_t size)
{
	return stn_sys_call(SYS_readlinkat, AT_FDCWD, (long)path, (long)out, (long)size, 0, 0);
}

static inline int stn_sys_fcntl(int fd, int command, long argument)
{
	return (int)stn_sys_call(SYS_fcntl, fd, command, argument, 0, 0, 0);
}

static inline void *stn_sys_mmap(void *address, size_t length, int prot, int flags, int fd,
				 uint64_t offset)
{
	return (void *)stn_sys_call(SYS_mmap, (long)address, (long)length, prot, flags, fd,
				    (long)offset);
}

static inline int stn_sys_munmap(void *address, size_t length)
{
	return (int)stn_sys_call(SYS_munmap, (long)address, (long)length, 0, 0, 0, 0);
}

static inline void *stn_sys_mremap(void *old, size_t old_size, size_t new_size, int flags, void *to)
{
	return (void *)stn_sys_call(SYS_mremap, (long)old, (long)old_size, (long)new_size, flags,
				    (long)to, 0);
}

static inline int stn_sys_mprotect(void *address, size_t length, int prot)
{
	return (int)stn_sys_call(SYS_mprotect, (long)address, (long)length, prot, 0, 0, 0);
}

static inline int stn_sys_madvise(void *address, size_t length, int advice)
{
	return (int)stn_sys_call(SYS_madvise, (long)address, (long)length, advice, 0, 0, 0);
}

static inline int stn_sys_mincore(void *address, size_t length, unsigned char *pages)
{
	return (int)stn_sys_call(SYS_mincore, (long)address, (long)length, (long)pages, 0, 0, 0);
}

static inline int stn_sys_mlock(void *address, size_t length)
{
	return (int)stn_sys_call(SYS_mlock, (long)address, (long)length, 0, 0, 0, 0);
}

static inline int stn_sys_munlock(void *address, size_t length)
{
	return (int)stn_sys_call(SYS_munlock, (long)address, (long)length, 0, 0, 0, 0);
}

static inline int stn_sys_fadvise(int fd, uint64_t offset, uint64_t length, int advice)
{
	return (int)stn_sys_call(SYS_fadvise64, fd, (long)offset, (long)length, advice, 0, 0);
}

/* Waits on a private futex while *word == value; timeout in nanoseconds, 0 for none. */
static inline int stn_sys_futex_wait(const uint32_t *word, uint32_t value, uint64_t timeout)
{
	struct timespec limit = {.tv_sec = (time_t)(timeout / 1000000000u),
				 .tv_nsec = (long)(timeout % 1000000000u)};

	return (int)stn_sys_call(SYS_futex, (long)word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value,
				 timeout ? (long)&limit : 0, 0, 0);
}

static inline int stn_sys_futex_wake(const uint32_t *word, int count)
{
	return (int)stn_sys_call(SYS_futex, (long)word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, 0,
				 0, 0);
}

/* A clock in nanoseconds: CLOCK_MONOTONIC or CLOCK_REALTIME. */
static inline uint64_t stn_sys_clock(int clock)
{
	struct timespec now = {0};

	stn_sys_call(SYS_clock_gettime, clock, (long)&now, 0, 0, 0, 0);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void stn_sys_sleep(uint64_t nanoseconds)
{
	struct timespec pause = {.tv_sec = (time_t)(nanoseconds / 1000000000u),
				 .tv_nsec = (long)(nanoseconds % 1000000000u)};

	stn_sys_call(SYS_nanosleep, (long)&pause, 0, 0, 0, 0, 0);
}

static inline int stn_sys_getpid(void)
{
	return (int)stn_sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
}

/*
 * Copies memory of this process by a system call, so that bad memory is an error and no signal, and
 * memory of a device that cannot be pinned is no obstacle for to. Bytes copied, fewer if to turns
 * bad, or -EFAULT; -EPERM or -ENOSYS where a filter forbids the call. pid is that of this process.
 */
static inline ssize_t stn_sys_copy(int pid, void *to, const void *from, size_t length)
{
	struct iovec into = {to, length}, out_of = {(void *)(uintptr_t)from, length};

	return stn_sys_call(SYS_process_vm_readv, pid, (long)&into, 1, (long)&out_of, 1, 0);
}

static inline unsigned stn_sys_geteuid(void)
{
	return (unsigned)stn_sys_call(SYS_geteuid, 0, 0, 0, 0, 0, 0);
}

/* Signal 0 to a thread of this process: 0 while the kernel knows it, -ESRCH afterwards. */
static inline int stn_sys_thread_probe(int tid)
{
	return (int)stn_sys_call(SYS_tgkill, stn_sys_getpid(), tid, 0, 0, 0, 0);
}

/* Sets the calling thread's signal mask; both are kernel masks of 64 bits, either may be NULL. */
static inline void stn_sys_sigmask(const uint64_t *mask, uint64_t *old)
{
	stn_sys_call(SYS_rt_sigprocmask, 2 /* SIG_SETMASK */, (long)mask, (long)old, 8, 0, 0);
}

static inline int stn_sys_prctl(int option, unsigned long a, unsigned long b, unsigned long c,
				unsigned long d)
{
	return (int)stn_sys_call(SYS_prctl, option, (long)a, (long)b, (long)c, (long)d, 0);
}

/* True under a seccomp filter. Some kill for a system call that they do not know: what is not among
 * the calls that every program makes is not made then. */
static inline bool stn_sys_filtered(void)
{
	const int get_seccomp = 21, filtered = 2;

	return stn_sys_prctl(get_seccomp, 0, 0, 0, 0) == filtered;
}

/* prlimit64 of this process; out is {soft, hard}. */
static inline int stn_sys_getrlimit(int resource, uint64_t out[2])
{
	return (int)stn_sys_call(SYS_prlimit64, 0, resource, 0, (long)out, 0, 0);
}

/* close_range(0, ~0, CLOSE_RANGE_UNSHARE): gives the calling thread an empty table of its own. */
static inline int stn_sys_empty_fd_table(void)
{
	const long nr_close_range = 436, close_range_unshare = 2;

	return (int)stn_sys_call(nr_close_range, 0, ~0u, close_range_unshare, 0, 0, 0);
}

#endif
