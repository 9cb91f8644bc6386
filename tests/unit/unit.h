/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the unit tests share: the main function, a directory for each test, files with a known
 * pattern, and waiting.
 *
 * Each file test_NAME.c is a program of its own and defines unit_suite(). Check runs every test in
 * a process of its own (CK_FORK=no turns that off), so what a test leaves behind in the library is
 * gone with it.
 */
#ifndef UNIT_H
#define UNIT_H

#include <check.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "names.h"

#define KIB ((uint64_t)1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* The suite of the program; defined by each test file. */
Suite *unit_suite(void);

/* Adds a case to the suite whose tests end after so many seconds. */
TCase *unit_case(Suite *suite, const char *name, double seconds);

/*
 * The same with a fresh, empty working directory for each test. It is below $STN_TEST_DIR, or the
 * build directory without that, and is removed when the program ends.
 */
TCase *unit_case_in_dir(Suite *suite, const char *name, double seconds);

/* The absolute path of a file in the test's directory; valid until the eighth call after it. */
const char *unit_path(const char *name);

/* Writes a file, and the directories above it. */
void unit_write(const char *name, const void *data, size_t length);
void unit_text(const char *name, const char *text);

/* Reads a file into a static buffer that ends in NUL; at most 1 MiB less one byte. */
const char *unit_read(const char *name);

/* Fills memory with what a pattern file has at offset. No byte of the pattern is zero. */
void unit_pattern(void *memory, size_t length, uint64_t offset);

/* The first position in memory that differs from the pattern, or length. */
size_t unit_pattern_differs(const void *memory, size_t length, uint64_t offset);

/* True if all bytes are zero. */
bool unit_zero(const void *memory, size_t length);

/*
 * Makes a file of the pattern, on the disk and out of the page cache, and opens it read-only. Fails
 * the test if the file system keeps its files in memory.
 */
int unit_pattern_file(const char *name, size_t size);

/*
 * Marks which pages of a file are in the page cache, one byte a page, 1 or 0. unit_cached is their
 * number.
 */
void unit_resident(int fd, size_t size, unsigned char *pages);
size_t unit_cached(int fd, size_t size);

/* Drops a file from the page cache, and reads single pages of it back in: those below count for
 * which chosen is true. */
void unit_uncache(int fd);
void unit_cache_pages(int fd, size_t count, bool (*chosen)(size_t page));

/* True if the test's directory is on a file system that reads past the page cache. */
bool unit_direct_works(void);

/* The identity of an open file. */
struct stn_identity unit_identity(int fd);

/* "/proc/PID/task/TID/fd/N" of a descriptor of the calling thread. */
const char *unit_descriptor(int fd);

/* Maps anonymous memory, readable and writable. */
void *unit_memory(size_t length);

/* Threads of this process, by /proc/self/task. */
unsigned unit_threads(void);

/* Waits until condition(argument) is true; false if it is not after so many milliseconds. */
bool unit_wait(bool (*condition)(void *), void *argument, unsigned milliseconds);

/* Waits until the process has just one thread. */
bool unit_wait_alone(unsigned milliseconds);

/* The clock in seconds. */
double unit_now(void);

/* What reading a byte gives: its value, or the signal as a negative number. */
int unit_look(const char *address);

/* The signal that storing a byte gives, 0 for none; the store is made in a child. */
int unit_store_signal(char *address);

/* The line of /proc/self/maps that begins with address, or "". */
const char *unit_maps_line(const void *address);

/* The exit status of a child; 128 and more for a signal. */
int unit_reap(int pid);

#endif
