/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "fs.h"
#include "unit.h"

static const struct {
	uint64_t magic;
	const char *name;
	bool memory_backed;
} systems[] = {
	{STN_FS_FUSE, "fuse", false},  {0x6969, "nfs", false},
	{0xfe534d42, "smb3", false},   {0xff534d42, "cifs", false},
	{0x01021997, "9p", false},     {0x00c36400, "ceph", false},
	{0x0bd00bd0, "lustre", false}, {0x794c7630, "overlay", false},
	{0xef53, "ext4", false},       {0x58465342, "xfs", false},
	{0x9123683e, "btrfs", false},  {0x01021994, "tmpfs", true},
	{0x858458f6, "ramfs", true},   {0x958458f6, "hugetlbfs", true},
	{0x12345678, "other", false},  {0, "other", false},
};

/* By f_type, also where a signed long has its sign carried to the left. */
START_TEST(name)
{
	uint64_t extended = (uint64_t)(int64_t)(int32_t)(uint32_t)systems[_i].magic;

	ck_assert_str_eq(stn_fs_name(systems[_i].magic), systems[_i].name);
	ck_assert_str_eq(stn_fs_name(extended), systems[_i].name);
	ck_assert_int_eq(stn_fs_memory_backed(systems[_i].magic), systems[_i].memory_backed);
	ck_assert_int_eq(stn_fs_memory_backed(extended), systems[_i].memory_backed);
}
END_TEST

/* Each name lists itself, and no other file system. */
START_TEST(own_name)
{
	if (strcmp(systems[_i].name, "other") == 0) {
		ck_assert(!stn_fs_known("other", 5));
		ck_assert(!stn_fs_listed("other", systems[_i].magic));
		return;
	}
	ck_assert(stn_fs_known(systems[_i].name, strlen(systems[_i].name)));
	for (int i = 0; i < COUNT(systems); i++)
		ck_assert_int_eq(stn_fs_listed(systems[_i].name, systems[i].magic), i == _i);
}
END_TEST

static const struct {
	const char *list;
	uint64_t magic;
	bool listed;
} lists[] = {
	{"fuse", STN_FS_FUSE, true},
	{"fuseblk", STN_FS_FUSE, true},
	{"virtiofs", STN_FS_FUSE, true},
	{"fuse,nfs", 0x6969, true},
	{"nfs,fuse", STN_FS_FUSE, true},
	{"nfs:fuse", STN_FS_FUSE, true},
	{"nfs, fuse", STN_FS_FUSE, true},
	{",,fuse,", STN_FS_FUSE, true},
	{"smb", 0xfe534d42, true},
	{"smb", 0xff534d42, true},
	{"smb", 0x517b, true},
	{"smb2", 0xfe534d42, true},
	{"cifs", 0xfe534d42, false},
	{"ext2", 0xef53, true},
	{"ext3", 0xef53, true},
	{"all", 0x12345678, true},
	{"nfs,all", STN_FS_FUSE, true},
	{"", STN_FS_FUSE, false},
	{"fus", STN_FS_FUSE, false},
	{"fusex", STN_FS_FUSE, false},
	{"FUSE", STN_FS_FUSE, false},
	{"allfuse", STN_FS_FUSE, false},
	{"nfs", STN_FS_FUSE, false},
	{"fuse", 0, false},
	{"fuse;nfs", 0x6969, false},
};

START_TEST(listed)
{
	ck_assert_int_eq(stn_fs_listed(lists[_i].list, lists[_i].magic), lists[_i].listed);
}
END_TEST

START_TEST(known)
{
	ck_assert(stn_fs_known("all", 3));
	ck_assert(stn_fs_known("fuse,nfs", 4));
	ck_assert(stn_fs_known("virtiofs", 8));
	ck_assert(!stn_fs_known("fus", 3));
	ck_assert(!stn_fs_known("fuse,nfs", 8));
	ck_assert(!stn_fs_known("", 0));
	ck_assert(!stn_fs_known("ntfs-3g", 7));
}
END_TEST

/* The numbers in the table are the running kernel's. */
static const struct {
	const char *path, *name;
} mounted[] = {{"/proc/self/maps", "proc"}, {"/sys", "sysfs"}};

START_TEST(real)
{
	struct statfs fs;

	ck_assert_int_eq(statfs(mounted[_i].path, &fs), 0);
	ck_assert_str_eq(stn_fs_name((uint64_t)fs.f_type), mounted[_i].name);
	ck_assert(stn_fs_memory_backed((uint64_t)fs.f_type));
}
END_TEST

START_TEST(real_memfd)
{
	int fd = memfd_create("unit", MFD_CLOEXEC);
	struct statfs fs;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fstatfs(fd, &fs), 0);
	ck_assert_str_eq(stn_fs_name((uint64_t)fs.f_type), "tmpfs");
}
END_TEST

/* Two of eight pages have been read; the mapping itself has no access. */
START_TEST(resident)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int fd = unit_pattern_file("eight", 8 * page);
	unsigned char pages[8] = {0};
	char byte;
	void *map = mmap(NULL, 8 * page, PROT_NONE, MAP_PRIVATE, fd, 0);

	ck_assert_ptr_ne(map, MAP_FAILED);
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	ck_assert_int_eq(pread(fd, &byte, 1, 2 * (off_t)page), 1);
	ck_assert_int_eq(pread(fd, &byte, 1, 7 * (off_t)page), 1);
	ck_assert_int_eq(stn_fs_resident(map, 8 * page, pages), 0);
	for (int i = 0; i < 8; i++)
		ck_assert_msg((pages[i] & 1) == (i == 2 || i == 7), "page %d: %d", i, pages[i]);
	ck_assert_int_eq(munmap(map, 8 * page), 0);
	ck_assert_int_lt(stn_fs_resident(map, 8 * page, pages), 0);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("fs");
	TCase *tcase = unit_case(suite, "names", 5);

	tcase_add_loop_test(tcase, name, 0, COUNT(systems));
	tcase_add_loop_test(tcase, own_name, 0, COUNT(systems));
	tcase_add_loop_test(tcase, listed, 0, COUNT(lists));
	tcase_add_test(tcase, known);
	tcase_add_loop_test(tcase, real, 0, COUNT(mounted));
	tcase_add_test(tcase, real_memfd);
	tcase = unit_case_in_dir(suite, "cache", 10);
	tcase_add_test(tcase, resident);
	return suite;
}
