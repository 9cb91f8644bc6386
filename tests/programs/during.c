/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a process while one of its threads maps a file, up to its end. */
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

static const char *big_path;
static atomic_uintptr_t big_map;

/* Maps the file and adds it up. */
static void *load_big(void *unused)
{
	say("load: %016llx", (unsigned long long)load_sum(big_path));
	return unused;
}

/* Looks for a piece of anonymous memory of the file's length that has a page of zeros. */
static void look_for_zeros(size_t size)
{
	static unsigned char page[65536], zeros[65536];
	FILE *maps = fopen("/proc/self/maps", "r");
	size_t found = 0;
	char line[4352];

	while (fgets(line, sizeof(line), maps)) {
		unsigned long start, end, inode;
		char mode[8];

		if (sscanf(line, "%lx-%lx %7s %*x %*s %lu", &start, &end, mode, &inode) != 4 ||
		    inode || mode[0] != 'r' || end - start < size / 2)
			continue;
		for (; start < end; start += page_size())
			if (try_copy(page, (void *)start, page_size()) == DONE)
				found += memcmp(page, zeros, page_size()) == 0;
	}
	say("pages of zeros: %zu", found);
}

/* Children of every kind while a file is mapped by a thread: none sees half of it. */
static void children_during(const char *path)
{
	pthread_t thread;

	big_path = path;
	if (pthread_create(&thread, NULL, load_big, NULL) != 0)
		fail("no thread");
	for (int i = 0; i < 3; i++) {
		pid_t child;

		sleep_ms(60);
		child = i == 0	 ? fork()
			: i == 1 ? _Fork()
				 : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (child == 0) {
			look_for_zeros(file_size(path));
			_exit(0);
		}
		print_end("child", child);
	}
	pthread_join(thread, NULL);
}

/* Starts a thread that loads the file, and gives it some time. */
static void start_big(const char *path, unsigned milliseconds)
{
	big_path = path;
	start_thread(load_big, NULL);
	sleep_ms(milliseconds);
}

static void end_exit(const char *path)
{
	start_big(path, 150);
	exit(11);
}

static void end_exit_at_once(const char *path)
{
	start_big(path, 150);
	_exit(12);
}

static void end_quick_exit(const char *path)
{
	start_big(path, 150);
	quick_exit(13);
}

static void end_exec(const char *path)
{
	start_big(path, 150);
	execl("/bin/echo", "echo", "another program", (char *)NULL);
}

static void end_signal(const char *path)
{
	start_big(path, 150);
	raise(SIGTERM);
}

static void end_abort(const char *path)
{
	start_big(path, 150);
	abort();
}

/* The main thread ends, the one that loads goes on. */
static void end_main_thread(const char *path)
{
	start_big(path, 150);
	pthread_exit(NULL);
}

/* A thread that is cancelled while it maps: mmap is not a place where it may end. */
static void *cancelled_thread(void *unused)
{
	int fd = open_file(big_path);
	void *p = mmap(NULL, file_size(big_path), PROT_READ, MAP_PRIVATE, fd, 0);

	atomic_store(&big_map, (uintptr_t)p);
	while (p != MAP_FAILED)
		pthread_testcancel();
	return unused;
}

static void cancelled(const char *path)
{
	pthread_t thread;

	big_path = path;
	if (pthread_create(&thread, NULL, cancelled_thread, NULL) != 0)
		fail("no thread");
	sleep_ms(150);
	pthread_cancel(thread);
	pthread_join(thread, NULL);
	print_sum("bytes", (void *)atomic_load(&big_map), file_size(path));
}

/* setuid tells every thread; it may not wait for one that does not answer. */
static void identity(const char *path)
{
	uint64_t start = now_ms();
	pthread_t thread;
	int rc = 0;

	big_path = path;
	if (pthread_create(&thread, NULL, load_big, NULL) != 0)
		fail("no thread");
	for (int i = 0; i < 100; i++) {
		sleep_ms(2);
		rc |= setuid(getuid()) | setgid(getgid());
	}
	print_rc("setuid", rc);
	say("in time: %s", now_ms() - start < 3000 ? "yes" : "no");
	pthread_join(thread, NULL);
}

/* A namespace of its own needs a process with one thread. */
static void namespaces(const char *path)
{
	say("load: %016llx", (unsigned long long)load_sum(path));
	sleep_ms(200);
	say("threads: %u", count_entries("task"));
	print_rc("unshare", unshare(CLONE_NEWUSER));
}

/* Whether a thread has all signals blocked that it may block; one that is gone does no harm. */
static int blocks_signals(const char *task)
{
	char path[320], line[256];
	unsigned long long mask = ~0ull;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/self/task/%s/status", task);
	status = fopen(path, "r");
	while (status && fgets(line, sizeof(line), status))
		sscanf(line, "SigBlk: %llx", &mask);
	if (status)
		fclose(status);
	/* All but KILL, STOP and the two that glibc keeps for itself. */
	return (mask | 0x180040100) == ~0ull;
}

