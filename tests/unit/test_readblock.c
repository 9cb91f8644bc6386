/* SPDX-License-Identifier: Apache-2.0 */
/* Small reads from blocks that are read ahead. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "readblock.h"
#include "engaged.h"
#include "process.h"
#include "unit.h"

#define SIZE (6 * MIB + 5)

static const struct {
	uint64_t next, size; /* of the block's reader */
	uint64_t offset, length, expected;
} sizes[] = {
	/* Another reader. */
	{0, 512 * KIB, 100 * MIB, 30, 64 * KIB},
	{UINT64_MAX, 64 * KIB, 0, 8, 64 * KIB},
	{5 * MIB, MIB, 5 * MIB - 1, 8, 64 * KIB},
	{5 * MIB, MIB, 5 * MIB + 64 * KIB + 1, 8, 64 * KIB},
	/* The one who goes on, or skips a little. */
	{5 * MIB, 64 * KIB, 5 * MIB, 8, 128 * KIB},
	{5 * MIB, 64 * KIB, 5 * MIB + 64 * KIB, 8, 128 * KIB},
	{5 * MIB, 128 * KIB, 5 * MIB, 300 * KIB, 320 * KIB},
	{5 * MIB, 512 * KIB, 5 * MIB, 8, MIB},
	{5 * MIB, MIB, 5 * MIB, MIB - 1, MIB},
};

START_TEST(size)
{
	const struct stn_readblock block = {.next = sizes[_i].next, .size = sizes[_i].size};

	ck_assert_uint_eq(stn_readblock_size(&block, sizes[_i].offset, sizes[_i].length),
			  sizes[_i].expected);
}
END_TEST

static int fd;
static char *memory;

static void set_up(void)
{
	unit_configure("STSHIM_MODE=always", NULL);
	fd = unit_model("model.safetensors", SIZE);
	memory = unit_memory(2 * MIB);
	ck_assert_ptr_nonnull(stn_process_get());
}

static struct stn_range range_of(uint64_t offset, uint64_t length)
{
	return (struct stn_range){
		.process = stn_process_get(),
		.fd = fd,
		.identity = unit_identity(fd),
		.fuse = true,
		.owner = geteuid(),
		.memory = memory,
		.offset = offset,
		.length = length,
		.patient = true,
	};
}

/* Reads a range that must be had; the bytes that were read for it. */
static uint64_t read_range(uint64_t offset, uint64_t length)
{
	struct stn_range range = range_of(offset, length);

	memset(memory, 0xee, length + 1);
	ck_assert_int_eq(stn_range_read(&range), (int64_t)length);
	ck_assert_uint_eq(unit_pattern_differs(memory, length, offset), length);
	ck_assert_int_eq((unsigned char)memory[length], 0xee);
	ck_assert_int_eq(range.failure, 0);
	return range.direct_bytes + range.buffered_bytes;
}

/* From front to back in small pieces: each byte is read once, in fewer and fewer reads. */
START_TEST(front_to_back)
{
	uint64_t length = _i ? 70001 : 4096, sum = 0, reads = 0;

	for (uint64_t at = 0; at < SIZE; at += length) {
		uint64_t got = read_range(at, length < SIZE - at ? length : SIZE - at);

		sum += got;
		reads += got > 0;
	}
	ck_assert_uint_ge(sum, SIZE);
	ck_assert_uint_le(sum, SIZE + 64 * KIB);
	ck_assert_uint_le(reads, 16);
}
END_TEST

/* All over the file: 64 KiB at most each. */
START_TEST(random_reads)
{
	for (int i = 0; i < 75; i++)
		ck_assert_uint_le(read_range((uint64_t)(i * 37 % 75) * 80000, 30 + (unsigned)i),
				  128 * KIB);
}
END_TEST

