/* SPDX-License-Identifier: Apache-2.0 */
#include "file.h"

#include <limits.h>
#include <string.h>

#include "sys.h"
#include "text.h"

ssize_t stn_file_read(const char *path, char *buffer, size_t size)
{
	int fd = stn_sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	size_t length = 0;
	ssize_t got = 0;

	buffer[0] = '\0';
	if (fd < 0)
		return fd;
	while (length < size - 1 &&
	       (got = stn_sys_read(fd, buffer + length, size - 1 - length)) > 0)
		length += (size_t)got;
	stn_sys_close(fd);
	buffer[length] = '\0';
	return got < 0 ? got : (ssize_t)length;
}

ssize_t stn_file_read_in(const char *directory, const char *name, char *buffer, size_t size)
{
	char path[PATH_MAX];
	struct stn_text text;

	stn_text_start(&text, path, sizeof(path));
	stn_text_add(&text, directory);
	stn_text_add_char(&text, '/');
	stn_text_add(&text, name);
	return stn_file_read(path, buffer, size);
}

uint64_t stn_file_number(const char *directory, const char *name)
{
	char buffer[64];
	uint64_t value;

	if (stn_file_read_in(directory, name, buffer, sizeof(buffer)) <= 0)
		return UINT64_MAX;
	return stn_text_number(buffer, strspn(buffer, "0123456789"), &value) ? value : UINT64_MAX;
}

void stn_lines_open(struct stn_lines *lines, const char *path)
{
	lines->fd = stn_sys_open(path, O_RDONLY | O_CLOEXEC);
	lines->start = 0;
	lines->length = 0;
	lines->skip = false;
}

/* Moves what is left to the front and reads more; false at the end of the file. */
static bool refill(struct stn_lines *lines)
{
	ssize_t got;

	memmove(lines->data, lines->data + lines->start, lines->length - lines->start);
	lines->length -= lines->start;
	lines->start = 0;
	if (lines->fd < 0 || lines->length >= sizeof(lines->data) - 1)
		return false;
	got = stn_sys_read(lines->fd, lines->data + lines->length,
			   sizeof(lines->data) - 1 - lines->length);
	if (got <= 0)
		return false;
	lines->length += (size_t)got;
	return true;
}

/* Cuts the next line off what has been read; NULL if its end has not. */
static char *cut_line(struct stn_lines *lines)
{
	char *line = lines->data + lines->start;
	char *end = memchr(line, '\n', lines->length - lines->start);

	if (!end)
		return NULL;
	*end = '\0';
	lines->start = (size_t)(end - lines->data) + 1;
	return line;
}

/* All of the buffer as a line: the last one of the file, or one that is cut. */
static char *cut_buffer(struct stn_lines *lines)
{
	lines->skip = lines->length == sizeof(lines->data) - 1;
	lines->data[lines->length] = '\0';
	lines->start = lines->length;
	return lines->data;
}

char *stn_lines_next(struct stn_lines *lines)
{
	for (;;) {
		bool skipped = lines->skip;
		char *line = cut_line(lines);

		if (!line) {
			if (refill(lines))
				continue;
			if (lines->length == 0)
				return NULL;
			line = cut_buffer(lines);
		} else {
			lines->skip = false;
		}
		if (!skipped)
			return line;
	}
}

void stn_lines_close(struct stn_lines *lines)
{
	if (lines->fd >= 0)
		stn_sys_close(lines->fd);
}
