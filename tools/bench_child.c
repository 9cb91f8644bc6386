/* SPDX-License-Identifier: Apache-2.0 */
/* The process that reads the file, in one way. It knows nothing of the library. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "bench.h"
#include "fs.h"
#include "page.h"
#include "source.h"
#include "sys.h"

#define BLOCK	   ((size_t)8 << 20)
#define HUGE_PAGE  ((size_t)2 << 20)
#define MOST_LOOK  ((uint64_t)1 << 30) /* of a file whose page cache is looked at in one go */
#define TENTH	   100000000u	       /* nanoseconds */
#define MOST_LANES 64

/* A contiguous share of the file, read by one thread. */
struct lane {
	pthread_t thread;
	const char *path;
	bool fuse; /* it is on a FUSE file system */
	char *memory;
	uint64_t start, end;
	int error;
};

static atomic_uint_least64_t bytes_done;
static atomic_uint lanes_left;

/* Says how far it is, ten times a second. */
static void tell_progress(uint64_t bytes)
{
	static uint64_t last;
	uint64_t now = stn_sys_clock(CLOCK_MONOTONIC);

	if (now - last < TENTH)
		return;
	last = now;
	printf("at %" PRIu64 "\n", bytes);
	fflush(stdout);
}

/* Says what is wrong; the status of the process. */
static int fail(const char *what, int error)
{
	printf(BENCH_ERROR "%s: %s\n", what, strerror(error));
	fflush(stdout);
	return 1;
}

/* A sum to which every byte and its place count, in four strands so that memory is the limit. */
static uint64_t add_up(const char *bytes, uint64_t length, uint64_t sum)
{
	const uint64_t factor = 0x9e3779b97f4a7c15u;
	uint64_t strands[4] = {sum, 1, 2, 3}, words[4], at = 0;

	for (; at + sizeof(words) <= length; at += sizeof(words)) {
		memcpy(words, bytes + at, sizeof(words));
		for (int i = 0; i < 4; i++)
			strands[i] = (strands[i] ^ words[i]) * factor;
	}
	for (; at < length; at++)
		strands[at % 4] = (strands[at % 4] ^ (unsigned char)bytes[at]) * factor;
	for (int i = 1; i < 4; i++)
		strands[0] = (strands[0] ^ strands[i]) * factor;
	return strands[0];
}

/* Adds up block by block, which is what brings mapped bytes in. */
static uint64_t add_blocks(const char *bytes, uint64_t length, bool tell)
{
	uint64_t sum = 0;

	for (uint64_t at = 0; at < length; at += BLOCK) {
		sum = add_up(bytes + at, stn_min(BLOCK, length - at), sum);
		if (tell)
			tell_progress(at);
	}
	return sum;
}

/* True if mincore tells the truth to us (mm/mincore.c, can_do_mincore). */
static bool may_look(int fd)
{
	struct stat st;
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return fstat(fd, &st) == 0 &&
	       (geteuid() == 0 || st.st_uid == geteuid() || access(path, W_OK) == 0);
}

/* Bytes of the first length in the page cache; -1 if that cannot be found out. */
static int64_t look_at_cache(int fd, uint64_t length)
{
	size_t page = stn_page_size();
	unsigned char *pages = malloc(MOST_LOOK / page);
	int64_t cached = 0;

	for (uint64_t at = 0; at < length && cached >= 0; at += MOST_LOOK) {
		size_t part = (size_t)stn_min(MOST_LOOK, length - at);
		void *memory = mmap(NULL, part, PROT_NONE, MAP_PRIVATE, fd, (off_t)at);

		if (!pages || memory == MAP_FAILED || !may_look(fd) ||
		    stn_fs_resident(memory, part, pages) < 0)
			cached = -1;
		for (size_t i = 0; cached >= 0 && i < (part + page - 1) / page; i++)
			cached += (pages[i] & 1) ? (int64_t)page : 0;
		if (memory != MAP_FAILED)
			munmap(memory, part);
	}
	free(pages);
	return cached > (int64_t)length ? (int64_t)length : cached;
}

/* Fresh memory in huge pages if there are some; NULL if refused. */
static char *get_memory(uint64_t length)
{
	size_t size = (size_t)stn_round_up(length, HUGE_PAGE);
	char *memory = aligned_alloc(HUGE_PAGE, size);

	if (memory)
		madvise(memory, size, MADV_HUGEPAGE);
	return memory;
}

