/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTFS_OPS_H
#define TESTFS_OPS_H

#include "inode.h"
#include "options.h"

#include <stdbool.h>

struct fuse_lowlevel_ops;

extern const struct fuse_lowlevel_ops OPS;

void ops_start(const struct options *options, struct inode *root);
bool ops_first_since_init(void);

#endif
