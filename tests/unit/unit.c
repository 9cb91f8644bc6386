/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/stat.h>

#include "fs.h"
#include "sys.h"

static char base[PATH_MAX]; /* of this run, made by main */
static char directory[PATH_MAX];

/* Makes the directory of this run. */
static void make_base(void)
{
	const char *parent = getenv("STN_TEST_DIR");

	snprintf(base, sizeof(base), "%s/unit-XXXXXX", parent && *parent ? parent : TEST_DIR);
	if (mkdtemp(base))
		return;
	perror(base);
	exit(EXIT_FAILURE);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	(void)st;
	(void)kind;
	(void)walk;
	return remove(path);
}

int main(void)
{
	SRunner *runner;
	int failed;

	make_base();
	runner = srunner_create(unit_suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	if (chdir("/") < 0 || nftw(base, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0)
		perror(base);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static void enter_directory(void)
{
	snprintf(directory, sizeof(directory), "%.*s/XXXXXX", PATH_MAX - 8, base);
	ck_assert_ptr_nonnull(mkdtemp(directory));
	ck_assert_int_eq(chdir(directory), 0);
}

/* In one process for all tests (CK_FORK=no) nothing may be left in it. */
static void leave_directory(void)
{
	ck_assert_int_eq(chdir(base), 0);
}

TCase *unit_case(Suite *suite, const char *name, double seconds)
{
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, seconds);
	suite_add_tcase(suite, tcase);
	return tcase;
}

TCase *unit_case_in_dir(Suite *suite, const char *name, double seconds)
{
	TCase *tcase = unit_case(suite, name, seconds);

	tcase_add_checked_fixture(tcase, enter_directory, leave_directory);
	return tcase;
}

const char *unit_path(const char *name)
{
	static char paths[8][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, PATH_MAX, "%.*s/%s", PATH_MAX / 2, directory, name);
	return path;
}

/* Makes the directories above a file. */
static void make_parents(const char *name)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s", name);
	for (char *slash = path + 1; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
		*slash = '\0';
		ck_assert(mkdir(path, 0755) == 0 || errno == EEXIST);
	}
}

void unit_write(const char *name, const void *data, size_t length)
{
	int fd;

	make_parents(name);
	fd = open(name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ck_assert_int_ge(fd, 0);
	for (size_t done = 0; done < length;) {
		ssize_t wrote = write(fd, (const char *)data + done, length - done);

		ck_assert_int_gt(wrote, 0);
		done += (size_t)wrote;
	}
	close(fd);
}

void unit_text(const char *name, const char *text)
{
	unit_write(name, text, strlen(text));
}

const char *unit_read(const char *name)
{
	static char buffer[1 << 20];
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	ssize_t length = 0, got = 1;

	ck_assert_msg(fd >= 0, "%s: %s", name, strerror(errno));
	while (got > 0) {
		got = read(fd, buffer + length, sizeof(buffer) - 1 - (size_t)length);
		ck_assert_int_ge(got, 0);
		length += got;
	}
	close(fd);
	buffer[length] = '\0';
	return buffer;
}

static unsigned char pattern_byte(uint64_t position)
{
	return (unsigned char)(((position + 1) * 0x9e3779b97f4a7c15u) >> 56) | 1;
}

void unit_pattern(void *memory, size_t length, uint64_t offset)
{
	unsigned char *bytes = memory;

	for (size_t i = 0; i < length; i++)
		bytes[i] = pattern_byte(offset + i);
}

size_t unit_pattern_differs(const void *memory, size_t length, uint64_t offset)
{
	const unsigned char *bytes = memory;

	for (size_t i = 0; i < length; i++)
		if (bytes[i] != pattern_byte(offset + i))
			return i;
	return length;
}

bool unit_zero(const void *memory, size_t length)
{
	const unsigned char *bytes = memory;

	for (size_t i = 0; i < length; i++)
		if (bytes[i])
			return false;
	return true;
}

int unit_pattern_file(const char *name, size_t size)
{
	char *data = malloc(size + 1);
	struct statfs fs;
	int fd;

	ck_assert_ptr_nonnull(data);
	unit_pattern(data, size, 0);
	unit_write(name, data, size);
	free(data);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstatfs(fd, &fs), 0);
	ck_assert_msg(!stn_fs_memory_backed((uint64_t)fs.f_type),
		      "these tests need a directory on a disk: set STN_TEST_DIR");
	unit_uncache(fd);
	return fd;
}

void unit_resident(int fd, size_t size, unsigned char *pages)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	void *map = mmap(NULL, size, PROT_NONE, MAP_SHARED, fd, 0);

	ck_assert_ptr_ne(map, MAP_FAILED);
	ck_assert_int_eq(mincore(map, size, pages), 0);
	for (size_t i = 0; i < (size + page - 1) / page; i++)
		pages[i] &= 1;
	munmap(map, size);
}

