/* SPDX-License-Identifier: Apache-2.0 */
#include "read.h"

#include "fault.h"
#include "wait.h"

#define FUSE_USE_VERSION 31
#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Bytes by which the READs of one large read may overtake each other. */
#define NEAR ((uint64_t)2 << 20)

static struct {
	const struct options *options;
	struct fuse_session *session;
	_Atomic uint64_t delay; /* nanoseconds */
	pthread_mutex_t lock;
	struct read_link link;	   /* for all open files */
	struct read_request *hung; /* newest first */
} state = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Must be called before the first request is served. */
void read_start(const struct options *options, struct fuse_session *session)
{
	state.options = options;
	state.session = session;
	read_set_delay(options->delay_ms);
}

/* Sets the delay of the READs that arrive from now on. */
void read_set_delay(double milliseconds)
{
	atomic_store(&state.delay, (uint64_t)(milliseconds * 1e6));
}

/* True if a READ does not go on where the link has got to. */
static bool is_seek(const struct read_link *link, const struct read_request *read)
{
	uint64_t distance =
		read->offset < link->end ? link->end - read->offset : read->offset - link->end;

	if (state.options->seek_apart)
		return distance > NEAR;
	return read->offset != 0 && (read->inode != link->inode || distance != 0);
}

/* How long the modelled link is taken by a READ, seeks included. Lock held. */
static uint64_t link_time(struct read_link *link, const struct read_request *read)
{
	uint64_t bandwidth = state.options->bandwidth, time = 0;

	if (bandwidth != 0)
		time = (uint64_t)((double)read->size * 1e9 / (double)bandwidth);
	if (is_seek(link, read)) {
		counter_seek();
		time += (uint64_t)(state.options->seek_ms * 1e6);
	}
	link->inode = read->inode;
	link->end = read->offset + read->size;
	return time;
}

/* How much longer a READ takes for being large, in nanoseconds. */
static uint64_t large_time(const struct read_request *read)
{
	return read->size > COUNTER_LARGE ? (uint64_t)(state.options->large_ms * 1e6) : 0;
}

/* Returns when a READ that arrives now may be answered, 0 for at once. */
static uint64_t due_time(const struct read_request *read)
{
	uint64_t delay = atomic_load(&state.delay) + large_time(read);
	uint64_t now;
	uint64_t due;
	bool linked = state.options->bandwidth != 0 || state.options->seek_ms > 0;
	struct read_link *link = state.options->seek_apart ? read->link : &state.link;

	if (delay == 0 && !linked)
		return 0;
	now = wait_now();
	due = now + delay;
	if (!linked)
		return due;
	pthread_mutex_lock(&state.lock);
	if (link->free < now)
		link->free = now;
	link->free += link_time(link, read);
	if (link->free > due)
		due = link->free;
	pthread_mutex_unlock(&state.lock);
	return due;
}

/* Returns how many bytes there are to deliver. limit is where the file ends by the faults. */
static uint64_t clamp(const struct read_request *read, uint64_t limit)
{
	uint64_t end;

	if (inode_data_size(read->inode, &end) != 0)
		return 0;
	if (end > limit)
		end = limit;
	if (read->offset >= end)
		return 0;
	return end - read->offset < read->size ? end - read->offset : read->size;
}

/* Answers from a buffer: for a file that has grown since it was mapped. */
static void answer_copy(const struct read_request *read, uint64_t size)
{
	char *buffer = malloc(size);
	ssize_t got = -1;

	errno = ENOMEM;
	if (buffer != NULL)
		got = pread(read->inode->data_fd, buffer, size, (off_t)read->offset);
	counter_read_end(&read->inode->counter, read->direct, read->offset,
			 got < 0 ? 0 : (uint64_t)got);
	if (got < 0)
		fuse_reply_err(read->request, errno);
	else
		fuse_reply_buf(read->request, buffer, (size_t)got);
	free(buffer);
}

/* Answers with an error. */
static void answer_error(const struct read_request *read, int error)
{
	counter_read_end(&read->inode->counter, read->direct, read->offset, 0);
	fuse_reply_err(read->request, error);
}

/* Answers with the bytes of the file, which the faults say ends at limit. */
static void answer(const struct read_request *read, uint64_t limit)
{
	uint64_t size = clamp(read, limit);

	if (read->offset + size > read->inode->map_size) {
		answer_copy(read, size);
		return;
	}
	counter_read_end(&read->inode->counter, read->direct, read->offset, size);
	fuse_reply_buf(read->request, read->inode->map + read->offset, size);
}

/* Answers as the verdict says. */
static void finish(const struct read_request *read, const struct fault_verdict *verdict)
{
	if (verdict->error != 0)
		answer_error(read, verdict->error);
	else
		answer(read, verdict->limit);
}

/* Keeps a request until read_release. */
static void park(const struct read_request *read)
{
	struct read_request *copy = malloc(sizeof(*copy));

	if (copy == NULL)
		abort();
	*copy = *read;
	pthread_mutex_lock(&state.lock);
	copy->next = state.hung;
	state.hung = copy;
	pthread_mutex_unlock(&state.lock);
}

/* Tells the kernel that the cached pages and attributes of an inode are out of date. */
static void *forget_pages(void *argument)
{
	const struct inode *inode = argument;

	fuse_lowlevel_notify_inval_inode(state.session, (fuse_ino_t)(uintptr_t)inode, 0, 0);
	return NULL;
}

/* The same from another thread: it waits for pages locked by requests that are not answered. */
static void forget_pages_later(struct inode *inode)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, forget_pages, inode) == 0)
		pthread_detach(thread);
}

/* Serves one READ: waits, asks the faults, answers. */
void read_serve(struct read_request read)
{
	struct fault_verdict verdict;

	counter_read_begin(&read.inode->counter, read.direct, read.size);
	verdict = fault_check_read(read.inode->path, read.offset, read.size);
	if (verdict.die)
		_exit(9);
	if (verdict.shrunk)
		forget_pages_later(read.inode);
	if (verdict.hang) {
		park(&read);
		return;
	}
	wait_until(due_time(&read));
	if (state.options->invalidate)
		fuse_lowlevel_notify_inval_inode(state.session, (fuse_ino_t)(uintptr_t)read.inode,
						 (off_t)read.offset, (off_t)read.size);
	finish(&read, &verdict);
}

/* Answers all hung requests and disarms the faults that hang. Returns how many there were. */
unsigned read_release(void)
{
	struct read_request *hung;
	unsigned count = 0;

	fault_release();
	pthread_mutex_lock(&state.lock);
	hung = state.hung;
	state.hung = NULL;
	pthread_mutex_unlock(&state.lock);
	while (hung != NULL) {
		struct read_request *next = hung->next;
		struct fault_verdict verdict =
			fault_check_read(hung->inode->path, hung->offset, hung->size);

		finish(hung, &verdict);
		free(hung);
		hung = next;
		count++;
	}
	return count;
}
