/* SPDX-License-Identifier: Apache-2.0 */
/* The pool's threads and the rest of the process: descriptors, fork, refusals of the kernel. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pool.h"
#include "pooljob.h"
#include "sys.h"
#include "unit.h"

#define FILES 10

/* A call that opens files, waits to be let go, and reads the first of them. */
struct opener {
	struct stn_call call;
	char path[4096];
	int fds[FILES];
	int opened, go; /* atomic */
	char read[8];
};

static void open_files(struct stn_call *call)
{
	struct opener *self = (struct opener *)(void *)call;

	for (int i = 0; i < FILES; i++)
		self->fds[i] = stn_sys_open(self->path, O_RDONLY | O_CLOEXEC);
	__atomic_store_n(&self->opened, 1, __ATOMIC_RELEASE);
	while (!__atomic_load_n(&self->go, __ATOMIC_ACQUIRE))
		stn_sys_sleep(1000000);
	stn_sys_read(self->fds[0], self->read, 5);
	for (int i = 0; i < FILES; i++)
		stn_sys_close(self->fds[i]);
}

static void *run_opener(void *argument)
{
	struct opener *self = argument;

	return (void *)(intptr_t)stn_pool_run(&self->call.job, 4, 0, NULL);
}

/* Starts the call and returns when it has its files open. */
static struct opener *start_opener(pthread_t *thread)
{
	struct opener *self = stn_call_make(sizeof(*self), open_files);

	ck_assert_ptr_nonnull(self);
	unit_text("hello", "hello");
	strcpy(self->path, unit_path("hello"));
	ck_assert_int_eq(pthread_create(thread, NULL, run_opener, self), 0);
	while (!__atomic_load_n(&self->opened, __ATOMIC_ACQUIRE))
		stn_sys_sleep(1000000);
	return self;
}

static void finish_opener(struct opener *self, pthread_t thread)
{
	void *rc;

	__atomic_store_n(&self->go, 1, __ATOMIC_RELEASE);
	ck_assert_int_eq(pthread_join(thread, &rc), 0);
	ck_assert_int_eq((int)(intptr_t)rc, 0);
	ck_assert_str_eq(self->read, "hello");
	stn_job_put(&self->call.job);
}

/* The program's descriptors as one text. */
static const char *descriptors(void)
{
	static char text[4096];
	struct dirent **entries;
	int count = scandir("/proc/self/fd", &entries, NULL, alphasort);

	text[0] = '\0';
	for (int i = 0; i < count; i++) {
		strcat(strcat(text, entries[i]->d_name), " ");
		free(entries[i]);
	}
	free(entries);
	return text;
}

/* What the pool opens is not in the program's table, nor the reverse. */
START_TEST(private_table)
{
	char before[4096];
	struct opener *self;
	pthread_t thread;

	strcpy(before, descriptors());
	self = start_opener(&thread);
	ck_assert_str_eq(descriptors(), before);
	/* The pool's own table was empty. */
	for (int i = 0; i < FILES; i++)
		ck_assert_int_eq(self->fds[i], i);
	finish_opener(self, thread);
	ck_assert_str_eq(descriptors(), before);
}
END_TEST

/* The pool holds no pipe of the program's open: its end is seen at once. */
START_TEST(holds_nothing)
{
	struct opener *self;
	pthread_t thread;
	int ends[2];
	char byte;

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	self = start_opener(&thread);
	ck_assert_int_eq(close(ends[1]), 0);
	ck_assert_int_eq(read(ends[0], &byte, 1), 0);
	finish_opener(self, thread);
}
END_TEST

/* In a child: closes every descriptor while the pool works. 0 if the pool did not care. */
static int close_everything(void)
{
	struct opener *self = stn_call_make(sizeof(*self), open_files);
	pthread_t thread;
	void *rc;

	strcpy(self->path, unit_path("hello"));
	pthread_create(&thread, NULL, run_opener, self);
	while (!__atomic_load_n(&self->opened, __ATOMIC_ACQUIRE))
		stn_sys_sleep(1000000);
	if (syscall(SYS_close_range, 0, ~0u, 0) < 0)
		return 2;
	/* What is opened next gets a number that the pool uses, too. */
	if (open("/dev/zero", O_RDONLY) != 0)
		return 3;
	__atomic_store_n(&self->go, 1, __ATOMIC_RELEASE);
	pthread_join(thread, &rc);
	return rc || strcmp(self->read, "hello") != 0;
}

