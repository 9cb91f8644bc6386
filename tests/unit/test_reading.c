/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of read and its like: what is served, and the kernel's own results. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engaged.h"
#include "fs.h"
#include "reading.h"
#include "unit.h"

#define SIZE (3 * MIB + 5)
#define KEPT (-12345) /* the call is left to the kernel */

static int fd;
static char *memory;
static struct stn_model *model;

static void set_up(void)
{
	struct stn_identity identity;

	unit_configure("STSHIM_MODE=always", "STSHIM_READ_MIN=64K", NULL);
	fd = unit_model("model.safetensors", SIZE);
	identity = unit_identity(fd);
	model = stn_names_find(identity.device, identity.inode);
	memory = unit_memory(4 * MIB);
}

/* The file is said to be on FUSE, where requests of every size are served. */
static void set_up_fuse(void)
{
	set_up();
	atomic_store(&model->file_system, STN_FS_FUSE);
}

static ssize_t serve(const struct stn_read_call *call)
{
	ssize_t result;

	return stn_reading_serve(call, &result) ? result : KEPT;
}

static ssize_t serve_read(void *to, size_t length)
{
	const struct iovec piece = {to, length};
	const struct stn_read_call call = {.fd = fd, .trusted = true, .pieces = &piece, .count = 1};

	return serve(&call);
}

static ssize_t serve_pread(void *to, size_t length, int64_t offset)
{
	const struct iovec piece = {to, length};
	const struct stn_read_call call = {.fd = fd,
					   .positioned = true,
					   .trusted = true,
					   .offset = offset,
					   .pieces = &piece,
					   .count = 1};

	return serve(&call);
}

static int64_t where(void)
{
	return lseek(fd, 0, SEEK_CUR);
}

/* From front to back: the position moves on, the end is short, and behind it is the kernel's. */
START_TEST(front_to_back)
{
	uint64_t length = _i ? 200000 : 4097, at = 0;

	while (at < SIZE) {
		uint64_t expected = length < SIZE - at ? length : SIZE - at;

		if (!_i && at > 200 * length)
			break;
		ck_assert_int_eq(serve_read(memory, length), (ssize_t)expected);
		ck_assert_uint_eq(unit_pattern_differs(memory, expected, at), expected);
		at += expected;
		ck_assert_int_eq(where(), (int64_t)at);
	}
	lseek(fd, SIZE, SEEK_SET);
	ck_assert_int_eq(serve_read(memory, 100), KEPT);
	lseek(fd, SIZE + 100, SEEK_SET);
	ck_assert_int_eq(serve_read(memory, 100), KEPT);
	ck_assert_int_eq(where(), SIZE + 100);
}
END_TEST

/* What is asked for is more than there is, or than there can be. */
START_TEST(too_much)
{
	const size_t lengths[] = {SIZE + 1, 4 * MIB, (size_t)1 << 31};

	lseek(fd, 7, SEEK_SET);
	ck_assert_int_eq(serve_read(memory, lengths[_i]), (ssize_t)(SIZE - 7));
	ck_assert_uint_eq(unit_pattern_differs(memory, SIZE - 7, 7), SIZE - 7);
	ck_assert_int_eq(where(), SIZE);
	ck_assert_int_eq(serve_pread(memory, lengths[_i], 8), (ssize_t)(SIZE - 8));
	ck_assert_int_eq(where(), SIZE);
}
END_TEST

/* What the kernel refuses, or has nothing to do for, is the kernel's. */
START_TEST(odd_calls)
{
	struct iovec pieces[3] = {{memory, 100000}, {NULL, 0}, {memory + MIB, 100000}};
	struct stn_read_call call = {.fd = fd, .pieces = pieces, .count = 3};

	ck_assert_int_eq(serve_read(memory, 0), KEPT);
	ck_assert_int_eq(serve_read(memory, SIZE_MAX), KEPT);
	ck_assert_int_eq(serve_read((void *)-1, 100000), KEPT);
	ck_assert_int_eq(serve_pread(memory, 100000, -1), KEPT);
	ck_assert_int_eq(serve_pread(memory, 100000, INT64_MAX), KEPT);
	ck_assert_int_eq(serve_pread(memory, 100000, SIZE), KEPT);
	ck_assert_int_eq(serve(&call), 200000);
	call.count = 0;
	ck_assert_int_eq(serve(&call), KEPT);
	call.count = -1;
	ck_assert_int_eq(serve(&call), KEPT);
	call.count = 1025;
	ck_assert_int_eq(serve(&call), KEPT);
	call.count = 3;
	pieces[1].iov_len = (size_t)-1;
	ck_assert_int_eq(serve(&call), KEPT);
	call.pieces = (const struct iovec *)16;
	ck_assert_int_eq(serve(&call), KEPT);
	call.fd = -1;
	ck_assert_int_eq(serve(&call), KEPT);
	call.fd = 1000;
	ck_assert_int_eq(serve(&call), KEPT);
	ck_assert_int_eq(where(), 200000);
}
END_TEST

