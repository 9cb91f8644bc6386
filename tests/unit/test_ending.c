/* SPDX-License-Identifier: Apache-2.0 */
#include "ending.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "page.h"
#include "unit.h"

/* Some pages and a bit, all zeros. */
static char memory[(256 << 10) + 17];

static struct stn_model model;
static struct stn_ending ending;
static size_t page;

/* Of a buffered descriptor io_submit reads at once, and as much as there is. */
static void set_up(void)
{
	page = stn_page_size();
	unit_write("zeros", memory, sizeof(memory));
	ending = (struct stn_ending){.fd = open("zeros", O_RDONLY),
				     .model = &model,
				     .size = sizeof(memory),
				     .memory = memory,
				     .bytes = sizeof(memory)};
	ck_assert_int_ge(ending.fd, 0);
}

static void tear_down(void)
{
	close(ending.fd);
}

static void end_file_at(size_t size)
{
	ck_assert_int_eq(truncate("zeros", (off_t)size), 0);
}

/* Zeros that the file has are believed, and the file is asked for its last byte only once. */
START_TEST(own_zeros)
{
	ck_assert(stn_ending_is_there(&ending));
	ck_assert(atomic_load(&model.whole));
	end_file_at(0);
	ck_assert(stn_ending_is_there(&ending));
	atomic_store(&model.whole, false);
	ck_assert(!stn_ending_is_there(&ending));
}
END_TEST

/* A file that is not remembered is asked each time. */
START_TEST(without_model)
{
	ending.model = NULL;
	ck_assert(stn_ending_is_there(&ending));
	end_file_at(sizeof(memory) - 1);
	ck_assert(!stn_ending_is_there(&ending));
}
END_TEST

/* Of a file that ends early what lies before that is there. */
START_TEST(early_end)
{
	const struct {
		uint64_t offset, bytes;
		bool there;
	} reads[] = {
		{0, sizeof(memory), false}, {0, page, true},
		{page, page, true},	    {page, 2 * page, false},
		{2 * page, page, false},    {sizeof(memory) - 17, 17, false},
	};

	end_file_at(2 * page);
	for (int i = 0; i < COUNT(reads); i++) {
		ending.offset = reads[i].offset;
		ending.bytes = reads[i].bytes;
		ck_assert_msg(stn_ending_is_there(&ending) == reads[i].there, "%d", i);
	}
	ck_assert(!atomic_load(&model.whole));
}
END_TEST

/* The same of a piece of a read, wherever it begins. */
START_TEST(piece)
{
	const size_t lengths[] = {1, 2, 512, page - 1, page, page + 1};

	end_file_at(2 * page);
	for (int i = 0; i < COUNT(lengths); i++) {
		ending.bytes = lengths[i];
		ending.offset = 2 * page - lengths[i];
		ck_assert(stn_ending_is_there(&ending));
		ending.offset++;
		ck_assert(!stn_ending_is_there(&ending));
	}
}
END_TEST

/* The end is found to the byte; what lies behind the range is not looked for. */
START_TEST(find)
{
	const size_t ends[] = {1, page - 1, page, page + 1, 3 * page + 5, sizeof(memory)};

	ck_assert_uint_eq(stn_ending_find(ending.fd, 0, sizeof(memory)), sizeof(memory));
	ck_assert_uint_eq(stn_ending_find(-1, 5, sizeof(memory)), sizeof(memory));
	for (int i = COUNT(ends) - 1; i >= 0; i--) {
		end_file_at(ends[i]);
		ck_assert_uint_eq(stn_ending_find(ending.fd, 0, sizeof(memory)), ends[i]);
		ck_assert_uint_eq(stn_ending_find(ending.fd, 0, 1), 1);
		ck_assert_uint_eq(stn_ending_find(ending.fd, ends[i] - 1, ends[i]), ends[i]);
		ck_assert_uint_eq(stn_ending_find(ending.fd, ends[i], ends[i] + 1), ends[i]);
		ck_assert_uint_eq(stn_ending_find(ending.fd, ends[i] + 5, ends[i] + 9),
				  ends[i] + 5);
	}
}
END_TEST

/* One byte of the last page that is not zero is the file's. */
START_TEST(not_zero)
{
	const size_t last = stn_round_down(sizeof(memory) - 1, page);

	end_file_at(0);
	for (size_t at = last; at < sizeof(memory); at++) {
		memory[at] = 1;
		ck_assert(stn_ending_is_there(&ending));
		memory[at] = 0;
	}
	memory[last - 1] = 1;
	ck_assert(!stn_ending_is_there(&ending));
}
END_TEST

/* Where the file cannot be read what has been read is believed. */
START_TEST(cannot_be_asked)
{
	int fd = ending.fd;

	end_file_at(0);
	ending.fd = -1;
	ck_assert(stn_ending_is_there(&ending));
	ending.fd = fd;
}
END_TEST

/* Under a seccomp filter that kills for io_setup the answers are the same. */
START_TEST(filtered)
{
	struct sock_filter refuse[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {COUNT(refuse), refuse};

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
	ck_assert(stn_ending_is_there(&ending));
	atomic_store(&model.whole, false);
	end_file_at(page + 5);
	ck_assert(!stn_ending_is_there(&ending));
	ck_assert_uint_eq(stn_ending_find(ending.fd, 0, sizeof(memory)), page + 5);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("ending");
	TCase *tcase = unit_case_in_dir(suite, "ending", 10);

	tcase_add_checked_fixture(tcase, set_up, tear_down);
	tcase_add_test(tcase, own_zeros);
	tcase_add_test(tcase, without_model);
	tcase_add_test(tcase, early_end);
	tcase_add_test(tcase, piece);
	tcase_add_test(tcase, find);
	tcase_add_test(tcase, not_zero);
	tcase_add_test(tcase, cannot_be_asked);
	tcase_add_test(tcase, filtered);
	return suite;
}
