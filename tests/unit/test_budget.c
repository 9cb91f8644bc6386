/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "budget.h"
#include "config.h"
#include "unit.h"

#define NONE STN_BUDGET_UNLIMITED

static const struct {
	uint64_t limit, margin;
} margins[] = {
	{0, 64 * MIB},	      {64 * MIB, 64 * MIB},   {GIB, 64 * MIB},	   {GIB + 16, 64 * MIB + 1},
	{2 * GIB, 128 * MIB}, {24 * GIB, 1536 * MIB}, {32 * GIB, 2 * GIB}, {1024 * GIB, 2 * GIB},
	{NONE, 2 * GIB},
};

START_TEST(margin)
{
	ck_assert_uint_eq(stn_budget_margin(margins[_i].limit), margins[_i].margin);
}
END_TEST

/* A host of 32 GiB without any other limit; its margin is 2 GiB. */
#define HOST(available) 32 * GIB, (available), NONE, NONE, NONE, NONE, NONE

/* What there is, what is used, what is asked for; and the answer. */
static const struct {
	const char *name;
	struct stn_budget_view view;
	struct stn_budget_use use;
	uint64_t need;
	bool fits;
	const char *limit; /* NULL = nothing limits */
	uint64_t needed, available, margin;
} verdicts[] = {
	{"nothing limits",
	 {NONE, NONE, NONE, NONE, NONE, NONE, NONE},
	 {0},
	 GIB,
	 true,
	 NULL,
	 0,
	 0,
	 0},
	{"host", {HOST(20 * GIB)}, {0}, 18 * GIB, true, "host", 18 * GIB, 18 * GIB, 2 * GIB},
	{"host, a byte too much",
	 {HOST(20 * GIB)},
	 {0},
	 18 * GIB + 1,
	 false,
	 "host",
	 18 * GIB + 1,
	 18 * GIB,
	 2 * GIB},
	{"host, less than the margin", {HOST(GIB)}, {0}, 1, false, "host", 1, 0, 2 * GIB},
	{"what is filled already is no longer available",
	 {HOST(20 * GIB)},
	 {.engaged = 10 * GIB},
	 18 * GIB,
	 true,
	 "host",
	 18 * GIB,
	 18 * GIB,
	 2 * GIB},
	{"running fills count",
	 {HOST(20 * GIB)},
	 {.planned = 3 * GIB, .filled = 2 * GIB},
	 17 * GIB + 1,
	 false,
	 "host",
	 18 * GIB + 1,
	 18 * GIB,
	 2 * GIB},
	{"mappings left to the kernel do not",
	 {HOST(20 * GIB)},
	 {.declined = 10 * GIB, .expected = 10 * GIB},
	 18 * GIB,
	 true,
	 "host",
	 18 * GIB,
	 18 * GIB,
	 2 * GIB},
	/* Unified memory: a copy for the device of all that is mapped, and of what will be. */
	{"unified",
	 {HOST(20 * GIB)},
	 {.unified = true},
	 9 * GIB,
	 true,
	 "host",
	 18 * GIB,
	 18 * GIB,
	 2 * GIB},
	{"unified, a byte too much",
	 {HOST(20 * GIB)},
	 {.unified = true},
	 9 * GIB + 1,
	 false,
	 "host",
	 18 * GIB + 2,
	 18 * GIB,
	 2 * GIB},
	{"unified, after others",
	 {HOST(20 * GIB)},
	 {.engaged = 4 * GIB,
	  .planned = 2 * GIB,
	  .filled = GIB,
	  .declined = GIB,
	  .expected = 2 * GIB,
	  .unified = true},
	 4 * GIB,
	 true,
	 "host",
	 18 * GIB,
	 18 * GIB,
	 2 * GIB},
	{"unified, a byte more after others",
	 {HOST(20 * GIB)},
	 {.engaged = 4 * GIB,
	  .planned = 2 * GIB,
	  .filled = GIB,
	  .declined = GIB + 1,
	  .expected = 2 * GIB,
	  .unified = true},
	 4 * GIB,
	 false,
	 "host",
	 18 * GIB + 1,
	 18 * GIB,
	 2 * GIB},
	{"more filled than planned",
	 {HOST(20 * GIB)},
	 {.planned = GIB, .filled = 2 * GIB},
	 18 * GIB,
	 true,
	 "host",
	 18 * GIB,
	 18 * GIB,
	 2 * GIB},
	{"unified, one of four shards of 5 GiB",
	 {HOST(20 * GIB)},
	 {.expected = 15 * GIB, .unified = true},
	 5 * GIB,
	 false,
	 "host",
	 25 * GIB,
	 18 * GIB,
	 2 * GIB},
	/* The other limits; the tightest is named. */
	{"cgroup",
	 {32 * GIB, 30 * GIB, 2 * GIB, 2 * GIB, NONE, NONE, NONE},
	 {0},
	 2 * GIB - 128 * MIB,
	 true,
	 "cgroup",
	 2 * GIB - 128 * MIB,
	 2 * GIB - 128 * MIB,
	 128 * MIB},
	{"cgroup, too much",
	 {32 * GIB, 30 * GIB, 2 * GIB, 2 * GIB, NONE, NONE, NONE},
	 {0},
	 2 * GIB,
	 false,
	 "cgroup",
	 2 * GIB,
	 2 * GIB - 128 * MIB,
	 128 * MIB},
	{"cgroup, unified",
	 {32 * GIB, 30 * GIB, 2 * GIB, 2 * GIB, NONE, NONE, NONE},
	 {.unified = true},
	 GIB,
	 false,
	 "cgroup",
	 2 * GIB,
	 2 * GIB - 128 * MIB,
	 128 * MIB},
	{"cgroup is wide, host is not",
	 {32 * GIB, 3 * GIB, 16 * GIB, 16 * GIB, NONE, NONE, NONE},
	 {0},
	 2 * GIB,
	 false,
	 "host",
	 2 * GIB,
	 GIB,
	 2 * GIB},
	{"address space: the keeper takes it twice",
	 {32 * GIB, 30 * GIB, NONE, NONE, 4 * GIB + 64 * MIB, NONE, NONE},
	 {0},
	 2 * GIB,
	 true,
	 "RLIMIT_AS",
	 4 * GIB,
	 4 * GIB,
	 64 * MIB},
	{"address space, too much",
	 {32 * GIB, 30 * GIB, NONE, NONE, 4 * GIB + 64 * MIB, NONE, NONE},
	 {0},
	 2 * GIB + 1,
	 false,
	 "RLIMIT_AS",
	 4 * GIB + 2,
	 4 * GIB,
	 64 * MIB},
	{"data",
	 {32 * GIB, 30 * GIB, NONE, NONE, NONE, GIB, NONE},
	 {0},
	 GIB,
	 false,
	 "RLIMIT_DATA",
	 GIB,
	 GIB - 64 * MIB,
	 64 * MIB},
	{"overcommit",
	 {32 * GIB, 30 * GIB, NONE, NONE, NONE, NONE, GIB},
	 {0},
	 GIB,
	 false,
	 "overcommit",
	 GIB,
	 GIB - 64 * MIB,
	 64 * MIB},
	/* STSHIM_MEMORY. */
	{"cap",
	 {HOST(30 * GIB)},
	 {.memory_kind = STN_MEMORY_SIZE, .memory_value = 2 * GIB},
	 2 * GIB,
	 true,
	 "STSHIM_MEMORY",
	 2 * GIB,
	 2 * GIB,
	 0},
	{"cap, too much",
	 {HOST(30 * GIB)},
	 {.memory_kind = STN_MEMORY_SIZE, .memory_value = 2 * GIB},
	 2 * GIB + 1,
	 false,
	 "STSHIM_MEMORY",
	 2 * GIB + 1,
	 2 * GIB,
	 0},
	{"cap, what is engaged and filling counts",
	 {HOST(30 * GIB)},
	 {.engaged = GIB,
	  .planned = GIB / 2,
	  .memory_kind = STN_MEMORY_SIZE,
	  .memory_value = 2 * GIB},
	 GIB,
	 false,
	 "STSHIM_MEMORY",
	 GIB,
	 GIB / 2,
	 0},
	{"cap of nothing",
	 {HOST(30 * GIB)},
	 {.memory_kind = STN_MEMORY_SIZE, .memory_value = 0},
	 1,
	 false,
	 "STSHIM_MEMORY",
	 1,
	 0,
	 0},
	{"a cap is no promise",
	 {HOST(3 * GIB)},
	 {.memory_kind = STN_MEMORY_SIZE, .memory_value = 20 * GIB},
	 2 * GIB,
	 false,
	 "host",
	 2 * GIB,
	 GIB,
	 2 * GIB},
	{"cap, all of a lazily filled mapping counts",
	 {HOST(30 * GIB)},
	 {.reserve = 3 * GIB, .memory_kind = STN_MEMORY_SIZE, .memory_value = 2 * GIB},
	 64 * MIB,
	 false,
	 "STSHIM_MEMORY",
	 3 * GIB,
	 2 * GIB,
	 0},
	{"host, only what is needed of it does",
	 {HOST(20 * GIB)},
	 {.reserve = 64 * GIB},
	 64 * MIB,
	 true,
	 "host",
	 64 * MIB,
	 18 * GIB,
	 2 * GIB},
	{"holes of others are nothing yet",
	 {HOST(20 * GIB)},
	 {.holes = 64 * GIB},
	 18 * GIB,
	 true,
	 "host",
	 18 * GIB,
	 18 * GIB,
	 2 * GIB},
	{"unified, holes will be filled and copied",
	 {HOST(20 * GIB)},
	 {.holes = 4 * GIB, .unified = true},
	 5 * GIB + 1,
	 false,
	 "host",
	 18 * GIB + 2,
	 18 * GIB,
	 2 * GIB},
	{"half of the host",
	 {HOST(30 * GIB)},
	 {.memory_kind = STN_MEMORY_PERCENT, .memory_value = 50},
	 17 * GIB,
	 false,
	 "STSHIM_MEMORY",
	 17 * GIB,
	 32 * GIB / 100 * 50,
	 0},
	{"half of the group",
	 {32 * GIB, 30 * GIB, 4 * GIB, 4 * GIB, NONE, NONE, NONE},
	 {.memory_kind = STN_MEMORY_PERCENT, .memory_value = 50},
	 2 * GIB,
	 false,
	 "STSHIM_MEMORY",
	 2 * GIB,
	 4 * GIB / 100 * 50,
	 0},
	{"all of it",
	 {HOST(30 * GIB)},
	 {.memory_kind = STN_MEMORY_PERCENT, .memory_value = 100},
	 GIB,
	 true,
	 "host",
	 GIB,
	 28 * GIB,
	 2 * GIB},
	{"none of it",
	 {HOST(30 * GIB)},
	 {.memory_kind = STN_MEMORY_PERCENT, .memory_value = 0},
	 1,
	 false,
	 "STSHIM_MEMORY",
	 1,
	 0,
	 0},
};

