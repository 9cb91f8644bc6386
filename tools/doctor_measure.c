/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor.h"

#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "child.h"
#include "fs.h"
#include "page.h"
#include "source.h"
#include "sys.h"

#define MOST_BYTES   ((uint64_t)256 << 20)
#define MOST_TIME    2000000000u /* nanoseconds after which no read is started */
#define GIVE_UP	     4000	 /* milliseconds for the last ones to come back */
#define LATENCY_READ 3
#define MOST_THREADS 64

/* Shared by the threads, and with the process that waits. */
struct meter {
	const char *path;
	bool fuse; /* it is on a FUSE file system */
	uint64_t threads, block, size;
	_Atomic uint64_t next, bytes;
	_Atomic int error;
	uint64_t start, deadline;
	struct doctor_measure result;
};

static uint64_t now(void)
{
	return stn_sys_clock(CLOCK_MONOTONIC);
}

static char *make_buffer(uint64_t size)
{
	char *buffer = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return buffer == MAP_FAILED ? NULL : buffer;
}

/* The shortest of a few single reads at places far apart. */
static void measure_latency(struct meter *meter, int fd, char *buffer)
{
	for (unsigned i = 0; i < LATENCY_READ; i++) {
		uint64_t offset = stn_round_down(meter->size / LATENCY_READ * i, DOCTOR_REQUEST);
		uint64_t start = now(), taken;
		ssize_t got = pread(fd, buffer, DOCTOR_REQUEST, (off_t)offset);

		taken = now() - start;
		if (got < 0)
			meter->error = errno;
		if (got <= 0)
			return;
		if (i == 0 || taken < meter->result.latency) {
			meter->result.latency = taken;
			meter->result.request = (uint64_t)got;
		}
	}
}

/* One thread: the next block, until there is none or the time is over. */
static void *read_blocks(void *argument)
{
	struct meter *meter = argument;
	int fd = stn_source_open_direct(meter->path, meter->fuse);
	char *buffer = make_buffer(meter->block);

	while (fd >= 0 && buffer && now() < meter->deadline) {
		uint64_t offset = atomic_fetch_add(&meter->next, meter->block);
		ssize_t got;

		if (offset >= stn_min(meter->size, MOST_BYTES))
			break;
		got = pread(fd, buffer, meter->block, (off_t)offset);
		if (got < 0)
			atomic_store(&meter->error, errno);
		if (got <= 0)
			break;
		atomic_fetch_add(&meter->bytes, (uint64_t)got);
		meter->result.elapsed = now() - meter->start;
	}
	return NULL;
}

static void measure_rate(struct meter *meter)
{
	pthread_t thread[MOST_THREADS];
	unsigned started = 0;

	meter->start = now();
	meter->deadline = meter->start + MOST_TIME;
	while (started < stn_min(meter->threads, MOST_THREADS) &&
	       pthread_create(&thread[started], NULL, read_blocks, meter) == 0)
		started++;
	while (started)
		pthread_join(thread[--started], NULL);
	meter->result.elapsed = now() - meter->start;
}

/* In a child: the reads may wait for a server that does not answer. */
static void measure(void *argument)
{
	struct meter *meter = argument;
	char *buffer = make_buffer(DOCTOR_REQUEST);
	int fd = stn_source_open_direct(meter->path, meter->fuse);

	if (fd < 0 || !buffer) {
		meter->error = fd < 0 ? -fd : errno;
		meter->result.in_time = true;
		return;
	}
	measure_latency(meter, fd, buffer);
	if (!meter->error)
		measure_rate(meter);
	meter->result.in_time = true;
}

void doctor_measure_path(const struct stn_config *config, struct doctor_path *path)
{
	const struct doctor_file *file = &path->file[0];
	struct meter *meter;
	struct child child;

	if (path->count == 0 || !file->regular || !file->readable || file->size == 0)
		return;
	meter = child_share(sizeof(*meter));
	if (!meter)
		err(EXIT_FAILURE, "memory");
	meter->path = file->path;
	meter->fuse = file->file_system == STN_FS_FUSE;
	meter->threads = config->threads;
	meter->block = config->block;
	meter->size = file->size;
	child_start(&child, measure, meter);
	child_await(&child, child_deadline(GIVE_UP));
	child_kill(&child);
	path->measure = meter->result;
	path->measure.tried = true;
	path->measure.error = meter->error;
	path->measure.bytes = meter->bytes;
	munmap(meter, sizeof(*meter));
}
