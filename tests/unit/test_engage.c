/* SPDX-License-Identifier: Apache-2.0 */
/* Whole mappings, from the program's call to its bytes, on a disk. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engaged.h"
#include "page.h"
#include "process.h"
#include "region.h"
#include "unit.h"

#define RO PROT_READ
#define RW (PROT_READ | PROT_WRITE)

static size_t page;

static void set_up(void)
{
	page = stn_page_size();
	unit_configure("STSHIM_MODE=always", NULL);
}

/* Nothing is reserved any more when no mapping is being made. */
static void check_settled(void)
{
	ck_assert_uint_eq(stn_process_peek()->planned, 0);
	ck_assert_uint_eq(stn_process_peek()->filled, 0);
}

/* Calls, beside which the same call of the kernel is made: all bytes must be the same. */
static const struct {
	const char *name;
	size_t size, length;
	uint64_t offset;
	int prot, flags;
} calls[] = {
	{"private, writable", 300000, 300000, 0, RW, MAP_PRIVATE},
	{"private, read-only", 300000, 300000, 0, RO, MAP_PRIVATE},
	{"shared, read-only", 300000, 300000, 0, RO, MAP_SHARED},
	{"one byte", 1, 1, 0, RO, MAP_PRIVATE},
	{"whole pages", 65536, 65536, 0, RW, MAP_PRIVATE},
	{"a part", 300000, 65536, 65536, RO, MAP_PRIVATE},
	{"to the end", 300000, 300000 - 65536, 65536, RO, MAP_SHARED},
	{"a length that is no multiple of a page, in the middle", 300000, 70000, 65536, RO,
	 MAP_SHARED},
	{"a header of some bytes", 300000, 100, 0, RO, MAP_PRIVATE},
	{"all but the last bytes", 300000, 299990, 0, RW, MAP_PRIVATE},
	{"a little longer than the file", 300000, 300001, 0, RO, MAP_PRIVATE},
	{"pages longer than the file", 300000, 400000, 0, RO, MAP_PRIVATE},
	{"pages longer than whole pages", 65536, 200000, 0, RW, MAP_PRIVATE},
	{"populated", 300000, 300000, 0, RO, MAP_PRIVATE | MAP_POPULATE},
	{"large", 9000001, 9000001, 0, RW, MAP_PRIVATE},
};

START_TEST(same_as_kernel)
{
	int fd = unit_model("model", calls[_i].size);
	char *ours = unit_engage(fd, calls[_i].length, calls[_i].prot, calls[_i].flags,
				 calls[_i].offset);
	size_t mapped = stn_round_up(calls[_i].length, page);
	size_t rest = calls[_i].size - calls[_i].offset;
	size_t readable = stn_min(mapped, stn_round_up(rest, page));
	char *theirs;

	ck_assert_uint_eq(unit_cached(fd, calls[_i].size), 0);
	theirs = mmap(NULL, calls[_i].length, calls[_i].prot, calls[_i].flags, fd,
		      (off_t)calls[_i].offset);
	ck_assert_msg(memcmp(ours, theirs, readable) == 0, "%s", calls[_i].name);
	for (size_t at = 0; at<mapped; at += mapped> MIB ? 1000 * page : page)
		ck_assert_int_eq(unit_look(ours + at), unit_look(theirs + at));
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), readable);
	check_settled();
}
END_TEST

/* The place that the program asks for is taken if it is free. */
START_TEST(hint)
{
	int fd = unit_model("model", 300000);
	struct stn_map_call call = unit_call(fd, 300000, RO, MAP_PRIVATE, 0);
	/* Where the kernel puts nothing by itself. */
	char *room = (char *)0x100000000000;
	void *address;
	int error;

	call.address = room;
	ck_assert_int_eq(stn_engage_map(&call, &address, &error), STN_OUTCOME_DONE);
	ck_assert_ptr_eq(address, room);
	ck_assert_int_eq(stn_engage_map(&call, &address, &error), STN_OUTCOME_DONE);
	ck_assert_ptr_ne(address, room);
	ck_assert_uint_eq(unit_pattern_differs(address, 300000, 0), 300000);
}
END_TEST