/* Reads the blocks of a lane, each through direct I/O. */
static void *run_lane(void *argument)
{
	struct lane *lane = argument;
	int fd = stn_source_open_direct(lane->path, lane->fuse);
	uint64_t at = lane->start;

	lane->error = fd < 0 ? -fd : 0;
	while (!lane->error && at < lane->end) {
		size_t wanted = (size_t)stn_min(BLOCK, lane->end - at);
		/* Whole pages, also at the end of the file. */
		ssize_t got = pread(fd, lane->memory + at,
				    (size_t)stn_round_up(wanted, stn_page_size()), (off_t)at);

		if (got == 0)
			lane->error = EIO;
		if (got < 0 && errno != EINTR)
			lane->error = errno;
		if (got <= 0)
			continue;
		at += stn_min((uint64_t)got, wanted);
		atomic_fetch_add(&bytes_done, stn_min((uint64_t)got, wanted));
		/* A short read leaves a place that no direct read may begin at. */
		if (at < lane->end && at % stn_page_size() != 0)
			at = stn_round_down(at, stn_page_size());
	}
	if (fd >= 0)
		close(fd);
	atomic_fetch_sub(&lanes_left, 1);
	return NULL;
}

/* Reads the file with threads into memory; 0 or an errno. */
static int read_direct(const char *path, char *memory, uint64_t length, unsigned threads)
{
	static struct lane lanes[MOST_LANES];
	uint64_t share = stn_round_up((length + threads - 1) / threads, HUGE_PAGE);
	struct statfs fs = {0};
	unsigned count = 0;
	int error = 0;

	if (statfs(path, &fs) != 0)
		return errno;
	atomic_store(&lanes_left, threads);
	for (; count < threads && !error; count++) {
		lanes[count] = (struct lane){.path = path,
					     .fuse = (uint32_t)fs.f_type == STN_FS_FUSE,
					     .memory = memory,
					     .start = stn_min(count * share, length),
					     .end = stn_min((count + 1) * share, length)};
		error = pthread_create(&lanes[count].thread, NULL, run_lane, &lanes[count]);
	}
	if (error)
		return error;
	while (atomic_load(&lanes_left)) {
		tell_progress(atomic_load(&bytes_done));
		usleep(1000);
	}
	for (unsigned i = 0; i < count; i++) {
		pthread_join(lanes[i].thread, NULL);
		error = lanes[i].error ? lanes[i].error : error;
	}
	return error;
}

/* Reads the file as `read` programs do; 0 or an errno. */
static int read_plainly(int fd, char *memory, uint64_t length)
{
	for (uint64_t at = 0; at < length;) {
		ssize_t got = read(fd, memory + at, (size_t)stn_min(BLOCK, length - at));

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got == 0 ? EIO : errno;
		at += (uint64_t)got;
		tell_progress(at);
	}
	return 0;
}

/* Maps the file and adds it up; 0 or an errno. */
static int read_mapped(int fd, uint64_t length, uint64_t *sum)
{
	char *memory = mmap(NULL, (size_t)length, PROT_READ, MAP_PRIVATE, fd, 0);

	if (memory == MAP_FAILED)
		return errno;
	*sum = add_blocks(memory, length, true);
	return 0;
}

int bench_child(const char *way, const char *path, uint64_t bytes, unsigned threads)
{
	uint64_t start, sum = 0;
	int64_t cached;
	int fd = open(path, O_RDONLY | O_CLOEXEC), error;
	char *memory;

	if (fd < 0)
		return fail("open", errno);
	cached = look_at_cache(fd, bytes);
	start = stn_sys_clock(CLOCK_MONOTONIC);
	if (strcmp(way, "mmap") == 0) {
		error = read_mapped(fd, bytes, &sum);
	} else {
		memory = get_memory(bytes);
		error = !memory			   ? ENOMEM
			: strcmp(way, "read") == 0 ? read_plainly(fd, memory, bytes)
						   : read_direct(path, memory, bytes, threads);
		if (!error)
			sum = add_blocks(memory, bytes, false);
	}
	if (error)
		return fail(way, error);
	printf("done %" PRIu64 " %f %" PRIx64 " %" PRId64 "\n", bytes,
	       (double)(stn_sys_clock(CLOCK_MONOTONIC) - start) * 1e-9, sum, cached);
	fflush(stdout);
	return 0;
}
