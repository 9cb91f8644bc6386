/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors: 8 bytes with the length of the header, the header in JSON, the data. The rules are
 * those of the reference implementation, and the two of the format's description that it does not
 * enforce: the header begins with '{', and no name occurs twice.
 */
#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "scan.h"

#define PREFIX	   8
#define MAX_HEADER 100000000u

static const struct {
	const char *name;
	uint64_t bits;
} types[] = {
	{"BOOL", 8}, {"F4", 4},		 {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
	{"I8", 8},   {"F8_E5M2", 8},	 {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
	{"I16", 16}, {"F8_E5M2FNUZ", 8}, {"U16", 16},	 {"F16", 16},	 {"BF16", 16},
	{"I32", 32}, {"U32", 32},	 {"F32", 32},	 {"C64", 64},	 {"F64", 64},
	{"I64", 64}, {"U64", 64},
};

#define TYPES (sizeof(types) / sizeof(types[0]))

/* What an entry has been seen to have. */
struct entry {
	struct inspect_tensor tensor;
	uint64_t bits; /* of an element */
	bool type, shape, offsets;
};

/* Reads the value of a dtype. */
static void take_type(struct inspect_model *model, struct scan *scan, struct entry *entry)
{
	size_t at;
	char *name;

	if (scan_peek(scan) != '"') {
		at = scan->at;
		if (scan_skip(scan))
			inspect_add_about(model, &entry->tensor, "dtype is no string (byte %zu)",
					  PREFIX + at);
		return;
	}
	at = scan->at;
	name = scan_string(scan);
	if (!name)
		return;
	entry->type = true;
	for (size_t i = 0; i < TYPES; i++)
		if (strcmp(types[i].name, name) == 0) {
			entry->tensor.type = types[i].name;
			entry->bits = types[i].bits;
		}
	if (!entry->tensor.type)
		inspect_add_about(model, &entry->tensor, "dtype %.40s is none (byte %zu)", name,
				  PREFIX + at);
	free(name);
}

/*
 * Reads an array of whole numbers, to be freed. False if it is none: then that is among the
 * problems, and the scan stands behind it or has failed.
 */
static bool take_numbers(struct inspect_model *model, struct scan *scan, const char *what,
			 const struct entry *entry, uint64_t **numbers, uint64_t *count)
{
	size_t start = (scan_peek(scan), scan->at);
	bool first = true;
	uint64_t number;
	struct scan other;

	*numbers = NULL;
	*count = 0;
	while (scan_next(scan, '[', &first) && scan_number(scan, &number)) {
		*numbers = inspect_grow(*numbers, *count, sizeof(number));
		(*numbers)[(*count)++] = number;
	}
	if (!scan->error)
		return true;
	/* JSON it may be all the same. */
	scan_start(&other, scan->text, scan->length);
	other.at = start;
	if (scan_skip(&other)) {
		inspect_add_about(model, &entry->tensor, "%s: %s (byte %zu)", what, scan->error,
				  PREFIX + scan->error_at);
		*scan = other;
	}
	return false;
}

static void take_shape(struct inspect_model *model, struct scan *scan, struct entry *entry)
{
	free(entry->tensor.shape);
	entry->shape = take_numbers(model, scan, "shape", entry, &entry->tensor.shape,
				    &entry->tensor.dimensions);
}

static void take_offsets(struct inspect_model *model, struct scan *scan, struct entry *entry)
{
	uint64_t *numbers, count;
	bool good = take_numbers(model, scan, "data_offsets", entry, &numbers, &count);

	if (good && count != 2)
		inspect_add_about(model, &entry->tensor, "data_offsets has %zu numbers, not 2",
				  (size_t)count);
	entry->offsets = good && count == 2;
	if (entry->offsets) {
		entry->tensor.start = numbers[0];
		entry->tensor.end = numbers[1];
	}
	free(numbers);
}

/* One member of an entry; a second of the same name is wrong. */
static void take_member(struct inspect_model *model, struct scan *scan, struct entry *entry)
{
	char *key = scan_string(scan);
	bool twice = false;

	if (key && scan_take(scan, ':', "':' expected")) {
		if (strcmp(key, "dtype") == 0) {
			twice = entry->type;
			take_type(model, scan, entry);
		} else if (strcmp(key, "shape") == 0) {
			twice = entry->shape;
			take_shape(model, scan, entry);
		} else if (strcmp(key, "data_offsets") == 0) {
			twice = entry->offsets;
			take_offsets(model, scan, entry);
		} else {
			scan_skip(scan);
		}
	}
	if (twice)
		inspect_add_about(model, &entry->tensor, "%s occurs twice", key);
	free(key);
}

/* Compares what shape and type need with what the offsets say, and makes file offsets of them. */
static void check_entry(struct inspect_model *model, struct entry *entry)
{
	struct inspect_tensor *tensor = &entry->tensor;
	uint64_t bytes = inspect_bytes(tensor, entry->bits, 8);

	if (tensor->end < tensor->start)
		inspect_add_about(model, tensor, "data_offsets end before they begin");
	else if (!tensor->type)
		;
	else if (bytes == UINT64_MAX)
		inspect_add_about(model, tensor, "shape and type give no number of bytes");
	else if (bytes != tensor->end - tensor->start)
		inspect_add_about(model, tensor,
				  "shape and type need %llu bytes, data_offsets give %llu",
				  (unsigned long long)bytes,
				  (unsigned long long)(tensor->end - tensor->start));
	if (__builtin_add_overflow(tensor->start, model->data, &tensor->start) ||
	    __builtin_add_overflow(tensor->end, model->data, &tensor->end))
		tensor->start = tensor->end = UINT64_MAX;
}

/* The value of one tensor; takes its name over. */
static void take_tensor(struct inspect_model *model, struct scan *scan, char *name, size_t at)
{
	struct entry entry = {.tensor = {.name = name, .entry = PREFIX + at}};
	bool first = true;

	if (scan_peek(scan) != '{') {
		if (scan_skip(scan))
			inspect_add_about(model, &entry.tensor, "its value is no object");
	} else {
		while (scan_next(scan, '{', &first))
			take_member(model, scan, &entry);
		if (!scan->error && !(entry.type && entry.shape && entry.offsets))
			inspect_add_about(model, &entry.tensor,
					  "dtype, shape or data_offsets is missing or wrong");
	}
	if (!scan->error && entry.type && entry.shape && entry.offsets) {
		check_entry(model, &entry);
		inspect_add_tensor(model, &entry.tensor);
		return;
	}
	free(entry.tensor.name);
	free(entry.tensor.shape);
}

/* The value of __metadata__: strings by name. */
static void take_metadata(struct inspect_model *model, struct scan *scan)
{
	bool first = true;
	size_t at = (scan_peek(scan), scan->at);

	if (scan_peek(scan) != '{') {
		bool null = scan_peek(scan) == 'n';

		if (scan_skip(scan) && !null)
			inspect_add_problem(model, PREFIX + at, "__metadata__ is no object");
		return;
	}
	while (scan_next(scan, '{', &first)) {
		size_t key_at = (scan_peek(scan), scan->at);
		char *key = scan_string(scan), *value = NULL;

		if (!key || !scan_take(scan, ':', "':' expected")) {
			free(key);
			return;
		}
		at = (scan_peek(scan), scan->at);
		if (scan_peek(scan) == '"')
			value = scan_string(scan);
		else if (scan_skip(scan))
			inspect_add_problem(model, PREFIX + at,
					    "__metadata__: the value of %.40s is no string", key);
		if (value)
			inspect_add_pair(model,
					 &(struct inspect_pair){key, value, PREFIX + key_at});
		else
			free(key);
	}
}

/* The header's text. */
static void take_header(struct inspect_model *model, struct scan *scan)
{
	bool first = true, metadata = false;

	if (scan->length && scan->text[0] != '{' && scan_peek(scan) == '{')
		inspect_add_problem(model, PREFIX, "the header does not begin with '{'");
	while (scan_next(scan, '{', &first)) {
		size_t at = (scan_peek(scan), scan->at);
		char *name = scan_string(scan);

		if (!name || !scan_take(scan, ':', "':' expected")) {
			free(name);
			break;
		}
		if (strcmp(name, "__metadata__") != 0) {
			take_tensor(model, scan, name, at);
			continue;
		}
		if (metadata)
			inspect_add_problem(model, PREFIX + at, "__metadata__ occurs twice");
		metadata = true;
		free(name);
		take_metadata(model, scan);
	}
	if (!scan->error && scan_peek(scan) != '\0') {
		scan->error = "text behind the end of the header's object";
		scan->error_at = scan->at;
	}
}

/* The length of the header, or 0 with the reason among the problems. */
static uint64_t header_length(struct inspect_file *file, struct inspect_model *model)
{
	const char *prefix = inspect_read(file, 0, PREFIX, 0);
	uint64_t length = 0;

	if (file->error)
		return 0;
	if (!prefix) {
		inspect_add_problem(model, 0,
				    "the file has %llu bytes, the length of the header takes 8",
				    (unsigned long long)file->size);
		return 0;
	}
	for (int i = 0; i < PREFIX; i++)
		length |= (uint64_t)(unsigned char)prefix[i] << 8 * i;
	if (length > MAX_HEADER)
		inspect_add_problem(model, 0,
				    "the header is said to have %llu bytes, more than %u may be",
				    (unsigned long long)length, MAX_HEADER);
	else if (length > file->size - PREFIX)
		inspect_add_problem(
			model, 0, "the header is said to have %llu bytes, the file has %llu more",
			(unsigned long long)length, (unsigned long long)(file->size - PREFIX));
	else if (length == 0)
		inspect_add_problem(model, 0, "the header is said to be empty");
	else
		return length;
	return 0;
}

void inspect_safetensors(struct inspect_file *file, struct inspect_model *model)
{
	struct scan scan;
	const char *text;
	size_t good;

	model->format = "safetensors";
	model->total = file->size;
	model->header = header_length(file, model);
	model->data = PREFIX + model->header;
	if (model->header == 0)
		return;
	text = inspect_read(file, PREFIX, (size_t)model->header, 0);
	if (!text)
		return;
	good = scan_utf8(text, (size_t)model->header);
	if (good < model->header) {
		inspect_add_problem(model, PREFIX + good, "the header is not UTF-8");
		return;
	}
	scan_start(&scan, text, (size_t)model->header);
	take_header(model, &scan);
	if (scan.error)
		inspect_add_problem(model, PREFIX + scan.error_at, "the header is not JSON: %s",
				    scan.error);
	else
		model->complete = true;
}
