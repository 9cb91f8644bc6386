/* SPDX-License-Identifier: Apache-2.0 */
#include "cgroup.h"

#include <string.h>

#include "file.h"
#include "text.h"

/* True if the comma-separated list has the word. */
static bool list_has(const char *list, const char *word)
{
	size_t length = strlen(word);

	for (const char *p = list; (p = strstr(p, word)) != NULL; p += length)
		if ((p == list || p[-1] == ',') && (p[length] == ',' || p[length] == '\0'))
			return true;
	return false;
}

/* Copies the path of the process's group in one hierarchy into out; false if it has none. */
static bool own_path(const char *proc, bool v2, char *out, size_t size)
{
	struct stn_lines lines;
	struct stn_text text;
	char name[64];
	char *line;
	bool found = false;

	stn_text_start(&text, name, sizeof(name));
	stn_text_add(&text, proc);
	stn_text_add(&text, "/cgroup");
	stn_lines_open(&lines, name);
	while (!found && (line = stn_lines_next(&lines)) != NULL) {
		char *controllers = strchr(line, ':');
		char *path = controllers ? strchr(controllers + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = '\0';
		found = v2 ? strcmp(line, "0:") == 0 : list_has(controllers + 1, "memory");
		if (found) {
			stn_text_start(&text, out, size);
			stn_text_add(&text, path);
		}
	}
	stn_lines_close(&lines);
	return found;
}

/* Cuts the next word off *rest, which is separated by single blanks; NULL at the end. */
static char *next_word(char **rest)
{
	char *word = *rest, *end;

	if (!word)
		return NULL;
	end = strchr(word, ' ');
	if (end)
		*end++ = '\0';
	*rest = end;
	return word;
}

/*
 * Takes a line of mountinfo apart ("36 35 98:0 ROOT POINT opts [tags] - TYPE source SUPER") and
 * returns true if it mounts the hierarchy looked for.
 */
static bool parse_mount(char *line, bool v2, const char **root, const char **point)
{
	char *rest = line, *word, *type;

	for (int i = 0; i < 3; i++)
		if (!next_word(&rest))
			return false;
	*root = next_word(&rest);
	*point = next_word(&rest);
	while ((word = next_word(&rest)) != NULL && strcmp(word, "-") != 0)
		;
	type = next_word(&rest);
	if (!type || !next_word(&rest) || !rest)
		return false;
	if (v2)
		return strcmp(type, "cgroup2") == 0;
	return strcmp(type, "cgroup") == 0 && list_has(rest, "memory");
}

/* Sets place from a mount and the process's path in it, as far as the mount shows that path. */
static void set_place(struct stn_cgroup_place *place, const char *root, const char *point,
		      const char *path)
{
	size_t root_length = strcmp(root, "/") == 0 ? 0 : strlen(root);
	struct stn_text text;

	stn_text_start(&text, place->directory, sizeof(place->directory));
	stn_text_add(&text, point);
	place->mount_length = text.length;
	/* A group outside the mount's root (another cgroup namespace) is not visible: its mount is.
	 */
	if (strncmp(path, root, root_length) != 0 || strncmp(path, "/..", 3) == 0 ||
	    (path[root_length] != '/' && path[root_length] != '\0'))
		return;
	if (strcmp(path + root_length, "/") != 0)
		stn_text_add(&text, path + root_length);
}

void stn_cgroup_find(const char *proc, bool v2, struct stn_cgroup_place *place)
{
	char path[4096], name[64];
	struct stn_lines lines;
	struct stn_text text;
	char *line;

	place->v2 = v2;
	place->directory[0] = '\0';
	if (!own_path(proc, v2, path, sizeof(path)))
		return;
	stn_text_start(&text, name, sizeof(name));
	stn_text_add(&text, proc);
	stn_text_add(&text, "/mountinfo");
	stn_lines_open(&lines, name);
	while ((line = stn_lines_next(&lines)) != NULL) {
		const char *root, *point;

		if (parse_mount(line, v2, &root, &point)) {
			set_place(place, root, point, path);
			break;
		}
	}
	stn_lines_close(&lines);
}

static uint64_t field_or_zero(const char *text, const char *key)
{
	int64_t value = stn_text_field(text, key);

	return value > 0 ? (uint64_t)value : 0;
}

/* Reads one group's limit; false if it has none. */
static bool read_limit(const char *directory, bool v2, struct stn_cgroup_limit *out)
{
	uint64_t limit = stn_file_number(directory, v2 ? "memory.max" : "memory.limit_in_bytes");
	uint64_t high = v2 ? stn_file_number(directory, "memory.high") : UINT64_MAX;
	uint64_t used, reclaimable;
	char stat[4096];

	if (high < limit)
		limit = high;
	/* v1 writes "no limit" as the largest page-aligned number. */
	if (limit >= (uint64_t)1 << 62)
		return false;
	used = stn_file_number(directory, v2 ? "memory.current" : "memory.usage_in_bytes");
	if (used == UINT64_MAX)
		return false;
	stn_file_read_in(directory, "memory.stat", stat, sizeof(stat));
	reclaimable = field_or_zero(stat, v2 ? "inactive_file" : "total_inactive_file") +
		      field_or_zero(stat, v2 ? "active_file" : "total_active_file") +
		      (v2 ? field_or_zero(stat, "slab_reclaimable") : 0);
	if (reclaimable < used)
		used -= reclaimable;
	else
		used = 0;
	out->limit = limit;
	out->available = used < limit ? limit - used : 0;
	return true;
}

void stn_cgroup_walk(const struct stn_cgroup_place *place,
		     void (*visit)(const struct stn_cgroup_limit *, void *), void *argument)
{
	char directory[sizeof(place->directory)];
	size_t length = strlen(place->directory);

	memcpy(directory, place->directory, length + 1);
	while (length && length >= place->mount_length) {
		struct stn_cgroup_limit limit;
		char *slash;

		if (read_limit(directory, place->v2, &limit))
			visit(&limit, argument);
		slash = strrchr(directory, '/');
		if (!slash)
			break;
		*slash = '\0';
		length = (size_t)(slash - directory);
	}
}
