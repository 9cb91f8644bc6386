/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A copy of a root that is one process's alone: a mount namespace of its own, and in it a writable
 * layer in memory over the root. Nothing of it outlives the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "inject.h"

bool inject_refuse(struct inject_verdict *verdict, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(verdict->reason, INJECT_REASON, format, arguments);
	va_end(arguments);
	return false;
}

/* Writes a short text to a file that exists. */
static bool put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool good = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return good;
}

/* A mount namespace; for others than root in a user namespace, where they may have one. */
static bool leave(void)
{
	char users[64], groups[64];

	if (unshare(CLONE_NEWNS) == 0)
		return true;
	snprintf(users, sizeof(users), "0 %u 1", geteuid());
	snprintf(groups, sizeof(groups), "0 %u 1", getegid());
	return unshare(CLONE_NEWNS | CLONE_NEWUSER) == 0 && put("/proc/self/setgroups", "deny") &&
	       put("/proc/self/uid_map", users) && put("/proc/self/gid_map", groups);
}

/* The few devices and files that programs expect; what is not to be had they must do without. */
static void furnish(void)
{
	mkdir("/proc", 0555);
	mount("proc", "/proc", "proc", MS_NOSUID | MS_NOEXEC, NULL);
	mkdir("/dev", 0755);
	if (mount("tmpfs", "/dev", "tmpfs", MS_NOSUID, "mode=755") != 0)
		return;
	mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3));
	mknod("/dev/zero", S_IFCHR | 0666, makedev(1, 5));
	mknod("/dev/urandom", S_IFCHR | 0666, makedev(1, 9));
	chmod("/dev/null", 0666);
	chmod("/dev/zero", 0666);
	chmod("/dev/urandom", 0666);
}

bool inject_enter(const char *path, struct inject_verdict *verdict)
{
	const char *place = "/tmp";
	char options[256];
	int root;

	if (!leave())
		return inject_refuse(
			verdict, "no private mount namespace for the self-test: %s (run as root)",
			strerror(errno));
	verdict->entered = true;
	/* Of this namespace: overlayfs takes no other (fs/namespace.c, clone_private_mount). */
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return inject_refuse(verdict, "%s", strerror(errno));
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount("tmpfs", place, "tmpfs", 0, "mode=755") != 0 || chdir(place) != 0 ||
	    mkdir("upper", 0755) != 0 || mkdir("work", 0755) != 0 || mkdir("root", 0755) != 0)
		return inject_refuse(verdict, "no private memory file system for the self-test: %s",
				     strerror(errno));
	snprintf(options, sizeof(options),
		 "lowerdir=/proc/self/fd/%d,upperdir=%s/upper,workdir=%s/work", root, place, place);
	if (mount("overlay", "root", "overlay", 0, options) != 0)
		return inject_refuse(verdict, "the kernel makes no overlay of the root: %s",
				     strerror(errno));
	if (chdir("root") != 0 || chroot(".") != 0)
		return inject_refuse(verdict, "chroot: %s", strerror(errno));
	furnish();
	return true;
}

bool inject_write_layer(const char *path, const char *text, int from)
{
	int fd;
	bool good;
	char buffer[4096];
	ssize_t got = 0;

	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	good = fd >= 0;
	if (text)
		good = good && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	while (good && from >= 0 && (got = read(from, buffer, sizeof(buffer))) > 0)
		good = write(fd, buffer, (size_t)got) == got;
	if (fd >= 0) {
		fchmod(fd, 0644);
		close(fd);
	}
	return good && got == 0;
}
