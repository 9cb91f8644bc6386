/* SPDX-License-Identifier: Apache-2.0 */
/* Every way to come by a descriptor of a file, which is then mapped and added up. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

/* What the compiler calls if it knows that no mode is given. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int directory, const char *path, int flags);
int __openat64_2(int directory, const char *path, int flags);

/* Maps a descriptor, closes it, adds up the map. */
static void use(const char *what, int fd)
{
	struct stat found;
	void *p;

	if (fd < 0 || fstat(fd, &found) < 0) {
		print_rc(what, -1);
		return;
	}
	p = mmap(NULL, (size_t)found.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED) {
		print_rc(what, -1);
		return;
	}
	close(fd);
	print_sum(what, p, (size_t)found.st_size);
	munmap(p, (size_t)found.st_size);
}

/* The directory of a path as a descriptor, and the last part of the path. */
static int directory_of(const char *path, char *name, size_t size)
{
	char copy[4096];

	snprintf(copy, sizeof(copy), "%s", path);
	snprintf(name, size, "%s", basename(copy));
	snprintf(copy, sizeof(copy), "%s", path);
	return open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void by_open(const char *path)
{
	use("open", open(path, O_RDONLY));
}

static void by_open64(const char *path)
{
	use("open64", open64(path, O_RDONLY | O_CLOEXEC));
}

static void by_openat(const char *path)
{
	char name[256];
	int directory = directory_of(path, name, sizeof(name));

	use("openat", openat(directory, name, O_RDONLY));
}

static void by_openat64(const char *path)
{
	use("openat64", openat64(AT_FDCWD, path, O_RDONLY));
}

static void by_open_2(const char *path)
{
	use("__open_2", __open_2(path, O_RDONLY));
}

static void by_open64_2(const char *path)
{
	use("__open64_2", __open64_2(path, O_RDONLY));
}

static void by_openat_2(const char *path)
{
	use("__openat_2", __openat_2(AT_FDCWD, path, O_RDONLY));
}

static void by_openat64_2(const char *path)
{
	char name[256];
	int directory = directory_of(path, name, sizeof(name));

	use("__openat64_2", __openat64_2(directory, name, O_RDONLY));
}

static void by_fopen(const char *path)
{
	FILE *stream = fopen(path, "rb");

	use("fopen", stream ? fileno(stream) : -1);
}

static void by_fopen64(const char *path)
{
	FILE *stream = fopen64(path, "re");

	use("fopen64", stream ? fileno(stream) : -1);
}

static void by_dup(const char *path)
{
	int fd = open_file(path), copy = dup(fd);

	close(fd);
	use("dup", copy);
	copy = dup2(open_file(path), 200);
	use("dup2", copy);
}

static void by_fcntl(const char *path)
{
	int fd = open_file(path), copy = fcntl(fd, F_DUPFD_CLOEXEC, 100);

	close(fd);
	use("F_DUPFD_CLOEXEC", copy);
}

/* Sends a descriptor through a socket. */
static void send_fd(int socket, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = "";
	struct iovec vector = {&byte, 1};
	struct msghdr message = {.msg_iov = &vector,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	if (sendmsg(socket, &message, 0) != 1)
		fail("sendmsg: %s", strerror(errno));
}

/* Receives a descriptor from a socket. */
static int receive_fd(int socket)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec vector = {&byte, 1};
	struct msghdr message = {.msg_iov = &vector,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};
	int fd;

	if (recvmsg(socket, &message, 0) != 1)
		fail("recvmsg: %s", strerror(errno));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return fd;
}

/* Through a socket to oneself, and to a process that has never seen the path. */
static void by_socket(const char *path)
{
	int ends[2];
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		fail("socketpair: %s", strerror(errno));
	child = fork();
	if (child == 0) {
		use("child", receive_fd(ends[1]));
		_exit(0);
	}
	send_fd(ends[0], open_file(path));
	print_end("child", child);
	send_fd(ends[0], open_file(path));
	use("self", receive_fd(ends[1]));
}

/* A program that inherits the descriptor and knows no path. */
static void by_inheritance(const char *path)
{
	int fd = open_file(path);
	char number[16];
	pid_t child;

	snprintf(number, sizeof(number), "%d", fd);
	child = fork();
	if (child == 0) {
		execl("/proc/self/exe", "opens", number, "inherited", (char *)NULL);
		_exit(127);
	}
	print_end("program", child);
	use("self", fd);
}

/* The other side of by_inheritance: the path is a descriptor's number. */
static void inherited(const char *number)
{
	use("inherited", atoi(number));
}

/* Raw system calls, which no library sees. */
static void by_system_call(const char *path)
{
	struct open_how how = {.flags = O_RDONLY};

	use("raw openat", (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY, 0));
	use("raw openat2", (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how)));
}

/* A symbolic link of another name, opened by the name of the model and by that of the link. */
static void by_link(const char *path)
{
	unlink("link.bin");
	if (symlink(path, "link.bin") < 0)
		fail("symlink: %s", strerror(errno));
	use("link", open("link.bin", O_RDONLY));
	close(open_file(path));
	use("link to a file seen before", open("link.bin", O_RDONLY));
}

