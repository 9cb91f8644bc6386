/* SPDX-License-Identifier: Apache-2.0 */
/* GGUF, versions 2 and 3: magic, counts, pairs of metadata, descriptions of the tensors, data. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "page.h"
#include "report.h"
#include "scan.h"

#define AHEAD	     ((size_t)256 << 10)
#define MAX_HEADER   ((uint64_t)1 << 30)
#define MAX_NAME     65535
#define MAX_SHAPE    4
#define SHOWN	     200 /* bytes of a value */
#define ARRAYS_DEEP  8
#define DEFAULT_UNIT 32

enum { KIND_FLOAT = 6, KIND_BOOL = 7, KIND_STRING = 8, KIND_ARRAY = 9, KIND_DOUBLE = 12, KINDS };

/* Bytes and name of the kinds of values; 0 bytes: with a length of its own. */
static const struct {
	const char *name;
	unsigned bytes;
	bool is_signed;
} kinds[KINDS] = {
	{"uint8", 1, false},  {"int8", 1, true},   {"uint16", 2, false}, {"int16", 2, true},
	{"uint32", 4, false}, {"int32", 4, true},  {"float32", 4, true}, {"bool", 1, false},
	{"string", 0, false}, {"array", 0, false}, {"uint64", 8, false}, {"int64", 8, true},
	{"float64", 8, true},
};

/* Elements and bytes of a block of each type; a gap is a type that is no more. */
static const struct {
	const char *name;
	uint64_t elements, bytes;
} types[] = {
	[0] = {"F32", 1, 4},	     [1] = {"F16", 1, 2},	  [2] = {"Q4_0", 32, 18},
	[3] = {"Q4_1", 32, 20},	     [6] = {"Q5_0", 32, 22},	  [7] = {"Q5_1", 32, 24},
	[8] = {"Q8_0", 32, 34},	     [9] = {"Q8_1", 32, 40},	  [10] = {"Q2_K", 256, 84},
	[11] = {"Q3_K", 256, 110},   [12] = {"Q4_K", 256, 144},	  [13] = {"Q5_K", 256, 176},
	[14] = {"Q6_K", 256, 210},   [15] = {"Q8_K", 256, 292},	  [16] = {"IQ2_XXS", 256, 66},
	[17] = {"IQ2_XS", 256, 74},  [18] = {"IQ3_XXS", 256, 98}, [19] = {"IQ1_S", 256, 50},
	[20] = {"IQ4_NL", 32, 18},   [21] = {"IQ3_S", 256, 110},  [22] = {"IQ2_S", 256, 82},
	[23] = {"IQ4_XS", 256, 136}, [24] = {"I8", 1, 1},	  [25] = {"I16", 1, 2},
	[26] = {"I32", 1, 4},	     [27] = {"I64", 1, 8},	  [28] = {"F64", 1, 8},
	[29] = {"IQ1_M", 256, 56},   [30] = {"BF16", 1, 2},	  [34] = {"TQ1_0", 256, 54},
	[35] = {"TQ2_0", 256, 66},   [39] = {"MXFP4", 32, 17},	  [40] = {"NVFP4", 64, 36},
	[41] = {"Q1_0", 128, 18},
};

#define TYPES (sizeof(types) / sizeof(types[0]))

/* A header on its way through. */
struct walk {
	struct inspect_file *file;
	struct inspect_model *model;
	uint64_t at;
	bool failed; /* the reason is among the problems, or file->error is set */
};

/* Ends the walk with a problem at the current place. */
static bool fail(struct walk *walk, uint64_t at, const char *what)
{
	if (!walk->failed && !walk->file->error)
		inspect_add_problem(walk->model, at, "%s", what);
	walk->failed = true;
	return false;
}

/* True if length more bytes are in the file and the header is not absurdly long. */
static bool has(struct walk *walk, uint64_t length)
{
	if (walk->failed)
		return false;
	if (length > walk->file->size - walk->at)
		return fail(walk, walk->at, "the file ends within the header");
	if (walk->at + length > MAX_HEADER)
		return fail(walk, walk->at, "the header is longer than 1 GiB");
	return true;
}

/* The next length bytes, of which the walk is then past; NULL if there are none. */
static const char *take(struct walk *walk, size_t length)
{
	const char *bytes =
		has(walk, length) ? inspect_read(walk->file, walk->at, length, AHEAD) : NULL;

	if (!bytes) {
		walk->failed = true;
		return NULL;
	}
	walk->at += length;
	return bytes;
}

static bool skip(struct walk *walk, uint64_t length)
{
	if (has(walk, length))
		walk->at += length;
	return !walk->failed;
}

