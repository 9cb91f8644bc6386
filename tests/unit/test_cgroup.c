/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cgroup.h"
#include "unit.h"

#define V1 "cgroup cgroup rw,memory"
#define V2 "cgroup2 cgroup2 rw,nsdelegate"

/* A process's two files and where its group must be found. */
static const struct {
	const char *name, *cgroup, *mountinfo;
	bool v2;
	const char *directory; /* "" = none to be seen */
	size_t mount_length;
} places[] = {
	{"v2", "0::/user.slice/app.scope\n",
	 "25 1 0:23 / /sys rw - sysfs sysfs rw\n"
	 "31 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - " V2 "\n",
	 true, "/sys/fs/cgroup/user.slice/app.scope", 14},
	{"v2, root group", "0::/\n", "31 25 0:26 / /sys/fs/cgroup rw - " V2 "\n", true,
	 "/sys/fs/cgroup", 14},
	{"v2, no tags", "0::/a\n", "31 25 0:26 / /cg rw - " V2 "\n", true, "/cg/a", 3},
	{"v2, many tags", "0::/a\n",
	 "31 25 0:26 / /cg rw shared:1 master:2 propagate_from:3 unbindable - " V2 "\n", true,
	 "/cg/a", 3},
	{"v1", "12:cpu,cpuacct:/x\n9:memory:/docker/abc\n1:name=systemd:/y\n",
	 "40 32 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct\n"
	 "41 32 0:34 / /sys/fs/cgroup/memory rw - " V1 "\n",
	 false, "/sys/fs/cgroup/memory/docker/abc", 21},
	{"v1, several controllers", "3:cpu,memory,blkio:/a\n",
	 "41 32 0:34 / /cg rw - cgroup none rw,cpu,memory,blkio\n", false, "/cg/a", 3},
	{"v1 is not v2", "0::/a\n9:memory:/b\n", "41 32 0:34 / /cg rw - " V1 "\n", true, "", 0},
	{"v2 is not v1", "0::/a\n", "31 25 0:26 / /cg rw - " V2 "\n", false, "", 0},
	{"hybrid, v1", "9:memory:/b\n0::/a\n",
	 "41 32 0:34 / /v1 rw - " V1 "\n31 25 0:26 / /v2 rw - " V2 "\n", false, "/v1/b", 3},
	{"hybrid, v2", "9:memory:/b\n0::/a\n",
	 "41 32 0:34 / /v1 rw - " V1 "\n31 25 0:26 / /v2 rw - " V2 "\n", true, "/v2/a", 3},
	{"words that only contain memory", "8:name=memory:/x\n7:memory2,xmemory:/y\n",
	 "41 32 0:34 / /cg rw - " V1 "\n", false, "", 0},
	{"options that only contain memory", "9:memory:/b\n",
	 "40 32 0:33 / /no rw - cgroup cgroup rw,name=memory\n"
	 "42 32 0:35 / /nor rw - cgroup cgroup rw,xmemory,memoryx\n"
	 "41 32 0:34 / /cg rw - " V1 "\n",
	 false, "/cg/b", 3},
	{"a container without a namespace: the mount's root is taken off",
	 "9:memory:/docker/abc/inner\n",
	 "41 32 0:34 /docker/abc /sys/fs/cgroup/memory rw - " V1 "\n", false,
	 "/sys/fs/cgroup/memory/inner", 21},
	{"the group is the mount's root", "0::/docker/abc\n",
	 "31 25 0:26 /docker/abc /sys/fs/cgroup rw - " V2 "\n", true, "/sys/fs/cgroup", 14},
	{"a group outside the mount: the mount", "0::/other\n",
	 "31 25 0:26 /docker/abc /sys/fs/cgroup rw - " V2 "\n", true, "/sys/fs/cgroup", 14},
	{"a name that begins like the mount's root is outside", "0::/docker/abcdef\n",
	 "31 25 0:26 /docker/abc /sys/fs/cgroup rw - " V2 "\n", true, "/sys/fs/cgroup", 14},
	{"outside the namespace", "0::/../other\n", "31 25 0:26 / /sys/fs/cgroup rw - " V2 "\n",
	 true, "/sys/fs/cgroup", 14},
	{"the namespace's parent is mounted", "0::/\n",
	 "31 25 0:26 /.. /sys/fs/cgroup rw - " V2 "\n", true, "/sys/fs/cgroup", 14},
	{"a colon in the name", "0::/a:b:c\n", "31 25 0:26 / /cg rw - " V2 "\n", true, "/cg/a:b:c",
	 3},
	{"no mount", "0::/a\n", "25 1 0:23 / /sys rw - sysfs sysfs rw\n", true, "", 0},
	{"no group", "", "31 25 0:26 / /cg rw - " V2 "\n", true, "", 0},
	{"lines that are none", "nonsense\n:\n::\n0\n0:\n0::/a\n",
	 "\n\n31\n31 25 0:26\n31 25 0:26 / /cg rw\n31 25 0:26 / /cg rw -\n"
	 "31 25 0:26 / /cg rw - cgroup2\n31 25 0:26 / /yes rw - " V2 "\n",
	 true, "/yes/a", 4},
	{"no newline at the end", "0::/a", "31 25 0:26 / /cg rw - " V2, true, "/cg/a", 3},
};

