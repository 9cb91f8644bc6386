/* SPDX-License-Identifier: Apache-2.0 */
#include "child.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys.h"

#define MILLISECOND 1000000u /* in nanoseconds */

void *child_share(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

uint64_t child_deadline(unsigned milliseconds)
{
	return stn_sys_clock(CLOCK_MONOTONIC) + (uint64_t)milliseconds * MILLISECOND;
}

/* Closes all but the standard files. Not by close_range: there are filters that kill for it. */
static void close_others(void)
{
	DIR *list = opendir("/proc/self/fd");
	struct dirent *entry;

	while (list && (entry = readdir(list))) {
		int fd = atoi(entry->d_name);

		if (fd > 2 && fd != dirfd(list))
			close(fd);
	}
	if (list)
		closedir(list);
}

/* Lets go of what the child has from its parent. */
static void cut_off(pid_t parent)
{
	/* 1: less than any core file has, and for a core handler "none" (fs/coredump.c). */
	const struct rlimit no_core = {1, 1};
	int null = open("/dev/null", O_RDWR);

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	setrlimit(RLIMIT_CORE, &no_core);
	for (int fd = 0; null >= 0 && fd < 3; fd++)
		dup2(null, fd);
	close_others();
}

bool child_start(struct child *child, void (*function)(void *), void *argument)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		cut_off(parent);
		function(argument);
		_exit(0);
	}
	*child = (struct child){.pid = pid < 0 ? 0 : pid};
	if (pid > 0)
		setpgid(pid, pid);
	return pid > 0;
}

/* Reaps the child if it has ended. */
static bool is_over(struct child *child)
{
	if (child->pid && waitpid(child->pid, &child->status, WNOHANG) != 0)
		child->pid = 0;
	return child->pid == 0;
}

bool child_await(struct child *child, uint64_t deadline)
{
	while (!is_over(child)) {
		if (stn_sys_clock(CLOCK_MONOTONIC) >= deadline)
			return false;
		stn_sys_sleep(MILLISECOND);
	}
	return true;
}

void child_kill(const struct child *child)
{
	if (!child->pid)
		return;
	kill(-child->pid, SIGKILL);
	kill(child->pid, SIGKILL);
}