/* What a descriptor is and how it was opened. */
enum file_kind { MODEL, NO_MODEL, WRITABLE, IN_MEMORY, DIRECTORY, EMPTY };

static int make_file(enum file_kind kind)
{
	int fd;

	switch (kind) {
	case MODEL:
		return unit_model("model", 300000);
	case NO_MODEL:
		return unit_pattern_file("model", 300000);
	case WRITABLE:
		close(unit_model("model", 300000));
		return open("model", O_RDWR);
	case IN_MEMORY:
		fd = memfd_create("model", 0);
		ck_assert_int_eq(ftruncate(fd, 300000), 0);
		unit_declare(fd, "model");
		return open(unit_descriptor(fd), O_RDONLY);
	case DIRECTORY:
		fd = open(".", O_RDONLY);
		unit_declare(fd, "model");
		return fd;
	case EMPTY:
		return unit_model("model", 0);
	}
	return -1;
}

/* Calls that stay the kernel's, and what is said about them; "" = nothing. */
static const struct {
	const char *decision;
	const char *variables[3];
	enum file_kind file;
	int prot, flags;
	uint64_t offset;
} declined[] = {
	{"", {"STSHIM_MODE=always"}, NO_MODEL, RO, MAP_PRIVATE, 0},
	{"declined:off", {"STSHIM_MODE=off"}, MODEL, RO, MAP_PRIVATE, 0},
	{"declined:file-system", {"STSHIM_MODE=auto", "STSHIM_UMA=no"}, MODEL, RO, MAP_PRIVATE, 0},
	{"declined:memory",
	 {"STSHIM_MODE=always", "STSHIM_UMA=no", "STSHIM_MEMORY=290K"},
	 MODEL,
	 RO,
	 MAP_PRIVATE,
	 0},
	{"would-engage:", {"STSHIM_MODE=observe", "STSHIM_FSTYPES=all"}, MODEL, RO, MAP_PRIVATE, 0},
	{"declined:open-for-writing", {"STSHIM_MODE=always"}, WRITABLE, RO, MAP_PRIVATE, 0},
	{"declined:memory-backed", {"STSHIM_MODE=always"}, IN_MEMORY, RO, MAP_PRIVATE, 0},
	{"declined:not-regular", {"STSHIM_MODE=always"}, DIRECTORY, RO, MAP_PRIVATE, 0},
	{"declined:empty", {"STSHIM_MODE=always"}, EMPTY, RO, MAP_PRIVATE, 0},
	{"declined:past-end", {"STSHIM_MODE=always"}, MODEL, RO, MAP_PRIVATE, MIB},
	{"declined:executable", {"STSHIM_MODE=always"}, MODEL, RO | PROT_EXEC, MAP_PRIVATE, 0},
	{"declined:fixed", {"STSHIM_MODE=always"}, MODEL, RO, MAP_PRIVATE | MAP_FIXED, 0},
	{"declined:writable-shared", {"STSHIM_MODE=always"}, MODEL, RW, MAP_SHARED, 0},
	{"declined:no-access", {"STSHIM_MODE=always"}, MODEL, PROT_NONE, MAP_PRIVATE, 0},
};

START_TEST(left_to_kernel)
{
	struct stn_map_call call;
	void *address = NULL;
	int error = 0, fd;

	unit_configure(declined[_i].variables[0], declined[_i].variables[1],
		       declined[_i].variables[2], NULL);
	fd = make_file(declined[_i].file);
	call = unit_call(fd, 300000, declined[_i].prot, declined[_i].flags, declined[_i].offset);
	ck_assert_int_eq(stn_engage_map(&call, &address, &error), STN_OUTCOME_KERNEL);
	if (*declined[_i].decision)
		ck_assert_msg(unit_last_decision(declined[_i].decision), "%s", unit_last_line());
	else
		ck_assert_str_eq(unit_last_line(), "");
	ck_assert(stn_region_none());
	ck_assert_int_eq(unit_maps_of("model"), 0);
	ck_assert_ptr_null(address);
}
END_TEST

