/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the program's own at addresses where a file was mapped: by MAP_FIXED, or behind libc's
 * back. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"

/* Puts anonymous memory over a range with libc's mmap; fails the program if refused. */
static void cover(unsigned char *at, size_t length)
{
	if (mmap(at, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1,
		 0) != at)
		fail("MAP_FIXED: %s", strerror(errno));
}

/* The same with a raw system call, which no library sees. */
static void cover_raw(unsigned char *at, size_t length)
{
	if (syscall(SYS_mmap, at, length, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != (long)at)
		fail("raw MAP_FIXED: %s", strerror(errno));
}

/* What madvise, mprotect, msync, mlock and munmap do to own memory in the middle of a map. */
static void use_covered(unsigned char *p, size_t size, unsigned char *own, size_t length)
{
	size_t step = page_size();

	print_pages("covered", p, size);
	memset(own, 0x5a, length);
	print_pages("stored", p, size);
	print_rc("drop across", madvise(own - 4 * step, length + 8 * step, MADV_DONTNEED));
	print_pages("dropped", p, size);
	memset(own, 0x5b, length);
	print_rc("free", madvise(own, step, MADV_FREE));
	own[0] = 0x5c;
	print_rc("wipeonfork", madvise(own, length, MADV_WIPEONFORK));
	print_rc("keeponfork", madvise(own, length, MADV_KEEPONFORK));
	print_rc("read across", mprotect(own - 4 * step, length + 8 * step, PROT_READ));
	print_store("store", own);
	print_rc("write", mprotect(own, length, PROT_READ | PROT_WRITE));
	print_store("store", own);
	print_rc("mlock", mlock(own - step, length + 2 * step));
	print_rc("munlock", munlock(own - step, length + 2 * step));
	print_rc("msync", msync(own - step, length + 2 * step, MS_SYNC));
	print_read("own", own);
	print_rc("munmap", munmap(own, step));
	print_pages("pages", p, size);
}

static void covered_middle(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);

	cover(p + 20 * step, 8 * step);
	use_covered(p, size, p + 20 * step, 8 * step);
}

static void covered_middle_shared(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_file(path, 0, PROT_READ, MAP_SHARED, 0);

	cover(p + 20 * step, 8 * step);
	use_covered(p, size, p + 20 * step, 8 * step);
}

static void covered_middle_raw(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);

	cover_raw(p + 20 * step, 8 * step);
	use_covered(p, size, p + 20 * step, 8 * step);
}

static void covered_all(const char *path)
{
	size_t size = file_size(path);
	unsigned char *p = map_read(path);

	cover(p, round_page(size));
	print_sum("covered", p, size);
	memset(p, 3, size);
	print_sum("stored", p, size);
	print_rc("drop", madvise(p, size, MADV_DONTNEED));
	print_sum("dropped", p, size);
	print_rc("munmap", munmap(p, size));
	print_pages("pages", p, size);
}

/* Another part of the same file over a piece, and a map that may replace nothing. */
static void covered_by_file(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);
	int fd = open_file(path);
	void *got = mmap(p + 20 * step, 8 * step, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd,
			 (off_t)(100 * step));

	say("fixed: %d", got == p + 20 * step);
	print_pages("pages", p, size);
	got = mmap(p, step, PROT_READ, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, 0);
	print_rc("noreplace", got == MAP_FAILED ? -1 : 0);
	print_rc("drop", madvise(p, size, MADV_DONTNEED));
	print_pages("pages", p, size);
	print_rc("munmap", munmap(p, size));
	print_pages("pages", p, size);
}

/* Unmapped by a raw system call, and the addresses used again: nothing of the old map may come
 * back. */
static void reused(const char *path)
{
	size_t size = round_page(file_size(path)), step = page_size();
	unsigned char *p = map_read(path);

	print_sum("bytes", p, size);
	print_rc("raw munmap", syscall(SYS_munmap, p, size));
	cover_raw(p, size);
	memset(p, 9, size);
	print_rc("drop", madvise(p + step, step, MADV_DONTNEED));
	print_pages("dropped", p, size);
	print_rc("read", mprotect(p, size, PROT_READ));
	print_rc("write", mprotect(p, size, PROT_READ | PROT_WRITE));
	print_store("store", p);
	print_rc("free", madvise(p + 4 * step, step, MADV_FREE));
	print_rc("mlock", mlock(p, 2 * step));
	print_rc("msync", msync(p, size, MS_SYNC));
	print_read("shrunk", mremap(p, size, size / 2, MREMAP_MAYMOVE));
	print_rc("munmap", munmap(p, size));
	print_pages("pages", p, size);
}

/* The same for a shared map: the program's memory at its addresses may become writable. */
static void reused_shared(const char *path)
{
	size_t size = round_page(file_size(path));
	unsigned char *p = map_file(path, 0, PROT_READ, MAP_SHARED, 0);

	print_rc("raw munmap", syscall(SYS_munmap, p, size));
	cover_raw(p, size);
	print_rc("read", mprotect(p, size, PROT_READ));
	print_rc("write", mprotect(p, size, PROT_READ | PROT_WRITE));
	print_store("store", p);
	print_rc("drop", madvise(p, size, MADV_DONTNEED));
	print_pages("pages", p, size);
}

/* Half of it unmapped raw and reused; the other half is still the file. */
static void reused_half(const char *path)
{
	size_t size = round_page(file_size(path)), half = round_page(size / 2);
	unsigned char *p = map_write(path);

	print_rc("raw munmap", syscall(SYS_munmap, p, half));
	cover_raw(p, half);
	memset(p, 9, half);
	p[half] ^= 0xff;
	print_rc("drop", madvise(p, size, MADV_DONTNEED));
	print_pages("pages", p, size);
}

/* Shared memory attached over a piece. */
static void covered_by_shm(const char *path)
{
	size_t size = file_size(path), step = page_size();
	unsigned char *p = map_read(path);
	int id = shmget(IPC_PRIVATE, 4 * step, 0600);

	if (id < 0)
		fail("shmget: %s", strerror(errno));
	say("attached: %d", shmat(id, p + 16 * step, SHM_REMAP) == p + 16 * step);
	shmctl(id, IPC_RMID, NULL);
	print_store("store", p + 16 * step);
	print_pages("pages", p, size);
	print_rc("drop", madvise(p + 8 * step, 16 * step, MADV_DONTNEED));
	print_pages("pages", p, size);
}

static const struct test_case cases[] = {
	{"covered-middle", covered_middle},
	{"covered-middle-shared", covered_middle_shared},
	{"covered-middle-raw", covered_middle_raw},
	{"covered-all", covered_all},
	{"covered-by-file", covered_by_file},
	{"covered-by-shm", covered_by_shm},
	{"reused", reused},
	{"reused-shared", reused_shared},
	{"reused-half", reused_half},
};
CASES_MAIN(cases)
