/* SPDX-License-Identifier: Apache-2.0 */
#include "ending.h"

#include <errno.h>
#include <linux/aio_abi.h>
#include <string.h>

#include "page.h"
#include "source.h"
#include "sys.h"

#define TRIES 8

/* Submits one request and waits for it. Its result, or -errno if the kernel does not take it. */
static int64_t submit(aio_context_t context, struct iocb *request)
{
	struct iocb *requests[] = {request};
	struct io_event event = {0};
	long rc = stn_sys_call(SYS_io_submit, (long)context, 1, (long)requests, 0, 0, 0);

	if (rc != 1)
		return rc < 0 ? rc : -EIO;
	do
		rc = stn_sys_call(SYS_io_getevents, (long)context, 1, 1, (long)&event, 0, 0);
	while (rc == -EINTR);
	return rc == 1 ? event.res : -EIO;
}

/* A file that is asked for single bytes. */
struct asked {
	int fd;
	aio_context_t context; /* 0: the kernel refuses */
};

static void begin_asking(struct asked *asked, int fd)
{
	*asked = (struct asked){.fd = fd};
	if (!stn_sys_filtered())
		stn_sys_call(SYS_io_setup, 1, (long)&asked->context, 0, 0, 0, 0);
}

static void end_asking(struct asked *asked)
{
	if (asked->context)
		stn_sys_call(SYS_io_destroy, (long)asked->context, 0, 0, 0, 0, 0);
}

/* Whether the file has the byte at offset, by pread, which goes on through the page cache, and is
 * wrong there where others read at that moment: so it must be said several times, each without what
 * the last one has left. */
static bool reaches_by_pread(int fd, uint64_t offset)
{
	const uint64_t page = stn_page_size(), from = stn_round_down(offset, page);
	bool there = true;
	char byte;

	for (int i = 0; i < TRIES && there; i++) {
		there = stn_sys_pread(fd, &byte, 1, offset) != 0;
		stn_source_drop_cache(fd, from, page);
	}
	return there;
}

/* The same in the best way that there is; true also where it cannot be found out. A read that is
 * not waited for by the kernel itself does not go on through the page cache. */
static bool reaches(const struct asked *asked, uint64_t offset)
{
	char byte;
	struct iocb request = {.aio_lio_opcode = IOCB_CMD_PREAD,
			       .aio_fildes = (uint32_t)asked->fd,
			       .aio_buf = (uintptr_t)&byte,
			       .aio_nbytes = 1,
			       .aio_offset = (int64_t)offset};

	return asked->context ? submit(asked->context, &request) != 0
			      : reaches_by_pread(asked->fd, offset);
}

/* Zeros made up go to the end of a read, and of no page that the file has a byte of. */
static bool last_page_is_zero(const struct stn_ending *ending)
{
	uint64_t end = ending->offset + ending->bytes;
	uint64_t from = stn_max(ending->offset, stn_round_down(end - 1, stn_page_size()));
	const char *page = ending->memory + (from - ending->offset);

	return !page[0] && !memcmp(page, page + 1, end - from - 1);
}

bool stn_ending_is_there(const struct stn_ending *ending)
{
	struct stn_model *model = ending->model;
	struct asked asked;
	bool whole, there;

	if (!last_page_is_zero(ending) || (model && atomic_load(&model->whole)))
		return true;
	begin_asking(&asked, ending->fd);
	whole = reaches(&asked, ending->size - 1);
	there = whole || reaches(&asked, ending->offset + ending->bytes - 1);
	end_asking(&asked);
	if (whole && model)
		atomic_store(&model->whole, true);
	return there;
}

uint64_t stn_ending_find(int fd, uint64_t from, uint64_t to)
{
	struct asked asked;
	uint64_t high = to;

	begin_asking(&asked, fd);
	if (reaches(&asked, to - 1))
		from = to;
	while (from < high) {
		uint64_t middle = from + (high - from) / 2;

		if (reaches(&asked, middle))
			from = middle + 1;
		else
			high = middle;
	}
	end_asking(&asked);
	return from;
}
