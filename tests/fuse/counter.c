/* SPDX-License-Identifier: Apache-2.0 */
#include "counter.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static struct {
	uint64_t bytes[2]; /* by direct */
	uint64_t reads[2];
	uint64_t opens[2];
	uint64_t releases;
	uint64_t inflight;
	uint64_t max_inflight;
	uint64_t largest_read;
	uint64_t large_reads;
	uint64_t meta_requests;
	uint64_t seeks;
} total;

/* One lock: a READ of 1 MiB costs a hundred times more than what is done under it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct counter_file *files;

/* Makes a file known under the given name, which must stay valid. */
void counter_register(struct counter_file *file, const char *name)
{
	pthread_mutex_lock(&lock);
	file->name = name;
	file->next = files;
	files = file;
	pthread_mutex_unlock(&lock);
}

/* Counts a request that is not a READ. */
void counter_meta(void)
{
	pthread_mutex_lock(&lock);
	total.meta_requests++;
	pthread_mutex_unlock(&lock);
}

/* A READ that does not go on where the last one ended. */
void counter_seek(void)
{
	pthread_mutex_lock(&lock);
	total.seeks++;
	pthread_mutex_unlock(&lock);
}

/* Counts an OPEN that succeeds. */
void counter_open(struct counter_file *file, bool direct)
{
	pthread_mutex_lock(&lock);
	total.opens[direct]++;
	file->opens++;
	pthread_mutex_unlock(&lock);
}

/* Counts a RELEASE. */
void counter_release(void)
{
	pthread_mutex_lock(&lock);
	total.releases++;
	pthread_mutex_unlock(&lock);
}

/* Counts a READ of size bytes that has arrived. */
void counter_read_begin(struct counter_file *file, bool direct, uint64_t size)
{
	pthread_mutex_lock(&lock);
	file->requests++;
	file->buffered_requests += !direct;
	total.reads[direct]++;
	if (size > total.largest_read)
		total.largest_read = size;
	total.large_reads += size > COUNTER_LARGE;
	total.inflight++;
	if (total.inflight > total.max_inflight)
		total.max_inflight = total.inflight;
	pthread_mutex_unlock(&lock);
}

/* Returns the index of the first range of the file that ends at or after offset. */
static size_t find_range(const struct counter_file *file, uint64_t offset)
{
	size_t low = 0;
	size_t high = file->range_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (file->ranges[middle].end < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Makes room for one more range at index at. */
static void insert_range(struct counter_file *file, size_t at)
{
	if (file->range_count == file->range_room) {
		file->range_room = file->range_room * 2 + 64;
		file->ranges = realloc(file->ranges, file->range_room * sizeof(*file->ranges));
		if (file->ranges == NULL)
			abort();
	}
	memmove(file->ranges + at + 1, file->ranges + at,
		(file->range_count - at) * sizeof(*file->ranges));
	file->range_count++;
}

/* Adds [start, end) to the ranges read and keeps distinct_bytes right. */
static void add_range(struct counter_file *file, uint64_t start, uint64_t end)
{
	size_t first = find_range(file, start);
	size_t last = first;

	for (; last < file->range_count && file->ranges[last].start <= end; last++) {
		file->distinct_bytes -= file->ranges[last].end - file->ranges[last].start;
		if (file->ranges[last].start < start)
			start = file->ranges[last].start;
		if (file->ranges[last].end > end)
			end = file->ranges[last].end;
	}
	if (last == first) {
		insert_range(file, first);
	} else {
		memmove(file->ranges + first + 1, file->ranges + last,
			(file->range_count - last) * sizeof(*file->ranges));
		file->range_count -= last - first - 1;
	}
	file->ranges[first] = (struct counter_range){start, end};
	file->distinct_bytes += end - start;
}

/* Counts a READ that is about to be answered with size bytes (0 for an error). Called before the
 * answer, so that a client that has its bytes finds them counted. */
void counter_read_end(struct counter_file *file, bool direct, uint64_t offset, uint64_t size)
{
	pthread_mutex_lock(&lock);
	total.inflight--;
	total.bytes[direct] += size;
	file->bytes += size;
	if (size > 0)
		add_range(file, offset, offset + size);
	pthread_mutex_unlock(&lock);
}

/* Sets all counters to zero, except that requests in flight stay counted as such. */
void counter_reset(void)
{
	uint64_t inflight;

	pthread_mutex_lock(&lock);
	inflight = total.inflight;
	memset(&total, 0, sizeof(total));
	total.inflight = inflight;
	total.max_inflight = inflight;
	for (struct counter_file *file = files; file != NULL; file = file->next) {
		file->bytes = file->requests = file->opens = file->distinct_bytes = 0;
		file->buffered_requests = 0;
		file->range_count = 0;
	}
	pthread_mutex_unlock(&lock);
}

/* Prints a JSON string. Bytes over 0x7f pass as they are. */
static void print_string(FILE *out, const char *text)
{
	putc('"', out);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			fprintf(out, "\\u%04x", (unsigned)*text);
		else
			putc(*text, out);
	}
	putc('"', out);
}

/* Prints the counters of the files that were opened or read, as a JSON object. */
static void print_files(FILE *out)
{
	const char *separator = "";

	putc('{', out);
	for (struct counter_file *file = files; file != NULL; file = file->next) {
		if (file->opens == 0 && file->requests == 0)
			continue;
		fputs(separator, out);
		separator = ",";
		print_string(out, file->name);
		fprintf(out,
			":{\"bytes\":%" PRIu64 ",\"requests\":%" PRIu64
			",\"buffered_requests\":%" PRIu64 ",\"opens\":%" PRIu64
			",\"distinct_bytes\":%" PRIu64 "}",
			file->bytes, file->requests, file->buffered_requests, file->opens,
			file->distinct_bytes);
	}
	putc('}', out);
}

/* Prints "name":value and a comma. */
static void print_number(FILE *out, const char *name, uint64_t value)
{
	fprintf(out, "\"%s\":%" PRIu64 ",", name, value);
}

/* Prints all counters as one line of JSON. */
void counter_print(FILE *out)
{
	pthread_mutex_lock(&lock);
	putc('{', out);
	print_number(out, "requests", total.reads[0] + total.reads[1]);
	print_number(out, "bytes", total.bytes[0] + total.bytes[1]);
	print_number(out, "direct_reads", total.reads[1]);
	print_number(out, "direct_bytes", total.bytes[1]);
	print_number(out, "buffered_reads", total.reads[0]);
	print_number(out, "buffered_bytes", total.bytes[0]);
	print_number(out, "opens", total.opens[0] + total.opens[1]);
	print_number(out, "direct_opens", total.opens[1]);
	print_number(out, "releases", total.releases);
	print_number(out, "inflight", total.inflight);
	print_number(out, "max_inflight", total.max_inflight);
	print_number(out, "largest_read", total.largest_read);
	print_number(out, "large_reads", total.large_reads);
	print_number(out, "meta_requests", total.meta_requests);
	print_number(out, "seeks", total.seeks);
	fputs("\"files\":", out);
	print_files(out);
	fputs("}\n", out);
	pthread_mutex_unlock(&lock);
}
