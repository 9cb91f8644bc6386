/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the kernel's small text files. These functions open descriptors: outside a test or a tool
 * they are called on a thread of the pool only, whose table of descriptors is not the program's
 * (pool.h).
 */
#ifndef STN_FILE_H
#define STN_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Reads a file from its beginning into buffer, cut at size - 1, NUL-terminated. Bytes or -errno. */
ssize_t stn_file_read(const char *path, char *buffer, size_t size);

/* Reads directory/name, see stn_file_read. */
ssize_t stn_file_read_in(const char *directory, const char *name, char *buffer, size_t size);

/*
 * Reads directory/name as one decimal number; "max" and anything that is not a number below 2^63
 * give UINT64_MAX, a file that cannot be read as well.
 */
uint64_t stn_file_number(const char *directory, const char *name);

/* A file read line by line through a fixed buffer; a line that does not fit is cut. */
struct stn_lines {
	int fd;		 /* -1 when the file could not be opened */
	size_t start;	 /* of the next line in data */
	size_t length;	 /* bytes in data */
	bool skip;	 /* the rest of a line that was cut is still to come */
	char data[8192]; /* what was read and not yet returned */
};

/* Opens a file for stn_lines_next; stn_lines_close must follow, also after an error. */
void stn_lines_open(struct stn_lines *lines, const char *path);

/* Returns the next line without its newline, valid until the next call, or NULL at the end. */
char *stn_lines_next(struct stn_lines *lines);
void stn_lines_close(struct stn_lines *lines);

#endif
