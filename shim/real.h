/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The next definitions of what this library exports: one typed table, complete after
 * stn_real_resolve. Until then, and where nobody defines a name, each entry makes the system call
 * itself. Results are libc's: errno is set.
 */
#ifndef STN_REAL_H
#define STN_REAL_H

#include "edge.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef int stn_open_function(const char *path, int flags, ...);
typedef int stn_openat_function(int directory, const char *path, int flags, ...);
typedef int stn_creat_function(const char *path, mode_t mode);
typedef int stn_open_2_function(const char *path, int flags);
typedef int stn_openat_2_function(int directory, const char *path, int flags);
typedef FILE *stn_freopen_function(const char *path, const char *mode, FILE *stream);
typedef size_t stn_fread_function(void *to, size_t size, size_t count, FILE *stream);
typedef size_t stn_fread_chk_function(void *to, size_t room, size_t size, size_t count,
				      FILE *stream);
typedef FILE *stn_fopen_function(const char *path, const char *mode);
typedef void *stn_mmap_function(void *address, size_t length, int prot, int flags, int fd,
				off_t offset);
typedef ssize_t stn_pread_function(int fd, void *buffer, size_t length, off_t offset);
typedef ssize_t stn_pread_chk_function(int fd, void *buffer, size_t length, off_t offset,
				       size_t size);
typedef ssize_t stn_preadv_function(int fd, const struct iovec *pieces, int count, off_t offset);
typedef ssize_t stn_preadv2_function(int fd, const struct iovec *pieces, int count, off_t offset,
				     int flags);
typedef int stn_fadvise_function(int fd, off_t offset, off_t length, int advice);

/* Reads the optional mode argument behind flags into mode, which stays as it is where the call has
 * none. */
#define STN_TAKE_MODE(mode, flags)                                                                 \
	do {                                                                                       \
		if ((flags)&O_CREAT || ((flags)&O_TMPFILE) == O_TMPFILE) {                         \
			va_list list;                                                              \
			va_start(list, flags);                                                     \
			mode = va_arg(list, mode_t);                                               \
			va_end(list);                                                              \
		}                                                                                  \
	} while (0)

struct stn_real {
	stn_open_function *open, *open64;
	stn_openat_function *openat, *openat64;
	stn_creat_function *creat, *creat64;
	stn_open_2_function *open_2, *open64_2;
	stn_openat_2_function *openat_2, *openat64_2;
	stn_fopen_function *fopen, *fopen64;
	stn_freopen_function *freopen, *freopen64;
	FILE *(*fdopen)(int fd, const char *mode);
	stn_fread_function *fread, *fread_unlocked;
	stn_fread_chk_function *fread_chk, *fread_unlocked_chk;
	/* NULL until it has been found, and where there is none. */
	FILE *(*fopencookie)(void *cookie, const char *mode, cookie_io_functions_t functions);
	stn_mmap_function *mmap, *mmap64;
	int (*munmap)(void *address, size_t length);
	void *(*mremap)(void *old, size_t old_size, size_t new_size, int flags, ...);
	int (*mprotect)(void *address, size_t length, int prot);
	int (*pkey_mprotect)(void *address, size_t length, int prot, int key);
	int (*madvise)(void *address, size_t length, int advice);
	int (*posix_madvise)(void *address, size_t length, int advice);
	int (*mlock)(const void *address, size_t length);
	int (*mlock2)(const void *address, size_t length, unsigned flags);
	int (*mlockall)(int flags);
	int (*msync)(void *address, size_t length, int flags);
	ssize_t (*read)(int fd, void *buffer, size_t length);
	ssize_t (*read_chk)(int fd, void *buffer, size_t length, size_t size);
	stn_pread_function *pread, *pread64;
	stn_pread_chk_function *pread_chk, *pread64_chk;
	ssize_t (*readv)(int fd, const struct iovec *pieces, int count);
	stn_preadv_function *preadv, *preadv64;
	stn_preadv2_function *preadv2, *preadv64v2;
	stn_fadvise_function *posix_fadvise, *posix_fadvise64;
	ssize_t (*readahead)(int fd, off_t offset, size_t count);
	/* NULL in a process without threads, before glibc 2.34. */
	void (*pthread_testcancel)(void);
	/* glibc's form of pthread_atfork; NULL in other libcs. */
	int (*register_atfork)(void (*prepare)(void), void (*parent)(void), void (*child)(void),
			       void *object);
};

extern struct stn_real stn_real;

/* Turns the raw result of a system call into libc's: -1 and errno. */
long stn_real_result(long result);

/* Finds the next definitions. Called by the constructor. */
void stn_real_resolve(void);

#endif
