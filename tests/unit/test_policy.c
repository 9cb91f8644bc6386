/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/mman.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "config.h"
#include "fs.h"
#include "policy.h"
#include "unit.h"

#define FUSE  STN_FS_FUSE
#define EXT4  0xef53
#define TMPFS 0x01021994
#define NFS   0x6969

#define RO PROT_READ
#define RW (PROT_READ | PROT_WRITE)

/* The facts that are true or false, in one word. */
enum {
	MODEL = 1,
	REGULAR = 2,
	DAX = 4,
	WRITING = 8,
	UNIFIED = 16,
	READER = 32, /* the caller maps files to read their header */
	FITS = 64,
	FILE_OK = MODEL | REGULAR | FITS,
};

/* A mapping, what the screening says and what the whole decision is. */
struct row {
	const char *name;
	uint64_t mode;
	const char *file_systems;
	unsigned facts;
	uint64_t file_system;
	int prot, flags;
	uint64_t size, offset, length, delivered;
	enum stn_decision screen, decide;
};

static const struct row table[] = {
	/* Where auto engages. */
	{"fuse, private", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RW, MAP_PRIVATE, 100 * MIB, 0,
	 100 * MIB, 0, STN_ENGAGED, STN_ENGAGED},
	{"fuse, private, read-only", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RO, MAP_PRIVATE,
	 100 * MIB, 0, 100 * MIB, 0, STN_ENGAGED, STN_ENGAGED},
	{"fuse, shared, read-only", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RO, MAP_SHARED, 100 * MIB,
	 0, 100 * MIB, 0, STN_ENGAGED, STN_ENGAGED},
	{"fuse, shared-validate, read-only", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RO,
	 MAP_SHARED_VALIDATE, 100 * MIB, 0, 100 * MIB, 0, STN_ENGAGED, STN_ENGAGED},
	{"fuse, populate and locked", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RO,
	 MAP_PRIVATE | MAP_POPULATE | MAP_LOCKED | MAP_NORESERVE, 100 * MIB, 0, 100 * MIB, 0,
	 STN_ENGAGED, STN_ENGAGED},
	{"one byte", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RO, MAP_SHARED, 1, 0, 1, 0, STN_ENGAGED,
	 STN_ENGAGED},
	{"a page in the middle", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RO, MAP_SHARED, 100 * MIB,
	 50 * MIB, 4096, 0, STN_ENGAGED, STN_ENGAGED},
	{"longer than the file", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RO, MAP_SHARED, 100, 0, MIB,
	 0, STN_ENGAGED, STN_ENGAGED},
	{"the last byte", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RO, MAP_SHARED, MIB + 1, MIB, 4096,
	 0, STN_ENGAGED, STN_ENGAGED},
	{"ext4", STN_MODE_AUTO, "fuse", FILE_OK, EXT4, RO, MAP_SHARED, MIB, 0, MIB, 0,
	 STN_DECLINED_FILE_SYSTEM, STN_DECLINED_FILE_SYSTEM},
	{"ext4, unified", STN_MODE_AUTO, "fuse", FILE_OK | UNIFIED, EXT4, RO, MAP_SHARED, MIB, 0,
	 MIB, 0, STN_ENGAGED, STN_ENGAGED},
	{"ext4, always", STN_MODE_ALWAYS, "fuse", FILE_OK, EXT4, RO, MAP_SHARED, MIB, 0, MIB, 0,
	 STN_ENGAGED, STN_ENGAGED},
	{"ext4, listed", STN_MODE_AUTO, "fuse,ext4", FILE_OK, EXT4, RO, MAP_SHARED, MIB, 0, MIB, 0,
	 STN_ENGAGED, STN_ENGAGED},
	{"ext4, all", STN_MODE_AUTO, "all", FILE_OK, EXT4, RO, MAP_SHARED, MIB, 0, MIB, 0,
	 STN_ENGAGED, STN_ENGAGED},
	{"fuse, none listed", STN_MODE_AUTO, "", FILE_OK, FUSE, RO, MAP_SHARED, MIB, 0, MIB, 0,
	 STN_DECLINED_FILE_SYSTEM, STN_DECLINED_FILE_SYSTEM},
	{"fuse, another listed", STN_MODE_AUTO, "nfs", FILE_OK, FUSE, RO, MAP_SHARED, MIB, 0, MIB,
	 0, STN_DECLINED_FILE_SYSTEM, STN_DECLINED_FILE_SYSTEM},
	{"nfs, listed", STN_MODE_AUTO, "nfs", FILE_OK, NFS, RO, MAP_SHARED, MIB, 0, MIB, 0,
	 STN_ENGAGED, STN_ENGAGED},
	{"observe on fuse", STN_MODE_OBSERVE, "fuse", FILE_OK, FUSE, RO, MAP_SHARED, MIB, 0, MIB, 0,
	 STN_ENGAGED, STN_ENGAGED},
	{"observe on ext4", STN_MODE_OBSERVE, "fuse", FILE_OK, EXT4, RO, MAP_SHARED, MIB, 0, MIB, 0,
	 STN_DECLINED_FILE_SYSTEM, STN_DECLINED_FILE_SYSTEM},
	{"off on fuse", STN_MODE_OFF, "all", FILE_OK | UNIFIED, FUSE, RO, MAP_SHARED, MIB, 0, MIB,
	 0, STN_DECLINED_OFF, STN_DECLINED_OFF},
	/* What the file is. */
	{"not a model", STN_MODE_ALWAYS, "fuse", REGULAR | FITS, FUSE, RO, MAP_SHARED, MIB, 0, MIB,
	 0, STN_DECLINED_NOT_A_MODEL, STN_DECLINED_NOT_A_MODEL},
	{"a device", STN_MODE_ALWAYS, "fuse", MODEL | FITS, FUSE, RO, MAP_SHARED, MIB, 0, MIB, 0,
	 STN_DECLINED_NOT_REGULAR, STN_DECLINED_NOT_REGULAR},
	{"open for writing", STN_MODE_ALWAYS, "fuse", FILE_OK | WRITING, FUSE, RO, MAP_SHARED, MIB,
	 0, MIB, 0, STN_DECLINED_OPEN_FOR_WRITING, STN_DECLINED_OPEN_FOR_WRITING},
	{"tmpfs", STN_MODE_ALWAYS, "all", FILE_OK | UNIFIED, TMPFS, RO, MAP_SHARED, MIB, 0, MIB, 0,
	 STN_DECLINED_MEMORY_BACKED, STN_DECLINED_MEMORY_BACKED},
	{"dax", STN_MODE_ALWAYS, "all", FILE_OK | DAX, EXT4, RO, MAP_SHARED, MIB, 0, MIB, 0,
	 STN_DECLINED_DAX, STN_DECLINED_DAX},
	{"empty file", STN_MODE_ALWAYS, "all", FILE_OK, FUSE, RO, MAP_SHARED, 0, 0, MIB, 0,
	 STN_DECLINED_EMPTY, STN_DECLINED_EMPTY},
	{"empty mapping", STN_MODE_ALWAYS, "all", FILE_OK, FUSE, RO, MAP_SHARED, MIB, 0, 0, 0,
	 STN_DECLINED_EMPTY, STN_DECLINED_EMPTY},
	{"begins at the end", STN_MODE_ALWAYS, "all", FILE_OK, FUSE, RO, MAP_SHARED, MIB, MIB, 4096,
	 0, STN_DECLINED_PAST_END, STN_DECLINED_PAST_END},
	{"begins behind the end", STN_MODE_ALWAYS, "all", FILE_OK, FUSE, RO, MAP_SHARED, 1, GIB,
	 4096, 0, STN_DECLINED_PAST_END, STN_DECLINED_PAST_END},
	/* What the call asks for. */
	{"executable", STN_MODE_ALWAYS, "all", FILE_OK, FUSE, RO | PROT_EXEC, MAP_PRIVATE, MIB, 0,
	 MIB, 0, STN_DECLINED_EXECUTABLE, STN_DECLINED_EXECUTABLE},
	{"fixed", STN_MODE_ALWAYS, "all", FILE_OK, FUSE, RO, MAP_PRIVATE | MAP_FIXED, MIB, 0, MIB,
	 0, STN_DECLINED_FIXED, STN_DECLINED_FIXED},
	{"fixed without replacing", STN_MODE_ALWAYS, "all", FILE_OK, FUSE, RO,
	 MAP_PRIVATE | MAP_FIXED_NOREPLACE, MIB, 0, MIB, 0, STN_DECLINED_FIXED, STN_DECLINED_FIXED},
	{"huge pages", STN_MODE_ALWAYS, "all", FILE_OK, FUSE, RO, MAP_PRIVATE | MAP_HUGETLB, MIB, 0,
	 MIB, 0, STN_DECLINED_HUGE_TLB, STN_DECLINED_HUGE_TLB},
	{"shared and writable", STN_MODE_ALWAYS, "all", FILE_OK, FUSE, RW, MAP_SHARED, MIB, 0, MIB,
	 0, STN_DECLINED_WRITABLE_SHARED, STN_DECLINED_WRITABLE_SHARED},
	{"shared-validate and writable", STN_MODE_ALWAYS, "all", FILE_OK, FUSE, RW,
	 MAP_SHARED_VALIDATE, MIB, 0, MIB, 0, STN_DECLINED_WRITABLE_SHARED,
	 STN_DECLINED_WRITABLE_SHARED},
	{"no access", STN_MODE_ALWAYS, "all", FILE_OK, FUSE, PROT_NONE, MAP_PRIVATE, MIB, 0, MIB, 0,
	 STN_DECLINED_NO_ACCESS, STN_DECLINED_NO_ACCESS},
	{"write only", STN_MODE_ALWAYS, "all", FILE_OK, FUSE, PROT_WRITE, MAP_PRIVATE, MIB, 0, MIB,
	 0, STN_DECLINED_NO_ACCESS, STN_DECLINED_NO_ACCESS},
	/* The header peek: read-only, private, the whole file, by code that reads headers. */
	{"peek", STN_MODE_AUTO, "fuse", FILE_OK | READER, FUSE, RO, MAP_PRIVATE, MIB, 0, MIB, 0,
	 STN_ENGAGED_PEEK, STN_ENGAGED_PEEK},
	{"peek, longer than the file", STN_MODE_AUTO, "fuse", FILE_OK | READER, FUSE, RO,
	 MAP_PRIVATE, MIB, 0, 2 * MIB, 0, STN_ENGAGED_PEEK, STN_ENGAGED_PEEK},
	{"peek after two files", STN_MODE_AUTO, "fuse", FILE_OK | READER, FUSE, RO, MAP_PRIVATE,
	 MIB, 0, MIB, 2 * MIB, STN_ENGAGED_PEEK, STN_ENGAGED_PEEK},
	{"peek without memory", STN_MODE_AUTO, "fuse", MODEL | REGULAR | READER, FUSE, RO,
	 MAP_PRIVATE, MIB, 0, MIB, 0, STN_ENGAGED_PEEK, STN_DECLINED_MEMORY},
	{"no peek: writable", STN_MODE_AUTO, "fuse", FILE_OK | READER, FUSE, RW, MAP_PRIVATE, MIB,
	 0, MIB, 0, STN_ENGAGED, STN_ENGAGED},
	{"no peek: shared", STN_MODE_AUTO, "fuse", FILE_OK | READER, FUSE, RO, MAP_SHARED, MIB, 0,
	 MIB, 0, STN_ENGAGED, STN_ENGAGED},
	{"no peek: a part", STN_MODE_AUTO, "fuse", FILE_OK | READER, FUSE, RO, MAP_PRIVATE, MIB, 0,
	 MIB - 1, 0, STN_ENGAGED, STN_ENGAGED},
	{"no peek: not from the beginning", STN_MODE_AUTO, "fuse", FILE_OK | READER, FUSE, RO,
	 MAP_PRIVATE, MIB, 4096, MIB, 0, STN_ENGAGED, STN_ENGAGED},
	{"no peek: declined", STN_MODE_AUTO, "fuse", FILE_OK | READER, EXT4, RO, MAP_PRIVATE, MIB,
	 0, MIB, 0, STN_DECLINED_FILE_SYSTEM, STN_DECLINED_FILE_SYSTEM},
	/* No more than twice a file is delivered. */
	{"again", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RW, MAP_PRIVATE, MIB, 0, MIB, MIB,
	 STN_ENGAGED, STN_ENGAGED},
	{"again, a byte too much", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RW, MAP_PRIVATE, MIB, 0,
	 MIB, MIB + 1, STN_ENGAGED, STN_DECLINED_REREAD},
	{"the last piece", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RW, MAP_PRIVATE, MIB, 4096, 4096,
	 2 * MIB - 4096, STN_ENGAGED, STN_ENGAGED},
	{"a piece too much", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RW, MAP_PRIVATE, MIB, 4096, 4097,
	 2 * MIB - 4096, STN_ENGAGED, STN_DECLINED_REREAD},
	{"bytes behind the end do not count", STN_MODE_AUTO, "fuse", FILE_OK, FUSE, RW, MAP_PRIVATE,
	 MIB, 0, GIB, MIB, STN_ENGAGED, STN_ENGAGED},
	/* The budget. */
	{"no memory", STN_MODE_AUTO, "fuse", MODEL | REGULAR, FUSE, RW, MAP_PRIVATE, MIB, 0, MIB, 0,
	 STN_ENGAGED, STN_DECLINED_MEMORY},
	{"no memory, always", STN_MODE_ALWAYS, "fuse", MODEL | REGULAR | UNIFIED, EXT4, RW,
	 MAP_PRIVATE, MIB, 0, MIB, 0, STN_ENGAGED, STN_DECLINED_MEMORY},
	{"no memory and reread", STN_MODE_AUTO, "fuse", MODEL | REGULAR, FUSE, RW, MAP_PRIVATE, MIB,
	 0, MIB, 2 * MIB, STN_ENGAGED, STN_DECLINED_REREAD},
};