/* A little-endian number of some bytes; 0 after a failure. */
static uint64_t take_number(struct walk *walk, unsigned bytes)
{
	const char *text = take(walk, bytes);
	uint64_t value = 0;

	for (unsigned i = 0; text && i < bytes; i++)
		value |= (uint64_t)(unsigned char)text[i] << 8 * i;
	return value;
}

/* A copy of length bytes as a text: cut if long, U+2400 for NUL. */
static char *copy_text(const char *bytes, size_t length)
{
	char *out = NULL;
	size_t size;
	FILE *stream = open_memstream(&out, &size);

	for (size_t i = 0; stream && i < length; i++)
		if (bytes[i])
			fputc(bytes[i], stream);
		else
			fputs("\xe2\x90\x80", stream);
	if (stream)
		fclose(stream);
	return out;
}

/* A name: a length and that many bytes; to be freed, NULL after a failure. */
static char *take_name(struct walk *walk, const char *what)
{
	uint64_t at = walk->at, length = take_number(walk, 8);
	const char *bytes;

	if (!walk->failed && length > MAX_NAME)
		fail(walk, at, what);
	bytes = take(walk, (size_t)length);
	if (bytes && scan_utf8(bytes, (size_t)length) < length) {
		fail(walk, at + 8 + scan_utf8(bytes, (size_t)length), "a name that is not UTF-8");
		return NULL;
	}
	return bytes ? copy_text(bytes, (size_t)length) : NULL;
}

/* The beginning of a string value. */
static char *take_string(struct walk *walk)
{
	uint64_t length = take_number(walk, 8);
	size_t shown = (size_t)stn_min(length, SHOWN);
	const char *bytes = has(walk, length) ? take(walk, shown) : NULL;
	char *text, *longer;

	if (!bytes)
		return NULL;
	/* A cut must not split a character. */
	if (shown < length)
		shown = scan_utf8(bytes, shown);
	text = copy_text(bytes, shown);
	skip(walk, length - stn_min(length, SHOWN));
	if (text && length > SHOWN && asprintf(&longer, "%s...", text) >= 0) {
		free(text);
		text = longer;
	}
	return text;
}

/* A value of a kind with a fixed size. */
static char *take_scalar(struct walk *walk, unsigned kind)
{
	unsigned bytes = kinds[kind].bytes;
	uint64_t bits = take_number(walk, bytes);
	unsigned unused = 64 - 8 * bytes;
	char *text = NULL;
	int rc;

	if (walk->failed)
		return NULL;
	if (kind == KIND_FLOAT || kind == KIND_DOUBLE) {
		float single;
		double value;
		uint32_t half = (uint32_t)bits;

		memcpy(&single, &half, sizeof(single));
		memcpy(&value, &bits, sizeof(value));
		rc = asprintf(&text, "%g", kind == KIND_FLOAT ? (double)single : value);
	} else if (kind == KIND_BOOL) {
		rc = asprintf(&text, "%s", bits ? "true" : "false");
	} else if (kinds[kind].is_signed) {
		rc = asprintf(&text, "%lld", (long long)(bits << unused) >> unused);
	} else {
		rc = asprintf(&text, "%llu", (unsigned long long)bits);
	}
	return rc < 0 ? NULL : text;
}

/* Goes past an array and says what it was. */
static char *take_array(struct walk *walk, unsigned depth)
{
	uint64_t at = walk->at, kind = take_number(walk, 4), count = take_number(walk, 8), bytes;
	char *text = NULL;

	if (walk->failed)
		return NULL;
	if (kind >= KINDS || depth == ARRAYS_DEEP) {
		fail(walk, at,
		     kind >= KINDS ? "an array of a kind that there is not"
				   : "arrays more than 8 levels deep");
		return NULL;
	}
	if (kinds[kind].bytes) {
		if (__builtin_mul_overflow(count, kinds[kind].bytes, &bytes))
			bytes = UINT64_MAX;
		skip(walk, bytes);
	}
	for (uint64_t i = 0; !kinds[kind].bytes && i < count && !walk->failed; i++)
		if (kind == KIND_STRING)
			skip(walk, take_number(walk, 8));
		else
			free(take_array(walk, depth + 1));
	if (!walk->failed &&
	    asprintf(&text, "array of %llu %s", (unsigned long long)count, kinds[kind].name) < 0)
		text = NULL;
	return text;
}

/* Remembers the alignment, if the pair at this place is that. */
static void note_alignment(struct walk *walk, uint64_t at, const char *key, uint64_t kind,
			   const char *value)
{
	uint64_t alignment;

	if (strcmp(key, "general.alignment") != 0)
		return;
	alignment = strtoull(value, NULL, 10);
	if (kind != 4 || alignment == 0 || (alignment & (alignment - 1)) != 0)
		inspect_add_problem(walk->model, at,
				    "general.alignment is no uint32 that is a power of two");
	else
		walk->model->alignment = alignment;
}