START_TEST(find)
{
	struct stn_cgroup_place place;

	unit_text("proc/cgroup", places[_i].cgroup);
	unit_text("proc/mountinfo", places[_i].mountinfo);
	memset(&place, 'x', sizeof(place));
	stn_cgroup_find("proc", places[_i].v2, &place);
	ck_assert_msg(strcmp(place.directory, places[_i].directory) == 0, "%s: %s", places[_i].name,
		      place.directory);
	ck_assert_int_eq(place.v2, places[_i].v2);
	if (*places[_i].directory)
		ck_assert_uint_eq(place.mount_length, places[_i].mount_length);
}
END_TEST

START_TEST(find_without_proc)
{
	struct stn_cgroup_place place;

	stn_cgroup_find("missing", true, &place);
	ck_assert_str_eq(place.directory, "");
	unit_text("proc/cgroup", "0::/a\n");
	stn_cgroup_find("proc", true, &place);
	ck_assert_str_eq(place.directory, "");
}
END_TEST

/* An overlay's line can be longer than the buffer; the mounts behind it are found all the same. */
START_TEST(find_behind_long_line)
{
	static char mountinfo[40000], layers[30000];
	struct stn_cgroup_place place;

	memset(layers, 'l', sizeof(layers) - 1);
	snprintf(mountinfo, sizeof(mountinfo),
		 "30 1 0:30 / / rw - overlay overlay rw,lowerdir=%s\n"
		 "31 25 0:26 / /cg rw - " V2 "\n",
		 layers);
	unit_text("proc/cgroup", "0::/a\n");
	unit_text("proc/mountinfo", mountinfo);
	stn_cgroup_find("proc", true, &place);
	ck_assert_str_eq(place.directory, "/cg/a");
}
END_TEST

/* Names as long as the kernel lets them be neither overflow nor run into each other. */
START_TEST(find_long_names)
{
	static char text[9000], name[4200];
	struct stn_cgroup_place place;

	memset(name, 'n', sizeof(name) - 1);
	snprintf(text, sizeof(text), "0::/%s\n", name);
	unit_text("proc/cgroup", text);
	snprintf(text, sizeof(text), "31 25 0:26 / /%.4000s rw - " V2 "\n", name);
	unit_text("proc/mountinfo", text);
	stn_cgroup_find("proc", true, &place);
	ck_assert_uint_lt(strlen(place.directory), sizeof(place.directory));
	ck_assert_uint_eq(place.mount_length, 4001);
	ck_assert_int_eq(place.directory[4001], '/');
}
END_TEST

/* The limits that a walk has shown. */
struct visits {
	int count;
	struct stn_cgroup_limit seen[8];
};

static void visit(const struct stn_cgroup_limit *limit, void *argument)
{
	struct visits *visits = argument;

	ck_assert_int_lt(visits->count, COUNT(visits->seen));
	visits->seen[visits->count++] = *limit;
}

/* Walks from a group of the tree that the test has made below "cg". */
static struct visits walk(bool v2, const char *group)
{
	struct stn_cgroup_place place = {.v2 = v2};
	struct visits visits = {0};

	snprintf(place.directory, sizeof(place.directory), "%s", unit_path("cg"));
	place.mount_length = strlen(place.directory);
	strcat(place.directory, group);
	stn_cgroup_walk(&place, visit, &visits);
	return visits;
}

/* Files of one group and what follows from them. */
static const struct {
	const char *name;
	bool v2;
	const char *limit, *high, *used, *stat;
	uint64_t shown; /* 0 = no limit */
	uint64_t available;
} groups[] = {
	{"v2", true, "1000000\n", "max\n", "400000\n", "", 1000000, 600000},
	{"v2, page cache", true, "1000000\n", "max\n", "900000\n",
	 "anon 100000\ninactive_file 300000\nactive_file 200000\nslab_reclaimable 50000\n", 1000000,
	 650000},
	{"v2, high", true, "max\n", "800000\n", "100000\n", "", 800000, 700000},
	{"v2, high is smaller", true, "1000000\n", "800000\n", "100000\n", "", 800000, 700000},
	{"v2, high is larger", true, "1000000\n", "9000000\n", "100000\n", "", 1000000, 900000},
	{"v2, above high", true, "1000000\n", "800000\n", "900000\n", "", 800000, 0},
	{"v2, no limit", true, "max\n", "max\n", "900000\n", "", 0, 0},
	{"v2, zero", true, "0\n", "max\n", "0\n", "", 0, 0},
	{"v2, more reclaimable than used", true, "1000\n", "max\n", "500\n", "inactive_file 600\n",
	 1000, 1000},
	{"v2, other file pages do not count", true, "1000\n", "max\n", "500\n",
	 "file 400\ntotal_inactive_file 300\nshmem 200\ninactive_anon 100\n", 1000, 500},
	{"v1", false, "1000000\n", NULL, "400000\n", "", 1000000, 600000},
	{"v1, page cache with that of child groups", false, "1000000\n", NULL, "900000\n",
	 "cache 1\ninactive_file 7\nactive_file 7\ntotal_inactive_file 300000\n"
	 "total_active_file 200000\n",
	 1000000, 600000},
	{"v1, no limit", false, "9223372036854771712\n", NULL, "400000\n", "", 0, 0},
	{"v1, no limit with 64 KiB pages", false, "9223372036854710272\n", NULL, "400000\n", "", 0,
	 0},
	{"v1, full", false, "1000000\n", NULL, "1000000\n", "", 1000000, 0},
	{"v1, above", false, "1000000\n", NULL, "2000000\n", "", 1000000, 0},
};

