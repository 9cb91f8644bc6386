/* SPDX-License-Identifier: Apache-2.0 */
#include "engaged.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "unit.h"

static const char *variables[16];
static char stats[4096 + 16];

/* The environment that unit_configure has been given. */
static char *lookup(const char *name)
{
	size_t length = strlen(name);

	for (int i = 0; variables[i]; i++)
		if (strncmp(variables[i], name, length) == 0 && variables[i][length] == '=')
			return (char *)(uintptr_t)variables[i] + length + 1;
	return NULL;
}

void unit_configure(const char *first, ...)
{
	int count = 0;
	va_list rest;

	va_start(rest, first);
	for (const char *each = first; each; each = va_arg(rest, const char *)) {
		ck_assert_int_lt(count, COUNT(variables) - 2);
		variables[count++] = each;
	}
	va_end(rest);
	snprintf(stats, sizeof(stats), "STSHIM_STATS=%.4000s", unit_path(UNIT_STATS));
	variables[count++] = stats;
	variables[count] = NULL;
	stn_config_read(&stn_config, lookup);
	ck_assert_uint_eq(stn_config.bad, 0);
}

void unit_declare(int fd, const char *path)
{
	struct stn_identity identity = unit_identity(fd);

	ck_assert(stn_names_add(identity.device, identity.inode, path));
}

int unit_model(const char *name, size_t size)
{
	int fd = unit_pattern_file(name, size);

	unit_declare(fd, name);
	return fd;
}

struct stn_map_call unit_call(int fd, size_t length, int prot, int flags, uint64_t offset)
{
	return (struct stn_map_call){
		.length = length, .prot = prot, .flags = flags, .fd = fd, .offset = offset};
}

char *unit_engage(int fd, size_t length, int prot, int flags, uint64_t offset)
{
	struct stn_map_call call = unit_call(fd, length, prot, flags, offset);
	void *address = NULL;
	int error = 0;

	ck_assert_int_eq(stn_engage_map(&call, &address, &error), STN_OUTCOME_DONE);
	ck_assert_msg(unit_last_decision("engaged:"), "%s", unit_last_line());
	return address;
}

const char *unit_last_line(void)
{
	static char line[65536];
	const char *text = "", *start = NULL;

	if (access(UNIT_STATS, F_OK) == 0)
		text = unit_read(UNIT_STATS);
	for (const char *at = text; *at; at = strchr(at, '\n') + 1) {
		start = at;
		ck_assert_ptr_nonnull(strchr(at, '\n'));
	}
	line[0] = '\0';
	if (start)
		sscanf(start, "%65535[^\n]", line);
	return line;
}

bool unit_last_decision(const char *decision)
{
	const char *colon = strchr(decision, ':');
	char expected[128];

	snprintf(expected, sizeof(expected), "\"decision\":\"%.*s\",\"reason\":\"%s\"",
		 (int)(colon - decision), decision, colon + 1);
	return strstr(unit_last_line(), expected) != NULL;
}

int unit_maps_of(const char *name)
{
	const char *at = unit_read("/proc/self/maps");
	char end[256];
	int count = 0;

	snprintf(end, sizeof(end), "/%s\n", name);
	for (; (at = strstr(at, end)) != NULL; at++)
		count++;
	return count;
}
