/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptors that lazy fill reads a file by. One is for all reads; where these would wait for
 * each other (pace.h) the file is opened once more for each.
 */
#include "lazy_engine.h"

#include "fs.h"
#include "source.h"
#include "survey.h"
#include "sys.h"

#define FAR   ((uint64_t)2 << 20)
#define LARGE ((uint64_t)64 << 20) /* a mapping that is worth opening its file several times */

static uint32_t opened; /* of all mappings; pool lock */

void stn_lazy_handle_start(struct stn_lazy *lazy)
{
	for (uint32_t i = 0; i < STN_LAZY_HANDLES; i++)
		lazy->handles[i].fd = -1;
	lazy->apart = lazy->plan.record.file_system == STN_FS_FUSE && lazy->plan.length >= LARGE;
}

/* The handle that a read at an offset goes on by, or else one that is at rest, or a new one, or
 * NULL. Pool lock held. */
static struct stn_lazy_handle *choose(struct stn_lazy *lazy, uint64_t offset)
{
	struct stn_lazy_handle *resting = NULL, *fresh = NULL;

	for (uint32_t i = 0; i < STN_LAZY_HANDLES; i++) {
		struct stn_lazy_handle *handle = &lazy->handles[i];

		if (handle->busy)
			continue;
		if (handle->fd < 0)
			fresh = handle;
		else if (handle->at == offset)
			return handle;
		else
			resting = handle;
	}
	return resting || opened >= stn_crew_most_descriptors() ? resting : fresh;
}

/* True if the last reads by the descriptor that is for all ended elsewhere: one that carries on
 * where one of them ends need not wait for it anywhere. Pool lock held. */
static bool is_elsewhere(const struct stn_lazy *lazy, uint64_t offset)
{
	for (uint32_t i = 0; i < STN_LAZY_ENDS; i++) {
		uint64_t at = lazy->at[i];

		if ((offset < at ? at - offset : offset - at) < FAR)
			return false;
	}
	return true;
}

/* Joins those that read by the descriptor that is for all. Pool lock held. */
static void join(struct stn_lazy *lazy, uint64_t offset, uint64_t bytes, struct stn_lazy_use *use)
{
	use->handle = NULL;
	use->fd = lazy->file;
	use->shared = lazy->sharing++ != 0 && is_elsewhere(lazy, offset);
	lazy->latest = (lazy->latest + 1) % STN_LAZY_ENDS;
	lazy->at[lazy->latest] = offset + bytes;
}

/* Opens the file once more. Descriptor or -errno. */
static int open_again(const struct stn_lazy *lazy)
{
	const struct stn_source_way way = {.direct = true, .fuse = true};
	char path[sizeof(lazy->plan.descriptor)];
	bool direct;
	int rc = stn_survey_descriptor(lazy->file, path, sizeof(path));

	return rc ? rc : stn_source_open(path, &lazy->plan.record.identity, &way, &direct);
}

/* Opens the file for a handle that has been chosen. If that is refused the mapping is to do
 * without, and the read joins the others. No lock held. */
static void open_handle(struct stn_lazy *lazy, uint64_t offset, uint64_t bytes,
			struct stn_lazy_use *use)
{
	struct stn_process *process = stn_process_peek();
	int fd = open_again(lazy);
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	if (fd >= 0) {
		use->handle->fd = use->fd = fd;
	} else {
		use->handle->busy = lazy->apart = false;
		opened--;
		join(lazy, offset, bytes, use);
	}
	stn_lock_leave(&process->pool_lock, mask);
}

void stn_lazy_handle_take(struct stn_lazy *lazy, uint64_t offset, uint64_t bytes,
			  struct stn_lazy_use *use)
{
	struct stn_process *process = stn_process_peek();
	uint64_t mask = stn_lock_enter(&process->pool_lock);
	bool apart = lazy->apart && lazy->pace && stn_pace_apart(lazy->pace, bytes, lazy->sharing);

	*use = (struct stn_lazy_use){.handle = apart ? choose(lazy, offset) : NULL,
				     .request.most = UINT64_MAX};
	if (use->handle) {
		use->handle->busy = true;
		use->fd = use->handle->fd;
		opened += use->fd < 0;
	} else {
		join(lazy, offset, bytes, use);
	}
	if (lazy->pace && lazy->pace->request)
		stn_request_begin(lazy->pace->request, bytes,
				  lazy->pace->state == STN_PACE_PARALLEL, &use->request);
	stn_lock_leave(&process->pool_lock, mask);
	if (use->fd < 0)
		open_handle(lazy, offset, bytes, use);
	use->begun = stn_sys_clock(CLOCK_MONOTONIC);
}

void stn_lazy_handle_put(struct stn_lazy *lazy, uint64_t offset, uint64_t bytes,
			 const struct stn_lazy_use *use, bool good)
{
	struct stn_process *process = stn_process_peek();
	uint64_t elapsed = stn_sys_clock(CLOCK_MONOTONIC) - use->begun;
	uint64_t mask = stn_lock_enter(&process->pool_lock);

	if (use->handle) {
		use->handle->busy = false;
		use->handle->at = offset + bytes;
	} else {
		lazy->sharing--;
		if (lazy->pace && use->shared)
			stn_pace_shared(lazy->pace, bytes, elapsed);
	}
	if (lazy->pace && lazy->pace->request)
		stn_request_end(lazy->pace->request, bytes, &use->request, elapsed, good);
	stn_lock_leave(&process->pool_lock, mask);
}

void stn_lazy_handle_close_all(struct stn_lazy *lazy)
{
	struct stn_process *process = stn_process_peek();
	uint32_t closed = 0;
	uint64_t mask;

	for (uint32_t i = 0; i < STN_LAZY_HANDLES; i++)
		if (lazy->handles[i].fd >= 0) {
			stn_sys_close(lazy->handles[i].fd);
			closed++;
		}
	if (!closed)
		return;
	mask = stn_lock_enter(&process->pool_lock);
	opened -= closed;
	stn_lock_leave(&process->pool_lock, mask);
}

void stn_lazy_handle_forget_all(void)
{
	opened = 0;
}
