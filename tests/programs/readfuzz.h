/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random calls on two files of the same bytes, a model and its twin under a name that is none. Each
 * call is made on both sides, 0 for the model and 1 for the twin, and must do the same to both.
 */
#ifndef PROGRAMS_READFUZZ_H
#define PROGRAMS_READFUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SIDES	  2
#define UNTOUCHED 77 /* errno before each call */

/* What one call did on one side. offset is that of descriptor or stream afterwards. */
struct effect {
	long rc;
	int error;
	long offset;
	int flags; /* of a stream: end of file, error */
};

/* The files, and which calls to make. */
struct fuzz_files {
	const char *paths[SIDES];
	const char *other; /* a third file that is no model */
	size_t size;	   /* of the first two */
	bool all;	   /* also calls that nobody but the kernel can serve */
};

extern struct fuzz_files fuzz_files;

/* The next random number: any; less than limit (limit > 0); true once in so many times. */
uint64_t fuzz_random(void);
uint64_t fuzz_below(uint64_t limit);
bool fuzz_chance(unsigned times);

/* A size to ask for; a place in the file or far from it. */
size_t fuzz_size(void);
off_t fuzz_offset(void);

/* Describes the call that is about to be made, for the message about a difference. */
void fuzz_describe(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Fails the program unless both sides saw the same; adds what they saw to the sum. */
void fuzz_compare(const struct effect effects[SIDES]);
void fuzz_compare_bytes(const void *model, const void *twin, size_t length);

/* The sum of all that was seen so far. */
uint64_t fuzz_sum(void);

/* A place for bytes, the same in the two arenas: often good, sometimes not writable in part. */
struct spot {
	size_t at;	/* from the start of an arena; of a wild one, the address */
	size_t length;	/* what is asked for */
	size_t watched; /* bytes from at that are compared afterwards */
	bool wild;	/* an address outside of the arenas */
};

void fuzz_arenas(void);
struct spot fuzz_good_spot(size_t length);
struct spot fuzz_any_spot(size_t length);
void *fuzz_spot_address(const struct spot *spot, int side);

/* Before a call: fills what is watched; after it: compares it. */
void fuzz_spot_prepare(const struct spot *spot);
void fuzz_spot_check(const struct spot *spot);

/*
 * A descriptor that is not the model's, at a number that no model's will get, unless all calls are
 * made: what is known of a number may outlast its file for a few reads. -1 stays as it is.
 */
int fuzz_set_apart(int fd);

/* One random call on descriptors; on streams. Descriptors may be used in children, streams not. */
void fuzz_descriptor_step(void);
void fuzz_read_step(const int fds[SIDES]);
void fuzz_stream_step(void);

#endif
