/* SPDX-License-Identifier: Apache-2.0 */
/* Mounts: what they are, and the limits that the kernel keeps for them outside the mount. */
#ifndef STSHIM_MOUNT_H
#define STSHIM_MOUNT_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

/* One line of /proc/self/mountinfo. */
struct mount {
	char point[PATH_MAX];
	char type[64];	   /* "fuse.hf-mount" */
	char source[256];  /* cut */
	char options[512]; /* of the mount, then those of the file system; cut */
	unsigned major, minor;
};

/*
 * The mount that an open descriptor, O_PATH also, is on. Asks the kernel only, never a server.
 * False if it cannot be found.
 */
bool mount_of(int fd, struct mount *out);

/* True if the mount is FUSE, with a connection in fusectl. */
bool mount_is_fuse(const struct mount *mount);

/* The number after "NAME=" in the options, UINT64_MAX if there is none. */
uint64_t mount_option(const struct mount *mount, const char *name);

/* The limits that can be changed. */
enum mount_limit {
	MOUNT_MAX_BACKGROUND, /* requests in flight that no caller waits for alone */
	MOUNT_CONGESTION,     /* from so many on, read-ahead is held back */
	MOUNT_READ_AHEAD,     /* KiB */
	MOUNT_LIMITS
};

/* Its name, as the kernel's file has it: "max_background". */
const char *mount_limit_name(enum mount_limit limit);

/* Writes the path of the kernel's file to out; false if the mount has no such limit. */
bool mount_limit_path(const struct mount *mount, enum mount_limit limit, char out[PATH_MAX]);

/* Reads and sets a limit. 0 or -errno; -ENOTSUP if the mount has no such limit. */
int mount_limit_read(const struct mount *mount, enum mount_limit limit, uint64_t *value);
int mount_limit_write(const struct mount *mount, enum mount_limit limit, uint64_t value);

/* Requests that wait for the server's answer now; UINT64_MAX if that cannot be read. */
uint64_t mount_waiting(const struct mount *mount);

/* True if fusectl is mounted where it belongs. */
bool mount_has_fusectl(void);

#endif
