/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTFS_INODE_H
#define TESTFS_INODE_H

#include "counter.h"

#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* A file, directory or symbolic link of the source tree. Lives until the server ends: so counters
 * survive a FORGET, and an inode number of the source cannot come to mean another file. */
struct inode {
	struct inode *next; /* in its hash bucket */
	dev_t device;
	ino_t number;
	int path_fd; /* O_PATH */
	char *path;  /* below the source directory, as it was first looked up; "" for the root */
	int data_fd; /* -1 until the first open */
	const char *map;
	uint64_t map_size;
	struct counter_file counter;
};

void inode_start(unsigned repeat);
struct inode *inode_open_root(const char *source);
struct inode *inode_lookup(struct inode *parent, const char *name);
int inode_stat(struct inode *inode, struct stat *attributes);
int inode_open_data(struct inode *inode);
int inode_data_size(const struct inode *inode, uint64_t *size);

#endif
