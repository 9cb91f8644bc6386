/* SPDX-License-Identifier: Apache-2.0 */
#include "config.h"

#include <string.h>

#include "text.h"

struct stn_config stn_config;

/* How a value is written. */
enum value_kind { CHOICE, NUMBER, SIZE, SIZE_OR_OFF, DURATION, MEMORY, TEXT };

/* One variable. */
struct row {
	struct stn_config_row shown;
	enum value_kind kind;
	size_t offset;	      /* of the field in struct stn_config */
	uint64_t least, most; /* of a NUMBER, SIZE or SIZE_OR_OFF; most = buffer size of a TEXT */
	const char *const *choices; /* of a CHOICE, in the order of its enum, NULL at the end */
};

static const char *const modes[] = {"auto", "always", "observe", "off", NULL};
static const char *const answers[] = {"auto", "yes", "no", NULL};
static const char *const fills[] = {"auto", "eager", "lazy", NULL};
static const char *const aheads[] = {"auto", "tensor", NULL};
static const char *const ios[] = {"auto", "direct", "buffered", NULL};
static const char *const caches[] = {"auto", "restore", "keep", "drop", NULL};
static const char *const mlocks[] = {"off", "try", "require", NULL};
static const char *const huges[] = {"auto", "off", NULL};
static const char *const levels[] = {"off", "error", "warn", "info", "debug", NULL};
static const char *const switches[] = {"off", "on", NULL};

#define FIELD(member)	   offsetof(struct stn_config, member)
#define TEXT_FIELD(member) TEXT, FIELD(member), 0, sizeof(((struct stn_config *)0)->member), NULL

static const struct row table[] = {
	{{"STSHIM_MODE", "auto", "auto, always, observe or off"}, CHOICE, FIELD(mode), 0, 0, modes},
	{{"STSHIM_FILES", "*.safetensors:*.sft", "globs separated by colons"}, TEXT_FIELD(files)},
	{{"STSHIM_FSTYPES", "fuse", "file system names separated by commas, or all"},
	 TEXT_FIELD(file_systems)},
	{{"STSHIM_UMA", "auto", "auto, yes or no"}, CHOICE, FIELD(uma), 0, 0, answers},
	{{"STSHIM_FILL", "auto", "auto, eager or lazy"}, CHOICE, FIELD(fill), 0, 0, fills},
	{{"STSHIM_AHEAD", "auto", "auto or tensor"}, CHOICE, FIELD(ahead), 0, 0, aheads},
	{{"STSHIM_IO", "auto", "auto, direct or buffered"}, CHOICE, FIELD(io), 0, 0, ios},
	{{"STSHIM_THREADS", "8", "1 to 64"}, NUMBER, FIELD(threads), 1, 64, NULL},
	{{"STSHIM_BLOCK", "8M", "64K to 64M"}, SIZE, FIELD(block), 64 << 10, 64 << 20, NULL},
	{{"STSHIM_MEMORY", "auto", "auto, a size, or a percentage"},
	 MEMORY,
	 FIELD(memory_kind),
	 0,
	 0,
	 NULL},
	{{"STSHIM_CACHE", "auto", "auto, restore, keep or drop"},
	 CHOICE,
	 FIELD(cache),
	 0,
	 0,
	 caches},
	{{"STSHIM_MLOCK", "off", "off, try or require"}, CHOICE, FIELD(mlock), 0, 0, mlocks},
	{{"STSHIM_TIMEOUT", "30s", "seconds, or a number with ms, s or m; 0 = never"},
	 DURATION,
	 FIELD(timeout),
	 0,
	 0,
	 NULL},
	{{"STSHIM_HUGEPAGES", "auto", "auto or off"}, CHOICE, FIELD(huge_pages), 0, 0, huges},
	{{"STSHIM_READ_MIN", "1M", "64K to 1G, or off"},
	 SIZE_OR_OFF,
	 FIELD(read_min),
	 64 << 10,
	 1 << 30,
	 NULL},
	{{"STSHIM_LOG", "off", "off, error, warn, info or debug"},
	 CHOICE,
	 FIELD(log_level),
	 0,
	 0,
	 levels},
	{{"STSHIM_LOG_FILE", "", "a file; empty = stderr"}, TEXT_FIELD(log_file)},
	{{"STSHIM_STATS", "", "a file; empty = none"}, TEXT_FIELD(stats_file)},
	{{"STSHIM_PROGRESS", "off", "off or on"}, CHOICE, FIELD(progress), 0, 0, switches},
};

#define ROWS (sizeof(table) / sizeof(table[0]))

