/* SPDX-License-Identifier: Apache-2.0 */
/* A program whose library has mapped the file before main: the map is used, and the file mapped
 * again. */
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"

extern unsigned char *early_map;
extern size_t early_size;
extern int early_fd;

/* Uses what the constructor of early.c has left. */
static void mapped_early(const char *path)
{
	unsigned char *again;

	print_sum("early", early_map, early_size);
	print_rc("drop", madvise(early_map, early_size, MADV_DONTNEED));
	print_sum("early", early_map, early_size);
	again = mmap(NULL, early_size, PROT_READ, MAP_PRIVATE, early_fd, 0);
	print_sum("early descriptor", again, early_size);
	print_rc("munmap", munmap(early_map, early_size));
	say("later: %016llx", (unsigned long long)load_sum(path));
}

static const struct test_case cases[] = {
	{"mapped-early", mapped_early},
};
CASES_MAIN(cases)
