/* SPDX-License-Identifier: Apache-2.0 */
/* read and its like: on a model file they are served by the pool. */
#include "read.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../lib/names.h"
#include "../lib/reading.h"
#include "init.h"
#include "real.h"

/* Before a read is served: like libc's, it is a place where a thread may be cancelled. */
static void prepare(void)
{
	stn_fork_watch();
	if (stn_real.pthread_testcancel)
		stn_real.pthread_testcancel();
}

/* True if the call is done: *result is what it returns, and errno is set. Keeps errno on success.
 */
static bool serve(const struct stn_read_call *call, ssize_t *result)
{
	if (!stn_reading_serve(call, result))
		return false;
	if (*result < 0) {
		errno = (int)-*result;
		*result = -1;
	}
	return true;
}

static bool serve_read(int fd, void *buffer, size_t length, ssize_t *result)
{
	const struct iovec piece = {buffer, length};
	const struct stn_read_call call = {
		.fd = fd,
		.trusted = true,
		.pieces = &piece,
		.count = 1,
		.about_to = prepare,
	};

	return serve(&call, result);
}

static bool serve_pread(int fd, void *buffer, size_t length, off_t offset, ssize_t *result)
{
	const struct iovec piece = {buffer, length};
	const struct stn_read_call call = {
		.fd = fd,
		.positioned = true,
		.trusted = true,
		.offset = offset,
		.pieces = &piece,
		.count = 1,
		.about_to = prepare,
	};

	return serve(&call, result);
}

static bool serve_readv(int fd, const struct iovec *pieces, int count, ssize_t *result)
{
	const struct stn_read_call call = {
		.fd = fd,
		.pieces = pieces,
		.count = count,
		.about_to = prepare,
	};

	return serve(&call, result);
}

static bool serve_preadv(int fd, const struct iovec *pieces, int count, off_t offset,
			 ssize_t *result)
{
	const struct stn_read_call call = {
		.fd = fd,
		.positioned = true,
		.offset = offset,
		.pieces = pieces,
		.count = count,
		.about_to = prepare,
	};

	return serve(&call, result);
}

/* preadv2 at -1 reads where the descriptor stands; a flag asks for what only the kernel can do. */
static bool serve_preadv2(int fd, const struct iovec *pieces, int count, off_t offset, int flags,
			  ssize_t *result)
{
	if (flags)
		return false;
	return offset == -1 ? serve_readv(fd, pieces, count, result)
			    : serve_preadv(fd, pieces, count, offset, result);
}

ssize_t stn_read(int fd, void *buffer, size_t length)
{
	ssize_t result;

	if (!stn_names_empty() && serve_read(fd, buffer, length, &result))
		return result;
	return stn_real.read(fd, buffer, length);
}

STN_EXPORT ssize_t read(int fd, void *buffer, size_t length)
{
	return stn_read(fd, buffer, length);
}

STN_EXPORT ssize_t pread(int fd, void *buffer, size_t length, off_t offset)
{
	ssize_t result;

	if (!stn_names_empty() && serve_pread(fd, buffer, length, offset, &result))
		return result;
	return stn_real.pread(fd, buffer, length, offset);
}

STN_EXPORT ssize_t pread64(int fd, void *buffer, size_t length, off_t offset)
{
	ssize_t result;

	if (!stn_names_empty() && serve_pread(fd, buffer, length, offset, &result))
		return result;
	return stn_real.pread64(fd, buffer, length, offset);
}

STN_EXPORT ssize_t readv(int fd, const struct iovec *pieces, int count)
{
	ssize_t result;

	if (!stn_names_empty() && serve_readv(fd, pieces, count, &result))
		return result;
	return stn_real.readv(fd, pieces, count);
}

STN_EXPORT ssize_t preadv(int fd, const struct iovec *pieces, int count, off_t offset)
{
	ssize_t result;

	if (!stn_names_empty() && serve_preadv(fd, pieces, count, offset, &result))
		return result;
	return stn_real.preadv(fd, pieces, count, offset);
}

STN_EXPORT ssize_t preadv64(int fd, const struct iovec *pieces, int count, off_t offset)
{
	ssize_t result;

	if (!stn_names_empty() && serve_preadv(fd, pieces, count, offset, &result))
		return result;
	return stn_real.preadv64(fd, pieces, count, offset);
}

STN_EXPORT ssize_t preadv2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
	ssize_t result;

	if (!stn_names_empty() && serve_preadv2(fd, pieces, count, offset, flags, &result))
		return result;
	return stn_real.preadv2(fd, pieces, count, offset, flags);
}

STN_EXPORT ssize_t preadv64v2(int fd, const struct iovec *pieces, int count, off_t offset,
			      int flags)
{
	ssize_t result;

	if (!stn_names_empty() && serve_preadv2(fd, pieces, count, offset, flags, &result))
		return result;
	return stn_real.preadv64v2(fd, pieces, count, offset, flags);
}

/* What the headers call instead of the above when they check arguments (_FORTIFY_SOURCE). They end
 * a program that would overrun its buffer: that is libc's to do. */
ssize_t __read_chk(int fd, void *buffer, size_t length, size_t size);
ssize_t __pread_chk(int fd, void *buffer, size_t length, off_t offset, size_t size);
ssize_t __pread64_chk(int fd, void *buffer, size_t length, off_t offset, size_t size);

STN_EXPORT ssize_t __read_chk(int fd, void *buffer, size_t length, size_t size)
{
	ssize_t result;

	if (!stn_names_empty() && length <= size && serve_read(fd, buffer, length, &result))
		return result;
	return stn_real.read_chk(fd, buffer, length, size);
}

STN_EXPORT ssize_t __pread_chk(int fd, void *buffer, size_t length, off_t offset, size_t size)
{
	ssize_t result;

	if (!stn_names_empty() && length <= size &&
	    serve_pread(fd, buffer, length, offset, &result))
		return result;
	return stn_real.pread_chk(fd, buffer, length, offset, size);
}

STN_EXPORT ssize_t __pread64_chk(int fd, void *buffer, size_t length, off_t offset, size_t size)
{
	ssize_t result;

	if (!stn_names_empty() && length <= size &&
	    serve_pread(fd, buffer, length, offset, &result))
		return result;
	return stn_real.pread64_chk(fd, buffer, length, offset, size);
}
