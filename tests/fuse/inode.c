/* SPDX-License-Identifier: Apache-2.0 */
#include "inode.h"

#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BUCKETS 1024

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct inode *table[BUCKETS];
static unsigned repeat = 1;

/* Sets how often files of whole pages are shown over. Must be called before the first request. */
void inode_start(unsigned times)
{
	repeat = times;
}

/* Returns how often a file of that size is shown. */
static uint64_t times_shown(off_t size)
{
	return size % sysconf(_SC_PAGESIZE) == 0 ? repeat : 1;
}

/* Returns the path of name below parent, allocated. */
static char *join(const char *parent, const char *name)
{
	char *path = NULL;

	if (asprintf(&path, "%s%s%s", parent, *parent == '\0' ? "" : "/", name) < 0)
		abort();
	return path;
}

/* Makes an inode and puts it into its bucket. Takes path_fd and path over. */
static struct inode *insert(struct inode **bucket, const struct stat *attributes, int path_fd,
			    char *path)
{
	struct inode *inode = calloc(1, sizeof(*inode));

	if (inode == NULL)
		abort();
	inode->device = attributes->st_dev;
	inode->number = attributes->st_ino;
	inode->path_fd = path_fd;
	inode->path = path;
	inode->data_fd = -1;
	inode->next = *bucket;
	*bucket = inode;
	counter_register(&inode->counter, path);
	return inode;
}

/* Returns the inode that path_fd is open on, a new one if need be. Takes path_fd and path over. */
static struct inode *intern(int path_fd, char *path)
{
	struct stat attributes;
	struct inode *inode;
	struct inode **bucket;

	if (fstat(path_fd, &attributes) != 0) {
		close(path_fd);
		free(path);
		return NULL;
	}
	bucket = &table[attributes.st_ino % BUCKETS];
	pthread_mutex_lock(&lock);
	for (inode = *bucket; inode != NULL; inode = inode->next)
		if (inode->number == attributes.st_ino && inode->device == attributes.st_dev)
			break;
	if (inode == NULL) {
		inode = insert(bucket, &attributes, path_fd, path);
	} else {
		close(path_fd);
		free(path);
	}
	pthread_mutex_unlock(&lock);
	return inode;
}

/* Opens the source directory. Returns NULL with errno set. */
struct inode *inode_open_root(const char *source)
{
	int fd = open(source, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? NULL : intern(fd, join("", ""));
}

/* Finds name in the directory parent, without following a link. Returns NULL with errno set. */
struct inode *inode_lookup(struct inode *parent, const char *name)
{
	int fd = openat(parent->path_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? NULL : intern(fd, join(parent->path, name));
}

/* Makes the attributes of a regular file those that the mount shows. */
static void change_attributes(const struct inode *inode, struct stat *attributes)
{
	attributes->st_size *= (off_t)times_shown(attributes->st_size);
	fault_change_attributes(inode->path, attributes);
}

/* Fills *attributes as the mount shows them. Returns 0 or an errno. */
int inode_stat(struct inode *inode, struct stat *attributes)
{
	if (fstatat(inode->path_fd, "", attributes, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) != 0)
		return errno;
	if (S_ISREG(attributes->st_mode))
		change_attributes(inode, attributes);
	return 0;
}

/* Maps the file as often as it is shown, end to end. Returns MAP_FAILED or the address. What was
 * read once stays in memory where the limit on locked memory allows it: a kernel that drops pages
 * which lie idle (DAMON) would have the disk measured, or waited for, instead of the delay asked
 * for. */
static void *map_shown(int fd, size_t size, uint64_t times)
{
	char *map = mmap(NULL, size * times, PROT_READ, MAP_SHARED, fd, 0);

	for (uint64_t i = 1; map != MAP_FAILED && i < times; i++)
		if (mmap(map + i * size, size, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) ==
		    MAP_FAILED)
			return MAP_FAILED;
	if (map != MAP_FAILED)
		mlock2(map, size * times, MLOCK_ONFAULT);
	return map;
}

/* Sets *size to what the file has now, as often as it is shown. Returns 0 or an errno. */
int inode_data_size(const struct inode *inode, uint64_t *size)
{
	struct stat attributes;

	if (fstat(inode->data_fd, &attributes) != 0)
		return errno;
	*size = (uint64_t)attributes.st_size * times_shown(attributes.st_size);
	return 0;
}

/* Opens and maps the file. Reads are answered straight from the map: one copy, and a dropped page
 * cache leaves mapped pages where they are. Returns 0 or an errno. */
static int open_locked(struct inode *inode)
{
	char link[32];
	struct stat attributes;
	uint64_t times;
	void *map;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", inode->path_fd);
	inode->data_fd = open(link, O_RDONLY | O_CLOEXEC);
	if (inode->data_fd < 0)
		return errno;
	if (fstat(inode->data_fd, &attributes) != 0 || attributes.st_size == 0)
		return 0;
	times = times_shown(attributes.st_size);
	map = map_shown(inode->data_fd, (size_t)attributes.st_size, times);
	if (map != MAP_FAILED) {
		inode->map = map;
		inode->map_size = (uint64_t)attributes.st_size * times;
	}
	return 0;
}

/* Makes the bytes of a regular file readable, once. Returns 0 or an errno. */
int inode_open_data(struct inode *inode)
{
	int error = 0;

	pthread_mutex_lock(&lock);
	if (inode->data_fd < 0)
		error = open_locked(inode);
	pthread_mutex_unlock(&lock);
	return error;
}