static void set_facts(const struct row *row, struct stn_facts *facts)
{
	*facts = (struct stn_facts){
		.mode = row->mode,
		.fill = STN_FILL_AUTO,
		.file_systems = row->file_systems,
		.model = row->facts & MODEL,
		.regular = row->facts & REGULAR,
		.dax = row->facts & DAX,
		.open_for_writing = row->facts & WRITING,
		.unified = row->facts & UNIFIED,
		.file_system = row->file_system,
		.prot = row->prot,
		.flags = row->flags,
		.file_size = row->size,
		.offset = row->offset,
		.length = row->length,
		.header_reader = row->facts & READER,
		.delivered = row->delivered,
		.fits = row->facts & FITS,
	};
}

START_TEST(decision)
{
	struct stn_facts facts;
	enum stn_decision screen, decide;

	set_facts(&table[_i], &facts);
	screen = stn_policy_screen(&facts);
	decide = stn_policy_decide(&facts);
	ck_assert_msg(screen == table[_i].screen, "%s: %s:%s", table[_i].name,
		      stn_decision_verb(screen), stn_decision_reason(screen));
	ck_assert_msg(decide == table[_i].decide, "%s: %s:%s", table[_i].name,
		      stn_decision_verb(decide), stn_decision_reason(decide));
}
END_TEST

