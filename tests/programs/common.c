/* SPDX-License-Identifier: Apache-2.0 */
#include "common.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Writes one formatted line to a descriptor; cuts it at the size of the buffer. */
static void write_line(int fd, const char *format, va_list arguments)
{
	char line[4096];
	int length = vsnprintf(line, sizeof(line) - 1, format, arguments);
	size_t size = length < (int)sizeof(line) - 1 ? (size_t)length : sizeof(line) - 2;

	line[size] = '\n';
	if (write(fd, line, size + 1) != (ssize_t)size + 1)
		_exit(4);
}

void say(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(STDOUT_FILENO, format, arguments);
	va_end(arguments);
}

void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	write_line(STDERR_FILENO, format, arguments);
	va_end(arguments);
	_exit(3);
}

void print_rc(const char *what, long rc)
{
	if (rc < 0)
		say("%s: %ld %s", what, rc, strerrorname_np(errno));
	else
		say("%s: %ld", what, rc);
}

size_t page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

size_t round_page(size_t length)
{
	return (length + page_size() - 1) & ~(page_size() - 1);
}

size_t file_size(const char *path)
{
	struct stat found;

	if (stat(path, &found) < 0)
		fail("stat %s: %s", path, strerror(errno));
	return (size_t)found.st_size;
}

int open_file(const char *path)
{
	int fd = open(path, O_RDONLY);

	if (fd < 0)
		fail("open %s: %s", path, strerror(errno));
	return fd;
}

unsigned char *map_file(const char *path, size_t length, int prot, int flags, off_t offset)
{
	int fd = open_file(path);
	struct stat found;
	unsigned char *p;

	if (fstat(fd, &found) < 0)
		fail("fstat %s: %s", path, strerror(errno));
	p = mmap(NULL, length ? length : (size_t)found.st_size, prot, flags, fd, offset);
	if (p == MAP_FAILED)
		fail("mmap %s: %s", path, strerror(errno));
	close(fd);
	return p;
}

unsigned char *map_read(const char *path)
{
	return map_file(path, 0, PROT_READ, MAP_PRIVATE, 0);
}

unsigned char *map_write(const char *path)
{
	return map_file(path, 0, PROT_READ | PROT_WRITE, MAP_PRIVATE, 0);
}

unsigned char *map_anonymous(size_t length, unsigned char value)
{
	unsigned char *p =
		mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		fail("anonymous mmap: %s", strerror(errno));
	memset(p, value, length);
	return p;
}

uint64_t load_sum(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p = map_read(path);
	uint64_t sum = sum_bytes(p, size);

	munmap(p, size);
	return sum;
}

uint64_t sum_bytes(const void *data, size_t length)
{
	const unsigned char *p = data;
	uint64_t sum = 0xcbf29ce484222325u, word;

	for (; length >= sizeof(word); p += sizeof(word), length -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		sum = (sum ^ word) * 0x100000001b3u;
		sum ^= sum >> 29;
	}
	for (; length; p++, length--)
		sum = (sum ^ *p) * 0x100000001b3u;
	return sum;
}

void print_sum(const char *what, const void *data, size_t length)
{
	say("%s: %016llx", what, (unsigned long long)sum_bytes(data, length));
}

static __thread sigjmp_buf after_signal;

static void on_fault(int number)
{
	siglongjmp(after_signal, number);
}

/* Puts the handlers in place; every guarded access does, so that a case may change them in between.
 */
static void catch_faults(void)
{
	struct sigaction action = {.sa_handler = on_fault};

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
}

/* Gives the two signals their default action back, so that a fault elsewhere ends the program. */
static void release_faults(void)
{
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
}

enum outcome try_copy(void *to, const void *from, size_t length)
{
	int number;

	catch_faults();
	number = sigsetjmp(after_signal, 1);
	if (number == 0)
		memcpy(to, from, length);
	release_faults();
	return number == 0 ? DONE : number == SIGSEGV ? SEGV : BUS;
}

enum outcome try_read(const volatile unsigned char *address, unsigned char *value)
{
	return try_copy(value, (const void *)address, 1);
}

enum outcome try_store(volatile unsigned char *address, unsigned char value)
{
	return try_copy((void *)address, &value, 1);
}

/* The word for an outcome that is no success. */
static const char *outcome_name(enum outcome outcome)
{
	return outcome == SEGV ? "SIGSEGV" : "SIGBUS";
}

void print_read(const char *what, const volatile unsigned char *address)
{
	unsigned char value = 0;
	enum outcome outcome = try_read(address, &value);

	if (outcome == DONE)
		say("%s: %02x", what, value);
	else
		say("%s: %s", what, outcome_name(outcome));
}

void print_store(const char *what, volatile unsigned char *address)
{
	enum outcome outcome = try_store(address, 0xa5);

	say("%s: %s", what, outcome == DONE ? "stored" : outcome_name(outcome));
}