static atomic_int profiled;

static void on_profile(int number)
{
	(void)number;
	atomic_fetch_add(&profiled, syscall(SYS_gettid) != getpid());
}

/* A signal to the process arrives in a thread of the program, whoever else is there. */
static void profile(const char *path)
{
	struct itimerval timer = {{0, 1000}, {0, 1000}};
	struct sigaction action = {.sa_handler = on_profile, .sa_flags = SA_RESTART};
	size_t size = file_size(path);
	unsigned char *p;

	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGPROF, &action, NULL);
	setitimer(ITIMER_REAL, &timer, NULL);
	setitimer(ITIMER_PROF, &timer, NULL);
	p = map_read(path);
	print_sum("bytes", p, size);
	say("in other threads: %d", profiled);
}

static atomic_int looked_over;
static unsigned helpers, answering;

/* Looks once at every thread of the process but its first and the one that looks. */
static void look_at_tasks(const char *own, const char *first)
{
	DIR *tasks = opendir("/proc/self/task");
	struct dirent *entry;

	while ((entry = readdir(tasks))) {
		if (entry->d_name[0] == '.' || strcmp(entry->d_name, own) == 0 ||
		    strcmp(entry->d_name, first) == 0)
			continue;
		helpers++;
		answering += !blocks_signals(entry->d_name);
	}
	closedir(tasks);
}

/* Looks at the threads of the process for as long as the main thread maps. */
static void *look_at_threads(void *unused)
{
	char own[16], first[16];

	snprintf(own, sizeof(own), "%ld", syscall(SYS_gettid));
	snprintf(first, sizeof(first), "%d", getpid());
	while (!atomic_load(&looked_over)) {
		look_at_tasks(own, first);
		sleep_ms(5);
	}
	return unused;
}

/* Prints the threads that appear while a file is mapped; bare there are none. */
static void thread_signals(const char *path)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, look_at_threads, NULL) != 0)
		fail("no thread");
	sleep_ms(20);
	say("load: %016llx", (unsigned long long)load_sum(path));
	atomic_store(&looked_over, 1);
	pthread_join(thread, NULL);
	say("helpers: %s, answering signals: %u", helpers ? "some" : "none", answering);
}

/* Prints the calling thread's blocked and the process's pending signals. */
static void print_mask(const char *what)
{
	sigset_t blocked, pending;
	char line[128] = "";

	pthread_sigmask(SIG_SETMASK, NULL, &blocked);
	sigpending(&pending);
	for (int number = 1; number <= SIGRTMAX; number++)
		line[number - 1] = sigismember(&pending, number)   ? 'p'
				   : sigismember(&blocked, number) ? 'b'
								   : '-';
	say("%s: %s", what, line);
}

/* The signal mask is the same after a load, and a signal that was blocked is still to come. */
static void mask(const char *path)
{
	sigset_t some;

	sigemptyset(&some);
	sigaddset(&some, SIGUSR1);
	sigaddset(&some, SIGRTMAX);
	pthread_sigmask(SIG_BLOCK, &some, NULL);
	raise(SIGUSR1);
	print_mask("before");
	say("load: %016llx", (unsigned long long)load_sum(path));
	print_mask("after");
}

/* A thread with the smallest stack that there is. */
static void small_stack(const char *path)
{
	pthread_attr_t attributes;
	pthread_t thread;

	big_path = path;
	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 16384);
	if (pthread_create(&thread, &attributes, load_big, NULL) != 0)
		fail("no thread");
	pthread_join(thread, NULL);
}

/* Programs are started while a file is mapped. */
static void spawns(const char *path)
{
	char name[] = "true", *argv[] = {name, NULL}, *nothing[] = {NULL};
	unsigned good = 0;
	pthread_t thread;

	big_path = path;
	if (pthread_create(&thread, NULL, load_big, NULL) != 0)
		fail("no thread");
	for (int i = 0; i < 30; i++) {
		int status = 1;
		pid_t child;

		if (posix_spawn(&child, "/bin/true", NULL, NULL, argv, i % 2 ? environ : nothing) ==
		    0)
			waitpid(child, &status, 0);
		good += status == 0;
	}
	pthread_join(thread, NULL);
	say("good: %u", good);
}

static const struct test_case cases[] = {
	{"children-during", children_during},
	{"end-exit", end_exit},
	{"end-exit-at-once", end_exit_at_once},
	{"end-quick-exit", end_quick_exit},
	{"end-exec", end_exec},
	{"end-signal", end_signal},
	{"end-abort", end_abort},
	{"end-main-thread", end_main_thread},
	{"cancelled", cancelled},
	{"identity", identity},
	{"namespaces", namespaces},
	{"profile", profile},
	{"mask", mask},
	{"small-stack", small_stack},
	{"spawns", spawns},
	{"thread-signals", thread_signals},
};
CASES_MAIN(cases)
