/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory of one engaged mapping on its way to the program: the keeper, which is the file's own
 * mapping without access, and the anonymous area that is filled and then takes the mapping's place.
 */
#ifndef STN_AREA_H
#define STN_AREA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fill.h"

/* mmap's arguments as the program gave them. */
struct stn_map_call {
	void *address; /* a hint */
	size_t length; /* bytes, not rounded */
	int prot, flags, fd;
	uint64_t offset; /* a page multiple */
	/* Says whether the code that called maps files to read their header; asked about models
	 * only. */
	bool (*header_reader)(const void *caller);
	const void *caller; /* its return address */
};

struct stn_region;

struct stn_area {
	char *keeper;	      /* NULL if the kernel refuses such a map */
	size_t keeper_size;   /* bytes; the mapping's length rounded up to a page */
	char *memory;	      /* where the mapping will be */
	size_t size;	      /* bytes of it; as keeper_size */
	uint32_t file_system; /* f_type of the file's */
	size_t data;   /* bytes of it, from its start, that are anonymous memory to be filled */
	uint32_t lazy; /* its id if it is filled lazily, else 0 */
	struct stn_model *watched; /* as in the registry */
};

/*
 * Maps the keeper: the program's call with PROT_NONE and without MAP_POPULATE and MAP_LOCKED, which
 * would read the whole file through page faults (so would a readable map under mlockall). 0, or the
 * kernel's -errno.
 */
int stn_area_keep(struct stn_area *area, const struct stn_map_call *call);

/*
 * Reserves the area: size bytes without access, of which the first data (a page multiple) are
 * writable and not inherited by a forked child until published. huge_page: their size, 0 for none.
 * 0 or -errno.
 */
int stn_area_reserve(struct stn_area *area, void *hint, size_t size, size_t data, size_t huge_page);

/*
 * Gives the filled area the access that was asked for, puts the file's own mapping where it could
 * not be read and behind the file's end, and registers it under name. 0, or -errno with the area
 * only fit to be dropped.
 */
int stn_area_publish(struct stn_area *area, const struct stn_fill *fill, int prot, bool shared,
		     const char *name);

/*
 * The same for an area that is filled lazily (area->lazy) and has the access that was asked for
 * already: the memory is not inherited by children yet.
 */
int stn_area_publish_lazy(struct stn_area *area, int prot, bool shared, const char *name);

/*
 * Puts the filled area, which has no holes, over base, a mapping of the program's, and registers
 * it; from is its offset in the keeper. 0, or -errno with base as it was.
 */
int stn_area_overlay(struct stn_area *area, char *base, size_t from, int prot);

/* Gives the keeper the access prot and returns it: it is the area's no longer. NULL if there is
 * none or it refuses. */
char *stn_area_open_keeper(struct stn_area *area, int prot);

/* Unmaps the keeper behind its first bytes (a page multiple). */
void stn_area_trim_keeper(struct stn_area *area, size_t bytes);

/* Bytes of the area in huge pages, as smaps has it. Takes a thread of the pool. */
uint64_t stn_area_huge(const struct stn_area *area);

/* Unmaps everything that the area still holds. */
void stn_area_drop(struct stn_area *area);

/* Bytes of the first length bytes of the keeper's file range that are in the page cache; 0 without
 * a keeper. */
uint64_t stn_area_cached(const struct stn_area *area, size_t length);

/*
 * Hands a registered piece back to the file: its keeper takes its place with access prot. The piece
 * must have been taken out of the registry. 0 or -errno, -ENODEV if it has no keeper.
 */
int stn_area_give_back(const struct stn_region *piece, int prot);

/* Gives a range of memory a name in /proc/PID/maps; false if the kernel has no such names. */
bool stn_area_name(char *address, size_t length, const char *name);

#endif