/* On unified memory what is declined for want of memory counts, since its copy is still to come. */
START_TEST(counted)
{
	int fd = unit_model("model", 300000);
	struct stn_map_call call = unit_call(fd, 300000, RO, MAP_PRIVATE, 0);
	void *address;
	int error;

	unit_configure("STSHIM_UMA=yes", "STSHIM_MEMORY=0", NULL);
	ck_assert_int_eq(stn_engage_map(&call, &address, &error), STN_OUTCOME_KERNEL_COUNTED);
	ck_assert(unit_last_decision("declined:memory"));
	ck_assert_ptr_nonnull(strstr(unit_last_line(), "STSHIM_MEMORY: "));
	address = mmap(NULL, 300000, RO, MAP_PRIVATE, fd, 0);
	stn_engage_count(address, 300000);
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_DECLINED), stn_round_up(300000, page));
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), 0);
}
END_TEST

/* On unified memory auto engages wherever the file is, and leaves no page of it cached. */
START_TEST(unified)
{
	int fd = unit_model("model", 300000);
	char *byte = unit_memory(1);

	unit_configure("STSHIM_UMA=yes", NULL);
	ck_assert_int_eq(pread(fd, byte, 1, 0), 1);
	ck_assert_uint_gt(unit_cached(fd, 300000), 0);
	unit_engage(fd, 300000, RO, MAP_PRIVATE, 0);
	ck_assert_uint_eq(unit_cached(fd, 300000), 0);
}
END_TEST

/* Twice a file and not more, until it is another version. */
START_TEST(reread)
{
	int fd = unit_model("model", 300000);
	struct stn_map_call call = unit_call(fd, 300000, RO, MAP_PRIVATE, 0);
	void *address;
	int error;

	for (int version = 0; version < 2; version++) {
		for (int i = 0; i < 2; i++)
			unit_engage(fd, 300000, RO, MAP_PRIVATE, 0);
		ck_assert_int_eq(stn_engage_map(&call, &address, &error), STN_OUTCOME_KERNEL);
		ck_assert(unit_last_decision("declined:reread"));
		ck_assert_int_eq(truncate("model", 300000), 0);
	}
	check_settled();
}
END_TEST

/* Maps a file once; returns the outcome. */
static void *map_once(void *argument)
{
	struct stn_map_call call = unit_call(*(int *)argument, 4 * MIB, RO, MAP_PRIVATE, 0);
	void *address;
	int error;

	return (void *)(uintptr_t)(stn_engage_map(&call, &address, &error) == STN_OUTCOME_DONE);
}

/* Threads that map at the same moment see each other: of five just so many are engaged. */
static const struct {
	const char *variable;
	bool same_file;
	uintptr_t engaged;
} races[] = {
	{"STSHIM_MEMORY=auto", true, 2},
	{"STSHIM_MEMORY=6M", false, 1},
	{"STSHIM_MEMORY=14M", false, 3},
};

START_TEST(at_once)
{
	uintptr_t engaged = 0;
	pthread_t threads[5];
	char name[16];
	int fds[5];
	void *rc;

	unit_configure("STSHIM_MODE=always", "STSHIM_UMA=no", "STSHIM_FILL=eager",
		       races[_i].variable, NULL);
	for (int i = 0; i < 5; i++) {
		snprintf(name, sizeof(name), "model%d", i);
		fds[i] = i && races[_i].same_file ? fds[0] : unit_model(name, 4 * MIB);
	}
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, map_once, &fds[i]), 0);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &rc), 0);
		engaged += (uintptr_t)rc;
	}
	ck_assert_uint_eq(engaged, races[_i].engaged);
	ck_assert_uint_eq(stn_region_bytes(STN_REGION_ENGAGED), engaged * 4 * MIB);
	check_settled();
}
END_TEST

/* From here on nothing may be locked in memory. */
static void forbid_locking(void)
{
	const struct rlimit none = {0, 0};
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2];

	ck_assert_int_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
	ck_assert_int_eq((int)syscall(SYS_capget, &header, data), 0);
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	ck_assert_int_eq((int)syscall(SYS_capset, &header, data), 0);
}