START_TEST(verdict)
{
	struct stn_budget_verdict got;

	stn_budget_decide(&verdicts[_i].view, &verdicts[_i].use, verdicts[_i].need, &got);
	ck_assert_msg(got.fits == verdicts[_i].fits, "%s: %s", verdicts[_i].name, got.limit);
	if (!verdicts[_i].limit) {
		ck_assert_ptr_null(got.limit);
		return;
	}
	ck_assert_ptr_nonnull(got.limit);
	ck_assert_str_eq(got.limit, verdicts[_i].limit);
	ck_assert_uint_eq(got.needed, verdicts[_i].needed);
	ck_assert_uint_eq(got.available, verdicts[_i].available);
	ck_assert_uint_eq(got.margin, verdicts[_i].margin);
}
END_TEST

/* A number that is often a limit's exact value, one beside it, or none at all. */
static uint64_t any_bytes(unsigned *seed)
{
	int kind = rand_r(seed) % 8;

	if (kind == 0)
		return NONE;
	return (uint64_t)(rand_r(seed) % 64) * GIB + (uint64_t)(rand_r(seed) % 3) * 64 * MIB;
}

static bool fits_in(uint64_t available, uint64_t margin_of, uint64_t needed)
{
	if (available == NONE)
		return true;
	return available > margin_of ? needed <= available - margin_of : needed == 0;
}

