/* SPDX-License-Identifier: Apache-2.0 */
#include "fs.h"

#include <string.h>

#include "page.h"
#include "sys.h"

#define WINDOWS	     64 /* of a file that are looked at, of so many pages each */
#define WINDOW_PAGES 128

/* A file system's name and f_type; where a type has several names the first is the one shown. */
static const struct {
	const char *name;
	uint32_t magic;
	bool memory_backed;
} table[] = {
	{"fuse", STN_FS_FUSE, false},	  {"fuseblk", STN_FS_FUSE, false},
	{"virtiofs", STN_FS_FUSE, false}, {"nfs", 0x6969, false},
	{"smb3", 0xfe534d42, false},	  {"smb", 0xfe534d42, false},
	{"smb2", 0xfe534d42, false},	  {"cifs", 0xff534d42, false},
	{"smb", 0xff534d42, false},	  {"smb", 0x517b, false},
	{"9p", 0x01021997, false},	  {"ceph", 0x00c36400, false},
	{"lustre", 0x0bd00bd0, false},	  {"gpfs", 0x47504653, false},
	{"beegfs", 0x19830326, false},	  {"afs", 0x5346414f, false},
	{"overlay", 0x794c7630, false},	  {"ext4", 0xef53, false},
	{"ext3", 0xef53, false},	  {"ext2", 0xef53, false},
	{"xfs", 0x58465342, false},	  {"btrfs", 0x9123683e, false},
	{"bcachefs", 0xca451a4e, false},  {"zfs", 0x2fc12fc1, false},
	{"f2fs", 0xf2f52010, false},	  {"squashfs", 0x73717368, false},
	{"erofs", 0xe0f5e1e2, false},	  {"ecryptfs", 0xf15f, false},
	{"vboxsf", 0x786f4256, false},	  {"ntfs3", 0x7366746e, false},
	{"exfat", 0x2011bab0, false},	  {"vfat", 0x4d44, false},
	{"iso9660", 0x9660, false},	  {"tmpfs", 0x01021994, true},
	{"ramfs", 0x858458f6, true},	  {"hugetlbfs", 0x958458f6, true},
	{"proc", 0x9fa0, true},		  {"sysfs", 0x62656572, true},
};

#define ENTRIES (sizeof(table) / sizeof(table[0]))

const char *stn_fs_name(uint64_t magic)
{
	for (size_t i = 0; i < ENTRIES; i++)
		if (table[i].magic == (uint32_t)magic)
			return table[i].name;
	return "other";
}

bool stn_fs_memory_backed(uint64_t magic)
{
	for (size_t i = 0; i < ENTRIES; i++)
		if (table[i].magic == (uint32_t)magic)
			return table[i].memory_backed;
	return false;
}

static bool same(const char *name, const char *word, size_t length)
{
	return strlen(name) == length && memcmp(name, word, length) == 0;
}

bool stn_fs_known(const char *name, size_t length)
{
	if (same("all", name, length))
		return true;
	for (size_t i = 0; i < ENTRIES; i++)
		if (same(table[i].name, name, length))
			return true;
	return false;
}

/* True if the word names the file system with this f_type. */
static bool word_means(const char *word, size_t length, uint64_t magic)
{
	if (same("all", word, length))
		return true;
	for (size_t i = 0; i < ENTRIES; i++)
		if (table[i].magic == (uint32_t)magic && same(table[i].name, word, length))
			return true;
	return false;
}

bool stn_fs_listed(const char *list, uint64_t magic)
{
	while (*list) {
		size_t length = strcspn(list, ",: ");

		if (length && word_means(list, length, magic))
			return true;
		list += length + (list[length] != '\0');
	}
	return false;
}

int stn_fs_resident(void *address, size_t length, unsigned char *pages)
{
	return stn_sys_mincore(address, length, pages);
}

/* True if nearly all pages of a mapped piece of a file are cached. */
static bool has_pages(char *address, uint64_t length)
{
	unsigned char pages[WINDOW_PAGES];
	uint64_t count = (length + stn_page_size() - 1) / stn_page_size(), cached = 0;

	if (stn_fs_resident(address, length, pages) < 0)
		return false;
	for (uint64_t i = 0; i < count; i++)
		cached += pages[i] & 1;
	return cached >= count - count / 16;
}

bool stn_fs_cached(int fd, uint64_t size)
{
	uint64_t window = WINDOW_PAGES * stn_page_size();
	uint64_t step = stn_max(stn_round_up(size / WINDOWS, stn_page_size()), window);
	char *mapping = stn_sys_mmap(NULL, size, PROT_NONE, MAP_SHARED, fd, 0);
	bool all = size > 0;

	if (stn_sys_failed(mapping))
		return false;
	for (uint64_t at = 0; all && at < size; at += step)
		all = has_pages(mapping + at, stn_min(window, size - at));
	stn_sys_munmap(mapping, size);
	return all;
}
