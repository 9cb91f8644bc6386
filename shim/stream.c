/* SPDX-License-Identifier: Apache-2.0 */
#include "stream.h"

#include <errno.h>
#include <linux/stat.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "../lib/config.h"
#include "../lib/names.h"
#include "../lib/reading.h"
#include "../lib/sys.h"
#include "init.h"
#include "read.h"
#include "real.h"

/* A macro in glibc's headers before 2.34 or so. */
#undef fread_unlocked

#define STREAMS 64 /* of ours at a time; others are libc's own */

/* Bits of a stream's flags as glibc has had them in its ABI since 2.0 (libio.h). */
#define STREAM_USER_BUFFER 0x1
#define STREAM_END	   0x10
#define STREAM_ERROR	   0x20
#define STREAM_BACKUP	   0x100 /* reads what ungetc has put back */

/* The streams that programs have instead of libc's. */
static struct place {
	FILE *_Atomic stream; /* what the program has; NULL = free */
	FILE *_Atomic inner;  /* what it stands for */
	size_t block; /* the buffer that libc would make for the file, if less than BUFSIZ */
} places[STREAMS];
static _Atomic int stream_count;

/* The place of a stream, NULL if it is not one of ours. */
static struct place *place_of(const FILE *stream)
{
	if (atomic_load_explicit(&stream_count, memory_order_relaxed) == 0)
		return NULL;
	for (int i = 0; i < STREAMS; i++)
		if (atomic_load_explicit(&places[i].stream, memory_order_relaxed) == stream)
			return &places[i];
	return NULL;
}

/* Takes a free place for the inner stream; NULL if there is none. */
static struct place *take_place(FILE *inner)
{
	for (int i = 0; i < STREAMS; i++) {
		FILE *none = NULL;

		if (!atomic_compare_exchange_strong(&places[i].inner, &none, inner))
			continue;
		atomic_fetch_add(&stream_count, 1);
		return &places[i];
	}
	return NULL;
}

static void leave_place(struct place *place)
{
	atomic_store(&place->stream, NULL);
	atomic_store(&place->inner, NULL);
	atomic_fetch_sub(&stream_count, 1);
}

void stn_stream_forget(FILE *stream)
{
	struct place *place = place_of(stream);

	if (place)
		leave_place(place);
}

/*
 * libc makes a buffer of BUFSIZ for a stream without a file to ask. With the one that the file's
 * own stream would have, the descriptor stands where it would.
 */
static void cut_buffer(const struct place *place)
{
	FILE *stream = place->stream;

	if (place->block && !(stream->_flags & STREAM_USER_BUFFER) &&
	    stream->_IO_buf_end - stream->_IO_buf_base == BUFSIZ)
		stream->_IO_buf_end = stream->_IO_buf_base + place->block;
}

static ssize_t cookie_read(void *cookie, char *buffer, size_t length)
{
	const struct place *place = cookie;
	FILE *stream = place->stream;

	cut_buffer(place);
	if (buffer == stream->_IO_buf_base &&
	    length > (size_t)(stream->_IO_buf_end - stream->_IO_buf_base))
		length = (size_t)(stream->_IO_buf_end - stream->_IO_buf_base);
	return stn_read(fileno(place->inner), buffer, length);
}

static int cookie_seek(void *cookie, off64_t *offset, int whence)
{
	const struct place *place = cookie;
	int64_t result = stn_sys_lseek(fileno(place->inner), *offset, whence);

	if (result < 0) {
		errno = (int)-result;
		return -1;
	}
	*offset = result;
	return 0;
}

static int cookie_close(void *cookie)
{
	struct place *place = cookie;
	FILE *inner = place->inner;

	leave_place(place);
	return fclose(inner);
}

/* What libc would make of a buffer for the file; 0 for BUFSIZ. */
static size_t block_of(FILE *inner)
{
	struct statx st = {0};

	return stn_sys_statx_cached(fileno(inner), STATX_TYPE, &st) == 0 && st.stx_blksize < BUFSIZ
		       ? st.stx_blksize
		       : 0;
}

static FILE *wrap(FILE *inner)
{
	const cookie_io_functions_t functions = {
		.read = cookie_read, .seek = cookie_seek, .close = cookie_close};
	struct place *place = take_place(inner);
	FILE *stream = place ? stn_real.fopencookie(place, "r", functions) : NULL;

	if (!stream) {
		if (place)
			leave_place(place);
		return inner;
	}
	/* Both are in glibc's ABI. fopencookie leaves the one without a descriptor and the other
	 * such that wide characters and freopen crash. */
	stream->_fileno = fileno(inner);
	stream->_wide_data = NULL;
	place->block = block_of(inner);
	atomic_store(&place->stream, stream);
	return stream;
}

