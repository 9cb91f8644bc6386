/* SPDX-License-Identifier: Apache-2.0 */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "file.h"
#include "text.h"

#define CONNECTIONS   "/sys/fs/fuse/connections"
#define FUSECTL_MAGIC 0x65735543 /* linux/magic.h */

static const char *const names[] = {"max_background", "congestion_threshold", "read_ahead_kb"};

/* Copies a field of mountinfo, in which blanks and the like are \ooo; cut at size. */
static void unescape(char *out, size_t size, const char *field)
{
	size_t length = 0;

	while (*field && length + 1 < size) {
		if (field[0] == '\\' && strspn(field + 1, "01234567") >= 3) {
			out[length++] = (char)((field[1] - '0') << 6 | (field[2] - '0') << 3 |
					       (field[3] - '0'));
			field += 4;
		} else {
			out[length++] = *field++;
		}
	}
	out[length] = '\0';
}

/* The id of the mount that fd is on; -1 if it cannot be read. */
static int64_t mount_id(int fd)
{
	char name[64], text[1024];

	snprintf(name, sizeof(name), "/proc/self/fdinfo/%d", fd);
	if (stn_file_read(name, text, sizeof(text)) <= 0)
		return -1;
	return stn_text_field(text, "mnt_id:");
}

/* Cuts the line at blanks into count words; false if there are fewer. */
static bool split(char *line, char **word, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (!(word[i] = strsep(&line, " ")))
			return false;
	return true;
}

/* Takes a line apart (proc(5)): id, parent, MAJ:MIN, root, point, options, ..., "-", type, source,
 * options. */
static bool parse_line(char *line, int64_t id, struct mount *out)
{
	char *first[6], *last[3], *tail = strstr(line, " - ");

	if (!tail)
		return false;
	*tail = '\0';
	if (!split(line, first, 6) || !split(tail + 3, last, 3) ||
	    strtoll(first[0], NULL, 10) != id ||
	    sscanf(first[2], "%u:%u", &out->major, &out->minor) != 2)
		return false;
	unescape(out->point, sizeof(out->point), first[4]);
	unescape(out->type, sizeof(out->type), last[0]);
	unescape(out->source, sizeof(out->source), last[1]);
	snprintf(out->options, sizeof(out->options), "%s,%s", first[5], last[2]);
	return true;
}

bool mount_of(int fd, struct mount *out)
{
	struct stn_lines lines;
	int64_t id = mount_id(fd);
	bool found = false;
	char *line;

	if (id < 0)
		return false;
	stn_lines_open(&lines, "/proc/self/mountinfo");
	while (!found && (line = stn_lines_next(&lines)))
		found = parse_line(line, id, out);
	stn_lines_close(&lines);
	return found;
}

bool mount_is_fuse(const struct mount *mount)
{
	return strncmp(mount->type, "fuse", 4) == 0 || strcmp(mount->type, "virtiofs") == 0;
}

uint64_t mount_option(const struct mount *mount, const char *name)
{
	const char *at = mount->options;
	size_t length = strlen(name);

	while (at) {
		at += *at == ',';
		if (strncmp(at, name, length) == 0 && at[length] == '=')
			return strtoull(at + length + 1, NULL, 10);
		at = strchr(at, ',');
	}
	return UINT64_MAX;
}

const char *mount_limit_name(enum mount_limit limit)
{
	return names[limit];
}

bool mount_has_fusectl(void)
{
	struct statfs fs;

	return statfs(CONNECTIONS, &fs) == 0 && fs.f_type == FUSECTL_MAGIC;
}

/* The directory of the connection: its name is the device's number in the kernel's own form
 * (fs/fuse/control.c). */
static void connection_path(const struct mount *mount, const char *name, char out[PATH_MAX])
{
	snprintf(out, PATH_MAX, CONNECTIONS "/%u/%s", mount->major << 20 | mount->minor, name);
}

bool mount_limit_path(const struct mount *mount, enum mount_limit limit, char out[PATH_MAX])
{
	if (limit != MOUNT_READ_AHEAD) {
		connection_path(mount, names[limit], out);
		return mount_is_fuse(mount);
	}
	snprintf(out, PATH_MAX, "/sys/class/bdi/%u:%u/read_ahead_kb", mount->major, mount->minor);
	if (access(out, F_OK) < 0)
		snprintf(out, PATH_MAX, "/sys/class/bdi/%u:%u-fuseblk/read_ahead_kb", mount->major,
			 mount->minor);
	return access(out, F_OK) == 0;
}

int mount_limit_read(const struct mount *mount, enum mount_limit limit, uint64_t *value)
{
	char path[PATH_MAX], text[64];
	ssize_t got;

	if (!mount_limit_path(mount, limit, path))
		return -ENOTSUP;
	got = stn_file_read(path, text, sizeof(text));
	if (got < 0)
		return (int)got;
	return stn_text_number(text, strcspn(text, "\n"), value) ? 0 : -EINVAL;
}

int mount_limit_write(const struct mount *mount, enum mount_limit limit, uint64_t value)
{
	char path[PATH_MAX];
	int fd, error = 0;

	if (!mount_limit_path(mount, limit, path))
		return -ENOTSUP;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (dprintf(fd, "%llu\n", (unsigned long long)value) < 0)
		error = -errno;
	close(fd);
	return error;
}

uint64_t mount_waiting(const struct mount *mount)
{
	char path[PATH_MAX], text[64];
	uint64_t value;

	connection_path(mount, "waiting", path);
	if (!mount_is_fuse(mount) || stn_file_read(path, text, sizeof(text)) <= 0)
		return UINT64_MAX;
	return stn_text_number(text, strcspn(text, "\n"), &value) ? value : UINT64_MAX;
}
