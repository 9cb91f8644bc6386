/* SPDX-License-Identifier: Apache-2.0 */
#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "report.h"

/* Tensors and bytes of one type. */
struct kind {
	const char *name;
	size_t tensors;
	uint64_t bytes;
};

static uint64_t size_of(const struct inspect_tensor *tensor)
{
	return tensor->end < tensor->start ? 0 : tensor->end - tensor->start;
}

static const char *type_of(const struct inspect_tensor *tensor)
{
	return tensor->type ? tensor->type : "unknown";
}

/* Sums up by type, in the order of first use; to be freed. A format has few types. */
static struct kind *sum_kinds(const struct inspect_model *model, size_t *count)
{
	struct kind *kinds = NULL;

	*count = 0;
	for (size_t i = 0; i < model->tensor_count; i++) {
		const struct inspect_tensor *tensor = &model->tensors[i];
		size_t at = 0;

		while (at < *count && strcmp(kinds[at].name, type_of(tensor)) != 0)
			at++;
		if (at == *count) {
			kinds = inspect_grow(kinds, *count, sizeof(*kinds));
			kinds[(*count)++] = (struct kind){.name = type_of(tensor)};
		}
		kinds[at].tensors++;
		kinds[at].bytes += size_of(tensor);
	}
	return kinds;
}

/* "[2, 3]"; to be freed. */
static char *shape_text(const struct inspect_tensor *tensor)
{
	char *text;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	if (!stream)
		err(EXIT_FAILURE, "memory");
	for (uint64_t i = 0; i < tensor->dimensions; i++)
		fprintf(stream, "%s%" PRIu64, i ? ", " : "[", tensor->shape[i]);
	fputs(tensor->dimensions ? "]" : "[]", stream);
	fclose(stream);
	return text;
}

static void print_head(const struct inspect_model *model, const char *path)
{
	char total[REPORT_BYTES], header[REPORT_BYTES];
	struct report_table table;

	printf("%s: %s", path, model->format);
	if (model->version)
		printf(" version %" PRIu64, model->version);
	printf(", %s, header %s, %zu tensor%s\n", report_bytes(model->total, total),
	       report_bytes(model->header, header), model->tensor_count,
	       model->tensor_count == 1 ? "" : "s");
	if (model->pair_count == 0)
		return;
	puts("\nMetadata");
	report_table_start(&table, "ll");
	for (size_t i = 0; i < model->pair_count; i++) {
		report_table_cell(&table, "%s", model->pairs[i].key);
		report_table_cell(&table, "%.200s", model->pairs[i].value);
	}
	report_table_print(&table, stdout, 2);
}

static void print_tensors(const struct inspect_model *model)
{
	struct report_table table;

	if (model->tensor_count == 0)
		return;
	puts("\nTensors");
	report_table_start(&table, "lllrr");
	report_table_cell(&table, "name");
	report_table_cell(&table, "type");
	report_table_cell(&table, "shape");
	report_table_cell(&table, "bytes");
	report_table_cell(&table, "at byte");
	for (size_t i = 0; i < model->tensor_count; i++) {
		char *shape = shape_text(&model->tensors[i]);

		report_table_cell(&table, "%s", model->tensors[i].name);
		report_table_cell(&table, "%s", type_of(&model->tensors[i]));
		report_table_cell(&table, "%s", shape);
		report_table_cell(&table, "%" PRIu64, size_of(&model->tensors[i]));
		report_table_cell(&table, "%" PRIu64, model->tensors[i].start);
		free(shape);
	}
	report_table_print(&table, stdout, 2);
}

static void print_kinds(const struct inspect_model *model)
{
	size_t count;
	struct kind *kinds = sum_kinds(model, &count);
	struct report_table table;
	char bytes[REPORT_BYTES];

	if (count)
		puts("\nTypes");
	report_table_start(&table, "lrr");
	for (size_t i = 0; i < count; i++) {
		report_table_cell(&table, "%s", kinds[i].name);
		report_table_cell(&table, "%zu tensor%s", kinds[i].tensors,
				  kinds[i].tensors == 1 ? "" : "s");
		report_table_cell(&table, "%s", report_bytes(kinds[i].bytes, bytes));
	}
	report_table_print(&table, stdout, 2);
	free(kinds);
}

static void print_problems(const struct inspect_model *model)
{
	struct report_table table;

	if (model->problem_count == 0) {
		puts("\nThe header is sound: no gaps, no overlaps, every byte of the tensors is "
		     "in the file.");
		return;
	}
	printf("\nProblems: %zu\n", model->problem_count);
	report_table_start(&table, "lrl");
	for (size_t i = 0; i < model->problem_count && i < INSPECT_PROBLEMS; i++) {
		report_table_cell(&table, "byte");
		report_table_cell(&table, "%" PRIu64, model->problems[i].offset);
		report_table_cell(&table, "%s", model->problems[i].text);
	}
	report_table_print(&table, stdout, 2);
	if (model->problem_count > INSPECT_PROBLEMS)
		printf("  and %zu more\n", model->problem_count - INSPECT_PROBLEMS);
}

