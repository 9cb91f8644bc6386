/* SPDX-License-Identifier: Apache-2.0 */
/* Plans for the tests of fills and areas. */
#ifndef UNIT_FILLPLAN_H
#define UNIT_FILLPLAN_H

#include "fill.h"

#define UNIT_PLENTY ((uint64_t)1 << 40) /* memory that is left, so that nobody looks closely */

/*
 * Plans to read length bytes at offset of an open file: directly if that works, with 4 threads, a
 * time-out of ten seconds, and the page cache left as it is found. The memory holds something else
 * than zeros or the pattern, and nothing is mapped behind its last page.
 */
struct stn_fill_plan unit_plan(int fd, uint64_t offset, uint64_t length);

/* Checks the pattern in what was planned, and the zeros behind it in the last page. */
void unit_check_filled(const struct stn_fill_plan *plan);

/* Runs a plan, checks the memory if that succeeds, and returns the result. */
int unit_fill(const struct stn_fill_plan *plan);

#endif