/* A relative path, and one that goes round. */
static void by_relative(const char *path)
{
	char name[256], longer[4096];
	int directory = directory_of(path, name, sizeof(name));

	if (fchdir(directory) < 0)
		fail("fchdir: %s", strerror(errno));
	snprintf(longer, sizeof(longer), "./.././%s/%s", strrchr(getcwd(NULL, 0), '/') + 1, name);
	use("relative", open(name, O_RDONLY));
	use("round", open(longer, O_RDONLY));
}

/* Descriptors that cannot be mapped, and paths that cannot be opened. */
static void refused(const char *path)
{
	size_t step = page_size();
	char *edge = (char *)map_anonymous(2 * step, 0), longer[8192];

	use("O_PATH", open(path, O_PATH));
	use("O_RDWR", open(path, O_RDWR));
	use("no path", open(*(const char *volatile *)&(const char *){NULL}, O_RDONLY));
	use("bad address", open((const char *)edge + 64 * step * 1024, O_RDONLY));
	use("empty", open("", O_RDONLY));
	use("missing", open("missing.safetensors", O_RDONLY));
	use("bad directory", openat(-5, "x.safetensors", O_RDONLY));
	memset(longer, 'x', sizeof(longer));
	strcpy(longer + sizeof(longer) - 13, ".safetensors");
	use("too long", open(longer, O_RDONLY));
	if (munmap(edge + step, step) < 0)
		fail("munmap: %s", strerror(errno));
	memcpy(edge + step - strlen(path) - 1, path, strlen(path) + 1);
	use("at the edge", open(edge + step - strlen(path) - 1, O_RDONLY));
	memset(edge, 'x', step);
	use("over the edge", open(edge, O_RDONLY));
	use("fopen", fopen("missing.safetensors", "r") ? 0 : -1);
	use("fopen mode", fopen(path, "q") ? 0 : -1);
}

/* Renamed and unlinked after it was opened; the file must be in a directory that can be written. */
static void moved_away(const char *path)
{
	char other[4096];
	int fd = open_file(path), second;

	snprintf(other, sizeof(other), "%s.renamed", path);
	second = dup(fd);
	print_rc("rename", rename(path, other));
	use("renamed", fd);
	print_rc("unlink", unlink(other));
	use("unlinked", second);
}

/* The right to open the file is given up between open and mmap. */
static void rights_dropped(const char *path)
{
	int fd = open_file(path);

	print_rc("chmod", chmod(path, 0600));
	if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
		fail("setresuid: %s", strerror(errno));
	print_rc("open", open(path, O_RDONLY));
	use("mapped", fd);
}

/* Replaced by another file of the same name, then written to in place: a new map shows the new
 * bytes. */
static void new_versions(const char *path)
{
	char other[4096];
	int fd;

	use("first", open_file(path));
	snprintf(other, sizeof(other), "%s.new", path);
	print_rc("rename", rename(other, path));
	use("replaced", open_file(path));
	for (int i = 0; i < 3; i++) {
		fd = open(path, O_WRONLY);
		print_rc("write", pwrite(fd, "new bytes", 9, 5000 * i));
		close(fd);
		use("written", open_file(path));
	}
	print_rc("truncate", truncate(path, 20000));
	use("truncated", open_file(path));
}

/* The mode of a new file passes through, and what is no file. */
static void created(const char *path)
{
	struct stat found;
	int fds[] = {
		open("a.safetensors", O_CREAT | O_RDWR, 0640),
		open64("b.safetensors", O_CREAT | O_WRONLY | O_EXCL, 0604),
		openat(AT_FDCWD, "c.safetensors", O_CREAT | O_RDWR, 0700),
		openat64(AT_FDCWD, "d.safetensors", O_CREAT | O_RDWR, 0444),
		creat("e.safetensors", 0711),
		open(".", O_TMPFILE | O_RDWR, 0660),
		open(".", O_DIRECTORY | O_RDONLY),
	};

	(void)path;
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] < 0 || fstat(fds[i], &found) < 0)
			print_rc("created", -1);
		else
			say("created: %o", found.st_mode);
	if (mkdir("dir.safetensors", 0700) < 0 || mkfifo("fifo.safetensors", 0600) < 0)
		fail("mkdir, mkfifo: %s", strerror(errno));
	use("directory", open("dir.safetensors", O_RDONLY));
	use("fifo", open("fifo.safetensors", O_RDONLY | O_NONBLOCK));
	use("empty file", open("a.safetensors", O_RDONLY));
}

static const struct test_case cases[] = {
	{"open", by_open},
	{"open64", by_open64},
	{"openat", by_openat},
	{"openat64", by_openat64},
	{"open_2", by_open_2},
	{"open64_2", by_open64_2},
	{"openat_2", by_openat_2},
	{"openat64_2", by_openat64_2},
	{"fopen", by_fopen},
	{"fopen64", by_fopen64},
	{"dup", by_dup},
	{"fcntl", by_fcntl},
	{"socket", by_socket},
	{"inheritance", by_inheritance},
	{"inherited", inherited},
	{"system-call", by_system_call},
	{"link", by_link},
	{"relative", by_relative},
	{"refused", refused},
	{"moved-away", moved_away},
	{"created", created},
	{"rights-dropped", rights_dropped},
	{"new-versions", new_versions},
};
CASES_MAIN(cases)