void inspect_print(const struct inspect_model *model, const char *path)
{
	print_head(model, path);
	print_tensors(model);
	print_kinds(model);
	if (model->trailing)
		printf("\n%" PRIu64 " bytes follow the last tensor.\n", model->trailing);
	print_problems(model);
}

/* Adds a whole number with all its digits: JSON has no limit, a double has. */
static void add_number(cJSON *object, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	cJSON_AddRawToObject(object, key, text);
}

/* Prints members of the object that was begun, and frees the value that holds them. */
static void print_members(cJSON *value, const char *after)
{
	char *text = cJSON_PrintUnformatted(value);

	if (!text)
		err(EXIT_FAILURE, "memory");
	/* Without its own braces. */
	printf("%.*s%s", (int)strlen(text) - 2, text + 1, after);
	free(text);
	cJSON_Delete(value);
}

static void print_tensor_json(const struct inspect_tensor *tensor, bool last)
{
	cJSON *object = cJSON_CreateObject();
	char *shape = shape_text(tensor), *text;

	report_json_text(object, "name", tensor->name);
	if (tensor->type)
		report_json_text(object, "type", tensor->type);
	else
		cJSON_AddNullToObject(object, "type");
	cJSON_AddRawToObject(object, "shape", shape);
	add_number(object, "offset", tensor->start);
	add_number(object, "bytes", size_of(tensor));
	text = cJSON_PrintUnformatted(object);
	if (!text)
		err(EXIT_FAILURE, "memory");
	printf("%s%s\n", text, last ? "" : ",");
	free(text);
	free(shape);
	cJSON_Delete(object);
}

static void add_spans(cJSON *object, const char *key, const struct inspect_model *model,
		      const struct inspect_span *spans, size_t count)
{
	cJSON *array = cJSON_AddArrayToObject(object, key);

	for (size_t i = 0; i < count && i < INSPECT_PROBLEMS; i++) {
		cJSON *item = cJSON_CreateObject();

		add_number(item, "offset", spans[i].start);
		add_number(item, "bytes", spans[i].bytes);
		if (spans == model->overlaps) {
			report_json_text(item, "first", model->tensors[spans[i].before].name);
			report_json_text(item, "second", model->tensors[spans[i].after].name);
		}
		cJSON_AddItemToArray(array, item);
	}
}

/* Everything in front of the tensors. */
static cJSON *head_json(const struct inspect_model *model, const char *path)
{
	cJSON *object = cJSON_CreateObject(), *metadata;

	report_json_text(object, "path", path);
	report_json_text(object, "format", model->format);
	add_number(object, "version", model->version);
	cJSON_AddBoolToObject(object, "sound", model->problem_count == 0);
	add_number(object, "file_bytes", model->total);
	add_number(object, "header_bytes", model->header);
	add_number(object, "data_offset", model->data);
	add_number(object, "alignment", model->alignment);
	add_number(object, "tensor_count", model->tensor_count);
	metadata = cJSON_AddObjectToObject(object, "metadata");
	for (size_t i = 0; i < model->pair_count; i++)
		report_json_text(metadata, model->pairs[i].key, model->pairs[i].value);
	return object;
}

/* Everything behind them. */
static cJSON *tail_json(const struct inspect_model *model)
{
	cJSON *object = cJSON_CreateObject(), *array = cJSON_AddArrayToObject(object, "types");
	size_t count;
	struct kind *kinds = sum_kinds(model, &count);

	for (size_t i = 0; i < count; i++) {
		cJSON *item = cJSON_CreateObject();

		report_json_text(item, "type", kinds[i].name);
		add_number(item, "tensors", kinds[i].tensors);
		add_number(item, "bytes", kinds[i].bytes);
		cJSON_AddItemToArray(array, item);
	}
	free(kinds);
	add_spans(object, "gaps", model, model->gaps, model->gap_count);
	add_spans(object, "overlaps", model, model->overlaps, model->overlap_count);
	add_number(object, "trailing_bytes", model->trailing);
	add_number(object, "problem_count", model->problem_count);
	array = cJSON_AddArrayToObject(object, "problems");
	for (size_t i = 0; i < model->problem_count && i < INSPECT_PROBLEMS; i++) {
		cJSON *item = cJSON_CreateObject();

		add_number(item, "offset", model->problems[i].offset);
		report_json_text(item, "problem", model->problems[i].text);
		cJSON_AddItemToArray(array, item);
	}
	return object;
}

void inspect_print_json(const struct inspect_model *model, const char *path)
{
	putchar('{');
	print_members(head_json(model, path), ",\n\"tensors\":[\n");
	/* One by one: a header may have a million. */
	for (size_t i = 0; i < model->tensor_count; i++)
		print_tensor_json(&model->tensors[i], i + 1 == model->tensor_count);
	fputs("],\n", stdout);
	print_members(tail_json(model), "}\n");
}