/* STSHIM_FILL=eager fills a peek as any other mapping. */
START_TEST(eager_has_no_peek)
{
	struct stn_facts facts;

	set_facts(&table[0], &facts);
	facts.prot = PROT_READ;
	facts.header_reader = true;
	ck_assert_int_eq(stn_policy_decide(&facts), STN_ENGAGED_PEEK);
	facts.fill = STN_FILL_EAGER;
	ck_assert_int_eq(stn_policy_decide(&facts), STN_ENGAGED);
}
END_TEST

/* A file that the page cache has is the kernel's, but not on FUSE, on unified memory, or where it
 * is said what is to be done with it. */
START_TEST(cached)
{
	struct stn_facts facts, engaged[5];

	set_facts(&table[0], &facts);
	facts.mode = STN_MODE_ALWAYS;
	facts.file_system = EXT4;
	ck_assert_int_eq(stn_policy_decide(&facts), STN_ENGAGED);
	facts.cached = true;
	ck_assert_int_eq(stn_policy_decide(&facts), STN_DECLINED_CACHED);
	for (size_t i = 0; i < COUNT(engaged); i++)
		engaged[i] = facts;
	engaged[0].file_system = FUSE;
	engaged[1].unified = true;
	engaged[2].fill = STN_FILL_LAZY;
	engaged[3].mlock = STN_MLOCK_TRY;
	engaged[4].cache = STN_CACHE_DROP;
	for (size_t i = 0; i < COUNT(engaged); i++)
		ck_assert_int_eq(stn_policy_decide(&engaged[i]), STN_ENGAGED);
}
END_TEST