/* Several readers at once do not drive each other's blocks out. */
START_TEST(readers)
{
	uint64_t sum = 0;

	for (uint64_t at = 0; at < MIB; at += 16 * KIB)
		for (uint64_t reader = 0; reader < 5; reader++)
			sum += read_range(reader * (MIB + 64 * KIB) + at, 16 * KIB);
	/* A block that was read for a reader who stops soon is lost. */
	ck_assert_uint_le(sum, 15 * MIB);
}
END_TEST

/* What needs no block is read directly, and its reader is known afterwards. */
START_TEST(medium)
{
	ck_assert_uint_eq(read_range(0, 128 * KIB), 128 * KIB);
	ck_assert_uint_eq(read_range(128 * KIB, 128 * KIB), 256 * KIB);
	ck_assert_uint_eq(read_range(256 * KIB, 128 * KIB), 0);
	ck_assert_uint_eq(read_range(384 * KIB, 128 * KIB), 512 * KIB);
	ck_assert_uint_eq(read_range(3 * MIB, MIB), MIB);
}
END_TEST

/* Another version of the file: no block is good for it. */
START_TEST(new_version)
{
	char text[100];
	int writer = open("model.safetensors", O_WRONLY | O_CLOEXEC);

	read_range(0, 100);
	ck_assert_uint_eq(read_range(100, 100), 0);
	memset(text, 'x', sizeof(text));
	usleep(20000);
	ck_assert_int_eq(pwrite(writer, text, sizeof(text), 100), sizeof(text));
	close(writer);
	{
		struct stn_range range = range_of(100, 100);

		ck_assert_int_eq(stn_range_read(&range), 100);
		ck_assert_int_eq(memcmp(memory, text, sizeof(text)), 0);
	}
}
END_TEST

/* Memory that is bad from some byte on: what fits, then the error. */
START_TEST(bad_memory)
{
	struct stn_range range = range_of(0, 10000);

	mprotect(memory + 4096, 65536, PROT_NONE);
	ck_assert_int_eq(stn_range_read(&range), 4096);
	ck_assert_uint_eq(unit_pattern_differs(memory, 4096, 0), 4096);
	range = range_of(5, 100);
	range.memory = memory + 4096;
	ck_assert_int_eq(stn_range_read(&range), -EFAULT);
	range.memory = NULL;
	ck_assert_int_eq(stn_range_read(&range), -EFAULT);
	ck_assert_uint_eq(stn_process_get()->readblocks->blocks[0].users, 0);
}
END_TEST

/* A child begins with no blocks. */
START_TEST(child)
{
	int pid;

	read_range(0, 100);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		stn_process_forget();
		_exit(read_range(0, 100) == 64 * KIB ? 7 : 8);
	}
	ck_assert_int_eq(unit_reap(pid), 7);
	ck_assert_uint_eq(read_range(0, 100), 0);
}
END_TEST

/* A descriptor that is another file's by now is not read in its place. */
START_TEST(other_descriptor)
{
	struct stn_range range = range_of(0, 2 * MIB - 1);
	int other = unit_pattern_file("other", SIZE);

	ck_assert_int_eq(dup2(other, fd), fd);
	ck_assert_int_eq(stn_range_read(&range), -EBADF);
	range.length = 100;
	ck_assert_int_eq(stn_range_read(&range), -EBADF);
	ck_assert_int_eq(range.failure, -ESTALE);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("readblock");
	TCase *tcase = unit_case(suite, "size", 5);

	tcase_add_loop_test(tcase, size, 0, COUNT(sizes));
	tcase = unit_case_in_dir(suite, "reads", 20);
	tcase_add_checked_fixture(tcase, set_up, NULL);
	tcase_add_loop_test(tcase, front_to_back, 0, 2);
	tcase_add_test(tcase, random_reads);
	tcase_add_test(tcase, readers);
	tcase_add_test(tcase, medium);
	tcase_add_test(tcase, new_version);
	tcase_add_test(tcase, bad_memory);
	tcase_add_test(tcase, child);
	tcase_add_test(tcase, other_descriptor);
	return suite;
}
