/* SPDX-License-Identifier: Apache-2.0 */
#include "tensors.h"

#include <string.h>

#include "ahead.h"
#include "page.h"
#include "sys.h"

struct stn_tensors *stn_tensors_find(const struct stn_model *model)
{
	struct stn_tensors *tensors = atomic_load(&model->tensors);

	return tensors && atomic_load(&tensors->version) == atomic_load(&model->version) ? tensors
											 : NULL;
}

/* A table without bits; NULL if memory is refused. */
static struct stn_tensors *map_tensors(uint32_t units)
{
	size_t size = stn_round_up(sizeof(struct stn_tensors) + units / 8 + 1, stn_page_size());
	struct stn_tensors *tensors = stn_sys_mmap(NULL, size, PROT_READ | PROT_WRITE,
						   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stn_sys_failed(tensors))
		return NULL;
	tensors->room = (uint32_t)stn_min((size - sizeof(*tensors)) * 8, UINT32_MAX);
	return tensors;
}

/* Makes the table one for another version. */
static void start_version(struct stn_tensors *tensors, uint64_t version, uint32_t units)
{
	atomic_store(&tensors->version, 0);
	for (uint32_t i = 0; i <= units / 8 && i < tensors->room / 8; i++)
		atomic_store_explicit(&tensors->begins[i], 0, memory_order_relaxed);
	atomic_store(&tensors->units, units);
	atomic_store(&tensors->looked, false);
	atomic_store(&tensors->version, version);
}

struct stn_tensors *stn_tensors_make(struct stn_model *model, uint64_t size)
{
	struct stn_tensors *old = atomic_load(&model->tensors), *tensors = old;
	uint64_t version = atomic_load(&model->version);
	uint64_t units = (size + STN_AHEAD_UNIT - 1) / STN_AHEAD_UNIT;

	if (units >= UINT32_MAX)
		return NULL;
	if (old && atomic_load(&old->version) == version)
		return old;
	if (!old || old->room <= units)
		tensors = map_tensors((uint32_t)units);
	if (!tensors)
		return NULL;
	start_version(tensors, version, (uint32_t)units);
	/* One that is replaced may be in use; a file that grows again and again is rare. */
	if (tensors != old && !atomic_compare_exchange_strong(&model->tensors, &old, tensors)) {
		stn_sys_munmap(tensors,
			       stn_round_up(sizeof(*tensors) + units / 8 + 1, stn_page_size()));
		return old;
	}
	return tensors;
}

static void mark(struct stn_tensors *tensors, uint64_t offset)
{
	uint64_t unit = offset / STN_AHEAD_UNIT;

	if (unit < atomic_load(&tensors->units))
		atomic_fetch_or_explicit(&tensors->begins[unit / 8], (uint8_t)(1u << unit % 8),
					 memory_order_relaxed);
}

static const char *skip_spaces(const char *at, const char *end)
{
	while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r'))
		at++;
	return at;
}

/* Reads a number behind the character that must come first. NULL if it is not there, or cut off. */
static const char *take_number(const char *at, const char *end, char before, uint64_t *number)
{
	at = skip_spaces(at, end);
	if (at == end || *at != before)
		return NULL;
	at = skip_spaces(at + 1, end);
	*number = 0;
	while (at < end && *at >= '0' && *at <= '9')
		*number = *number * 10 + (uint64_t)(*at++ - '0');
	return at < end ? at : NULL;
}

void stn_tensors_scan(struct stn_tensors *tensors, const char *part, size_t length, uint64_t data)
{
	static const char key[] = "\"data_offsets\"";
	const char *at = part, *end = part + length;

	while ((at = memmem(at, (size_t)(end - at), key, sizeof(key) - 1)) != NULL) {
		const char *value = skip_spaces(at + sizeof(key) - 1, end);
		uint64_t from, to;

		at += sizeof(key) - 1;
		value = value < end && *value == ':' ? take_number(value + 1, end, '[', &from)
						     : NULL;
		if (!value || !take_number(value, end, ',', &to) || from >= to)
			continue;
		mark(tensors, data + from);
		mark(tensors, data + to);
	}
}

bool stn_tensors_begins(const struct stn_tensors *tensors, uint32_t unit)
{
	return unit < atomic_load_explicit(&tensors->units, memory_order_relaxed) &&
	       atomic_load_explicit(&tensors->begins[unit / 8], memory_order_relaxed) >> unit % 8 &
		       1;
}

uint32_t stn_tensors_start(const struct stn_tensors *tensors, uint32_t unit)
{
	while (unit && !stn_tensors_begins(tensors, unit))
		unit--;
	return unit;
}

uint32_t stn_tensors_next(const struct stn_tensors *tensors, uint32_t unit)
{
	uint32_t units = atomic_load_explicit(&tensors->units, memory_order_relaxed);

	for (unit++; unit < units; unit++) {
		/* Nothing begins in the eight units of an empty byte. */
		if (unit % 8 == 0 &&
		    !atomic_load_explicit(&tensors->begins[unit / 8], memory_order_relaxed))
			unit += 7;
		else if (stn_tensors_begins(tensors, unit))
			return unit;
	}
	return units;
}
