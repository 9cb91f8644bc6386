/* SPDX-License-Identifier: Apache-2.0 */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

int probe_cached(void)
{
	return stn_uma_cached("", getenv("XDG_RUNTIME_DIR"));
}

/* Where the verdict belongs, without "/probe"; false if there is no run-time directory. */
static bool find_directory(char out[PATH_MAX])
{
	const char *runtime = geteuid() == 0 ? "/run" : getenv("XDG_RUNTIME_DIR");

	out[0] = '\0';
	if (!runtime || *runtime != '/')
		return false;
	return snprintf(out, PATH_MAX, "%s/stnommap", runtime) < PATH_MAX - 16;
}

/* Makes the directory, or sees that the one that is there is ours alone. 0 or -errno. */
static int prepare_directory(const char *path)
{
	struct stat st;

	if (mkdir(path, geteuid() == 0 ? 0755 : 0700) < 0 && errno != EEXIST)
		return -errno;
	if (lstat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 022) ? 0 : -EPERM;
}

static int write_text(int fd, const struct probe_result *result)
{
	char boot_id[64];
	int length;

	if (stn_file_read("/proc/sys/kernel/random/boot_id", boot_id, sizeof(boot_id)) <= 0)
		return -ENOENT;
	boot_id[strcspn(boot_id, "\n")] = '\0';
	length = dprintf(fd, "boot_id=%s\nunified=%s\nwhy=%s\n", boot_id,
			 result->unified ? "yes" : "no", result->why);
	return length < 0 || fchmod(fd, geteuid() == 0 ? 0644 : 0600) < 0 ? -errno : 0;
}

/* Writes a file beside path and puts it in its place. 0 or -errno. */
static int replace(const char *path, const struct probe_result *result)
{
	char temporary[PATH_MAX + 16];
	int fd, error;

	snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path);
	fd = mkstemp(temporary);
	if (fd < 0)
		return -errno;
	error = write_text(fd, result);
	close(fd);
	if (error == 0 && rename(temporary, path) < 0)
		error = -errno;
	if (error)
		unlink(temporary);
	return error;
}

int probe_cache_write(const struct probe_result *result, char path[PATH_MAX])
{
	int error;

	if (!find_directory(path))
		return -ENOENT;
	error = prepare_directory(path);
	strcat(path, "/probe");
	return error ? error : replace(path, result);
}

bool probe_unified(void)
{
	struct probe_result result;
	char path[PATH_MAX];
	int cached = probe_cached();

	if (cached >= 0)
		return cached == 1;
	probe_ask(&result);
	probe_cache_write(&result, path);
	return result.unified;
}
