/* SPDX-License-Identifier: Apache-2.0 */
#include "engagement.h"

#include <errno.h>

#include "page.h"
#include "sys.h"

#define HEADER_MOST (100u << 20) /* safetensors' own limit */

/* Fills [from, to) of a peek at base with memory of ours. 0 or -errno. */
static int fill_peek(struct stn_engagement *e, char *base, uint64_t from, uint64_t to)
{
	uint64_t end = stn_min(to, e->facts.file_size);
	struct stn_fill *fill = NULL;
	int rc = stn_area_reserve(&e->area, NULL, stn_round_up(end - from, stn_page_size()),
				  stn_round_up(end - from, stn_page_size()), 0);

	if (rc == 0)
		rc = stn_engagement_fill(e, from, end - from, &fill);
	if (rc == 0 && fill->hole_count)
		rc = -EIO;
	if (fill)
		stn_fill_put(fill);
	if (rc == 0)
		rc = stn_area_overlay(&e->area, base + from, from, e->call->prot);
	if (rc < 0 && e->area.memory)
		stn_sys_munmap(e->area.memory, e->area.size);
	e->area.memory = NULL;
	return rc;
}

/* The length that the first eight bytes say plus those eight, or 0 if that cannot be a header. */
static uint64_t header_length(const char *base, uint64_t file_size)
{
	uint64_t length = 0;

	for (int i = 7; i >= 0 && file_size >= 8; i--)
		length = length << 8 | (unsigned char)base[i];
	return length && length <= HEADER_MOST && length <= file_size - 8 ? length + 8 : 0;
}

/*
 * The header in our memory, the rest the kernel's mapping. Whatever goes wrong, base is what the
 * program asked for.
 */
enum stn_outcome stn_engagement_peek(struct stn_engagement *e, void **address)
{
	const struct stn_map_call *call = e->call;
	uint64_t size = e->facts.file_size, page = stn_page_size();
	uint64_t known = atomic_load(&e->model->header);
	uint64_t end = stn_min(size, known ? stn_round_up(known, page) : STN_PEEK_FIRST);
	char *base = stn_sys_mmap(call->address, call->length, call->prot,
				  call->flags & ~MAP_POPULATE, call->fd, call->offset);
	uint64_t header;
	int rc;

	if (stn_sys_failed(base))
		return STN_OUTCOME_KERNEL;
	rc = stn_area_keep(&e->area, call);
	if (rc == 0)
		rc = fill_peek(e, base, 0, end);
	header = rc == 0 ? header_length(base, size) : 0;
	atomic_store(&e->model->header, header);
	if (header > end) {
		rc = fill_peek(e, base, end, stn_round_up(header, page));
		end = rc == 0 ? stn_min(size, stn_round_up(header, page)) : end;
	} else if (rc < 0) {
		end = 0;
	}
	stn_area_trim_keeper(&e->area, stn_round_up(end, page));
	e->record.bytes = end;
	stn_engagement_record(e, "fill", end ? STN_ENGAGED_PEEK : stn_engagement_error(rc));
	*address = base;
	return STN_OUTCOME_DONE;
}
