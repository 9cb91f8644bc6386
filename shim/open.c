/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The open family. A file that was opened for reading under a model's name has its inode
 * remembered; nothing else happens here, and to another name only a comparison of strings.
 */
#include "edge.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#include "../lib/config.h"
#include "../lib/names.h"
#include "../lib/sys.h"
#include "init.h"
#include "real.h"
#include "stream.h"

/* Remembers the file behind fd if path names a model; returns fd. Keeps errno, async-signal-safe.
 */
static int note(int fd, const char *path, int flags)
{
	const unsigned type = 0170000, regular = 0100000;
	struct statx st = {0};

	if (fd < 0 || !stn_active || (flags & O_ACCMODE) == O_WRONLY || flags & O_PATH)
		return fd;
	if (!stn_names_match(stn_config.files, path))
		return fd;
	if (stn_sys_statx(fd, STATX_BASIC_STATS, &st) == 0 && (st.stx_mode & type) == regular)
		stn_names_add((uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor, st.stx_ino,
			      path);
	return fd;
}

static FILE *note_stream(FILE *stream, const char *path)
{
	if (stream && stn_active && stn_names_match(stn_config.files, path)) {
		int saved = errno;

		note(fileno(stream), path, O_RDONLY);
		errno = saved;
	}
	return stream;
}

STN_EXPORT int open(const char *path, int flags, ...)
{
	mode_t mode = 0;

	STN_TAKE_MODE(mode, flags);
	return note(stn_real.open(path, flags, mode), path, flags);
}

STN_EXPORT int open64(const char *path, int flags, ...)
{
	mode_t mode = 0;

	STN_TAKE_MODE(mode, flags);
	return note(stn_real.open64(path, flags, mode), path, flags);
}

STN_EXPORT int openat(int directory, const char *path, int flags, ...)
{
	mode_t mode = 0;

	STN_TAKE_MODE(mode, flags);
	return note(stn_real.openat(directory, path, flags, mode), path, flags);
}

STN_EXPORT int openat64(int directory, const char *path, int flags, ...)
{
	mode_t mode = 0;

	STN_TAKE_MODE(mode, flags);
	return note(stn_real.openat64(directory, path, flags, mode), path, flags);
}

STN_EXPORT int creat(const char *path, mode_t mode)
{
	return note(stn_real.creat(path, mode), path, O_WRONLY);
}

STN_EXPORT int creat64(const char *path, mode_t mode)
{
	return note(stn_real.creat64(path, mode), path, O_WRONLY);
}

/* What the headers call instead of the above when they check arguments (_FORTIFY_SOURCE). */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int directory, const char *path, int flags);
int __openat64_2(int directory, const char *path, int flags);

STN_EXPORT int __open_2(const char *path, int flags)
{
	return note(stn_real.open_2(path, flags), path, flags);
}

STN_EXPORT int __open64_2(const char *path, int flags)
{
	return note(stn_real.open64_2(path, flags), path, flags);
}

STN_EXPORT int __openat_2(int directory, const char *path, int flags)
{
	return note(stn_real.openat_2(directory, path, flags), path, flags);
}

STN_EXPORT int __openat64_2(int directory, const char *path, int flags)
{
	return note(stn_real.openat64_2(directory, path, flags), path, flags);
}

STN_EXPORT FILE *fopen(const char *path, const char *mode)
{
	return stn_stream_wrap(note_stream(stn_real.fopen(path, mode), path), mode);
}

STN_EXPORT FILE *fopen64(const char *path, const char *mode)
{
	return stn_stream_wrap(note_stream(stn_real.fopen64(path, mode), path), mode);
}

STN_EXPORT FILE *fdopen(int fd, const char *mode)
{
	return stn_stream_wrap(stn_real.fdopen(fd, mode), mode);
}

STN_EXPORT FILE *freopen(const char *path, const char *mode, FILE *stream)
{
	stn_stream_forget(stream);
	stream = stn_real.freopen(path, mode, stream);
	return path ? note_stream(stream, path) : stream;
}

STN_EXPORT FILE *freopen64(const char *path, const char *mode, FILE *stream)
{
	stn_stream_forget(stream);
	stream = stn_real.freopen64(path, mode, stream);
	return path ? note_stream(stream, path) : stream;
}