/* Everything that stands in the way, in the order in which it is named. */
static const enum stn_decision obstacles[] = {
	STN_DECLINED_EXECUTABLE,    STN_DECLINED_FIXED,
	STN_DECLINED_HUGE_TLB,	    STN_DECLINED_WRITABLE_SHARED,
	STN_DECLINED_NO_ACCESS,	    STN_DECLINED_NOT_A_MODEL,
	STN_DECLINED_NOT_REGULAR,   STN_DECLINED_OPEN_FOR_WRITING,
	STN_DECLINED_MEMORY_BACKED, STN_DECLINED_DAX,
	STN_DECLINED_EMPTY,	    STN_DECLINED_PAST_END,
	STN_DECLINED_OFF,	    STN_DECLINED_FILE_SYSTEM,
	STN_DECLINED_REREAD,	    STN_DECLINED_MEMORY,
};

/* Puts one obstacle into facts that others may have been put into. */
static void obstruct(struct stn_facts *facts, enum stn_decision obstacle)
{
	switch (obstacle) {
	case STN_DECLINED_EXECUTABLE:
		facts->prot |= PROT_EXEC;
		break;
	case STN_DECLINED_FIXED:
		facts->flags |= MAP_FIXED;
		break;
	case STN_DECLINED_HUGE_TLB:
		facts->flags |= MAP_HUGETLB;
		break;
	case STN_DECLINED_WRITABLE_SHARED:
		facts->flags = (facts->flags & ~MAP_TYPE) | MAP_SHARED;
		facts->prot |= PROT_WRITE;
		break;
	case STN_DECLINED_NO_ACCESS:
		facts->prot &= ~PROT_READ;
		break;
	case STN_DECLINED_NOT_A_MODEL:
		facts->model = false;
		break;
	case STN_DECLINED_NOT_REGULAR:
		facts->regular = false;
		break;
	case STN_DECLINED_OPEN_FOR_WRITING:
		facts->open_for_writing = true;
		break;
	case STN_DECLINED_MEMORY_BACKED:
		facts->file_system = TMPFS;
		break;
	case STN_DECLINED_DAX:
		facts->dax = true;
		break;
	case STN_DECLINED_EMPTY:
		facts->file_size = 0;
		break;
	case STN_DECLINED_PAST_END:
		facts->offset = facts->file_size;
		break;
	case STN_DECLINED_OFF:
		facts->mode = STN_MODE_OFF;
		break;
	case STN_DECLINED_FILE_SYSTEM:
		facts->file_systems = "none";
		break;
	case STN_DECLINED_REREAD:
		facts->delivered = 2 * facts->file_size;
		break;
	case STN_DECLINED_MEMORY:
		facts->fits = false;
		break;
	default:
		ck_abort_msg("decision %d is no obstacle", obstacle);
	}
}

