/* SPDX-License-Identifier: Apache-2.0 */
/* Page sizes and rounding. 64 KiB pages and 512 MiB huge pages exist (Grace): nothing is constant.
 */
#ifndef STN_PAGE_H
#define STN_PAGE_H

#include <stddef.h>
#include <stdint.h>

/* The page size in bytes, from the auxiliary vector. Async-signal-safe. */
size_t stn_page_size(void);

/*
 * The size of a transparent huge page in bytes, 0 if the kernel has none. Opens a file the first
 * time: see file.h. stn_page_huge_known returns what was found, 0 before.
 */
size_t stn_page_huge_read(void);
size_t stn_page_huge_known(void);

static inline uint64_t stn_round_up(uint64_t value, uint64_t unit)
{
	return (value + unit - 1) / unit * unit;
}

static inline uint64_t stn_round_down(uint64_t value, uint64_t unit)
{
	return value / unit * unit;
}

static inline uint64_t stn_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t stn_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

#endif
