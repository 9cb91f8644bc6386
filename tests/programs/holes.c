/* SPDX-License-Identifier: Apache-2.0 */
/* Unusual ways to go about maps whose pages come as they are touched. Prints what it sees. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

#define MAPS	300
#define THREADS 4
#define ROUNDS	60

static size_t size;

/* A window of the file. */
static unsigned char *map_window(const char *path, size_t offset, int prot)
{
	return map_file(path, size - offset, prot, MAP_PRIVATE, (off_t)offset);
}

/* More maps at a time than there may be lazily filled ones. */
static void many(const char *path)
{
	static unsigned char *maps[MAPS];
	uint64_t sum = 0;

	size = file_size(path);
	for (size_t i = 0; i < MAPS; i++)
		maps[i] = map_window(path, i % 7 * page_size(), PROT_READ);
	for (size_t i = 0; i < MAPS; i++)
		sum = sum * 31 + maps[i][size / 2] + maps[i][size - 8 * page_size()];
	say("some bytes: %016llx", (unsigned long long)sum);
	for (size_t i = 0; i < MAPS; i += 2)
		munmap(maps[i], size - i % 7 * page_size());
	for (size_t i = 1; i < MAPS; i += 50)
		print_sum("all", maps[i], size - i % 7 * page_size());
}

/* Future maps are locked, and libc has not been asked for that. */
static void locked(const char *path)
{
	unsigned char *map;

	size = file_size(path);
	print_rc("mlockall", syscall(SYS_mlockall, MCL_FUTURE));
	map = map_read(path);
	print_sum("read-only", map, size);
	map = map_write(path);
	print_sum("writable", map, size);
}

/* Maps and unmaps windows, mostly while they are being read. */
static void *churn(void *argument)
{
	const char *path = argument;
	unsigned state = 7;
	uint64_t sum = 0;

	for (int i = 0; i < ROUNDS; i++) {
		size_t offset = (size_t)rand_r(&state) % 16 * page_size(), length = size - offset;
		unsigned char *map =
			map_window(path, offset, i % 2 ? PROT_READ | PROT_WRITE : PROT_READ);
		size_t touched = 5 * page_size() + (size_t)rand_r(&state) % (length / 2);

		for (size_t at = 0; at < touched; at += 64 * page_size() + 1)
			sum = sum * 31 + map[at];
		if (i % 8 == 0)
			sum = sum * 31 + sum_bytes(map, length);
		munmap(map, length);
	}
	return (void *)(uintptr_t)sum;
}

static void reused(const char *path)
{
	pthread_t threads[THREADS];
	void *sum;

	size = file_size(path);
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, churn, (void *)path) != 0)
			fail("pthread_create");
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &sum);
		say("thread %d: %016llx", i, (unsigned long long)(uintptr_t)sum);
	}
}

/* Pages that are dropped without libc's knowledge while others are still missing. */
static void dropped(const char *path)
{
	unsigned char *map = map_write(path);
	size_t page = page_size();

	size = file_size(path);
	map[20 * page] ^= 0xff;
	map[21 * page] ^= 0xff;
	syscall(SYS_madvise, map + 20 * page, page, MADV_DONTNEED);
	print_sum("the first 40 pages", map, 40 * page);
	print_sum("all", map, size);
}

/* Access changes before the pages are there. */
static void reprotected(const char *path)
{
	unsigned char *map = map_write(path);
	size_t page = page_size(), some = 100 * page;

	size = file_size(path);
	print_rc("none", mprotect(map + some, some, PROT_NONE));
	print_rc("read", mprotect(map + 3 * some, some, PROT_READ));
	print_read("none", map + some + 5 * page);
	print_sum("before", map, some);
	print_sum("behind", map + 2 * some, size - 2 * some);
	print_store("read", map + 3 * some + 5 * page);
	print_rc("read", mprotect(map + some, some, PROT_READ));
	print_sum("between", map + some, some);
	print_rc("write", mprotect(map + some, some, PROT_READ | PROT_WRITE));
	print_store("write", map + some + page);
	print_sum("all", map, size);
}