/* Of every combination of obstacles the first is named; without any the mapping is engaged. */
START_TEST(every_combination)
{
	for (uint32_t set = 0; set < (uint32_t)1 << COUNT(obstacles); set++) {
		enum stn_decision expected = STN_ENGAGED, got;
		struct stn_facts facts;

		set_facts(&table[0], &facts);
		for (int i = COUNT(obstacles) - 1; i >= 0; i--) {
			if (!(set >> i & 1))
				continue;
			obstruct(&facts, obstacles[i]);
			expected = obstacles[i];
		}
		got = stn_policy_decide(&facts);
		if (got != expected)
			ck_abort_msg("set %x: %s, not %s", set, stn_decision_reason(got),
				     stn_decision_reason(expected));
	}
}
END_TEST

/* Each decision that the policy can make is in the table of mappings. */
START_TEST(table_is_complete)
{
	bool seen[STN_DECISIONS] = {false};

	for (int i = 0; i < COUNT(table); i++)
		seen[table[i].decide] = true;
	for (int i = 0; i < COUNT(obstacles); i++)
		ck_assert_msg(seen[obstacles[i]], "%s", stn_decision_reason(obstacles[i]));
	ck_assert(seen[STN_ENGAGED] && seen[STN_ENGAGED_PEEK]);
}
END_TEST