static const struct {
	const char *variable;
	int flags;
	enum stn_outcome outcome;
} locks[] = {
	{"STSHIM_MLOCK=off", MAP_PRIVATE, STN_OUTCOME_DONE},
	{"STSHIM_MLOCK=try", MAP_PRIVATE, STN_OUTCOME_DONE},
	{"STSHIM_MLOCK=require", MAP_PRIVATE, STN_OUTCOME_FAILED},
	{"STSHIM_MLOCK=off", MAP_PRIVATE | MAP_LOCKED, STN_OUTCOME_KERNEL},
	{"STSHIM_MLOCK=try", MAP_PRIVATE | MAP_LOCKED, STN_OUTCOME_KERNEL},
};

START_TEST(locking_refused)
{
	int fd = unit_model("model", 300000), error = 0;
	struct stn_map_call call = unit_call(fd, 300000, RO, locks[_i].flags, 0);
	bool done = locks[_i].outcome == STN_OUTCOME_DONE;
	void *address;

	unit_configure("STSHIM_MODE=always", locks[_i].variable, NULL);
	forbid_locking();
	ck_assert_int_eq(stn_engage_map(&call, &address, &error), locks[_i].outcome);
	if (locks[_i].outcome == STN_OUTCOME_FAILED)
		ck_assert(error == EPERM || error == ENOMEM || error == EAGAIN);
	ck_assert_int_eq(stn_region_none(), !done);
	ck_assert_int_eq(unit_maps_of("model"), done);
	check_settled();
}
END_TEST

/* The descriptor's own errors are the kernel's to give. */
START_TEST(bad_descriptor)
{
	struct stn_map_call call = unit_call(-1, 300000, RO, MAP_PRIVATE, 0);
	void *address;
	int error;

	ck_assert_int_eq(stn_engage_map(&call, &address, &error), STN_OUTCOME_KERNEL);
	unit_model("model", 300000);
	call.fd = 999;
	ck_assert_int_eq(stn_engage_map(&call, &address, &error), STN_OUTCOME_KERNEL);
	ck_assert_str_eq(unit_last_line(), "");
}
END_TEST

static const struct {
	const char *variables[2];
	enum file_kind file;
	bool covers;
} coverings[] = {
	{{"STSHIM_MODE=always"}, MODEL, true},
	{{"STSHIM_MODE=auto", "STSHIM_FSTYPES=all"}, MODEL, true},
	{{"STSHIM_MODE=auto", "STSHIM_FSTYPES=fuse"}, MODEL, false},
	{{"STSHIM_MODE=always"}, NO_MODEL, false},
	{{"STSHIM_MODE=always"}, WRITABLE, false},
	{{"STSHIM_MODE=always"}, IN_MEMORY, false},
	{{"STSHIM_MODE=observe", "STSHIM_FSTYPES=all"}, MODEL, false},
	{{"STSHIM_MODE=off"}, MODEL, false},
};

START_TEST(covers)
{
	int fd = make_file(coverings[_i].file);

	unit_configure(coverings[_i].variables[0], coverings[_i].variables[1], NULL);
	ck_assert_int_eq(stn_engage_covers(fd), coverings[_i].covers);
	ck_assert_int_eq(stn_engage_covers(-1), false);
	ck_assert_uint_eq(unit_threads(), 1);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("engage");
	TCase *tcase = unit_case_in_dir(suite, "engaged", 20);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_loop_test(tcase, same_as_kernel, 0, COUNT(calls));
	tcase_add_test(tcase, hint);
	tcase_add_test(tcase, unified);
	tcase_add_test(tcase, reread);
	tcase_add_loop_test(tcase, at_once, 0, COUNT(races));
	tcase = unit_case_in_dir(suite, "declined", 20);
	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_loop_test(tcase, left_to_kernel, 0, COUNT(declined));
	tcase_add_test(tcase, counted);
	tcase_add_loop_test(tcase, locking_refused, 0, COUNT(locks));
	tcase_add_test(tcase, bad_descriptor);
	tcase_add_loop_test(tcase, covers, 0, COUNT(coverings));
	return suite;
}