size_t unit_cached(int fd, size_t size)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), count = (size + page - 1) / page, cached = 0;
	unsigned char *pages = malloc(count);

	unit_resident(fd, size, pages);
	for (size_t i = 0; i < count; i++)
		cached += pages[i];
	free(pages);
	return cached;
}

void unit_uncache(int fd)
{
	ck_assert_int_eq(fsync(fd), 0);
	ck_assert_int_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
}

void unit_cache_pages(int fd, size_t count, bool (*chosen)(size_t page))
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char byte;

	unit_uncache(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	for (size_t i = 0; i < count; i++)
		if (chosen(i))
			ck_assert_int_eq(pread(fd, &byte, 1, (off_t)(i * page)), 1);
	posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL);
}

bool unit_direct_works(void)
{
	void *page = unit_memory(4096);
	int fd;
	bool works;

	unit_write("direct", page, 4096);
	fd = open("direct", O_RDONLY | O_DIRECT | O_CLOEXEC);
	works = fd >= 0 && read(fd, page, 4096) == 4096;
	if (fd >= 0)
		close(fd);
	munmap(page, 4096);
	return works;
}

struct stn_identity unit_identity(int fd)
{
	struct stn_identity identity;
	struct statx st = {0};

	ck_assert_int_eq(stn_sys_statx(fd, STATX_BASIC_STATS, &st), 0);
	stn_identity_from(&st, &identity);
	return identity;
}

const char *unit_descriptor(int fd)
{
	static char path[96];

	snprintf(path, sizeof(path), "/proc/%d/task/%ld/fd/%d", getpid(), syscall(SYS_gettid), fd);
	return path;
}

void *unit_memory(size_t length)
{
	void *memory =
		mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ck_assert_ptr_ne(memory, MAP_FAILED);
	return memory;
}

unsigned unit_threads(void)
{
	DIR *task = opendir("/proc/self/task");
	unsigned count = 0;

	ck_assert_ptr_nonnull(task);
	for (const struct dirent *entry; (entry = readdir(task)) != NULL;)
		count += entry->d_name[0] != '.';
	closedir(task);
	return count;
}

double unit_now(void)
{
	return (double)stn_sys_clock(CLOCK_MONOTONIC) / 1e9;
}

bool unit_wait(bool (*condition)(void *), void *argument, unsigned milliseconds)
{
	double end = unit_now() + milliseconds / 1e3;

	while (!condition(argument)) {
		if (unit_now() > end)
			return false;
		stn_sys_sleep(1000000);
	}
	return true;
}

static bool alone(void *argument)
{
	(void)argument;
	return unit_threads() == 1;
}

bool unit_wait_alone(unsigned milliseconds)
{
	return unit_wait(alone, NULL, milliseconds);
}

int unit_reap(int pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static sigjmp_buf after_look;

static void leave_look(int signal)
{
	siglongjmp(after_look, signal);
}

int unit_look(const char *address)
{
	const struct sigaction action = {.sa_handler = leave_look};
	struct sigaction before[2];
	volatile int seen;

	sigaction(SIGSEGV, &action, &before[0]);
	sigaction(SIGBUS, &action, &before[1]);
	seen = -sigsetjmp(after_look, 1);
	if (seen == 0)
		seen = (unsigned char)*(const volatile char *)address;
	sigaction(SIGSEGV, &before[0], NULL);
	sigaction(SIGBUS, &before[1], NULL);
	return seen;
}

int unit_store_signal(char *address)
{
	int child = fork(), status;

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		*(volatile char *)address = 1;
		_exit(0);
	}
	status = unit_reap(child);
	return status >= 128 ? status - 128 : 0;
}

const char *unit_maps_line(const void *address)
{
	static char line[512];
	char start[32];
	const char *at;

	snprintf(start, sizeof(start), "%lx-", (unsigned long)(uintptr_t)address);
	line[0] = '\0';
	at = strstr(unit_read("/proc/self/maps"), start);
	if (at)
		sscanf(at, "%511[^\n]", line);
	return line;
}
