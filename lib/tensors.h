/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the tensors of a safetensors file begin, as its header says it, to the unit of read-ahead.
 * Only a hint for what is read first: a header that lies costs time, never a wrong byte. One such
 * table belongs to a model for the life of the process; all of it is lock-free.
 */
#ifndef STN_TENSORS_H
#define STN_TENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "names.h"

struct stn_tensors {
	_Atomic uint64_t version; /* of the model, that the bits belong to */
	uint32_t room;		  /* units that there are bits for; constant */
	_Atomic uint32_t units;	  /* of the file */
	_Atomic bool looked; /* some have been read to see whether they will be touched in turn */
	_Atomic uint8_t
		begins[]; /* a bit for each unit: a tensor begins, or the last one ends, in it */
};

/* The table of a model's present version if its header has been seen; or NULL. */
struct stn_tensors *stn_tensors_find(const struct stn_model *model);

/* The same, made if need be for a file of size bytes; NULL if memory is refused. Never freed. */
struct stn_tensors *stn_tensors_make(struct stn_model *model, uint64_t size);

/* Takes over a part of the header. The tensors' data begin at byte data of the file. What the
 * border between two parts cuts through is missed. */
void stn_tensors_scan(struct stn_tensors *tensors, const char *part, size_t length, uint64_t data);

/* True if a tensor begins in a unit. */
bool stn_tensors_begins(const struct stn_tensors *tensors, uint32_t unit);

/* The last unit up to unit in which a tensor begins; 0 if there is none. */
uint32_t stn_tensors_start(const struct stn_tensors *tensors, uint32_t unit);

/* The first unit behind unit in which a tensor begins; the number of units if there is none. */
uint32_t stn_tensors_next(const struct stn_tensors *tensors, uint32_t unit);

#endif