/* Into many pieces of all sizes. */
START_TEST(pieces)
{
	struct iovec list[200];
	struct stn_read_call call = {.fd = fd, .pieces = list, .count = COUNT(list)};
	uint64_t sum = 0, at = 3;

	for (int i = 0; i < COUNT(list); i++) {
		list[i].iov_len = (size_t)(i * 131 % 9000);
		list[i].iov_base = memory + sum + (uint64_t)i;
		sum += list[i].iov_len;
	}
	lseek(fd, 3, SEEK_SET);
	ck_assert_int_eq(serve(&call), (ssize_t)sum);
	ck_assert_int_eq(where(), (int64_t)sum + 3);
	for (int i = 0; i < COUNT(list); at += list[i++].iov_len)
		ck_assert_uint_eq(unit_pattern_differs(list[i].iov_base, list[i].iov_len, at),
				  list[i].iov_len);
}
END_TEST

/* Bad memory: what fits and the position behind it, or the error and the position as it was. */
START_TEST(bad_memory)
{
	char *end = memory + 2 * MIB;

	mprotect(end, 64 * KIB, PROT_NONE);
	lseek(fd, 5, SEEK_SET);
	ck_assert_int_eq(serve_read(end, 100000), -EFAULT);
	ck_assert_int_eq(where(), 5);
	ck_assert_int_eq(serve_read(end - 777, 100000), 777);
	ck_assert_int_eq(where(), 782);
	ck_assert_uint_eq(unit_pattern_differs(end - 777, 777, 5), 777);
	ck_assert_int_eq(serve_pread(end - MIB, 2 * MIB, 9), MIB);
	ck_assert_uint_eq(unit_pattern_differs(end - MIB, MIB, 9), MIB);
	ck_assert_int_eq(where(), 782);
}
END_TEST

