/* SPDX-License-Identifier: Apache-2.0 */
/* A library whose constructor opens and maps the file named by MODEL before main starts. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

unsigned char *early_map;
size_t early_size;
int early_fd = -1;

/* Leaves the map and the descriptor to the program. */
__attribute__((constructor)) static void map_early(void)
{
	const char *path = getenv("MODEL");
	struct stat found;

	if (!path)
		return;
	early_fd = open(path, O_RDONLY);
	if (early_fd < 0 || fstat(early_fd, &found) < 0)
		_exit(5);
	early_size = (size_t)found.st_size;
	early_map = mmap(NULL, early_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, early_fd, 0);
	if (early_map == MAP_FAILED)
		_exit(6);
	early_map[0] ^= 0xff;
	if (madvise(early_map, 4096, MADV_DONTNEED) < 0)
		_exit(7);
}
