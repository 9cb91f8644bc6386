/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls in which the kernel reads memory of the program's. Where an ordinary user's userfaultfd
 * serves only what the program itself touches (UFFD_USER_MODE_ONLY, userfaultfd(2)), such a call
 * would fail with EFAULT on a part of a mapping that has not been read yet: it is read first. What
 * is given to the kernel in other ways, io_uring's buffers for one, cannot be seen.
 */
#include "edge.h"

#include "write.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../lib/lazy.h"
#include "../lib/sys.h"
#include "real.h"
#include "symbols.h"

#undef fwrite_unlocked

typedef ssize_t stn_write_function(int fd, const void *from, size_t length);
typedef ssize_t stn_pwrite_function(int fd, const void *from, size_t length, off_t offset);
typedef ssize_t stn_writev_function(int fd, const struct iovec *pieces, int count);
typedef ssize_t stn_pwritev_function(int fd, const struct iovec *pieces, int count, off_t offset);
typedef ssize_t stn_pwritev2_function(int fd, const struct iovec *pieces, int count, off_t offset,
				      int flags);
typedef ssize_t stn_send_function(int fd, const void *from, size_t length, int flags);
typedef ssize_t stn_sendto_function(int fd, const void *from, size_t length, int flags,
				    const struct sockaddr *to, socklen_t to_length);
typedef ssize_t stn_sendmsg_function(int fd, const struct msghdr *message, int flags);
typedef int stn_sendmmsg_function(int fd, struct mmsghdr *messages, unsigned count, int flags);
typedef ssize_t stn_process_vm_function(pid_t pid, const struct iovec *local, unsigned long locals,
					const struct iovec *remote, unsigned long remotes,
					unsigned long flags);
typedef size_t stn_fwrite_function(const void *from, size_t size, size_t count, FILE *stream);

static ssize_t raw_write(int fd, const void *from, size_t length)
{
	return stn_real_result(stn_sys_call(SYS_write, fd, (long)from, (long)length, 0, 0, 0));
}

static ssize_t raw_pwrite(int fd, const void *from, size_t length, off_t offset)
{
	return stn_real_result(
		stn_sys_call(SYS_pwrite64, fd, (long)from, (long)length, offset, 0, 0));
}

static ssize_t raw_writev(int fd, const struct iovec *pieces, int count)
{
	return stn_real_result(stn_sys_call(SYS_writev, fd, (long)pieces, count, 0, 0, 0));
}

static ssize_t raw_pwritev(int fd, const struct iovec *pieces, int count, off_t offset)
{
	return stn_real_result(stn_sys_call(SYS_pwritev, fd, (long)pieces, count, offset, 0, 0));
}

static ssize_t raw_pwritev2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
	return stn_real_result(
		stn_sys_call(SYS_pwritev2, fd, (long)pieces, count, offset, 0, flags));
}

static ssize_t raw_sendto(int fd, const void *from, size_t length, int flags,
			  const struct sockaddr *to, socklen_t to_length)
{
	return stn_real_result(
		stn_sys_call(SYS_sendto, fd, (long)from, (long)length, flags, (long)to, to_length));
}

static ssize_t raw_send(int fd, const void *from, size_t length, int flags)
{
	return raw_sendto(fd, from, length, flags, NULL, 0);
}

static ssize_t raw_sendmsg(int fd, const struct msghdr *message, int flags)
{
	return stn_real_result(stn_sys_call(SYS_sendmsg, fd, (long)message, flags, 0, 0, 0));
}

static int raw_sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	return (int)stn_real_result(
		stn_sys_call(SYS_sendmmsg, fd, (long)messages, (long)count, flags, 0, 0));
}

static ssize_t raw_process_vm_readv(pid_t pid, const struct iovec *local, unsigned long locals,
				    const struct iovec *remote, unsigned long remotes,
				    unsigned long flags)
{
	return stn_real_result(stn_sys_call(SYS_process_vm_readv, pid, (long)local, (long)locals,
					    (long)remote, (long)remotes, (long)flags));
}

static ssize_t raw_process_vm_writev(pid_t pid, const struct iovec *local, unsigned long locals,
				     const struct iovec *remote, unsigned long remotes,
				     unsigned long flags)
{
	return stn_real_result(stn_sys_call(SYS_process_vm_writev, pid, (long)local, (long)locals,
					    (long)remote, (long)remotes, (long)flags));
}

/* A stream is not the kernel's: before the constructor has run libc is asked right here. */
static size_t early_fwrite(const void *from, size_t size, size_t count, FILE *stream)
{
	stn_fwrite_function *found = NULL;
	const struct stn_symbols_wanted wanted = {"fwrite", &found};

	stn_symbols_resolve(&wanted, 1);
	return found ? found(from, size, count, stream) : 0;
}

/* The next definitions; until they are known the system calls themselves. */
static struct {
	stn_write_function *write;
	stn_pwrite_function *pwrite, *pwrite64;
	stn_writev_function *writev;
	stn_pwritev_function *pwritev, *pwritev64;
	stn_pwritev2_function *pwritev2, *pwritev64v2;
	stn_send_function *send;
	stn_sendto_function *sendto;
	stn_sendmsg_function *sendmsg;
	stn_sendmmsg_function *sendmmsg;
	stn_process_vm_function *process_vm_readv, *process_vm_writev;
	stn_fwrite_function *fwrite, *fwrite_unlocked;
} next = {
	.write = raw_write,
	.pwrite = raw_pwrite,
	.pwrite64 = raw_pwrite,
	.writev = raw_writev,
	.pwritev = raw_pwritev,
	.pwritev64 = raw_pwritev,
	.pwritev2 = raw_pwritev2,
	.pwritev64v2 = raw_pwritev2,
	.send = raw_send,
	.sendto = raw_sendto,
	.sendmsg = raw_sendmsg,
	.sendmmsg = raw_sendmmsg,
	.process_vm_readv = raw_process_vm_readv,
	.process_vm_writev = raw_process_vm_writev,
	.fwrite = early_fwrite,
	.fwrite_unlocked = early_fwrite,
};

