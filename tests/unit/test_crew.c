/* SPDX-License-Identifier: Apache-2.0 */
/* A crew's list of open files, without any thread: what the pool's lock guards, nobody else uses.
 */
#include <string.h>
#include <sys/resource.h>

#include "crew.h"
#include "unit.h"

static struct stn_crew crew;

static struct stn_identity file(uint64_t inode)
{
	return (struct stn_identity){.device = 1, .inode = inode, .size = 1000};
}

static struct stn_source *use(uint64_t inode)
{
	const struct stn_identity identity = file(inode);

	return stn_crew_source(&crew, &identity);
}

/* Uses a file, has count descriptors opened, and gives it back. */
static struct stn_source *leave_open(uint64_t inode, uint32_t count)
{
	struct stn_source *source = use(inode);

	ck_assert_ptr_nonnull(source);
	source->claimed = source->opened = count;
	source->users--;
	return source;
}

START_TEST(fresh)
{
	struct stn_source *source = use(1);
	const struct stn_identity identity = file(1);

	ck_assert_ptr_nonnull(source);
	ck_assert(source->valid);
	ck_assert(stn_identity_equal(&source->identity, &identity));
	ck_assert_uint_eq(source->users, 1);
	ck_assert_uint_eq(source->claimed, 0);
	ck_assert_uint_eq(source->opened, 0);
}
END_TEST

/* The same version is the same record, with its descriptors; another version is another. */
START_TEST(same_version)
{
	struct stn_source *source = leave_open(1, 3);
	struct stn_identity changed = file(1);

	source->direct = 7;
	ck_assert_ptr_eq(use(1), source);
	ck_assert_ptr_eq(use(1), source);
	ck_assert_uint_eq(source->users, 2);
	ck_assert_uint_eq(source->opened, 3);
	ck_assert_uint_eq(source->direct, 7);
	changed.modified++;
	ck_assert_ptr_ne(stn_crew_source(&crew, &changed), source);
}
END_TEST

/* Neither what is in use nor what has descriptors is given to another file. */
START_TEST(all_taken)
{
	struct stn_source *sources[STN_CREW_SOURCES];

	for (unsigned i = 0; i < STN_CREW_SOURCES; i++)
		sources[i] = i % 2 ? use(i) : leave_open(i, 1);
	for (unsigned i = 0; i < STN_CREW_SOURCES; i++)
		for (unsigned j = 0; j < i; j++)
			ck_assert_ptr_ne(sources[i], sources[j]);
	ck_assert_ptr_null(use(1000));
	ck_assert_ptr_eq(use(5), sources[5]);
	ck_assert_ptr_eq(use(6), sources[6]);
	/* Once its descriptors are closed a record is empty, and free. */
	memset(sources[8], 0, sizeof(*sources[8]));
	ck_assert_ptr_eq(use(1000), sources[8]);
	ck_assert_uint_eq(sources[8]->direct, 0);
	ck_assert_ptr_null(use(1001));
}
END_TEST

/* A file that has failed is opened anew; its old record waits to be closed. */
START_TEST(failed)
{
	struct stn_source *source = leave_open(1, 2), *again;

	source->valid = false;
	again = use(1);
	ck_assert_ptr_ne(again, source);
	ck_assert(again->valid);
	ck_assert_uint_eq(again->opened, 0);
	ck_assert_ptr_eq(stn_crew_victim(&crew, true, 1), source);
}
END_TEST

/* The one that was used longest ago has to go, when a record or descriptors are needed. */
START_TEST(victim)
{
	const uint32_t most = stn_crew_most_descriptors();
	struct stn_source *oldest, *next;

	ck_assert_ptr_null(stn_crew_victim(&crew, true, 1));
	oldest = leave_open(1, most / 2);
	next = leave_open(2, most / 4);
	ck_assert_ptr_null(stn_crew_victim(&crew, false, most / 4));
	ck_assert_ptr_eq(stn_crew_victim(&crew, false, most / 4 + most % 4 + 1), oldest);
	ck_assert_ptr_eq(stn_crew_victim(&crew, true, 1), oldest);
	/* Used again: now the other one is older. */
	leave_open(1, most / 2);
	ck_assert_ptr_eq(stn_crew_victim(&crew, true, 1), next);
	/* What is being closed already is no victim, nor is what is in use. */
	next->closing = true;
	ck_assert_ptr_eq(stn_crew_victim(&crew, true, 1), oldest);
	use(1);
	ck_assert_ptr_null(stn_crew_victim(&crew, true, 1));
}
END_TEST

/* At most half of what the process may open, at least one, and not without bound. */
static const struct {
	rlim_t limit;
	uint32_t most;
} limits[] = {{1024, 128}, {256, 128}, {255, 127}, {64, 32}, {3, 1}, {2, 1}, {1, 1}, {0, 1}};

START_TEST(most_descriptors)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limits[_i].limit;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ck_assert_uint_eq(stn_crew_most_descriptors(), limits[_i].most);
	limit.rlim_cur = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("crew");
	TCase *tcase = unit_case(suite, "sources", 5);

	tcase_add_test(tcase, fresh);
	tcase_add_test(tcase, same_version);
	tcase_add_test(tcase, all_taken);
	tcase_add_test(tcase, failed);
	tcase_add_test(tcase, victim);
	tcase_add_loop_test(tcase, most_descriptors, 0, COUNT(limits));
	return suite;
}
