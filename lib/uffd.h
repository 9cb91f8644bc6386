/* SPDX-License-Identifier: Apache-2.0 */
/*
 * userfaultfd as inline-thin functions that return 0 or -errno: memory whose missing pages are
 * supplied by a thread of ours. See Documentation/admin-guide/mm/userfaultfd.rst of the kernel.
 *
 * A descriptor must stay in the private table of the pool: when its last copy is closed, every hole
 * reads as zeros. No events are asked for, so a mapping that leaves its addresses, and a forked
 * child's copy, is no longer served.
 */
#ifndef STN_UFFD_H
#define STN_UFFD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Opens a userfaultfd in the calling thread's table, non-blocking, and agrees on the protocol. One
 * that serves faults in system calls too is preferred: from the device or, with the privilege or
 * vm.unprivileged_userfaultfd, the system call. *user_only is set if only faults of user code are
 * served: a system call that touches a hole fails then. Under a seccomp filter the system call is
 * not made unless STSHIM_FILL=lazy: some filters kill for what they do not know. Returns a
 * descriptor or -errno.
 */
int stn_uffd_open(bool *user_only);

/* Has missing pages of anonymous memory served, until the descriptor is closed. Both are page
 * multiples. */
int stn_uffd_register(int fd, void *memory, size_t size);

/*
 * Reads the addresses of faults that nobody has read yet, at most most of them. Their number, 0 if
 * there are none, or -errno.
 */
int stn_uffd_read(int fd, uintptr_t *addresses, int most);

/*
 * Moves pages, leaving holes in from; both must be writable in the same way (Linux 6.8). Huge pages
 * stay such if both addresses are aligned to one. *done is set to the bytes that were moved, from
 * the start. Wakes who waits for them.
 */
int stn_uffd_move(int fd, void *to, void *from, size_t size, size_t *done);

/* Copies pages into holes, whatever access the program has to them; otherwise as stn_uffd_move. */
int stn_uffd_copy(int fd, void *to, const void *from, size_t size, size_t *done);

/* Puts zeroed pages into holes. */
int stn_uffd_zero(int fd, void *to, size_t size);

/* Makes every touch of a hole a SIGBUS (Linux 6.6); otherwise as stn_uffd_copy. */
int stn_uffd_poison(int fd, void *to, size_t size, size_t *done);

/* Has the threads that wait for pages of the range look again. Nothing need be mapped there. */
int stn_uffd_wake(int fd, void *memory, size_t size);

#endif