/* Descriptors that are the kernel's, whatever the file. */
START_TEST(descriptors)
{
	const int flags[] = {O_RDWR, O_WRONLY, O_PATH, O_RDONLY | O_DIRECT};

	close(fd);
	fd = open("model.safetensors", flags[_i] | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(serve_read(memory, 100000), KEPT);
	ck_assert_int_eq(serve_pread(memory, 100000, 0), KEPT);
	ck_assert(!stn_reading_covers(fd));
	if (flags[_i] == O_RDWR)
		ck_assert(unit_last_decision("declined:open-for-writing"));
	else
		ck_assert_str_eq(unit_last_line(), "");
}
END_TEST

START_TEST(not_a_model)
{
	fd = unit_pattern_file("other", SIZE);
	ck_assert_int_eq(serve_read(memory, 100000), KEPT);
	ck_assert(!stn_reading_covers(fd));
	ck_assert_str_eq(unit_last_line(), "");
}
END_TEST

/* A number that was another file's until now. */
START_TEST(number_again)
{
	int model_fd = fd;

	fd = unit_pattern_file("other", SIZE);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(serve_read(memory, 100000), KEPT);
	dup2(model_fd, fd);
	unit_declare(fd, "model.safetensors");
	ck_assert_int_eq(serve_read(memory, 100000), 100000);
	ck_assert_uint_eq(unit_pattern_differs(memory, 100000, 0), 100000);
}
END_TEST

/* Where a mapping would not be engaged no read is served, and the log says why, once. */
static const struct {
	const char *mode, *least, *cache;
	size_t length;
	ssize_t result;
	const char *decision;
} decisions[] = {
	{"STSHIM_MODE=auto", "STSHIM_UMA=no", "STSHIM_CACHE=auto", 200000, KEPT,
	 "declined:file-system"},
	{"STSHIM_MODE=auto", "STSHIM_UMA=yes", "STSHIM_CACHE=auto", 2 * MIB, 2 * MIB, "engaged:"},
	{"STSHIM_MODE=observe", "STSHIM_FSTYPES=all", "STSHIM_CACHE=auto", 2 * MIB, KEPT,
	 "would-engage:"},
	{"STSHIM_MODE=always", "STSHIM_READ_MIN=off", "STSHIM_CACHE=auto", 2 * MIB, KEPT, ""},
	{"STSHIM_MODE=always", "STSHIM_READ_MIN=1M", "STSHIM_CACHE=auto", MIB - 1, KEPT, ""},
	{"STSHIM_MODE=always", "STSHIM_READ_MIN=1M", "STSHIM_CACHE=auto", MIB, MIB, "engaged:"},
};

START_TEST(decided)
{
	unit_configure(decisions[_i].mode, decisions[_i].least, decisions[_i].cache, NULL);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(serve_pread(memory, decisions[_i].length, 0),
				 decisions[_i].result);
	if (*decisions[_i].decision)
		ck_assert(unit_last_decision(decisions[_i].decision));
	else
		ck_assert_str_eq(unit_last_line(), "");
}
END_TEST

/* A file that the page cache has is the kernel's to copy; on FUSE it is not, and not where the page
 * cache is to be rid of it. */
START_TEST(cached)
{
	ck_assert_int_eq(pread(fd, memory, SIZE, 0), SIZE);
	if (_i == 1)
		atomic_store(&model->file_system, STN_FS_FUSE);
	if (_i == 2)
		unit_configure("STSHIM_MODE=always", "STSHIM_CACHE=drop", NULL);
	ck_assert_int_eq(serve_pread(memory, 2 * MIB, 0), _i == 0 ? KEPT : (ssize_t)(2 * MIB));
	ck_assert(unit_last_decision(_i == 0 ? "declined:cached" : "engaged:"));
}
END_TEST

/* Off FUSE a version is read twice at most; on FUSE as often as the program likes. */
START_TEST(again)
{
	if (_i)
		atomic_store(&model->file_system, STN_FS_FUSE);
	for (int i = 0; i < 5; i++)
		ck_assert_int_eq(serve_pread(memory, SIZE, 0), i < 2 || _i ? (ssize_t)SIZE : KEPT);
	ck_assert(unit_last_decision(_i ? "engaged:" : "declined:reread"));
}
END_TEST

static int noted;

static void note_call(void)
{
	noted++;
}

/* The edge is told before anything is read, and only then. */
START_TEST(told_before)
{
	struct iovec piece = {memory, 100000};
	struct stn_read_call call = {
		.fd = fd, .trusted = true, .pieces = &piece, .count = 1, .about_to = note_call};

	ck_assert_int_eq(serve(&call), 100000);
	ck_assert_int_eq(noted, 1);
	piece.iov_len = 0;
	ck_assert_int_eq(serve(&call), KEPT);
	ck_assert_int_eq(noted, 1);
}
END_TEST

/* Threads that read through one descriptor get all of the file, each byte once. */
static void *read_all(void *sums)
{
	uint64_t *sum = sums;
	char *to = unit_memory(100000);
	ssize_t got;

	for (;;) {
		const struct iovec piece = {to, 99991};
		const struct stn_read_call call = {
			.fd = fd, .trusted = true, .pieces = &piece, .count = 1};

		got = serve(&call);
		if (got == KEPT)
			got = read(fd, to, 99991);
		if (got <= 0)
			return NULL;
		*sum += (uint64_t)got;
	}
}

START_TEST(shared_descriptor)
{
	pthread_t threads[4];
	uint64_t sums[4] = {0};

	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, read_all, &sums[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	ck_assert_uint_eq(sums[0] + sums[1] + sums[2] + sums[3], SIZE);
	ck_assert_int_eq(where(), SIZE);
}
END_TEST

/* Adds the tests of what is alike on FUSE and elsewhere. */
static void add_calls(TCase *tcase, bool fuse)
{
	tcase_add_loop_test(tcase, front_to_back, fuse ? 0 : 1, 2);
	tcase_add_loop_test(tcase, too_much, 0, 3);
	tcase_add_test(tcase, odd_calls);
	tcase_add_test(tcase, pieces);
	tcase_add_test(tcase, bad_memory);
	tcase_add_loop_test(tcase, descriptors, 0, 4);
	tcase_add_test(tcase, not_a_model);
	tcase_add_test(tcase, number_again);
	tcase_add_test(tcase, told_before);
	tcase_add_test(tcase, shared_descriptor);
}

Suite *unit_suite(void)
{
	Suite *suite = suite_create("reading");
	TCase *tcase = unit_case_in_dir(suite, "disk", 20);

	tcase_add_checked_fixture(tcase, set_up, NULL);
	add_calls(tcase, false);
	tcase_add_loop_test(tcase, decided, 0, COUNT(decisions));
	tcase_add_loop_test(tcase, cached, 0, 3);
	tcase_add_loop_test(tcase, again, 0, 2);
	tcase = unit_case_in_dir(suite, "fuse", 20);
	tcase_add_checked_fixture(tcase, set_up_fuse, NULL);
	add_calls(tcase, true);
	return suite;
}
