/* SPDX-License-Identifier: Apache-2.0 */
/*
 * readfuzz MODEL TWIN OTHER SEED STEPS [all]
 *
 * Makes so many random calls on a model and on its twin, forks now and then a child that goes on
 * for a while, and ends with status 3 at the first difference. The last line is a sum of all that
 * was seen, which depends on the files, seed and steps alone. With "all" also calls are made that
 * nobody but the kernel can serve: with flags, and those that read within libc.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"
#include "readfuzz.h"

struct fuzz_files fuzz_files;

static struct {
	uint64_t random, sum;
	unsigned long seed, step;
	bool child;
	char call[512];
} state;

uint64_t fuzz_random(void)
{
	uint64_t z = state.random += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint64_t fuzz_below(uint64_t limit)
{
	return fuzz_random() % limit;
}

bool fuzz_chance(unsigned times)
{
	return fuzz_below(times) == 0;
}

size_t fuzz_size(void)
{
	static const size_t some[] = {0, 1, 8, 511, 4095, 4096, 4097, 65536, 131072, 1 << 20};

	if (fuzz_chance(48))
		return (8 << 20) + 1;
	if (fuzz_chance(64))
		return fuzz_chance(2) ? 0x7ffff001 : SIZE_MAX - fuzz_below(4096);
	if (fuzz_chance(2))
		return some[fuzz_below(sizeof(some) / sizeof(some[0]))];
	return (size_t)fuzz_below(1ul << (4 + fuzz_below(18)));
}

off_t fuzz_offset(void)
{
	off_t size = (off_t)fuzz_files.size;

	switch (fuzz_below(24)) {
	case 0:
		return 0;
	case 1:
		return size - (off_t)fuzz_below(3) + 1;
	case 2:
		return size - (off_t)fuzz_below(200000);
	case 3:
		return size + (off_t)fuzz_below(1 << 20);
	case 4:
		return -1 - (off_t)(fuzz_chance(2) ? 0 : fuzz_below(1 << 20));
	case 5:
		return INT64_MAX - (off_t)fuzz_below(8192);
	case 6:
		return (off_t)1 << (32 + fuzz_below(31));
	case 7:
		return (off_t)(fuzz_below(fuzz_files.size) & ~4095ul);
	default:
		return (off_t)fuzz_below(fuzz_files.size);
	}
}

void fuzz_describe(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(state.call, sizeof(state.call), format, arguments);
	va_end(arguments);
}

/* Ends the program with what is known about the call. */
static void differs(const char *format, ...)
{
	char what[512];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(what, sizeof(what), format, arguments);
	va_end(arguments);
	fail("seed %lu, step %lu%s: %s: %s", state.seed, state.step, state.child ? " (child)" : "",
	     state.call, what);
}

/* Adds a number to the sum. */
static void add(uint64_t value)
{
	state.sum = (state.sum ^ value) * 0x100000001b3u;
	state.sum ^= state.sum >> 31;
}

void fuzz_compare(const struct effect effects[SIDES])
{
	const struct effect *model = &effects[0], *twin = &effects[1];

	if (model->rc != twin->rc || model->error != twin->error || model->offset != twin->offset ||
	    model->flags != twin->flags)
		differs("model %ld %s offset %ld flags %d, twin %ld %s offset %ld flags %d",
			model->rc, strerrorname_np(model->error), model->offset, model->flags,
			twin->rc, strerrorname_np(twin->error), twin->offset, twin->flags);
	add((uint64_t)twin->rc);
	add((uint64_t)twin->error);
	add((uint64_t)twin->offset);
}

void fuzz_compare_bytes(const void *model, const void *twin, size_t length)
{
	const unsigned char *a = model, *b = twin;
	size_t i = 0;

	if (memcmp(a, b, length) != 0) {
		while (a[i] == b[i])
			i++;
		differs("byte %zu of %zu: model %02x, twin %02x", i, length, a[i], b[i]);
	}
	add(sum_bytes(twin, length));
}

uint64_t fuzz_sum(void)
{
	return state.sum;
}

static void run_steps(unsigned long count);

/* Lets a child go on with the descriptors for a while; its sum is its report. */
static void fork_step(void)
{
	unsigned long count = 1 + fuzz_below(40);
	pid_t child = fuzz_chance(2) ? fork() : _Fork();
	int status;

	if (child == 0) {
		state.child = true;
		state.random ^= 0xc4;
		run_steps(count);
		say("child: %lu steps, sum %016llx", count, (unsigned long long)state.sum);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
		fail("seed %lu, step %lu: the child ended with status %#x", state.seed, state.step,
		     status);
}

/* Opens the model by its name: random calls may open it by system calls alone, which make no model
 * of a file. */
static void open_by_name(void)
{
	int fd = open(fuzz_files.paths[0], O_RDONLY);

	if (fd < 0)
		fail("open: %s", strerror(errno));
	close(fd);
}

/* Makes so many random calls. */
static void run_steps(unsigned long count)
{
	for (unsigned long i = 0; i < count; i++) {
		state.step++;
		if (!state.child && fuzz_chance(80))
			fork_step();
		else if (!state.child && fuzz_chance(3))
			fuzz_stream_step();
		else
			fuzz_descriptor_step();
	}
}

int main(int argc, char **argv)
{
	unsigned long steps;

	if (argc < 6)
		fail("usage: %s MODEL TWIN OTHER SEED STEPS [all]", argv[0]);
	fuzz_files = (struct fuzz_files){{argv[1], argv[2]}, argv[3], file_size(argv[1]), argc > 6};
	state.seed = strtoul(argv[4], NULL, 10);
	state.random = state.seed;
	steps = strtoul(argv[5], NULL, 10);
	say("seed %lu", state.seed);
	setrlimit(RLIMIT_NOFILE, &(struct rlimit){4096, 4096});
	fuzz_arenas();
	open_by_name();
	run_steps(steps);
	say("%lu steps, sum %016llx", steps, (unsigned long long)fuzz_sum());
	return 0;
}
