/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of model files: what they say, and what is wrong with them. */
#ifndef STSHIM_INSPECT_H
#define STSHIM_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A file of which the header is read: directly where possible, so that no tensor is read ahead. */
struct inspect_file {
	int fd;
	bool direct;
	uint64_t size; /* bytes of the file */
	char *buffer;
	size_t capacity;	 /* of buffer */
	uint64_t start, present; /* the piece of the file in buffer */
	int error;		 /* errno of the read that failed, or 0 */
};

/* One tensor of the header. */
struct inspect_tensor {
	char *name;
	const char *type; /* constant string; NULL if it is none of the format's */
	uint64_t *shape;
	uint64_t dimensions;
	uint64_t start, end; /* bytes of the file; start > end is possible */
	uint64_t entry;	     /* where in the file its entry begins */
};

/* Something wrong: at this byte of the file. */
struct inspect_problem {
	uint64_t offset;
	char *text;
};

#define INSPECT_PROBLEMS 1000 /* kept; all are counted */

/* A pair of the header's metadata; long values are cut. */
struct inspect_pair {
	char *key, *value;
	uint64_t entry; /* where in the file it begins */
};

/* Bytes between tensors that belong to none; or to two. */
struct inspect_span {
	uint64_t start, bytes;
	size_t before, after; /* overlaps: the two tensors */
};

struct inspect_model {
	const char *format;	      /* "safetensors" or "gguf" */
	uint64_t version, alignment;  /* of GGUF; 0 */
	uint64_t header, data, total; /* bytes of the header; first byte of the data; of the file */
	bool complete;		      /* the header was read to its end */
	struct inspect_tensor *tensors;
	size_t tensor_count;
	struct inspect_pair *pairs;
	size_t pair_count;
	struct inspect_problem *problems;
	size_t problem_count; /* all */
	struct inspect_span *gaps, *overlaps;
	size_t gap_count, overlap_count;
	uint64_t trailing; /* bytes behind the last tensor */
};

/* Opens a file. 0 or an errno. Waits for no FIFO. */
int inspect_open(struct inspect_file *file, const char *path);
void inspect_close(struct inspect_file *file);

/*
 * Makes length bytes at offset available and returns them, valid until the next call; reads ahead
 * bytes with them if the file has them. NULL behind the end of the file or, with file->error set,
 * where reading fails. Ends the program if memory is refused.
 */
const char *inspect_read(struct inspect_file *file, uint64_t offset, size_t length, size_t ahead);

/* Adds one; each ends the program if memory is refused. The texts and the shape are taken
 * over. */
void inspect_add_tensor(struct inspect_model *model, const struct inspect_tensor *tensor);
void inspect_add_pair(struct inspect_model *model, const struct inspect_pair *pair);
void inspect_add_problem(struct inspect_model *model, uint64_t offset, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* Adds "NAME ..." or, for a long or odd name, as much of it as helps. */
void inspect_add_about(struct inspect_model *model, const struct inspect_tensor *tensor,
		       const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Grows an array of count elements by one, in steps; ends the program if memory is refused. */
void *inspect_grow(void *array, size_t count, size_t size);

/* Read the header of one format into model. */
void inspect_safetensors(struct inspect_file *file, struct inspect_model *model);
void inspect_gguf(struct inspect_file *file, struct inspect_model *model);

/* Finds names that occur twice, gaps, overlaps, and tensors that the file does not hold. */
void inspect_layout(struct inspect_model *model);

/* Elements of a shape times numerator, by denominator; UINT64_MAX if that is no number of bytes. */
uint64_t inspect_bytes(const struct inspect_tensor *tensor, uint64_t numerator,
		       uint64_t denominator);

/* Write the model as tables or as JSON to stdout. */
void inspect_print(const struct inspect_model *model, const char *path);
void inspect_print_json(const struct inspect_model *model, const char *path);

#endif
