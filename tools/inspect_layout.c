/* SPDX-License-Identifier: Apache-2.0 */
#include <err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inspect.h"
#include "page.h"

void *inspect_grow(void *array, size_t count, size_t size)
{
	/* At powers of two, from 8 on. */
	if (count >= 8 ? (count & (count - 1)) == 0 : count == 0)
		array = reallocarray(array, count ? 2 * count : 8, size);
	if (!array)
		err(EXIT_FAILURE, "memory");
	return array;
}

void inspect_add_tensor(struct inspect_model *model, const struct inspect_tensor *tensor)
{
	model->tensors = inspect_grow(model->tensors, model->tensor_count, sizeof(*tensor));
	model->tensors[model->tensor_count++] = *tensor;
}

void inspect_add_pair(struct inspect_model *model, const struct inspect_pair *pair)
{
	model->pairs = inspect_grow(model->pairs, model->pair_count, sizeof(*model->pairs));
	model->pairs[model->pair_count++] = *pair;
}

/* Adds a problem with its text, which is taken over; or only counts it. */
static void add_problem(struct inspect_model *model, uint64_t offset, char *text)
{
	if (model->problem_count < INSPECT_PROBLEMS) {
		model->problems = inspect_grow(model->problems, model->problem_count,
					       sizeof(*model->problems));
		model->problems[model->problem_count] =
			(struct inspect_problem){.offset = offset, .text = text};
	} else {
		free(text);
	}
	model->problem_count++;
}

void inspect_add_problem(struct inspect_model *model, uint64_t offset, const char *format, ...)
{
	va_list arguments;
	char *text;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		err(EXIT_FAILURE, "memory");
	va_end(arguments);
	add_problem(model, offset, text);
}

void inspect_add_about(struct inspect_model *model, const struct inspect_tensor *tensor,
		       const char *format, ...)
{
	va_list arguments;
	char *what, *text;

	va_start(arguments, format);
	if (vasprintf(&what, format, arguments) < 0 ||
	    asprintf(&text, "%.80s: %s", tensor->name, what) < 0)
		err(EXIT_FAILURE, "memory");
	va_end(arguments);
	free(what);
	add_problem(model, tensor->entry, text);
}

uint64_t inspect_bytes(const struct inspect_tensor *tensor, uint64_t numerator,
		       uint64_t denominator)
{
	uint64_t product = 1;

	for (uint64_t i = 0; i < tensor->dimensions; i++)
		if (__builtin_mul_overflow(product, tensor->shape[i], &product))
			return UINT64_MAX;
	if (__builtin_mul_overflow(product, numerator, &product) || product % denominator != 0)
		return UINT64_MAX;
	return product / denominator;
}

static int compare_numbers(uint64_t a, uint64_t b)
{
	return a < b ? -1 : a > b;
}

static int by_name(const void *left, const void *right, void *tensors)
{
	const struct inspect_tensor *a = (struct inspect_tensor *)tensors + *(const size_t *)left;
	const struct inspect_tensor *b = (struct inspect_tensor *)tensors + *(const size_t *)right;
	int order = strcmp(a->name, b->name);

	return order ? order : compare_numbers(a->entry, b->entry);
}

static int by_place(const void *left, const void *right, void *tensors)
{
	const struct inspect_tensor *a = (struct inspect_tensor *)tensors + *(const size_t *)left;
	const struct inspect_tensor *b = (struct inspect_tensor *)tensors + *(const size_t *)right;
	int order = compare_numbers(a->start, b->start);

	return order ? order : compare_numbers(a->end, b->end);
}

static int by_key(const void *left, const void *right)
{
	const struct inspect_pair *a = left, *b = right;
	int order = strcmp(a->key, b->key);

	return order ? order : compare_numbers(a->entry, b->entry);
}

