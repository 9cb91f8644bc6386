/* SPDX-License-Identifier: Apache-2.0 */
/*
 * posix_fadvise and readahead. While one buffered read of a FUSE file is stuck, a direct read of it
 * hangs too: nothing may start reading an engaged file into the page cache.
 */
#include "edge.h"

#include <fcntl.h>
#include <stdbool.h>

#include "../lib/engage.h"
#include "../lib/names.h"
#include "real.h"

/* True if the request would read an engaged file, and is otherwise one that succeeds. */
static bool is_ours(int fd, off_t length)
{
	return !stn_names_empty() && length >= 0 && stn_engage_covers(fd);
}

STN_EXPORT int posix_fadvise(int fd, off_t offset, off_t length, int advice)
{
	if (advice == POSIX_FADV_WILLNEED && is_ours(fd, length))
		return 0;
	return stn_real.posix_fadvise(fd, offset, length, advice);
}

STN_EXPORT int posix_fadvise64(int fd, off_t offset, off_t length, int advice)
{
	if (advice == POSIX_FADV_WILLNEED && is_ours(fd, length))
		return 0;
	return stn_real.posix_fadvise64(fd, offset, length, advice);
}

STN_EXPORT ssize_t readahead(int fd, off_t offset, size_t count)
{
	if (is_ours(fd, 0))
		return 0;
	return stn_real.readahead(fd, offset, count);
}