void stn_write_resolve(void)
{
	const struct stn_symbols_wanted wanted[] = {
		{"write", &next.write},
		{"pwrite", &next.pwrite},
		{"pwrite64", &next.pwrite64},
		{"writev", &next.writev},
		{"pwritev", &next.pwritev},
		{"pwritev64", &next.pwritev64},
		{"pwritev2", &next.pwritev2},
		{"pwritev64v2", &next.pwritev64v2},
		{"send", &next.send},
		{"sendto", &next.sendto},
		{"sendmsg", &next.sendmsg},
		{"sendmmsg", &next.sendmmsg},
		{"process_vm_readv", &next.process_vm_readv},
		{"process_vm_writev", &next.process_vm_writev},
		{"fwrite", &next.fwrite},
		{"fwrite_unlocked", &next.fwrite_unlocked},
	};

	stn_symbols_resolve(wanted, sizeof(wanted) / sizeof(wanted[0]));
}

/* Reads what is missing of memory that the kernel is about to read. */
static void fill(const void *from, size_t length)
{
	uintptr_t start = (uintptr_t)from, end = start + length;

	if (end > start && stn_lazy_fails_calls(start, end))
		stn_lazy_fill(start, end, true);
}

/* Only where it can matter are the program's lists looked at. */
static bool matters(void)
{
	return stn_lazy_any() && stn_lazy_kind() == STN_LAZY_USER_ONLY;
}

static void fill_pieces(const struct iovec *pieces, size_t count)
{
	for (size_t i = 0; pieces && matters() && i < count; i++)
		fill(pieces[i].iov_base, pieces[i].iov_len);
}

static void fill_message(const struct msghdr *message)
{
	if (message && matters())
		fill_pieces(message->msg_iov, message->msg_iovlen);
}

STN_EXPORT ssize_t write(int fd, const void *from, size_t length)
{
	fill(from, length);
	return next.write(fd, from, length);
}

extern __typeof__(write) __write STN_EXPORT __attribute__((alias("write")));

STN_EXPORT ssize_t pwrite(int fd, const void *from, size_t length, off_t offset)
{
	fill(from, length);
	return next.pwrite(fd, from, length, offset);
}

STN_EXPORT ssize_t pwrite64(int fd, const void *from, size_t length, off64_t offset)
{
	fill(from, length);
	return next.pwrite64(fd, from, length, offset);
}

STN_EXPORT ssize_t writev(int fd, const struct iovec *pieces, int count)
{
	fill_pieces(pieces, count < 0 ? 0 : (size_t)count);
	return next.writev(fd, pieces, count);
}

STN_EXPORT ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t offset)
{
	fill_pieces(pieces, count < 0 ? 0 : (size_t)count);
	return next.pwritev(fd, pieces, count, offset);
}

STN_EXPORT ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t offset)
{
	fill_pieces(pieces, count < 0 ? 0 : (size_t)count);
	return next.pwritev64(fd, pieces, count, offset);
}

STN_EXPORT ssize_t pwritev2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
	fill_pieces(pieces, count < 0 ? 0 : (size_t)count);
	return next.pwritev2(fd, pieces, count, offset, flags);
}

STN_EXPORT ssize_t pwritev64v2(int fd, const struct iovec *pieces, int count, off64_t offset,
			       int flags)
{
	fill_pieces(pieces, count < 0 ? 0 : (size_t)count);
	return next.pwritev64v2(fd, pieces, count, offset, flags);
}

STN_EXPORT ssize_t send(int fd, const void *from, size_t length, int flags)
{
	fill(from, length);
	return next.send(fd, from, length, flags);
}

STN_EXPORT ssize_t sendto(int fd, const void *from, size_t length, int flags,
			  const struct sockaddr *to, socklen_t to_length)
{
	fill(from, length);
	return next.sendto(fd, from, length, flags, to, to_length);
}

STN_EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	fill_message(message);
	return next.sendmsg(fd, message, flags);
}

STN_EXPORT int sendmmsg(int fd, struct mmsghdr *messages, unsigned count, int flags)
{
	for (unsigned i = 0; messages && matters() && i < count; i++)
		fill_message(&messages[i].msg_hdr);
	return next.sendmmsg(fd, messages, count, flags);
}

STN_EXPORT ssize_t process_vm_readv(pid_t pid, const struct iovec *local, unsigned long locals,
				    const struct iovec *remote, unsigned long remotes,
				    unsigned long flags)
{
	if (matters() && pid == stn_sys_getpid())
		fill_pieces(remote, remotes);
	return next.process_vm_readv(pid, local, locals, remote, remotes, flags);
}

STN_EXPORT ssize_t process_vm_writev(pid_t pid, const struct iovec *local, unsigned long locals,
				     const struct iovec *remote, unsigned long remotes,
				     unsigned long flags)
{
	fill_pieces(local, locals);
	return next.process_vm_writev(pid, local, locals, remote, remotes, flags);
}

STN_EXPORT size_t fwrite(const void *from, size_t size, size_t count, FILE *stream)
{
	size_t length;

	if (!__builtin_mul_overflow(size, count, &length))
		fill(from, length);
	return next.fwrite(from, size, count, stream);
}

STN_EXPORT size_t fwrite_unlocked(const void *from, size_t size, size_t count, FILE *stream)
{
	size_t length;

	if (!__builtin_mul_overflow(size, count, &length))
		fill(from, length);
	return next.fwrite_unlocked(from, size, count, stream);
}
