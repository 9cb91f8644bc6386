/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where random reads put their bytes. There are two arenas of the same layout:
 *
 *   none | AREA readable and writable | none | SMALL readable and writable | FIXED read-only | none
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "common.h"
#include "readfuzz.h"

#define EDGE	 ((size_t)65536)
#define AREA	 ((size_t)10 << 20)
#define SMALL	 ((size_t)256 << 10)
#define FIXED	 ((size_t)64 << 10)
#define AREA_AT	 EDGE
#define SMALL_AT (AREA_AT + AREA + EDGE)
#define FIXED_AT (SMALL_AT + SMALL)
#define TOTAL	 (FIXED_AT + FIXED + EDGE)
#define MARGIN	 64
#define BLANK	 0xee

static unsigned char *arenas[SIDES];

void fuzz_arenas(void)
{
	for (int side = 0; side < SIDES; side++) {
		unsigned char *p = mmap(NULL, TOTAL, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED || mprotect(p + AREA_AT, AREA, PROT_READ | PROT_WRITE) != 0 ||
		    mprotect(p + SMALL_AT, SMALL, PROT_READ | PROT_WRITE) != 0 ||
		    mprotect(p + FIXED_AT, FIXED, PROT_READ) != 0)
			fail("mmap: %s", strerror(errno));
		arenas[side] = p;
	}
}

/* How many bytes from at on may be written, at most so many. */
static size_t writable(size_t at, size_t length)
{
	size_t end = 0;

	if (at >= AREA_AT && at < AREA_AT + AREA)
		end = AREA_AT + AREA;
	else if (at >= SMALL_AT && at < SMALL_AT + SMALL)
		end = SMALL_AT + SMALL;
	if (end == 0)
		return 0;
	return length < end - at ? length : end - at;
}

/* A place that starts at so many bytes from the start of an arena. */
static struct spot spot_at(size_t at, size_t length)
{
	size_t watched = length < AREA ? length + MARGIN : AREA;

	return (struct spot){at, length, writable(at, watched), false};
}

struct spot fuzz_good_spot(size_t length)
{
	size_t room = AREA - MARGIN, start;

	if (length >= room)
		return spot_at(AREA_AT, length);
	start = fuzz_below(room - length);
	if (fuzz_chance(2))
		start &= ~(size_t)4095;
	return spot_at(AREA_AT + start, length);
}

struct spot fuzz_any_spot(size_t length)
{
	static const size_t wild[] = {0, 8, (size_t)-4096, (size_t)1 << 63};
	size_t part = length < SMALL ? 1 + fuzz_below(length + 1) : 1 + fuzz_below(SMALL);

	if (!fuzz_chance(12))
		return fuzz_good_spot(length);
	switch (fuzz_below(5)) {
	case 0:
		return (struct spot){wild[fuzz_below(4)], length, 0, true};
	case 1:
		return spot_at(0, length);
	case 2:
		return spot_at(FIXED_AT + fuzz_below(FIXED), length);
	case 3:
		return spot_at(SMALL_AT + SMALL - part, length);
	default:
		return spot_at(AREA_AT + AREA - part, length);
	}
}

void *fuzz_spot_address(const struct spot *spot, int side)
{
	return spot->wild ? (void *)spot->at : arenas[side] + spot->at;
}

void fuzz_spot_prepare(const struct spot *spot)
{
	for (int side = 0; side < SIDES && spot->watched > 0; side++)
		memset(arenas[side] + spot->at, BLANK, spot->watched);
}

void fuzz_spot_check(const struct spot *spot)
{
	if (spot->watched > 0)
		fuzz_compare_bytes(arenas[0] + spot->at, arenas[1] + spot->at, spot->watched);
}