/* Only auto and observe on a file system that is not listed ask the hardware. */
static const struct {
	uint64_t mode, file_system;
	const char *file_systems;
	bool needs;
} unified_rows[] = {
	{STN_MODE_AUTO, EXT4, "fuse", true},	 {STN_MODE_AUTO, FUSE, "fuse", false},
	{STN_MODE_AUTO, EXT4, "all", false},	 {STN_MODE_ALWAYS, EXT4, "fuse", false},
	{STN_MODE_OBSERVE, EXT4, "fuse", true},	 {STN_MODE_OFF, EXT4, "fuse", false},
	{STN_MODE_OBSERVE, FUSE, "fuse", false}, {STN_MODE_OFF, FUSE, "fuse", false},
};

START_TEST(needs_unified)
{
	for (int unified = 0; unified <= 1; unified++) {
		const struct stn_facts facts = {
			.mode = unified_rows[_i].mode,
			.file_system = unified_rows[_i].file_system,
			.file_systems = unified_rows[_i].file_systems,
			.unified = unified,
		};

		ck_assert_int_eq(stn_policy_needs_unified(&facts), unified_rows[_i].needs);
	}
}
END_TEST

static const struct {
	uint64_t size, offset, length, bytes;
} byte_rows[] = {
	{100, 0, 100, 100},
	{100, 0, 4096, 100},
	{10000, 0, 4096, 4096},
	{10000, 4096, 4096, 4096},
	{10000, 8192, 4096, 1808},
	{10000, 8192, UINT64_MAX, 1808},
	{INT64_MAX, 0, UINT64_MAX, INT64_MAX},
	{INT64_MAX, (uint64_t)1 << 62, (uint64_t)1 << 61, (uint64_t)1 << 61},
	{1, 0, 1, 1},
};

START_TEST(bytes)
{
	const struct stn_facts facts = {
		.file_size = byte_rows[_i].size,
		.offset = byte_rows[_i].offset,
		.length = byte_rows[_i].length,
	};

	ck_assert_uint_eq(stn_policy_bytes(&facts), byte_rows[_i].bytes);
}
END_TEST

