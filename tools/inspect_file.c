/* SPDX-License-Identifier: Apache-2.0 */
#include "inspect.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fs.h"
#include "names.h"
#include "page.h"
#include "source.h"
#include "sys.h"

int inspect_open(struct inspect_file *file, const char *path)
{
	struct stn_identity identity;
	struct stn_source_way way = {.direct = true, .buffered = true};
	struct statx st = {0};
	struct statfs fs = {0};
	int fd;

	*file = (struct inspect_file){.fd = -1};
	if (statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &st) != 0 || statfs(path, &fs) != 0)
		return errno;
	if (S_ISDIR(st.stx_mode))
		return EISDIR;
	if (!S_ISREG(st.stx_mode))
		return EINVAL;
	stn_identity_from(&st, &identity);
	way.fuse = (uint32_t)fs.f_type == STN_FS_FUSE;
	fd = stn_source_open(path, &identity, &way, &file->direct);
	if (fd < 0)
		return -fd;
	file->fd = fd;
	file->size = identity.size;
	return 0;
}

void inspect_close(struct inspect_file *file)
{
	free(file->buffer);
	close(file->fd);
}

/* Makes room for size bytes. */
static void make_room(struct inspect_file *file, size_t size)
{
	if (size <= file->capacity)
		return;
	free(file->buffer);
	file->buffer = aligned_alloc(stn_page_size(), size);
	if (!file->buffer)
		err(EXIT_FAILURE, "memory");
	file->capacity = size;
}

/* Reads [start, end) of the file, whole pages, into the buffer. */
static bool fill(struct inspect_file *file, uint64_t start, uint64_t end)
{
	size_t length = (size_t)(end - start);
	size_t wanted = (size_t)stn_min(length, file->size - start);
	ssize_t got;

	make_room(file, length);
	file->start = start;
	file->present = 0;
	got = stn_source_read(file->fd, &file->direct, file->buffer, length, wanted, start);
	/* A file that has become shorter is one that cannot be read. */
	if (got < (ssize_t)wanted) {
		file->error = got < 0 ? (int)-got : EIO;
		return false;
	}
	file->present = (uint64_t)got;
	return true;
}

const char *inspect_read(struct inspect_file *file, uint64_t offset, size_t length, size_t ahead)
{
	uint64_t start = stn_round_down(offset, stn_page_size());
	uint64_t end = stn_round_up(offset + length + ahead, stn_page_size());
	uint64_t last = stn_round_up(file->size, stn_page_size());

	if (offset > file->size || length > file->size - offset)
		return NULL;
	if (offset < file->start || offset + length > file->start + file->present)
		if (!fill(file, start, stn_min(end, last)))
			return NULL;
	return file->buffer + (offset - file->start);
}
