/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTFS_CONTROL_H
#define TESTFS_CONTROL_H

int control_start(const char *path);

#endif
