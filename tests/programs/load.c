/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps files whole, the way a loader does, and prints their sums.
 *
 *   load [-swpkcPimt] [-n TIMES] [-z MS] [-o DUMP] FILE...
 *
 *   -s shared; -w readable and writable; -p MAP_POPULATE; -k nothing is unmapped until the end
 *   -c all files are mapped first, then each is copied into fresh memory that is kept, too
 *   -P pages with their outcome instead of a sum; -i the outcome of the first page only, before the
 * rest -m what the kernel says about the map: name, huge pages, locked memory -t the most threads
 * that the process had -n every file so many times; -z sleep before the end -o with -P: writes the
 * pages that can be read to a file, at their places
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"

static struct {
	bool shared, writable, populate, keep, copy, pages, first, memory, threads;
	unsigned times, pause;
	const char *dump;
} options = {.times = 1};

/* One mapped file. */
struct loaded {
	const char *path;
	unsigned char *map;
	size_t size;
};

/* Maps a file as the options say; false if mmap refuses. */
static bool map_one(struct loaded *loaded, const char *path)
{
	int prot = PROT_READ | (options.writable ? PROT_WRITE : 0), fd = open_file(path);
	int flags =
		(options.shared ? MAP_SHARED : MAP_PRIVATE) | (options.populate ? MAP_POPULATE : 0);

	loaded->path = path;
	loaded->size = file_size(path);
	loaded->map = mmap(NULL, loaded->size, prot, flags, fd, 0);
	if (loaded->map == MAP_FAILED) {
		print_rc("mmap", -1);
		return false;
	}
	close(fd);
	return true;
}

/* Prints a field in kB of the lines of smaps that belong to a map. */
static void print_smaps(const struct loaded *loaded)
{
	unsigned long start, end, huge = 0, locked = 0, value, left, right;
	FILE *smaps = fopen("/proc/self/smaps", "r");
	bool inside = false;
	char line[4352], name[128] = "";

	left = (unsigned long)loaded->map;
	right = left + loaded->size;
	while (fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx %*s %*x %*s %*u %127[^\n]", &start, &end, name) >= 2) {
			inside = start < right && end > left;
			if (inside)
				say("map: %s", name);
			name[0] = '\0';
		} else if (inside && sscanf(line, "AnonHugePages: %lu", &value) == 1) {
			huge += value;
		} else if (inside && sscanf(line, "Locked: %lu", &value) == 1) {
			locked += value;
		}
	}
	fclose(smaps);
	say("huge: %lu kB, locked: %lu kB", huge, locked);
}

/* Prints the pages of a map, and writes them where the options say. */
static void show_pages(const struct loaded *loaded)
{
	int fd = options.dump ? open(options.dump, O_WRONLY | O_CREAT | O_TRUNC, 0600) : -1;

	if (options.dump && fd < 0)
		fail("%s: %s", options.dump, strerror(errno));
	dump_pages("pages", loaded->map, loaded->size, fd);
	if (fd >= 0)
		close(fd);
}

/* Looks at a map as the options say. */
static void use_one(const struct loaded *loaded)
{
	if (options.first)
		print_pages("first", loaded->map, 1);
	if (options.pages)
		show_pages(loaded);
	else
		print_sum("sum", loaded->map, loaded->size);
	if (options.memory)
		print_smaps(loaded);
}

/* Copies a map into memory that stays. */
static void copy_one(const struct loaded *loaded)
{
	unsigned char *copy = malloc(loaded->size);

	if (!copy)
		fail("malloc: %s", strerror(errno));
	memcpy(copy, loaded->map, loaded->size);
	print_sum("copy", copy, loaded->size);
}

/* All mapped first, then copied one by one. */
static void load_and_copy(char **paths, size_t count)
{
	struct loaded *all = calloc(count, sizeof(*all));

	for (size_t i = 0; i < count; i++)
		if (!map_one(&all[i], paths[i]))
			exit(1);
	for (size_t i = 0; i < count; i++)
		copy_one(&all[i]);
}

/* One file after the other. */
static void load_each(char **paths, size_t count)
{
	for (size_t i = 0; i < count * options.times; i++) {
		struct loaded loaded;

		if (!map_one(&loaded, paths[i / options.times]))
			continue;
		use_one(&loaded);
		if (!options.keep)
			munmap(loaded.map, loaded.size);
	}
}

static atomic_int over;
static unsigned most_threads;

/* Counts threads. One that is seen only once was about to end. */
static void *count_threads(void *unused)
{
	unsigned before = 0;

	while (!atomic_load(&over)) {
		unsigned count = count_entries("task"), both = count < before ? count : before;

		most_threads = both > most_threads ? both : most_threads;
		before = count;
		sleep_ms(2);
	}
	return unused;
}

/* Reads the options; returns the index of the first file. */
static int parse(int argc, char **argv)
{
	int letter;

	while ((letter = getopt(argc, argv, "swpkcPimtn:z:o:")) != -1) {
		switch (letter) {
		case 's':
			options.shared = true;
			break;
		case 'w':
			options.writable = true;
			break;
		case 'p':
			options.populate = true;
			break;
		case 'k':
			options.keep = true;
			break;
		case 'c':
			options.copy = true;
			break;
		case 'P':
			options.pages = true;
			break;
		case 'i':
			options.first = true;
			break;
		case 'm':
			options.memory = true;
			break;
		case 't':
			options.threads = true;
			break;
		case 'n':
			options.times = (unsigned)atoi(optarg);
			break;
		case 'z':
			options.pause = (unsigned)atoi(optarg);
			break;
		case 'o':
			options.dump = optarg;
			break;
		default:
			exit(2);
		}
	}
	return optind;
}

int main(int argc, char **argv)
{
	int first = parse(argc, argv);
	pthread_t counter;

	if (options.threads && pthread_create(&counter, NULL, count_threads, NULL) != 0)
		fail("no thread");
	if (options.copy)
		load_and_copy(argv + first, (size_t)(argc - first));
	else
		load_each(argv + first, (size_t)(argc - first));
	sleep_ms(options.pause);
	if (options.threads) {
		atomic_store(&over, 1);
		pthread_join(counter, NULL);
		say("threads at most: %u", most_threads);
		sleep_ms(200);
		say("threads: %u", count_entries("task"));
	}
	return 0;
}