static bool parse_choice(const struct row *row, const char *value, uint64_t *out)
{
	for (size_t i = 0; row->choices[i]; i++)
		if (strcmp(row->choices[i], value) == 0) {
			*out = i;
			return true;
		}
	return false;
}

static bool parse_bounded(const struct row *row, const char *value, uint64_t *out)
{
	uint64_t parsed;
	bool good = row->kind == NUMBER ? stn_text_number(value, strlen(value), &parsed)
					: stn_text_size(value, strlen(value), &parsed);

	if (!good || parsed < row->least || parsed > row->most)
		return false;
	/* Reads and staging are cut into whole pages of any page size up to 64 KiB. */
	*out = row->kind == NUMBER ? parsed : parsed & ~(uint64_t)0xffff;
	return true;
}

static bool parse_size_or_off(const struct row *row, const char *value, uint64_t *out)
{
	if (strcmp(value, "off") != 0)
		return parse_bounded(row, value, out);
	*out = STN_READ_OFF;
	return true;
}

/* Parses "30", "30s", "500ms" or "2m" into nanoseconds, at most a day. */
static bool parse_duration(const char *value, uint64_t *out)
{
	size_t digits = strspn(value, "0123456789");
	const char *unit = value + digits;
	uint64_t scale = strcmp(unit, "ms") == 0		     ? 1000000u
			 : strcmp(unit, "m") == 0		     ? 60000000000u
			 : (*unit == '\0' || strcmp(unit, "s") == 0) ? 1000000000u
								     : 0;
	const uint64_t day = 86400000000000u;
	uint64_t number;

	if (!scale || !stn_text_number(value, digits, &number) || number > day / scale)
		return false;
	*out = number * scale;
	return true;
}

/* Parses STSHIM_MEMORY into the pair memory_kind, memory_value. */
static bool parse_memory(const char *value, uint64_t *kind, uint64_t *number)
{
	size_t length = strlen(value);

	if (strcmp(value, "auto") == 0) {
		*kind = STN_MEMORY_AUTO;
		return true;
	}
	if (length && value[length - 1] == '%') {
		if (!stn_text_number(value, length - 1, number) || *number > 100)
			return false;
		*kind = STN_MEMORY_PERCENT;
		return true;
	}
	if (!stn_text_size(value, length, number))
		return false;
	*kind = STN_MEMORY_SIZE;
	return true;
}

static bool parse_text(const struct row *row, const char *value, char *out)
{
	size_t length = strlen(value);

	if (length >= row->most)
		return false;
	memcpy(out, value, length + 1);
	return true;
}

static bool parse_row(const struct row *row, const char *value, struct stn_config *config)
{
	char *field = (char *)config + row->offset;

	switch (row->kind) {
	case CHOICE:
		return parse_choice(row, value, (uint64_t *)(void *)field);
	case NUMBER:
	case SIZE:
		return parse_bounded(row, value, (uint64_t *)(void *)field);
	case SIZE_OR_OFF:
		return parse_size_or_off(row, value, (uint64_t *)(void *)field);
	case DURATION:
		return parse_duration(value, (uint64_t *)(void *)field);
	case MEMORY:
		return parse_memory(value, &config->memory_kind, &config->memory_value);
	case TEXT:
		return parse_text(row, value, field);
	}
	return false;
}

void stn_config_read(struct stn_config *config, stn_config_source *source)
{
	config->bad = 0;
	for (size_t i = 0; i < ROWS; i++) {
		const char *value = source(table[i].shown.name);

		parse_row(&table[i], table[i].shown.fallback, config);
		if (value && !parse_row(&table[i], value, config))
			config->bad |= 1u << i;
	}
}

static bool is_known(const char *name, size_t length)
{
	for (size_t i = 0; i < ROWS; i++)
		if (strlen(table[i].shown.name) == length &&
		    memcmp(table[i].shown.name, name, length) == 0)
			return true;
	return false;
}

void stn_config_find_unknown(struct stn_config *config, char *const *environment)
{
	struct stn_text text;

	stn_text_start(&text, config->unknown, sizeof(config->unknown));
	for (; environment && *environment; environment++) {
		size_t length = strcspn(*environment, "=");

		if (strncmp(*environment, "STSHIM_", 7) != 0 || is_known(*environment, length))
			continue;
		if (text.length)
			stn_text_add_char(&text, ' ');
		for (size_t i = 0; i < length; i++)
			stn_text_add_char(&text, (*environment)[i]);
	}
}

size_t stn_config_rows(void)
{
	return ROWS;
}

void stn_config_row(size_t index, struct stn_config_row *row)
{
	*row = table[index].shown;
}