static void write_group(const char *group, int row)
{
	const bool v2 = groups[row].v2;
	char name[256];

	snprintf(name, sizeof(name), "cg%s/%s", group, v2 ? "memory.max" : "memory.limit_in_bytes");
	unit_text(name, groups[row].limit);
	snprintf(name, sizeof(name), "cg%s/%s", group,
		 v2 ? "memory.current" : "memory.usage_in_bytes");
	unit_text(name, groups[row].used);
	snprintf(name, sizeof(name), "cg%s/memory.stat", group);
	unit_text(name, groups[row].stat);
	snprintf(name, sizeof(name), "cg%s/memory.high", group);
	if (groups[row].high)
		unit_text(name, groups[row].high);
}

START_TEST(one_group)
{
	struct visits visits;
	bool zero = strcmp(groups[_i].limit, "0\n") == 0;

	write_group("/a", _i);
	visits = walk(groups[_i].v2, "/a");
	ck_assert_msg(visits.count == (groups[_i].shown || zero), "%s", groups[_i].name);
	if (visits.count == 0)
		return;
	ck_assert_uint_eq(visits.seen[0].limit, groups[_i].shown);
	ck_assert_uint_eq(visits.seen[0].available, groups[_i].available);
}
END_TEST

/* Every group up to the mount point counts, and none above it. */
START_TEST(ancestors)
{
	struct visits visits;

	write_group("/a/b/c", 0);
	write_group("/a", 2);
	write_group("", 5);
	unit_text("memory.max", "1\n");
	unit_text("memory.current", "1\n");
	visits = walk(true, "/a/b/c");
	ck_assert_int_eq(visits.count, 3);
	ck_assert_uint_eq(visits.seen[0].available, 600000);
	ck_assert_uint_eq(visits.seen[1].available, 700000);
	ck_assert_uint_eq(visits.seen[2].limit, 800000);
	visits = walk(true, "");
	ck_assert_int_eq(visits.count, 1);
	ck_assert_uint_eq(visits.seen[0].limit, 800000);
}
END_TEST

/* A group that has been removed, or whose use cannot be read, says nothing. */
START_TEST(missing_groups)
{
	ck_assert_int_eq(walk(true, "/gone/away").count, 0);
	unit_text("cg/a/memory.max", "1000\n");
	ck_assert_int_eq(walk(true, "/a").count, 0);
	unit_text("cg/a/memory.current", "10\n");
	ck_assert_int_eq(walk(true, "/a").count, 1);
}
END_TEST

START_TEST(nowhere)
{
	struct stn_cgroup_place place = {.v2 = true};
	struct visits visits = {0};

	stn_cgroup_walk(&place, visit, &visits);
	ck_assert_int_eq(visits.count, 0);
}
END_TEST

/* What is found for this process exists. */
START_TEST(real)
{
	struct stn_cgroup_place place;

	stn_cgroup_find("/proc/self", _i, &place);
	if (*place.directory)
		ck_assert_msg(access(place.directory, F_OK) == 0, "%s", place.directory);
	ck_assert_int_eq(place.v2, _i);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("cgroup");
	TCase *tcase = unit_case_in_dir(suite, "find", 5);

	tcase_add_loop_test(tcase, find, 0, COUNT(places));
	tcase_add_test(tcase, find_without_proc);
	tcase_add_test(tcase, find_behind_long_line);
	tcase_add_test(tcase, find_long_names);
	tcase_add_loop_test(tcase, real, 0, 2);
	tcase = unit_case_in_dir(suite, "walk", 5);
	tcase_add_loop_test(tcase, one_group, 0, COUNT(groups));
	tcase_add_test(tcase, ancestors);
	tcase_add_test(tcase, missing_groups);
	tcase_add_test(tcase, nowhere);
	return suite;
}