/* True for a mode that only reads, and bytes. */
static bool reads_bytes(const char *mode)
{
	return mode[0] == 'r' && !strchr(mode, '+') && !strchr(mode, ',');
}

FILE *stn_stream_wrap(FILE *stream, const char *mode)
{
	int saved = errno;

	/* Other libcs have other streams; this is how glibc is told apart (real.h). */
	if (stream && stn_active && stn_real.register_atfork && stn_real.fopencookie &&
	    !stn_names_empty() && reads_bytes(mode) && stn_reading_covers(fileno(stream)))
		stream = wrap(stream);
	errno = saved;
	return stream;
}

/* Reads past the stream's empty buffer as libc does: whole buffers of it. Bytes; 0 after the end or
 * an error, which the stream's flags say then. */
static size_t read_past_buffer(FILE *stream, int fd, char *to, size_t wanted)
{
	size_t block = (size_t)(stream->_IO_buf_end - stream->_IO_buf_base);
	ssize_t got;

	if (block >= 128)
		wanted -= wanted % block;
	stream->_IO_read_base = stream->_IO_read_ptr = stream->_IO_read_end = stream->_IO_buf_base;
	got = stn_read(fd, to, wanted);
	if (got <= 0)
		stream->_flags |= got ? STREAM_ERROR : STREAM_END;
	return got > 0 ? (size_t)got : 0;
}

/*
 * fread of one of our streams: what is buffered comes from libc, what needs no buffer straight from
 * the file, where fopencookie would have it read a buffer at a time. Stream locked.
 */
static size_t read_stream(FILE *stream, char *to, size_t wanted)
{
	int fd = stream->_fileno;
	size_t done = 0;

	while (done < wanted) {
		size_t left = wanted - done, got;
		size_t have = (size_t)(stream->_IO_read_end - stream->_IO_read_ptr);
		size_t block = (size_t)(stream->_IO_buf_end - stream->_IO_buf_base);
		bool backup = (stream->_flags & STREAM_BACKUP) != 0;

		if (have)
			got = stn_real.fread_unlocked(to + done, 1, have < left ? have : left,
						      stream);
		else if (backup || !block || left < block)
			got = stn_real.fread_unlocked(to + done, 1, backup || !block ? 1 : left,
						      stream);
		else
			got = read_past_buffer(stream, fd, to + done, left);
		if (!got)
			break;
		done += got;
	}
	return done;
}

/* What would be decided about a read of this stream is written to the log, with
 * STSHIM_MODE=observe.
 */
static void observe(FILE *stream)
{
	int saved = errno;

	if (stn_config.mode == STN_MODE_OBSERVE && stn_active && !stn_names_empty())
		stn_reading_covers(fileno(stream));
	errno = saved;
}

STN_EXPORT size_t fread(void *to, size_t size, size_t count, FILE *stream)
{
	size_t wanted = size * count, got;

	observe(stream);
	if (!place_of(stream) || !wanted)
		return stn_real.fread(to, size, count, stream);
	flockfile(stream);
	got = read_stream(stream, to, wanted);
	funlockfile(stream);
	return got == wanted ? count : got / size;
}

STN_EXPORT size_t fread_unlocked(void *to, size_t size, size_t count, FILE *stream)
{
	size_t wanted = size * count, got;

	observe(stream);
	if (!place_of(stream) || !wanted)
		return stn_real.fread_unlocked(to, size, count, stream);
	got = read_stream(stream, to, wanted);
	return got == wanted ? count : got / size;
}

/* What the headers call instead of the above when they check arguments (_FORTIFY_SOURCE). */
size_t __fread_chk(void *to, size_t room, size_t size, size_t count, FILE *stream);
size_t __fread_unlocked_chk(void *to, size_t room, size_t size, size_t count, FILE *stream);

/* True if libc would let this call pass. */
static bool fits(size_t room, size_t size, size_t count)
{
	size_t wanted;

	return !__builtin_mul_overflow(size, count, &wanted) && wanted <= room;
}

STN_EXPORT size_t __fread_chk(void *to, size_t room, size_t size, size_t count, FILE *stream)
{
	if (place_of(stream) && fits(room, size, count))
		return fread(to, size, count, stream);
	observe(stream);
	return stn_real.fread_chk(to, room, size, count, stream);
}

STN_EXPORT size_t __fread_unlocked_chk(void *to, size_t room, size_t size, size_t count,
				       FILE *stream)
{
	if (place_of(stream) && fits(room, size, count))
		return fread_unlocked(to, size, count, stream);
	observe(stream);
	return stn_real.fread_unlocked_chk(to, room, size, count, stream);
}
