/* SPDX-License-Identifier: Apache-2.0 */
#include "library.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Writes the directory of this program; false without /proc. */
static bool own_directory(char out[PATH_MAX])
{
	ssize_t length = readlink("/proc/self/exe", out, PATH_MAX - 1);
	char *slash;

	if (length <= 0)
		return false;
	out[length] = '\0';
	slash = strrchr(out, '/');
	if (slash)
		*slash = '\0';
	return slash != NULL;
}

/* Writes the directory with a backslash before each character that glob takes for its own. */
static void quote(const char *directory, char out[2 * PATH_MAX])
{
	for (; *directory; *out++ = *directory++)
		if (strchr("*?[\\", *directory))
			*out++ = '\\';
	*out = '\0';
}

/* Takes the first file that a pattern relative to the directory matches. */
static bool look_at(const char *quoted, const char *place, char out[PATH_MAX])
{
	char pattern[3 * PATH_MAX], found[PATH_MAX];
	bool good = false;
	glob_t matches;

	snprintf(pattern, sizeof(pattern), "%s/%s/libstnommap.so", quoted, place);
	if (glob(pattern, 0, NULL, &matches) != 0)
		return false;
	if (access(matches.gl_pathv[0], R_OK) == 0 && realpath(matches.gl_pathv[0], found)) {
		strcpy(out, found);
		good = true;
	}
	globfree(&matches);
	return good;
}

bool library_find(char out[PATH_MAX])
{
	static const char *const places[] = {
#ifdef STN_PACKAGE
		/* A prefix, Debian's, Fedora's; pip install --target. */
		"../lib/python3*/site-packages/stnommap",
		"../lib/python3*/dist-packages/stnommap",
		"../lib64/python3*/site-packages/stnommap",
		"../stnommap",
#else
		".",
		STN_BIN_TO_LIB,
		"..",
#endif
	};
	char directory[PATH_MAX], quoted[2 * PATH_MAX];

	out[0] = '\0';
	if (!own_directory(directory))
		return false;
	quote(directory, quoted);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		if (look_at(quoted, places[i], out))
			return true;
	return false;
}

bool library_is(const char *entry, size_t length)
{
	static const char name[] = "libstnommap.so";
	const size_t size = sizeof(name) - 1;

	return length >= size && memcmp(entry + length - size, name, size) == 0 &&
	       (length == size || entry[length - size - 1] == '/');
}
