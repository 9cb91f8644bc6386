/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTFS_READ_H
#define TESTFS_READ_H

#include "inode.h"
#include "options.h"

#include <stdbool.h>

struct fuse_req;
struct fuse_session;

/* A modelled link over which files are sent. */
struct read_link {
	const struct inode *inode; /* what it sent last, and where that ended */
	uint64_t end;
	uint64_t free; /* when it has sent what was asked of it so far */
};

/* One READ request. */
struct read_request {
	struct read_request *next;
	struct fuse_req *request;
	struct inode *inode;
	struct read_link *link; /* the open file's own */
	bool direct;		/* the kernel reads it past the page cache */
	uint64_t offset;
	uint64_t size;
};

void read_start(const struct options *options, struct fuse_session *session);
void read_set_delay(double milliseconds);
void read_serve(struct read_request read);
unsigned read_release(void);

#endif
