/* SPDX-License-Identifier: Apache-2.0 */
#include "stderr.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "crew.h"
#include "process.h"
#include "sys.h"

/* Which file descriptor 2 was at start-up; 0, 0 = nothing to write to. */
static uint64_t stderr_device, stderr_inode;

/* Finds which file a descriptor is; false if it is closed. */
static bool look_at(int fd, uint64_t *device, uint64_t *inode)
{
	struct statx st = {0};

	if (stn_sys_statx(fd, STATX_BASIC_STATS, &st) < 0)
		return false;
	*device = ((uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor) + 1;
	*inode = st.stx_ino;
	return true;
}

void stn_stderr_watch(void)
{
	if (!look_at(2, &stderr_device, &stderr_inode))
		stderr_device = 0;
}

/* Writes to a descriptor; a SIGPIPE that this causes is swallowed. */
static void write_quietly(int fd, const char *text, size_t length)
{
	const uint64_t sigpipe = (uint64_t)1 << (SIGPIPE - 1);
	const struct timespec at_once = {0};
	uint64_t mask = 0, pending = 0, blocked;

	stn_sys_sigmask(NULL, &mask);
	blocked = mask | sigpipe;
	stn_sys_sigmask(&blocked, NULL);
	stn_sys_call(SYS_rt_sigpending, (long)&pending, 8, 0, 0, 0, 0);
	if (stn_sys_write(fd, text, length) == -EPIPE && !(pending & sigpipe))
		stn_sys_call(SYS_rt_sigtimedwait, (long)&sigpipe, 0, (long)&at_once, 8, 0, 0);
	stn_sys_sigmask(&mask, NULL);
}

static bool is_stderr(int fd)
{
	uint64_t device, inode;

	return look_at(fd, &device, &inode) && device == stderr_device && inode == stderr_inode;
}

/* The program's descriptor 2 as one of this thread, which has a table of its own; or -errno. */
static int borrow_stderr(void)
{
	int process = (int)stn_sys_call(SYS_pidfd_open, stn_sys_getpid(), 0, 0, 0, 0, 0), fd;

	if (process < 0)
		return process;
	fd = (int)stn_sys_call(SYS_pidfd_getfd, process, 2, 0, 0, 0, 0);
	stn_sys_close(process);
	return fd;
}

/* True if a line can be written without waiting: a thread that serves faults must not wait for a
 * terminal that has been stopped. */
static bool can_write(int fd)
{
	const struct timespec at_once = {0};
	struct pollfd what = {.fd = fd, .events = POLLOUT};

	return stn_sys_call(SYS_ppoll, (long)&what, 1, (long)&at_once, 0, 8, 0) == 1 &&
	       what.revents & POLLOUT;
}

void stn_stderr_write(const char *text, size_t length)
{
	const struct stn_process *process;
	int fd;

	if (!stderr_device)
		return;
	if (is_stderr(2)) {
		write_quietly(2, text, length);
		return;
	}
	process = stn_process_peek();
	fd = process && stn_crew_runs(process) ? borrow_stderr() : -EBADF;
	if (fd < 0)
		return;
	if (is_stderr(fd) && can_write(fd))
		write_quietly(fd, text, length);
	stn_sys_close(fd);
}