static void take_pair(struct walk *walk)
{
	uint64_t at = walk->at, kind_at, kind;
	char *key = take_name(walk, "a key of more than 65535 bytes"), *value = NULL;

	kind_at = walk->at;
	kind = take_number(walk, 4);
	if (!walk->failed && kind >= KINDS)
		fail(walk, kind_at, "a value of a kind that there is not");
	if (!walk->failed)
		value = kind == KIND_STRING  ? take_string(walk)
			: kind == KIND_ARRAY ? take_array(walk, 0)
					     : take_scalar(walk, (unsigned)kind);
	if (!key || !value) {
		free(key);
		free(value);
		walk->failed = true;
		return;
	}
	note_alignment(walk, at, key, kind, value);
	inspect_add_pair(walk->model, &(struct inspect_pair){key, value, at});
}

/* Type, size and place of a tensor whose name and shape have been read. */
static void take_rest(struct walk *walk, struct inspect_tensor *tensor)
{
	uint64_t at = walk->at, type = take_number(walk, 4), bytes = 0;

	tensor->start = take_number(walk, 8);
	if (walk->failed)
		return;
	if (type >= TYPES || !types[type].name) {
		inspect_add_about(walk->model, tensor, "type %llu is none (byte %llu)",
				  (unsigned long long)type, (unsigned long long)at);
	} else {
		tensor->type = types[type].name;
		if (tensor->dimensions && tensor->shape[0] % types[type].elements != 0)
			inspect_add_about(walk->model, tensor,
					  "rows of %llu are not whole blocks of %llu (%s)",
					  (unsigned long long)tensor->shape[0],
					  (unsigned long long)types[type].elements, tensor->type);
		bytes = inspect_bytes(tensor, types[type].bytes, types[type].elements);
		if (bytes == UINT64_MAX) {
			inspect_add_about(walk->model, tensor,
					  "shape and type give no number of bytes");
			bytes = 0;
		}
	}
	if (__builtin_add_overflow(tensor->start, bytes, &tensor->end))
		tensor->start = tensor->end = UINT64_MAX;
}

static void take_tensor(struct walk *walk)
{
	struct inspect_tensor tensor = {.entry = walk->at};

	tensor.name = take_name(walk, "a tensor's name of more than 65535 bytes");
	if (tensor.name) {
		uint64_t at = walk->at;

		tensor.dimensions = take_number(walk, 4);
		if (tensor.dimensions > MAX_SHAPE)
			fail(walk, at, "a tensor with more than 4 dimensions");
	}
	for (uint64_t i = 0; i < tensor.dimensions && !walk->failed; i++) {
		tensor.shape = inspect_grow(tensor.shape, i, sizeof(*tensor.shape));
		tensor.shape[i] = take_number(walk, 8);
	}
	if (!walk->failed)
		take_rest(walk, &tensor);
	if (!walk->failed) {
		inspect_add_tensor(walk->model, &tensor);
		return;
	}
	free(tensor.name);
	free(tensor.shape);
}

/* Magic and version; false if it is not for us. */
static bool take_version(struct walk *walk)
{
	uint64_t version;

	skip(walk, 4);
	version = take_number(walk, 4);
	if (walk->failed)
		return false;
	walk->model->version = version;
	if ((version & 0xffff) == 0)
		return fail(walk, 4, "the version is that of a big-endian file, or none");
	if (version < 2 || version > 3)
		return fail(walk, 4, "the version is neither 2 nor 3");
	return true;
}

void inspect_gguf(struct inspect_file *file, struct inspect_model *model)
{
	struct walk walk = {.file = file, .model = model};
	uint64_t tensors = 0, pairs = 0;

	model->format = "gguf";
	model->total = file->size;
	model->alignment = DEFAULT_UNIT;
	if (take_version(&walk)) {
		tensors = take_number(&walk, 8);
		pairs = take_number(&walk, 8);
	}
	for (uint64_t i = 0; i < pairs && !walk.failed; i++)
		take_pair(&walk);
	for (uint64_t i = 0; i < tensors && !walk.failed; i++)
		take_tensor(&walk);
	model->header = walk.at;
	model->data = stn_round_up(walk.at, model->alignment);
	model->complete = !walk.failed;
	for (size_t i = 0; i < model->tensor_count; i++) {
		struct inspect_tensor *tensor = &model->tensors[i];

		if (tensor->start % model->alignment != 0)
			inspect_add_about(model, tensor, "its offset is no multiple of %llu",
					  (unsigned long long)model->alignment);
		if (__builtin_add_overflow(tensor->start, model->data, &tensor->start) ||
		    __builtin_add_overflow(tensor->end, model->data, &tensor->end))
			tensor->start = tensor->end = UINT64_MAX;
	}
}