/* The numbers 0 to count - 1 in some order; to be freed. */
static size_t *sorted(const struct inspect_model *model,
		      int compare(const void *, const void *, void *))
{
	size_t *order = calloc(model->tensor_count + 1, sizeof(*order));

	if (!order)
		err(EXIT_FAILURE, "memory");
	for (size_t i = 0; i < model->tensor_count; i++)
		order[i] = i;
	qsort_r(order, model->tensor_count, sizeof(*order), compare, model->tensors);
	return order;
}

static void find_twins(struct inspect_model *model)
{
	size_t *order = sorted(model, by_name);
	struct inspect_pair *pairs = calloc(model->pair_count + 1, sizeof(*pairs));

	if (!pairs)
		err(EXIT_FAILURE, "memory");
	for (size_t i = 1; i < model->tensor_count; i++)
		if (strcmp(model->tensors[order[i]].name, model->tensors[order[i - 1]].name) == 0)
			inspect_add_about(model, &model->tensors[order[i]],
					  "a tensor of this name is at byte %llu already",
					  (unsigned long long)model->tensors[order[i - 1]].entry);
	if (model->pair_count)
		memcpy(pairs, model->pairs, model->pair_count * sizeof(*pairs));
	qsort(pairs, model->pair_count, sizeof(*pairs), by_key);
	for (size_t i = 1; i < model->pair_count; i++)
		if (strcmp(pairs[i].key, pairs[i - 1].key) == 0)
			inspect_add_problem(model, pairs[i].entry, "the key %.80s occurs twice",
					    pairs[i].key);
	free(pairs);
	free(order);
}

static void add_gap(struct inspect_model *model, uint64_t start, uint64_t bytes)
{
	model->gaps = inspect_grow(model->gaps, model->gap_count, sizeof(*model->gaps));
	model->gaps[model->gap_count++] = (struct inspect_span){.start = start, .bytes = bytes};
	inspect_add_problem(model, start, "%llu bytes belong to no tensor",
			    (unsigned long long)bytes);
}

static void add_overlap(struct inspect_model *model, size_t before, size_t after, uint64_t bytes)
{
	const struct inspect_tensor *tensor = &model->tensors[after];

	model->overlaps =
		inspect_grow(model->overlaps, model->overlap_count, sizeof(*model->overlaps));
	model->overlaps[model->overlap_count++] = (struct inspect_span){
		.start = tensor->start, .bytes = bytes, .before = before, .after = after};
	inspect_add_about(model, tensor, "%llu of its bytes are those of %.80s",
			  (unsigned long long)bytes, model->tensors[before].name);
}

/* What lies behind the last byte of a tensor. */
static void check_end(struct inspect_model *model, uint64_t end)
{
	if (model->complete && end < model->total)
		model->trailing = model->total - end;
	if (model->trailing && strcmp(model->format, "safetensors") == 0)
		inspect_add_problem(model, end, "%llu bytes behind the last tensor",
				    (unsigned long long)model->trailing);
}

void inspect_layout(struct inspect_model *model)
{
	uint64_t unit = model->alignment ? model->alignment : 1, end = model->data;
	size_t *order = sorted(model, by_place), last = 0;

	find_twins(model);
	for (size_t i = 0; i < model->tensor_count; i++) {
		const struct inspect_tensor *tensor = &model->tensors[order[i]];
		uint64_t next = end == UINT64_MAX ? end : stn_round_up(end, unit);

		if (tensor->end > model->total)
			inspect_add_about(model, tensor,
					  "its bytes end %llu behind the end of the file",
					  (unsigned long long)(tensor->end - model->total));
		if (tensor->end < tensor->start || tensor->start == UINT64_MAX)
			continue;
		if (tensor->start > next)
			add_gap(model, end, tensor->start - end);
		else if (tensor->start < end && tensor->end > tensor->start)
			add_overlap(model, order[last], order[i],
				    stn_min(end, tensor->end) - tensor->start);
		if (tensor->end >= end) {
			end = tensor->end;
			last = i;
		}
	}
	check_end(model, end);
	free(order);
}
