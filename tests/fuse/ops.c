/* SPDX-License-Identifier: Apache-2.0 */
#include "ops.h"

#include "fault.h"
#include "read.h"
#include "wait.h"

#define FUSE_USE_VERSION 31
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MAX_REQUEST (1U << 20)

static const struct options *options;
static struct inode *root;
static atomic_bool initialized;

/* Must be called before the first request is served. */
void ops_start(const struct options *given_options, struct inode *given_root)
{
	options = given_options;
	root = given_root;
}

/* Says once that the INIT request has been served. */
bool ops_first_since_init(void)
{
	return atomic_load(&initialized) && atomic_exchange(&initialized, false);
}

/* The node id of an inode is its address. */
static struct inode *from_node(fuse_ino_t node)
{
	return node == FUSE_ROOT_ID ? root : (struct inode *)(uintptr_t)node;
}

/* Every request but READ begins here: counted, and delayed if so asked. */
static void begin(void)
{
	counter_meta();
	if (options->meta_delay_ms > 0)
		wait_until(wait_now() + (uint64_t)(options->meta_delay_ms * 1e6));
}

static void op_init(void *unused, struct fuse_conn_info *connection)
{
	(void)unused;
	connection->max_write = MAX_REQUEST;
	if (options->max_background != 0)
		connection->max_background = options->max_background;
	if (options->max_readahead != 0 && options->max_readahead < connection->max_readahead)
		connection->max_readahead = options->max_readahead;
	atomic_store(&initialized, true);
}

static void op_lookup(fuse_req_t request, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry = {
		.attr_timeout = options->attr_timeout,
		.entry_timeout = options->entry_timeout,
	};
	struct inode *inode;
	int error;

	begin();
	inode = inode_lookup(from_node(parent), name);
	error = inode == NULL ? errno : inode_stat(inode, &entry.attr);
	if (error != 0) {
		fuse_reply_err(request, error);
		return;
	}
	entry.ino = inode == root ? FUSE_ROOT_ID : (fuse_ino_t)(uintptr_t)inode;
	fuse_reply_entry(request, &entry);
}

static void op_forget(fuse_req_t request, fuse_ino_t node, uint64_t count)
{
	(void)node;
	(void)count;
	fuse_reply_none(request);
}

static void op_getattr(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *handle)
{
	struct stat attributes;
	int error;

	(void)handle;
	begin();
	error = inode_stat(from_node(node), &attributes);
	if (error != 0)
		fuse_reply_err(request, error);
	else
		fuse_reply_attr(request, &attributes, options->attr_timeout);
}

static void op_readlink(fuse_req_t request, fuse_ino_t node)
{
	char target[PATH_MAX];
	ssize_t length;

	begin();
	length = readlinkat(from_node(node)->path_fd, "", target, sizeof(target) - 1);
	if (length < 0) {
		fuse_reply_err(request, errno);
		return;
	}
	target[length] = '\0';
	fuse_reply_readlink(request, target);
}

static void op_open(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *handle)
{
	struct inode *inode = from_node(node);
	bool direct = (handle->flags & O_DIRECT) != 0;
	struct read_link *link;
	int error;

	begin();
	error = fault_refuses_open(inode->path, handle->flags) ? EINVAL : inode_open_data(inode);
	link = error != 0 ? NULL : calloc(1, sizeof(*link));
	if (link == NULL) {
		fuse_reply_err(request, error != 0 ? error : ENOMEM);
		return;
	}
	handle->fh = (uintptr_t)link;
	handle->keep_cache = options->keep_cache;
	handle->direct_io = options->direct_io;
	counter_open(&inode->counter, direct);
	fuse_reply_open(request, handle);
}

static void op_read(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset,
		    struct fuse_file_info *handle)
{
	read_serve((struct read_request){
		.request = request,
		.inode = from_node(node),
		.link = (struct read_link *)(uintptr_t)handle->fh,
		.direct = (handle->flags & O_DIRECT) != 0,
		.offset = (uint64_t)offset,
		.size = size,
	});
}

static void op_flush(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *handle)
{
	(void)node;
	(void)handle;
	begin();
	fuse_reply_err(request, 0);
}

static void op_release(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *handle)
{
	(void)node;
	begin();
	counter_release();
	free((void *)(uintptr_t)handle->fh);
	fuse_reply_err(request, 0);
}

static void op_opendir(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *handle)
{
	int fd;
	DIR *directory;

	begin();
	fd = openat(from_node(node)->path_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	directory = fd < 0 ? NULL : fdopendir(fd);
	if (directory == NULL) {
		fuse_reply_err(request, errno);
		return;
	}
	handle->fh = (uintptr_t)directory;
	fuse_reply_open(request, handle);
}

/* Fills buffer with directory entries. Returns the bytes used. */
static size_t fill_directory(fuse_req_t request, DIR *directory, char *buffer, size_t size)
{
	size_t used = 0;

	for (;;) {
		long position = telldir(directory);
		struct dirent *entry = readdir(directory);
		struct stat attributes = {0};
		size_t need;

		if (entry == NULL)
			return used;
		attributes.st_ino = entry->d_ino;
		attributes.st_mode = (mode_t)DTTOIF(entry->d_type);
		need = fuse_add_direntry(request, buffer + used, size - used, entry->d_name,
					 &attributes, telldir(directory));
		if (need > size - used) {
			seekdir(directory, position);
			return used;
		}
		used += need;
	}
}

static void op_readdir(fuse_req_t request, fuse_ino_t node, size_t size, off_t offset,
		       struct fuse_file_info *handle)
{
	DIR *directory = (DIR *)(uintptr_t)handle->fh;
	char *buffer = malloc(size);

	(void)node;
	begin();
	if (buffer == NULL) {
		fuse_reply_err(request, ENOMEM);
		return;
	}
	if (offset == 0)
		rewinddir(directory);
	else
		seekdir(directory, offset);
	fuse_reply_buf(request, buffer, fill_directory(request, directory, buffer, size));
	free(buffer);
}

static void op_releasedir(fuse_req_t request, fuse_ino_t node, struct fuse_file_info *handle)
{
	(void)node;
	begin();
	closedir((DIR *)(uintptr_t)handle->fh);
	fuse_reply_err(request, 0);
}

static void op_statfs(fuse_req_t request, fuse_ino_t node)
{
	struct statvfs information;
	char link[32];

	begin();
	snprintf(link, sizeof(link), "/proc/self/fd/%d", from_node(node)->path_fd);
	if (statvfs(link, &information) != 0)
		fuse_reply_err(request, errno);
	else
		fuse_reply_statfs(request, &information);
}

const struct fuse_lowlevel_ops OPS = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.getattr = op_getattr,
	.readlink = op_readlink,
	.open = op_open,
	.read = op_read,
	.flush = op_flush,
	.release = op_release,
	.opendir = op_opendir,
	.readdir = op_readdir,
	.releasedir = op_releasedir,
	.statfs = op_statfs,
};
