/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel says about a range of addresses. A raw munmap system call bypasses every hook, so
 * before the library acts on memory that it registered earlier it makes sure that the memory is
 * still its own.
 */
#ifndef STN_MAPS_H
#define STN_MAPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first area of a range, as smaps shows it. */
struct stn_maps_area {
	uintptr_t start, end; /* clipped to the range that was asked for */
	int prot;	      /* PROT_* */
	bool locked;	      /* mlocked */
	bool ours; /* anonymous, not dumped, not reserved: as the library maps its areas */
	uint64_t huge_bytes; /* in transparent huge pages */
	uint64_t used_bytes; /* of pages that were used since their marks were cleared; of the whole
				area, not clipped */
};

/*
 * Looks up the first mapped area at or behind start and before end. 0, -ENOENT if nothing is mapped
 * there, or what stn_pool_run returns. Runs on a thread of the pool; no lock held, not for signal
 * handlers.
 */
int stn_maps_find(uintptr_t start, uintptr_t end, struct stn_maps_area *out);

/*
 * True if every page from start to end is mapped and may be written. Opens a file: called on a
 * thread of the pool only.
 */
bool stn_maps_writable(uintptr_t start, uintptr_t end);

/*
 * The name of the file that is mapped at address, as /proc has it, or "" if none is. Runs on a
 * thread of the pool; no lock held, not for signal handlers.
 */
void stn_maps_path(uintptr_t address, char *out, size_t size);

#endif
