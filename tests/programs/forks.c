/* SPDX-License-Identifier: Apache-2.0 */
/* Children of every kind see the bytes of a map, and what they do to it stays theirs. */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

static unsigned char *map;
static size_t map_size;

/* Maps the file for the children. */
static void prepare(const char *path)
{
	map_size = file_size(path);
	map = map_write(path);
	map[0] ^= 0xff;
	map[map_size / 2] ^= 0xff;
}

static void child_sum(void *unused)
{
	(void)unused;
	print_sum("child", map, map_size);
}

static void by_fork(const char *path)
{
	prepare(path);
	in_child("fork", child_sum, NULL);
	print_sum("parent", map, map_size);
}

/* Without the fork handlers. */
static void by_plain_fork(const char *path)
{
	pid_t child;

	prepare(path);
	child = _Fork();
	if (child == 0) {
		child_sum(NULL);
		_exit(0);
	}
	print_end("_Fork", child);
}

static void by_clone(const char *path)
{
	long child;

	prepare(path);
	child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0) {
		child_sum(NULL);
		_exit(0);
	}
	print_end("clone", (pid_t)child);
}

/* A child that borrows the parent's memory. */
static void by_vfork(const char *path)
{
	volatile uint64_t sum = 0;
	pid_t child;

	prepare(path);
	child = vfork();
	if (child == 0) {
		sum = sum_bytes(map, map_size);
		_exit(0);
	}
	print_end("vfork", child);
	say("child: %016llx", (unsigned long long)sum);
	print_sum("parent", map, map_size);
}

static void grandchild(void *unused)
{
	(void)unused;
	map[1] ^= 0xff;
	in_child("grandchild", child_sum, NULL);
}

static void by_grandchild(const char *path)
{
	prepare(path);
	in_child("child", grandchild, NULL);
	print_sum("parent", map, map_size);
}

/* Stores, drops, unmaps and moves in a child. */
static void child_changes(void *unused)
{
	size_t step = page_size();
	unsigned char *moved;

	(void)unused;
	memset(map, 1, 3 * step);
	print_rc("drop", madvise(map + step, 20 * step, MADV_DONTNEED));
	print_rc("read", mprotect(map + 30 * step, step, PROT_READ));
	print_store("store", map + 30 * step);
	print_rc("munmap", munmap(map + 40 * step, step));
	print_pages("child", map, map_size);
	moved = mremap(map, round_page(map_size) / 2, round_page(map_size), MREMAP_MAYMOVE);
	print_rc("across the hole", moved == MAP_FAILED ? -1 : 0);
	moved = mremap(map, 20 * step, 30 * step, MREMAP_MAYMOVE);
	if (moved == MAP_FAILED)
		fail("mremap: %s", strerror(errno));
	print_pages("moved", moved, 30 * step);
}

static void changes(const char *path)
{
	prepare(path);
	in_child("child", child_changes, NULL);
	print_pages("parent", map, map_size);
}

/* A child that was made with the shared-memory flavour of the same. */
static void changes_shared(const char *path)
{
	map_size = file_size(path);
	map = map_file(path, 0, PROT_READ, MAP_SHARED, 0);
	in_child("child", child_sum, NULL);
	print_rc("drop", madvise(map, map_size, MADV_DONTNEED));
	in_child("child", child_sum, NULL);
}

/* What the parent does while a child lives does not reach the child. */
static void parent_changes(const char *path)
{
	int go[2];
	char byte = 0;
	pid_t child;

	prepare(path);
	if (pipe(go) < 0)
		fail("pipe: %s", strerror(errno));
	child = fork();
	if (child == 0) {
		print_rc("told", read(go[0], &byte, 1));
		child_sum(NULL);
		_exit(0);
	}
	memset(map, 0, map_size);
	print_rc("drop", madvise(map, map_size / 2, MADV_DONTNEED));
	print_rc("munmap", munmap(map, map_size));
	if (write(go[1], &byte, 1) != 1)
		fail("write: %s", strerror(errno));
	print_end("child", child);
}

static const char *load_path;

static void child_loads(void *unused)
{
	(void)unused;
	say("child: %016llx", (unsigned long long)load_sum(load_path));
}

/* A child maps the file anew, and so does its parent afterwards. */
static void child_maps(const char *path)
{
	load_path = path;
	prepare(path);
	in_child("child", child_loads, NULL);
	say("parent: %016llx", (unsigned long long)load_sum(path));
}

/* A child made by each way that goes on to run another program. */
static void child_runs(const char *path)
{
	pid_t child;

	prepare(path);
	child = fork();
	if (child == 0) {
		execl("/bin/echo", "echo", "ran", (char *)NULL);
		_exit(127);
	}
	print_end("fork and exec", child);
	print_rc("system", system("echo from the shell"));
	print_sum("parent", map, map_size);
}

/* A child that borrows the parent's memory and maps the file in it; then the parent does. */
static void vfork_maps(const char *path)
{
	volatile uint64_t sum = 0;
	pid_t child;

	close(open_file(path));
	child = vfork();
	if (child == 0) {
		sum = load_sum(path);
		_exit(0);
	}
	print_end("vfork", child);
	say("child: %016llx", (unsigned long long)sum);
	say("parent: %016llx", (unsigned long long)load_sum(path));
	in_child("fork", child_loads, (void *)(load_path = path));
}

static const struct test_case cases[] = {
	{"fork", by_fork},
	{"plain-fork", by_plain_fork},
	{"clone", by_clone},
	{"vfork", by_vfork},
	{"grandchild", by_grandchild},
	{"changes", changes},
	{"changes-shared", changes_shared},
	{"parent-changes", parent_changes},
	{"child-maps", child_maps},
	{"child-runs", child_runs},
	{"vfork-maps", vfork_maps},
};
CASES_MAIN(cases)
