/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ceiling [-t THREADS] [-b BLOCK] FILE...
 *
 * The fastest plain way from files to memory that the benchmarks compare with: THREADS threads read
 * contiguous shares of all files together, BLOCK bytes a pread, O_DIRECT, into fresh anonymous
 * memory with huge pages; then one byte of each page is touched. Prints one line of JSON.
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGE ((size_t)2 << 20)
#define ALIGNMENT ((size_t)4096)
#define MAX_FILES 64

struct file {
	const char *path;
	size_t size;
	unsigned char *memory;
};

static struct file files[MAX_FILES];
static int n_files;
static int n_threads = 8;
static size_t block = (size_t)8 << 20;

/* Seconds of the monotonic clock. */
static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Rounds up to a multiple of a power of two. */
static size_t round_up(size_t value, size_t unit)
{
	return (value + unit - 1) & ~(unit - 1);
}

/* Gives a file its size and fresh memory that starts on a huge page. */
static void file_prepare(struct file *f)
{
	struct stat st;
	size_t length;
	unsigned char *memory;

	if (stat(f->path, &st) != 0)
		err(1, "%s", f->path);
	f->size = (size_t)st.st_size;
	length = round_up(f->size, HUGE_PAGE) + HUGE_PAGE;
	memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		err(1, "mmap");
	f->memory = (unsigned char *)round_up((uintptr_t)memory, HUGE_PAGE);
	madvise(f->memory, length - HUGE_PAGE, MADV_HUGEPAGE);
}

/* Reads [from, to) of a file; O_DIRECT wants whole sectors, so the end is rounded up. */
static void file_read(const struct file *f, int fd, size_t from, size_t to)
{
	while (from < to) {
		size_t want = to - from < block ? round_up(to - from, ALIGNMENT) : block;
		ssize_t n = pread(fd, f->memory + from, want, (off_t)from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			err(1, "%s: read", f->path);
		from += (size_t)n;
	}
}

/* Opens a file, directly where its file system can, and reads the part of [from, to) in it. */
static void file_read_share(const struct file *f, size_t from, size_t to)
{
	int fd = open(f->path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd < 0)
		err(1, "%s", f->path);
	file_read(f, fd, from, to);
	close(fd);
}

/* A thread: its share of the bytes of all files, laid end to end and cut at whole blocks. */
static void *worker(void *argument)
{
	size_t index = (size_t)(uintptr_t)argument, total = 0, start = 0, share, from, to;

	for (int i = 0; i < n_files; i++)
		total += round_up(files[i].size, HUGE_PAGE);
	share = round_up(total / (size_t)n_threads + 1, HUGE_PAGE);
	from = index * share;
	to = from + share;
	for (int i = 0; i < n_files; i++) {
		size_t end = start + files[i].size;
		size_t low = from > start ? from : start, high = to < end ? to : end;

		if (low < high)
			file_read_share(&files[i], low - start, high - start);
		start += round_up(files[i].size, HUGE_PAGE);
	}
	return NULL;
}

/* Reads all files in parallel. */
static void read_all(void)
{
	pthread_t threads[64];

	for (int i = 0; i < n_threads; i++)
		if (pthread_create(&threads[i], NULL, worker, (void *)(uintptr_t)i) != 0)
			errx(1, "pthread_create");
	for (int i = 0; i < n_threads; i++)
		pthread_join(threads[i], NULL);
}

/* Touches one byte of every page, as the loaders do that this is compared with. */
static unsigned long touch_all(void)
{
	unsigned long sum = 0;

	for (int i = 0; i < n_files; i++)
		for (size_t at = 0; at < files[i].size; at += ALIGNMENT)
			sum += files[i].memory[at];
	return sum;
}

/* Reads the options and the names of the files. */
static void parse(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "t:b:")) != -1) {
		if (option == 't')
			n_threads = atoi(optarg);
		else if (option == 'b')
			block = strtoull(optarg, NULL, 10);
		else
			exit(2);
	}
	if (n_threads < 1 || n_threads > 64 || block < ALIGNMENT || block % ALIGNMENT != 0)
		errx(2, "bad -t or -b");
	for (; optind < argc && n_files < MAX_FILES; optind++)
		files[n_files++].path = argv[optind];
	if (n_files == 0)
		errx(2, "usage: ceiling [-t THREADS] [-b BLOCK] FILE...");
}

int main(int argc, char **argv)
{
	double start, seconds;
	size_t total = 0;
	unsigned long sum;

	parse(argc, argv);
	start = now();
	for (int i = 0; i < n_files; i++)
		file_prepare(&files[i]);
	read_all();
	sum = touch_all();
	seconds = now() - start;
	for (int i = 0; i < n_files; i++)
		total += files[i].size;
	printf("{\"seconds\": %.6f, \"bytes\": %zu, \"touched\": %lu}\n", seconds, total, sum);
	return 0;
}