/* The rules of the six limits one by one, without asking which is tightest. */
static bool fits_all(const struct stn_budget_view *view, const struct stn_budget_use *use,
		     uint64_t need)
{
	uint64_t twice =
		use->unified ? use->engaged + use->planned + use->declined + use->expected + need
			     : 0;
	uint64_t unfilled = use->planned > use->filled ? use->planned - use->filled : 0;
	uint64_t memory = need + unfilled + twice;
	bool fits = use->memory_kind != STN_MEMORY_SIZE ||
		    use->engaged + use->planned + need <= use->memory_value;

	return fits && fits_in(view->host_available, stn_budget_margin(view->host_total), memory) &&
	       fits_in(view->group_available, stn_budget_margin(view->group_limit), memory) &&
	       fits_in(view->address_space_left, 64 * MIB, 2 * need) &&
	       fits_in(view->data_left, 64 * MIB, need) &&
	       fits_in(view->commit_left, 64 * MIB, need);
}

/* Among all limits at once none is overlooked, and a limit that is named is one that is crossed. */
START_TEST(every_limit)
{
	unsigned seed = 1, yes = 0, no = 0;

	for (int i = 0; i < 40000; i++) {
		const struct stn_budget_view view = {
			any_bytes(&seed), any_bytes(&seed), any_bytes(&seed), any_bytes(&seed),
			any_bytes(&seed), any_bytes(&seed), any_bytes(&seed),
		};
		const struct stn_budget_use use = {
			.engaged = (uint64_t)(rand_r(&seed) % 4) * GIB,
			.planned = (uint64_t)(rand_r(&seed) % 4) * GIB,
			.filled = (uint64_t)(rand_r(&seed) % 4) * GIB,
			.declined = (uint64_t)(rand_r(&seed) % 4) * GIB,
			.expected = (uint64_t)(rand_r(&seed) % 4) * GIB,
			.unified = rand_r(&seed) % 2,
			.memory_kind = rand_r(&seed) % 2,
			.memory_value = (uint64_t)(rand_r(&seed) % 64) * GIB,
		};
		uint64_t need = (uint64_t)(rand_r(&seed) % 16) * GIB + 1;
		bool fits = fits_all(&view, &use, need);
		struct stn_budget_verdict got;

		stn_budget_decide(&view, &use, need, &got);
		ck_assert_msg(got.fits == fits, "round %d", i);
		ck_assert_msg(!got.limit || (got.needed <= got.available) == fits, "round %d", i);
		yes += fits;
		no += !fits;
	}
	ck_assert_uint_gt(yes, 1000);
	ck_assert_uint_gt(no, 1000);
}
END_TEST

static const struct {
	struct stn_budget_view view;
	uint64_t left;
} lefts[] = {
	{{HOST(20 * GIB)}, 19 * GIB},
	{{HOST(GIB)}, 0},
	{{HOST(NONE)}, NONE},
	{{32 * GIB, 20 * GIB, 2 * GIB, GIB, NONE, NONE, NONE}, GIB - 64 * MIB},
	{{32 * GIB, 2 * GIB, 16 * GIB, 10 * GIB, NONE, NONE, NONE}, GIB},
	{{32 * GIB, 20 * GIB, 2 * GIB, 32 * MIB, NONE, NONE, NONE}, 0},
};

START_TEST(left)
{
	ck_assert_uint_eq(stn_budget_left(&lefts[_i].view), lefts[_i].left);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("budget");
	TCase *tcase = unit_case(suite, "decide", 5);

	tcase_add_loop_test(tcase, margin, 0, COUNT(margins));
	tcase_add_loop_test(tcase, verdict, 0, COUNT(verdicts));
	tcase_add_test(tcase, every_limit);
	tcase_add_loop_test(tcase, left, 0, COUNT(lefts));
	return suite;
}
