/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTFS_FAULT_H
#define TESTFS_FAULT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* What the faults say about one READ. */
struct fault_verdict {
	int error;	/* errno to answer with, or 0 */
	bool hang;	/* keep the request */
	bool die;	/* end the server */
	bool shrunk;	/* this READ set off a shrink: tell the kernel */
	uint64_t limit; /* the bytes of the file end here */
};

int fault_add(const char *spec);
void fault_clear(void);
void fault_release(void);
struct fault_verdict fault_check_read(const char *path, uint64_t offset, uint64_t length);
bool fault_refuses_open(const char *path, int flags);
void fault_change_attributes(const char *path, struct stat *attributes);

#endif
