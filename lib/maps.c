/* SPDX-License-Identifier: Apache-2.0 */
#include "maps.h"

#include <errno.h>
#include <string.h>

#include "config.h"
#include "file.h"
#include "page.h"
#include "pool.h"
#include "sys.h"
#include "text.h"

/* A look-up on its way to a thread of the pool. */
struct lookup {
	struct stn_call call;
	uintptr_t start, end;
	int result;
	struct stn_maps_area area;
	char path[4096]; /* of the file that is mapped there, or "" */
};

/* Parses hexadecimal digits up to stop; NULL if there are none. */
static const char *parse_hex(const char *text, char stop, uintptr_t *out)
{
	uintptr_t value = 0;
	const char *p = text;

	for (; *p != stop; p++) {
		unsigned digit = *p >= '0' && *p <= '9'	  ? (unsigned)(*p - '0')
				 : *p >= 'a' && *p <= 'f' ? (unsigned)(*p - 'a' + 10)
							  : 16;

		if (digit == 16)
			return NULL;
		value = value << 4 | digit;
	}
	*out = value;
	return p == text ? NULL : p + 1;
}

/* True for a line that begins an area ("START-END PERM OFFSET DEV INODE NAME"); takes it apart. */
static bool parse_head(const char *line, struct stn_maps_area *area, bool *anonymous)
{
	const char *p = parse_hex(line, '-', &area->start);

	p = p ? parse_hex(p, ' ', &area->end) : NULL;
	if (!p || strlen(p) < 4)
		return false;
	area->prot = (p[0] == 'r' ? PROT_READ : 0) | (p[1] == 'w' ? PROT_WRITE : 0) |
		     (p[2] == 'x' ? PROT_EXEC : 0);
	*anonymous = p[3] == 'p' && strstr(p, " 00:00 0") != NULL;
	area->ours = *anonymous && strstr(p, "[anon:stnommap:") != NULL;
	area->locked = false;
	area->huge_bytes = 0;
	area->used_bytes = 0;
	return true;
}

/* Reads the lines that follow an area's first. */
static void parse_detail(const char *line, bool anonymous, struct stn_maps_area *area)
{
	int64_t huge = stn_text_field(line, "AnonHugePages");
	int64_t used = stn_text_field(line, "Referenced");

	if (huge > 0)
		area->huge_bytes = (uint64_t)huge * 1024;
	if (used > 0)
		area->used_bytes = (uint64_t)used * 1024;
	if (strncmp(line, "VmFlags:", 8) != 0)
		return;
	/*
	 * Where the kernel has no names: "dd" is MADV_DONTDUMP, "nr" MAP_NORESERVE, which hardly
	 * anybody else's memory has. One will do: the program may lift the first, and without
	 * overcommit there is no second.
	 */
	area->ours |= anonymous && (strstr(line, " dd") || strstr(line, " nr"));
	area->locked = strstr(line, " lo") != NULL;
}

/* Keeps the name at the end of an area's first line, which begins with the first slash. */
static void take_path(struct lookup *lookup, const char *line)
{
	const char *path = strchr(line, '/');
	struct stn_text text;

	stn_text_start(&text, lookup->path, sizeof(lookup->path));
	stn_text_add(&text, path ? path : "");
}

static void run_lookup(struct stn_call *call)
{
	struct lookup *lookup = (struct lookup *)(void *)call;
	struct stn_maps_area *area = &lookup->area;
	struct stn_lines lines;
	bool inside = false, anonymous = false;
	const char *line;

	stn_lines_open(&lines, "/proc/self/smaps");
	/* Not to be confused with an empty range: nothing is known. */
	lookup->result = lines.fd < 0 ? -EACCES : -ENOENT;
	while ((line = stn_lines_next(&lines)) != NULL) {
		struct stn_maps_area next;
		bool next_anonymous;

		if (!parse_head(line, &next, &next_anonymous)) {
			if (inside)
				parse_detail(line, anonymous, area);
			continue;
		}
		if (inside || next.start >= lookup->end)
			break;
		inside = next.end > lookup->start;
		anonymous = next_anonymous;
		if (!inside)
			continue;
		*area = next;
		take_path(lookup, line);
	}
	stn_lines_close(&lines);
	if (!inside)
		return;
	lookup->result = 0;
	area->start = stn_max(area->start, lookup->start);
	area->end = stn_min(area->end, lookup->end);
}

bool stn_maps_writable(uintptr_t start, uintptr_t end)
{
	struct stn_lines lines;
	const char *line;

	stn_lines_open(&lines, "/proc/self/maps");
	while (start < end && (line = stn_lines_next(&lines)) != NULL) {
		struct stn_maps_area area;
		bool anonymous;

		if (!parse_head(line, &area, &anonymous) || area.end <= start)
			continue;
		if (area.start > start || !(area.prot & PROT_WRITE))
			break;
		start = area.end;
	}
	stn_lines_close(&lines);
	return start >= end;
}

/* Runs a look-up; NULL with *rc set to -errno if there is no thread for it. */
static struct lookup *look_up(uintptr_t start, uintptr_t end, int *rc)
{
	struct lookup *lookup = stn_call_make(sizeof(*lookup), run_lookup);

	*rc = -ENOMEM;
	if (!lookup)
		return NULL;
	lookup->start = start;
	lookup->end = end;
	*rc = stn_pool_run(&lookup->call.job, (unsigned)stn_config.threads, stn_config.timeout,
			   NULL);
	if (*rc == 0)
		return lookup;
	stn_job_put(&lookup->call.job);
	return NULL;
}

void stn_maps_path(uintptr_t address, char *out, size_t size)
{
	int rc;
	struct lookup *lookup = look_up(address, address + 1, &rc);
	struct stn_text text;

	stn_text_start(&text, out, size);
	if (!lookup)
		return;
	stn_text_add(&text, lookup->path);
	stn_job_put(&lookup->call.job);
}

int stn_maps_find(uintptr_t start, uintptr_t end, struct stn_maps_area *out)
{
	int rc;
	struct lookup *lookup = look_up(start, end, &rc);

	if (!lookup)
		return rc;
	rc = lookup->result;
	if (rc == 0)
		*out = lookup->area;
	stn_job_put(&lookup->call.job);
	return rc;
}
