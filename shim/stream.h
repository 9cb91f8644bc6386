/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of model files. libc reads for a stream by calls that no hook sees. So a model's stream
 * is opened as libc does, and the program gets another one in its place (fopencookie) that reads
 * through us: buffering, getc, ungetc, fseek and all else stay libc's own. Its descriptor is that
 * of the first, which is closed with it.
 */
#ifndef STN_STREAM_H
#define STN_STREAM_H

#include "edge.h"

#include <stdbool.h>
#include <stdio.h>

/*
 * Returns the stream to be given to the program for one that has just been opened with this mode:
 * another one if it is a model's whose reads are ours, else itself. Keeps errno.
 */
FILE *stn_stream_wrap(FILE *stream, const char *mode);

/* Forgets a stream that is about to become another file's. */
void stn_stream_forget(FILE *stream);

#endif
