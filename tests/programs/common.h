/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the test programs share. They are plain C programs that know nothing of the library under
 * test: each prints what it sees, line by line, and the tests compare a bare run with a preloaded
 * one. Nothing here buffers output or allocates, so that it works in signal handlers, threads and
 * forked children alike.
 */
#ifndef PROGRAMS_COMMON_H
#define PROGRAMS_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* One case of a program: `PROGRAM FILE NAME` runs it. */
struct test_case {
	const char *name;
	void (*run)(const char *path);
};

/* Runs the case named by the second argument on the file named by the first; `PROGRAM --list`
 * prints names. */
int cases_main(int argc, char **argv, const struct test_case *cases, size_t count);

#define CASES_MAIN(table)                                                                          \
	int main(int argc, char **argv)                                                            \
	{                                                                                          \
		return cases_main(argc, argv, table, sizeof(table) / sizeof((table)[0]));          \
	}

/* What became of an access to memory. */
enum outcome { DONE, SEGV, BUS };

/* Prints one formatted line with a single write; fail() does so on stderr and exits with status 3.
 */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

/* Prints "WHAT: RC", with the name of errno if rc is negative. */
void print_rc(const char *what, long rc);

/* The page size and a length rounded up to it, in bytes. */
size_t page_size(void);
size_t round_page(size_t length);

/* The size of a file in bytes. */
size_t file_size(const char *path);

/* Opens a file for reading; fails the program if that is refused. */
int open_file(const char *path);

/*
 * Opens, maps and closes a file; length 0 is the whole file. Fails the program if the map is
 * refused.
 */
unsigned char *map_file(const char *path, size_t length, int prot, int flags, off_t offset);

/* The whole file, private: read-only; read-write. */
unsigned char *map_read(const char *path);
unsigned char *map_write(const char *path);

/* Fresh anonymous memory, readable and writable, of one value. */
unsigned char *map_anonymous(size_t length, unsigned char value);

/* Maps all of a file, adds it up, unmaps it; returns the sum. */
uint64_t load_sum(const char *path);

/* A checksum that depends on every byte and its place. */
uint64_t sum_bytes(const void *data, size_t length);

/* Prints "WHAT: SUM". */
void print_sum(const char *what, const void *data, size_t length);

/* Reads or stores one byte and survives the signal. */
enum outcome try_read(const volatile unsigned char *address, unsigned char *value);
enum outcome try_store(volatile unsigned char *address, unsigned char value);

/* Copies one page out and survives the signal. */
enum outcome try_copy(void *to, const void *from, size_t length);

/* Prints the outcome of a read or a store of one byte, with the value read. */
void print_read(const char *what, const volatile unsigned char *address);
void print_store(const char *what, volatile unsigned char *address);

/* Prints runs of pages with the same outcome: "WHAT: 0-9 SUM 10-11 SIGBUS". For one thread at a
 * time. */
void print_pages(const char *what, const unsigned char *address, size_t length);

/* The same, and writes the pages that can be read to a descriptor, at their places. */
void dump_pages(const char *what, const unsigned char *address, size_t length, int fd);

/* Runs body in a forked child and prints how the child ended. */
void in_child(const char *what, void (*body)(void *), void *argument);

/* Waits for a child and prints how it ended. */
void print_end(const char *what, pid_t child);

/* Runs body in a new thread to its end. */
void in_thread(void *(*body)(void *), void *argument);

/* Starts a thread; fails the program if there is none to be had. */
void start_thread(void *(*body)(void *), void *argument);

/* Sleeps. */
void sleep_ms(unsigned milliseconds);

/* Milliseconds of a monotonic clock. */
uint64_t now_ms(void);

/* The number of entries of a directory under /proc/self: task, fd. */
unsigned count_entries(const char *directory);

/* The number of mappings of the process. */
unsigned count_mappings(void);

/* A field of /proc/self/status in its unit (kB), 0 if there is none. */
unsigned long status_field(const char *name);

#endif