/* Appends one run of pages to a line. */
static void add_run(char *line, size_t size, size_t first, size_t last, enum outcome outcome,
		    uint64_t sum)
{
	size_t used = strlen(line);

	if (outcome == DONE)
		snprintf(line + used, size - used, " %zu-%zu %016llx", first, last,
			 (unsigned long long)sum);
	else
		snprintf(line + used, size - used, " %zu-%zu %s", first, last,
			 outcome_name(outcome));
}

void print_pages(const char *what, const unsigned char *address, size_t length)
{
	dump_pages(what, address, length, -1);
}

void dump_pages(const char *what, const unsigned char *address, size_t length, int fd)
{
	static unsigned char page[65536];
	size_t step = page_size(), pages = round_page(length) / step, first = 0;
	enum outcome run = DONE;
	uint64_t sum = 0;
	char line[3584] = "";

	for (size_t i = 0; i < pages; i++) {
		enum outcome outcome = try_copy(page, address + i * step, step);

		if (i > first && outcome != run) {
			add_run(line, sizeof(line), first, i - 1, run, sum);
			first = i;
			sum = 0;
		}
		run = outcome;
		if (outcome != DONE)
			continue;
		sum = sum * 31 + sum_bytes(page, step);
		if (fd >= 0 && pwrite(fd, page, step, (off_t)(i * step)) != (ssize_t)step)
			fail("pwrite: %s", strerror(errno));
	}
	if (pages)
		add_run(line, sizeof(line), first, pages - 1, run, sum);
	say("%s:%s", what, line);
}

void print_end(const char *what, pid_t child)
{
	int status = 0;

	if (child < 0 || waitpid(child, &status, __WALL) != child)
		say("%s: no child: %s", what, strerrorname_np(errno));
	else if (WIFSIGNALED(status))
		say("%s: signal %d", what, WTERMSIG(status));
	else
		say("%s: exit %d", what, WEXITSTATUS(status));
}

void in_child(const char *what, void (*body)(void *), void *argument)
{
	pid_t child = fork();

	if (child == 0) {
		body(argument);
		_exit(0);
	}
	print_end(what, child);
}

void start_thread(void *(*body)(void *), void *argument)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, body, argument) != 0)
		fail("no thread");
	pthread_detach(thread);
}

void in_thread(void *(*body)(void *), void *argument)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, body, argument) != 0)
		fail("no thread");
	pthread_join(thread, NULL);
}

void sleep_ms(unsigned milliseconds)
{
	struct timespec pause = {milliseconds / 1000, milliseconds % 1000 * 1000000L};

	while (nanosleep(&pause, &pause) < 0 && errno == EINTR)
		;
}

uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

unsigned count_entries(const char *directory)
{
	char path[64];
	DIR *listing;
	struct dirent *entry;
	unsigned count = 0;

	snprintf(path, sizeof(path), "/proc/self/%s", directory);
	listing = opendir(path);
	if (!listing)
		fail("%s: %s", path, strerror(errno));
	while ((entry = readdir(listing)))
		count += entry->d_name[0] != '.';
	closedir(listing);
	return count;
}

/* Reads a file of /proc/self into a buffer; returns it as a string. */
static char *read_proc(const char *path, char *buffer, size_t size)
{
	int fd = open(path, O_RDONLY);
	size_t used = 0;
	ssize_t got;

	if (fd < 0)
		fail("%s: %s", path, strerror(errno));
	while (used < size - 1 && (got = read(fd, buffer + used, size - 1 - used)) > 0)
		used += (size_t)got;
	close(fd);
	buffer[used] = '\0';
	return buffer;
}

unsigned count_mappings(void)
{
	static char buffer[1 << 20];
	unsigned count = 0;

	for (const char *p = read_proc("/proc/self/maps", buffer, sizeof(buffer)); *p; p++)
		count += *p == '\n';
	return count;
}

unsigned long status_field(const char *name)
{
	char buffer[8192];
	const char *line = strstr(read_proc("/proc/self/status", buffer, sizeof(buffer)), name);

	return line ? strtoul(line + strlen(name) + 1, NULL, 10) : 0;
}

/* Prints the names of a program's cases. */
static int list_cases(const struct test_case *cases, size_t count)
{
	for (size_t i = 0; i < count; i++)
		say("%s", cases[i].name);
	return 0;
}

int cases_main(int argc, char **argv, const struct test_case *cases, size_t count)
{
	if (argc == 2 && strcmp(argv[1], "--list") == 0)
		return list_cases(cases, count);
	for (size_t i = 0; argc == 3 && i < count; i++)
		if (strcmp(cases[i].name, argv[2]) == 0) {
			cases[i].run(argv[1]);
			return 0;
		}
	fail("usage: %s FILE CASE | --list", argv[0]);
}
