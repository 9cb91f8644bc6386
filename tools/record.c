/* SPDX-License-Identifier: Apache-2.0 */
#include "record.h"

#include <stdio.h>
#include <string.h>

#include "page.h"

/* A field that is a text, or NULL. */
static const char *text(const cJSON *line, const char *key)
{
	return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(line, key));
}

/* A field that is a number, 0 if it is not there. */
static double number(const cJSON *line, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(line, key);

	return cJSON_IsNumber(item) && item->valuedouble > 0 ? item->valuedouble : 0;
}

static uint64_t count(const cJSON *line, const char *key)
{
	double value = number(line, key);

	return value < 0x1p63 ? (uint64_t)value : UINT64_MAX / 2;
}

/* The first field that a line must have and has not, or NULL. */
static const char *missing_field(const cJSON *line)
{
	static const char *const texts[] = {"event", "path", "decision"};

	for (size_t i = 0; i < 3; i++)
		if (!text(line, texts[i]))
			return texts[i];
	if (number(line, "time") <= 0)
		return "time";
	return number(line, "pid") <= 0 ? "pid" : NULL;
}

/* What of the line depends on how the map is filled. */
static void read_fill(const cJSON *line, struct record *out)
{
	out->begins = strcmp(text(line, "event"), "begin") == 0;
	out->lazy = out->begins || strcmp(text(line, "event"), "end") == 0;
	out->counted = !out->engaged || out->begins || !out->lazy;
	out->seconds = out->begins ? 0 : number(line, "seconds");
	out->bytes = count(line, "bytes");
	/* A little may have been read twice. */
	if (out->lazy)
		out->bytes = stn_min(out->bytes, out->direct + out->buffered);
	if (out->lazy)
		out->memory = out->bytes;
	else if (out->engaged && out->bytes > out->returned &&
		 strcmp(text(line, "event"), "read") != 0) /* into memory of the program's */
		out->memory = out->bytes - out->returned;
}

const char *record_read(const cJSON *line, struct record *out)
{
	const char *missing = missing_field(line), *reason = text(line, "reason");

	if (missing)
		return missing;
	*out = (struct record){
		.path = text(line, "path"),
		.file_system = text(line, "file_system"),
		.decision = text(line, "decision"),
		.time = number(line, "time"),
		.pid = number(line, "pid"),
		.size = count(line, "size"),
		.direct = count(line, "direct_bytes"),
		.buffered = count(line, "buffered_bytes"),
		.returned = count(line, "returned_bytes"),
		.huge = count(line, "huge_pages"),
		.cache_before = count(line, "cache_before"),
		.cache_after = count(line, "cache_after"),
	};
	out->engaged = strcmp(out->decision, "engaged") == 0;
	snprintf(out->name, sizeof(out->name), "%s%s%s", out->decision,
		 reason && *reason ? ":" : "", reason ? reason : "");
	read_fill(line, out);
	return NULL;
}