static pid_t child_that_reads(unsigned char *map)
{
	int pipes[2];
	pid_t child;
	char byte;

	if (pipe(pipes) < 0)
		fail("pipe");
	child = fork();
	if (child == 0) {
		struct iovec to = {malloc(size), size}, from = {map, size};

		close(pipes[1]);
		if (read(pipes[0], &byte, 1) < 0)
			_exit(1);
		if (process_vm_readv(getppid(), &to, 1, &from, 1, 0) != (ssize_t)size)
			_exit(2);
		print_sum("from outside", to.iov_base, size);
		_exit(0);
	}
	close(pipes[0]);
	close(pipes[1]);
	return child;
}

/* Another process reads what is missing. */
static void observed(const char *path)
{
	unsigned char *map;

	size = file_size(path);
	map = map_read(path);
	print_end("reader", child_that_reads(map));
	print_sum("all", map, size);
}

static volatile sig_atomic_t interrupted;
static unsigned char *watched;

static void on_alarm(int number)
{
	(void)number;
	interrupted += watched[(size_t)interrupted * 997 * page_size() % size] != 0;
	interrupted++;
}

/* Signals come all the time, and their handler touches pages too. */
static void signalled(const char *path)
{
	struct sigaction action = {.sa_handler = on_alarm};
	stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};

	size = file_size(path);
	watched = map_read(path);
	action.sa_flags = SA_ONSTACK;
	sigaltstack(&stack, NULL);
	sigaction(SIGALRM, &action, NULL);
	ualarm(300, 300);
	print_sum("all", watched, size);
	ualarm(0, 0);
}

/* A child of vfork touches what is missing, and unmaps a part. */
static void borrowed(const char *path)
{
	unsigned char *map = map_read(path);
	volatile uint64_t sum = 0;
	pid_t child;

	size = file_size(path);
	child = vfork();
	if (child == 0) {
		sum = sum_bytes(map, size / 2);
		munmap(map + size / 2 / page_size() * page_size(), 50 * page_size());
		_exit(0);
	}
	print_end("child", child);
	say("its sum: %016llx", (unsigned long long)sum);
	print_pages("all", map, size);
}

/* Children of children, made while nothing is complete. */
static void descended(const char *path)
{
	unsigned char *map = map_write(path);

	size = file_size(path);
	map[0] ^= 0xff;
	for (int depth = 0; depth < 5; depth++) {
		pid_t child = fork();

		if (child) {
			print_end("descendant", child);
			break;
		}
		map[(size_t)depth * size / 5] ^= 0x55;
		print_sum("descendant", map, size);
		if (depth == 4)
			_exit(0);
	}
	print_sum("all", map, size);
	if (map[0] == 0)
		_exit(0);
}

static void store_in_child(void *map)
{
	size_t page = page_size();

	print_store("read-only", (unsigned char *)map + 20 * page);
	print_store("writable", (unsigned char *)map + 200 * page);
	print_store("read-only again", (unsigned char *)map + 300 * page);
	print_read("none", (unsigned char *)map + 500 * page);
}

/* A child has the access that its parent has set, where nothing has been read too. */
static void inherited(const char *path)
{
	unsigned char *map = map_read(path);
	size_t page = page_size();

	mprotect(map + 100 * page, 300 * page, PROT_READ | PROT_WRITE);
	mprotect(map + 300 * page, 50 * page, PROT_READ);
	mprotect(map + 450 * page, 100 * page, PROT_NONE);
	in_child("child", store_in_child, map);
}

static unsigned char stored;

/* What the program has stored is there, or nothing is. */
static void look_for_store(void *map)
{
	unsigned char value = stored;

	if (try_read(map, &value) == DONE && value != stored)
		say("wrong");
}

/* A child of a child that ran no handlers. */
static void twice(const char *path)
{
	unsigned char *map = map_write(path);
	pid_t child;

	map[0] ^= 0xff;
	stored = map[0];
	child = _Fork();
	if (child == 0) {
		in_child("grandchild", look_for_store, map);
		_exit(0);
	}
	print_end("child", child);
}

static const struct test_case table[] = {
	{"many", many},
	{"locked", locked},
	{"reused", reused},
	{"dropped", dropped},
	{"reprotected", reprotected},
	{"observed", observed},
	{"signalled", signalled},
	{"borrowed", borrowed},
	{"descended", descended},
	{"inherited", inherited},
	{"twice", twice},
};

CASES_MAIN(table)