START_TEST(survives_close_range)
{
	int child;

	unit_text("hello", "hello");
	child = fork();
	if (child == 0)
		_exit(close_everything());
	ck_assert_int_eq(unit_reap(child), 0);
}
END_TEST

static struct unit_gate stuck;

static void *run_waiting(void *argument)
{
	struct unit_job *job = unit_job_make(argument, 4, 4);
	intptr_t rc;

	job->waits = 4;
	rc = stn_pool_run(&job->job, 4, 0, NULL);
	stn_job_put(&job->job);
	return (void *)rc;
}

static int fork_by(int kind)
{
	return kind == 0 ? fork() : (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/* A child made while all threads of the pool are busy has a pool of its own. */
START_TEST(fork_while_busy)
{
	pthread_t thread;
	void *rc;
	int child;

	ck_assert_int_eq(pthread_create(&thread, NULL, run_waiting, &stuck), 0);
	ck_assert(unit_gate_reached(&stuck, 4));
	child = fork_by(_i);
	if (child == 0) {
		for (int i = 0; i < 20; i++)
			if (unit_pool_ping(4) != 0)
				_exit(1);
		_exit(unit_wait_alone(2000) ? 0 : 2);
	}
	ck_assert_int_eq(unit_reap(child), 0);
	/* The parent's job knows nothing of it. */
	unit_gate_open(&stuck);
	ck_assert_int_eq(pthread_join(thread, &rc), 0);
	ck_assert_ptr_null(rc);
	ck_assert_int_eq(unit_pool_ping(4), 0);
}
END_TEST

/* A child may end by any way while its pool works. */
START_TEST(exit_while_busy)
{
	int child = fork();
	pthread_t thread;

	if (child == 0) {
		pthread_create(&thread, NULL, run_waiting, &stuck);
		if (!unit_gate_reached(&stuck, 4))
			_exit(1);
		if (_i == 0)
			_exit(7);
		if (_i == 1)
			execl("/bin/sh", "sh", "-c", "exit 7", (char *)NULL);
		syscall(SYS_exit_group, 7);
	}
	ck_assert_int_eq(unit_reap(child), 7);
}
END_TEST

/* From here on this process gets error from a system call. */
static void refuse(long number, int error)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {COUNT(code), code};

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

/* Without a private table nothing is read: kernels before 5.9, and filters that forbid it. */
static const int table_errors[] = {ENOSYS, EPERM};

START_TEST(no_private_table)
{
	struct unit_gate gate = {0};
	struct unit_job *job = unit_job_make(&gate, 3, 3);

	refuse(SYS_close_range, table_errors[_i]);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(unit_pool_ping(4), -ENOSYS);
	ck_assert_int_eq(stn_pool_run(&job->job, 3, 0, NULL), -ENOSYS);
	ck_assert_uint_eq(job->settled, 0);
	stn_job_put(&job->job);
	ck_assert_int_eq(gate.released, 1);
	ck_assert(unit_wait_alone(2000));
}
END_TEST

START_TEST(no_thread)
{
	refuse(SYS_clone, EAGAIN);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(unit_pool_ping(4), -EAGAIN);
	ck_assert_uint_eq(unit_threads(), 1);
}
END_TEST

static char child_stack[65536] __attribute__((aligned(16)));

static int ping_shared(void *argument)
{
	(void)argument;
	return unit_pool_ping(4) == -EAGAIN ? 0 : 1;
}

/* A child that shares the parent's memory (vfork) starts nothing in it. */
START_TEST(sharing_child)
{
	int child;

	ck_assert_int_eq(unit_pool_ping(4), 0);
	child = clone(ping_shared, child_stack + sizeof(child_stack),
		      CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	ck_assert_int_gt(child, 0);
	ck_assert_int_eq(unit_reap(child), 0);
	ck_assert_int_eq(unit_pool_ping(4), 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("pool_table");
	TCase *tcase = unit_case_in_dir(suite, "descriptors", 10);

	tcase_add_test(tcase, private_table);
	tcase_add_test(tcase, holds_nothing);
	tcase_add_test(tcase, survives_close_range);
	tcase = unit_case(suite, "fork", 10);
	tcase_add_loop_test(tcase, fork_while_busy, 0, 2);
	tcase_add_loop_test(tcase, exit_while_busy, 0, 3);
	tcase_add_test(tcase, sharing_child);
	tcase = unit_case(suite, "refusals", 10);
	tcase_add_loop_test(tcase, no_private_table, 0, COUNT(table_errors));
	tcase_add_test(tcase, no_thread);
	return suite;
}
