/* SPDX-License-Identifier: Apache-2.0 */
#include "library.h"

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

bool library_find(char out[PATH_MAX])
{
	static const char *const places[] = {".", STN_BIN_TO_LIB, ".."};
	char directory[PATH_MAX], path[2 * PATH_MAX], found[PATH_MAX];

	out[0] = '\0';
	if (!own_directory(directory))
		return false;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s/libstnommap.so", directory, places[i]);
		if (access(path, R_OK) == 0 && realpath(path, found)) {
			strcpy(out, found);
			return true;
		}
	}
	return false;
}