/* What is filled lazily with a full userfaultfd, and with one for faults of user code. */
static const struct {
	const char *name;
	uint64_t fill, io, mlock, length;
	int prot, flags;
	bool full, user;
} lazy_rows[] = {
	{"auto", STN_FILL_AUTO, 0, 0, 2 * MIB, RO, MAP_PRIVATE, true, true},
	{"auto, writable", STN_FILL_AUTO, 0, 0, 2 * MIB, RW, MAP_PRIVATE, true, false},
	{"read-only", STN_FILL_LAZY, 0, 0, 2 * MIB, RO, MAP_PRIVATE, true, true},
	{"shared", STN_FILL_LAZY, 0, 0, 2 * MIB, RO, MAP_SHARED, true, true},
	{"writable", STN_FILL_LAZY, 0, 0, 2 * MIB, RW, MAP_PRIVATE, true, false},
	{"direct", STN_FILL_LAZY, STN_IO_DIRECT, 0, 2 * MIB, RO, MAP_PRIVATE, true, true},
	{"eager", STN_FILL_EAGER, 0, 0, 2 * MIB, RO, MAP_PRIVATE, false, false},
	{"buffered", STN_FILL_LAZY, STN_IO_BUFFERED, 0, 2 * MIB, RO, MAP_PRIVATE, false, false},
	{"to be locked", STN_FILL_LAZY, 0, STN_MLOCK_TRY, 2 * MIB, RO, MAP_PRIVATE, false, false},
	{"small", STN_FILL_LAZY, 0, 0, MIB, RO, MAP_PRIVATE, false, false},
	{"locked", STN_FILL_LAZY, 0, 0, 2 * MIB, RO, MAP_PRIVATE | MAP_LOCKED, false, false},
	{"at once", STN_FILL_LAZY, 0, 0, 2 * MIB, RO, MAP_SHARED | MAP_POPULATE, false, false},
};

START_TEST(lazy)
{
	const struct stn_facts facts = {
		.fill = lazy_rows[_i].fill,
		.io = lazy_rows[_i].io,
		.mlock = lazy_rows[_i].mlock,
		.file_size = 100 * MIB,
		.length = lazy_rows[_i].length,
		.prot = lazy_rows[_i].prot,
		.flags = lazy_rows[_i].flags,
	};
	const char *name = lazy_rows[_i].name;

	ck_assert_msg(stn_policy_suits_lazy(&facts, STN_LAZY_FULL) == lazy_rows[_i].full, "%s",
		      name);
	ck_assert_msg(stn_policy_suits_lazy(&facts, STN_LAZY_USER_ONLY) == lazy_rows[_i].user, "%s",
		      name);
	ck_assert_msg(!stn_policy_suits_lazy(&facts, STN_LAZY_NONE), "%s", name);
	ck_assert_msg(!stn_policy_suits_lazy(&facts, STN_LAZY_UNKNOWN), "%s", name);
}
END_TEST

/* Each decision's words are its own, and say whether it is engaged. */
START_TEST(words)
{
	char all[STN_DECISIONS][64];

	for (int i = 0; i < STN_DECISIONS; i++) {
		ck_assert_ptr_nonnull(stn_decision_verb((enum stn_decision)i));
		ck_assert_ptr_nonnull(stn_decision_reason((enum stn_decision)i));
		snprintf(all[i], sizeof(all[i]), "%s:%s", stn_decision_verb((enum stn_decision)i),
			 stn_decision_reason((enum stn_decision)i));
		ck_assert_int_eq(strncmp(all[i], "engaged", 7) == 0,
				 stn_decision_engaged((enum stn_decision)i));
		for (int j = 0; j < i; j++)
			ck_assert_str_ne(all[i], all[j]);
	}
	ck_assert_str_eq(all[STN_ENGAGED], "engaged:");
	ck_assert_str_eq(all[STN_ENGAGED_PEEK], "engaged:header-peek");
	ck_assert_str_eq(all[STN_DECLINED_OPEN_FOR_WRITING], "declined:open-for-writing");
	ck_assert_str_eq(all[STN_ABANDONED_IO_ERROR], "abandoned:io-error");
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("policy");
	TCase *tcase = unit_case(suite, "decisions", 5);

	tcase_add_loop_test(tcase, decision, 0, COUNT(table));
	tcase_add_test(tcase, eager_has_no_peek);
	tcase_add_test(tcase, cached);
	tcase_add_test(tcase, every_combination);
	tcase_add_test(tcase, table_is_complete);
	tcase = unit_case(suite, "parts", 5);
	tcase_add_loop_test(tcase, needs_unified, 0, COUNT(unified_rows));
	tcase_add_loop_test(tcase, bytes, 0, COUNT(byte_rows));
	tcase_add_loop_test(tcase, lazy, 0, COUNT(lazy_rows));
	tcase_add_test(tcase, words);
	return suite;
}
