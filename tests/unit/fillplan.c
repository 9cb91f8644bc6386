/* SPDX-License-Identifier: Apache-2.0 */
#include "fillplan.h"

#include <string.h>
#include <sys/mman.h>

#include "page.h"
#include "unit.h"

struct stn_fill_plan unit_plan(int fd, uint64_t offset, uint64_t length)
{
	size_t page = stn_page_size(), size = stn_round_up(length, page);
	struct stn_fill_plan plan = {
		.identity = unit_identity(fd),
		.memory = unit_memory(size + page),
		.keeper = mmap(NULL, size, PROT_NONE, MAP_PRIVATE, fd, (off_t)offset),
		.offset = offset,
		.length = length,
		.block = 8 * MIB,
		.timeout = 10000000000,
		.threads = 4,
		.way = {.direct = true, .buffered = true},
		.owned_file = true,
		.restore_cache = true,
	};

	ck_assert_ptr_ne(plan.keeper, MAP_FAILED);
	ck_assert_int_eq(munmap(plan.memory + size, page), 0);
	memset(plan.memory, 0xee, size);
	plan.owned = plan.memory;
	plan.owned_size = size;
	strcpy(plan.path, unit_descriptor(fd));
	return plan;
}

void unit_check_filled(const struct stn_fill_plan *plan)
{
	size_t size = stn_round_up(plan->length, stn_page_size());

	ck_assert_uint_eq(unit_pattern_differs(plan->memory, plan->length, plan->offset),
			  plan->length);
	ck_assert(unit_zero(plan->memory + plan->length, size - plan->length));
}

int unit_fill(const struct stn_fill_plan *plan)
{
	struct stn_fill *fill = stn_fill_make(plan, UNIT_PLENTY);
	int rc;

	ck_assert_ptr_nonnull(fill);
	rc = stn_fill_run(fill, NULL);
	if (rc == 0) {
		unit_check_filled(plan);
		ck_assert_uint_eq(fill->settled, plan->length);
		ck_assert_uint_eq(fill->direct_bytes + fill->buffered_bytes, plan->length);
		ck_assert_uint_eq(fill->hole_count, 0);
	}
	stn_fill_put(fill);
	return rc;
}
