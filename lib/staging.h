/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks of memory that lazy fill reads into before it places the bytes where the program sees
 * them. Not inherited by children. All functions: pool lock held, unless said otherwise.
 */
#ifndef STN_STAGING_H
#define STN_STAGING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STN_STAGING_BLOCK ((size_t)2 << 20)
#define STN_STAGING_SLOTS 96u /* 64 threads, and the blocks that are kept back */

struct stn_staging {
	char *huge;  /* slots in huge pages; NULL before the first use */
	char *small; /* slots in small pages: for pieces that are not a whole huge page */
	uint8_t huge_used[STN_STAGING_SLOTS];
	uint8_t small_used[STN_STAGING_SLOTS];
	bool soiled; /* there may be pages in free slots */
};

/* Reserves the addresses. 0 or -errno; does nothing the second time. */
int stn_staging_reserve(struct stn_staging *staging);

/* So many blocks next to each other, or NULL if they are not free. What they hold is undefined. */
char *stn_staging_take(struct stn_staging *staging, bool huge, unsigned blocks);

/* Gives blocks back; NULL is nothing. */
void stn_staging_put(struct stn_staging *staging, char *first, unsigned blocks);

/* Gives the memory of free blocks back to the kernel. */
void stn_staging_clean(struct stn_staging *staging);

#endif
