/* SPDX-License-Identifier: Apache-2.0 */
#include "run_preload.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"
#include "library.h"

/* True if a list of libraries, separated by colons and blanks, has a copy. */
static bool has_library(const char *list)
{
	for (; *list; list += strspn(list, ": \t")) {
		size_t length = strcspn(list, ": \t");

		if (library_is(list, length))
			return true;
		list += length;
	}
	return false;
}

/* True if every process has the library: by /etc/ld.so.preload, without its comments. */
static bool is_injected(void)
{
	struct stn_lines lines;
	bool found = false;
	char *line;

	stn_lines_open(&lines, "/etc/ld.so.preload");
	while (!found && (line = stn_lines_next(&lines))) {
		line[strcspn(line, "#")] = '\0';
		found = has_library(line);
	}
	stn_lines_close(&lines);
	return found;
}

bool run_preload_present(void)
{
	const char *list = getenv("LD_PRELOAD");

	return (list && has_library(list)) || is_injected();
}

int run_preload_set(const char *path)
{
	const char *old = getenv("LD_PRELOAD");
	size_t size = strlen(path) + (old ? strlen(old) : 0) + 2, length;
	char *list;

	/* Separators and, with '$', what ld.so replaces (ld.so(8)). */
	if (path[strcspn(path, ": \t\n$")])
		return -1;
	if (is_injected())
		return 0;
	list = malloc(size);
	if (!list)
		return -1;
	length = (size_t)sprintf(list, "%s", path);
	for (; old && *old; old += strspn(old, ": ")) {
		size_t entry = strcspn(old, ": ");

		if (entry && !library_is(old, entry))
			length += (size_t)sprintf(list + length, ":%.*s", (int)entry, old);
		old += entry;
	}
	setenv("LD_PRELOAD", list, 1);
	free(list);
	return 0;
}
