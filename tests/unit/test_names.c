/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/stat.h>
#include <pthread.h>
#include <string.h>

#include "names.h"
#include "unit.h"

static const struct {
	const char *globs, *path;
	bool match;
} globs[] = {
	{"*.safetensors", "model.safetensors", true},
	{"*.safetensors", "/a/b/model.safetensors", true},
	{"*.safetensors", ".safetensors", true},
	{"*.safetensors", "model.safetensors.index.json", false},
	{"*.safetensors", "model.SAFETENSORS", false},
	{"*.safetensors", "safetensors", false},
	{"*.safetensors", "", false},
	{"*.safetensors:*.sft", "x.sft", true},
	{"*.safetensors:*.sft", "x.gguf", false},
	{"*.sft:*.safetensors", "x.safetensors", true},
	/* Empty parts match nothing, not even the empty path. */
	{"", "x", false},
	{"", "", false},
	{":", "", false},
	{"::*.sft:", "x.sft", true},
	{":x", "x", true},
	{"x:", "x", true},
	/* '*' passes over '/', also none and several of them. */
	{"*/blobs/sha256-*", "/root/.ollama/models/blobs/sha256-abc", true},
	{"*/blobs/sha256-*", "blobs/sha256-abc", false},
	{"*/blobs/sha256-*", "/blobs/sha256-", true},
	{"*/blobs/*", "/a/blobs/b/blobs/c", true},
	{"/models/*", "/models/a/b/c", true},
	{"/models/*", "/models", false},
	{"*", "", true},
	{"*", "/any/thing", true},
	{"**", "x", true},
	{"a*b*c", "abc", true},
	{"a*b*c", "a-b-b-c", true},
	{"a*b*c", "a-c-b", false},
	{"*ab", "aaab", true},
	{"*aab", "aaaab", true},
	{"*a*a", "a", false},
	{"a*", "ba", false},
	/* '?' is one character, '/' too. */
	{"?", "x", true},
	{"?", "", false},
	{"?", "xy", false},
	{"a?c", "a/c", true},
	{"*.pt?", "x.pth", true},
	{"*.pt?", "x.pt", false},
	{"?*", "", false},
	{"*?", "ab", true},
	/* Sets. */
	{"[abc]", "b", true},
	{"[abc]", "d", false},
	{"[abc]", "", false},
	{"[a-c]x", "cx", true},
	{"[a-c]x", "dx", false},
	{"[!a-c]", "d", true},
	{"[!a-c]", "a", false},
	{"[^a-c]", "d", true},
	{"[^a-c]", "b", false},
	{"[!a-c]", "", false},
	{"[a-cx-z]", "y", true},
	{"[a-cx-z]", "m", false},
	{"[]]", "]", true},
	{"[]a]", "a", true},
	{"[!]]", "]", false},
	{"[!]]", "x", true},
	{"[a-]", "-", true},
	{"[-a]", "-", true},
	{"[a-]", "b", false},
	{"[*]", "*", true},
	{"[*]", "x", false},
	{"[?]x", "?x", true},
	{"*.[sg][fg][tu]*", "model.sft", true},
	{"*.[sg][fg][tu]*", "model.gguf", true},
	{"*[0-9]*.bin", "part-1-of-x.bin", true},
	{"*[0-9]*.bin", "part.bin", false},
	{"*[!0-9].bin", "part1.bin", false},
	{"[a-a]", "a", true},
	{"[z-a]", "m", false},
	/* Whatever an unfinished set means, a longer or an empty path is not it. */
	{"[", "", false},
	{"[", "xy", false},
	{"[abc", "abc", false},
	{"[!", "", false},
	{"[a-", "a-", false},
	/* Nothing is special about these. */
	{"a.c", "abc", false},
	{"{a,b}", "a", false},
	{"\\*", "*", false},
	{"~/x", "~/x", true},
	{"a b", "a b", true},
	{"mod\xc3\xa9le*", "mod\xc3\xa9le.sft", true},
	{"*\xff", "x\xff", true},
};

START_TEST(match)
{
	ck_assert_int_eq(stn_names_match(globs[_i].globs, globs[_i].path), globs[_i].match);
}
END_TEST

/* Patterns over which a matcher that tries every way would not end, each with its repetitions. */
static const struct {
	const char *part, *end;
	unsigned times;
} hostile[] = {
	{"*a", "b", 1500},   {"*", "b", 4000},	 {"*?", "b", 1500},  {"*[a-z]", "b", 600},
	{"*[!b]", "b", 700}, {"a*a*", "b", 900}, {"[", "b", 4000},   {"[!", "b", 2000},
	{"*a:", "b", 1300},  {"[a-", "b", 1300}, {"?*a*", "c", 900},
};

START_TEST(hostile_pattern)
{
	static char pattern[8192], path[4096];
	double begun;
	bool found;

	for (unsigned i = 0; i < hostile[_i].times; i++)
		strcat(pattern, hostile[_i].part);
	strcat(pattern, hostile[_i].end);
	memset(path, 'a', sizeof(path) - 1);
	begun = unit_now();
	found = stn_names_match(pattern, path);
	ck_assert_double_lt(unit_now() - begun, 1.0);
	ck_assert_int_eq(found, strchr(pattern, ':') != NULL);
}
END_TEST

static const struct {
	const char *path;
	uint64_t count, number;
} families[] = {
	{"model.safetensors", 1, 0},
	{"model-00001-of-00001.safetensors", 1, 1},
	{"model-00001-of-00005.safetensors", 5, 1},
	{"/m/model-00005-of-00005.safetensors", 5, 5},
	{"/m/model-1-of-12.gguf", 12, 1},
	{"model-00001-of-99999.safetensors", 99999, 1},
	{"model-00001-of-00005", 5, 1},
	{"a-of-3/model.safetensors", 1, 0},
	{"a-1-of-3/model-00002-of-00007.sft", 7, 2},
	{"model-00001-of-00000.safetensors", 1, 0},
	{"model-00001-of-.safetensors", 1, 0},
	{"model-00001-of-x.safetensors", 1, 0},
	{"model-00001-of-99999999999999999999.safetensors", 1, 0},
	{"model-00001-of-18446744073709551617.safetensors", 1, 0},
	{"model-99999999999999999999-of-00002.safetensors", 1, 0},
	{"model--of-00002.safetensors", 1, 0},
	{"-of-", 1, 0},
	{"", 1, 0},
};

START_TEST(family)
{
	struct stn_family parts;

	stn_names_family(families[_i].path, &parts);
	ck_assert_uint_eq(parts.count, families[_i].count);
	ck_assert_uint_eq(parts.number, families[_i].number);
}
END_TEST

/* Shards of one model have one key; another directory's or another name's have another. */
START_TEST(family_key)
{
	struct stn_family first, second, elsewhere, other;

	stn_names_family("/m/model-00001-of-00005.safetensors", &first);
	stn_names_family("/m/model-00002-of-00005.safetensors", &second);
	stn_names_family("/n/model-00002-of-00005.safetensors", &elsewhere);
	stn_names_family("/m/vae-00002-of-00005.safetensors", &other);
	ck_assert_uint_eq(first.key, second.key);
	ck_assert_uint_ne(first.key, elsewhere.key);
	ck_assert_uint_ne(first.key, other.key);
}
END_TEST

/* What of a sharded model is still to come, as its shards are mapped. */
START_TEST(family_expected)
{
	struct stn_model *shard, *lone;

	ck_assert(stn_names_add(1, 100, "/m/model-00001-of-00004.safetensors"));
	ck_assert(stn_names_add(1, 101, "/m/model-00002-of-00004.safetensors"));
	ck_assert(stn_names_add(1, 102, "/m/vae.safetensors"));
	shard = stn_names_find(1, 100);
	lone = stn_names_find(1, 102);
	ck_assert_uint_eq(shard->family.count, 4);
	ck_assert_uint_eq(stn_family_expected(shard, GIB), 4 * GIB);
	stn_family_mapped(shard, GIB);
	ck_assert_uint_eq(stn_family_expected(shard, GIB), 3 * GIB);
	stn_family_mapped(stn_names_find(1, 101), GIB);
	ck_assert_uint_eq(stn_family_expected(shard, GIB), 2 * GIB);
	stn_family_mapped(shard, 10 * GIB);
	ck_assert_uint_eq(stn_family_expected(shard, GIB), 0);
	ck_assert_uint_eq(stn_family_expected(lone, GIB), 0);
}
END_TEST

START_TEST(set)
{
	ck_assert(stn_names_empty());
	ck_assert_ptr_null(stn_names_find(1, 2));
	ck_assert(stn_names_add(1, 2, "a-00001-of-00003.sft"));
	ck_assert(!stn_names_empty());
	ck_assert_uint_eq(stn_names_find(1, 2)->family.count, 3);
	ck_assert_ptr_null(stn_names_find(2, 1));
	ck_assert_ptr_null(stn_names_find(1, 3));
	ck_assert_ptr_null(stn_names_find(0, 2));
	/* The same file again, under another name: what is known of it stays. */
	atomic_store(&stn_names_find(1, 2)->delivered, 9);
	ck_assert(stn_names_add(1, 2, "b.sft"));
	ck_assert_uint_eq(atomic_load(&stn_names_find(1, 2)->delivered), 9);
	ck_assert_uint_eq(stn_names_find(1, 2)->family.count, 3);
}
END_TEST

/* Devices and inodes as they occur, so many of each that keys share slots. */
static const uint64_t devices[] = {0,
				   1,
				   (uint64_t)8 << 32 | 1,
				   (uint64_t)8 << 32 | 2,
				   (uint64_t)259 << 32,
				   (uint64_t)0xfff << 32 | 0xfffff,
				   (uint64_t)252 << 32 | 7,
				   UINT64_MAX};

/* A full set refuses more, and finds all that it has. */
START_TEST(full_set)
{
	unsigned added = 0, refused = 0;

	for (uint64_t inode = 1; refused == 0 && inode <= 100000; inode++)
		for (int d = 0; d < COUNT(devices) && refused == 0; d++) {
			bool rc = stn_names_add(devices[d], inode << 12, "x.sft");

			added += rc;
			refused += !rc;
		}
	ck_assert_uint_eq(refused, 1);
	ck_assert_uint_ge(added, 4096);
	for (unsigned i = 0; i < added; i++) {
		uint64_t device = devices[i % (unsigned)COUNT(devices)];
		uint64_t inode = (i / (unsigned)COUNT(devices) + 1ul) << 12;
		const struct stn_model *model = stn_names_find(device, inode);

		ck_assert_ptr_nonnull(model);
		ck_assert_uint_eq(model->device, device);
		ck_assert_uint_eq(model->inode, inode);
	}
	ck_assert_ptr_null(stn_names_find(5, 5));
	/* What is in the set already is no addition. */
	ck_assert(stn_names_add(devices[0], 1 << 12, "x.sft"));
}
END_TEST

#define SET_THREADS 4
#define SET_FILES   1500

/* Adds files of this thread and files that all threads add, and looks each up at once. */
static void *add_many(void *argument)
{
	uint64_t self = (uintptr_t)argument;
	uintptr_t missing = 0;

	for (uint64_t i = 0; i < SET_FILES; i++) {
		stn_names_add(7, i, "shared.sft");
		stn_names_add(100 + self, i, "own.sft");
		missing += !stn_names_find(7, i) || !stn_names_find(100 + self, i);
	}
	return (void *)missing;
}

START_TEST(concurrent_adds)
{
	pthread_t threads[SET_THREADS];
	void *missing;

	for (uintptr_t i = 0; i < SET_THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, add_many, (void *)i), 0);
	for (int i = 0; i < SET_THREADS; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &missing), 0);
		ck_assert_uint_eq((uintptr_t)missing, 0);
	}
	for (uint64_t i = 0; i < SET_FILES; i++)
		for (uint64_t thread = 0; thread < SET_THREADS; thread++)
			ck_assert_ptr_nonnull(stn_names_find(100 + thread, i));
}
END_TEST

START_TEST(identities)
{
	const struct statx st = {
		.stx_dev_major = 8,
		.stx_dev_minor = 3,
		.stx_ino = 42,
		.stx_size = 1000,
		.stx_mtime = {.tv_sec = 10, .tv_nsec = 999999999},
		.stx_ctime = {.tv_sec = -1, .tv_nsec = 1},
	};
	struct stn_identity a, b;

	stn_identity_from(&st, &a);
	ck_assert_uint_eq(a.device, (uint64_t)8 << 32 | 3);
	ck_assert_uint_eq(a.inode, 42);
	ck_assert_uint_eq(a.size, 1000);
	ck_assert_int_eq(a.modified, 10999999999);
	ck_assert_int_eq(a.changed, -999999999);
	for (int field = 0; field <= 5; field++) {
		b = a;
		b.device += field == 1;
		b.inode += field == 2;
		b.size += field == 3;
		b.modified += field == 4;
		b.changed += field == 5;
		ck_assert_int_eq(stn_identity_equal(&a, &b), field == 0);
	}
}
END_TEST

/* The counters belong to one version of the file. */
START_TEST(version)
{
	struct stn_identity identity = {1, 2, 3000, 4, 5};
	struct stn_model *model;

	ck_assert(stn_names_add(1, 2, "x.sft"));
	model = stn_names_find(1, 2);
	for (int change = 0; change < 3; change++) {
		identity.size += change == 0;
		identity.modified += change == 1;
		identity.changed += change == 2;
		stn_model_version(model, &identity);
		ck_assert_uint_eq(atomic_load(&model->delivered), 0);
		ck_assert_uint_eq(atomic_load(&model->header), 0);
		atomic_store(&model->delivered, 10);
		atomic_store(&model->header, 20);
		stn_model_version(model, &identity);
		ck_assert_uint_eq(atomic_load(&model->delivered), 10);
		ck_assert_uint_eq(atomic_load(&model->header), 20);
	}
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("names");
	TCase *tcase = unit_case(suite, "globs", 5);

	tcase_add_loop_test(tcase, match, 0, COUNT(globs));
	tcase_add_loop_test(tcase, hostile_pattern, 0, COUNT(hostile));
	tcase = unit_case(suite, "families", 5);
	tcase_add_loop_test(tcase, family, 0, COUNT(families));
	tcase_add_test(tcase, family_key);
	tcase_add_test(tcase, family_expected);
	tcase = unit_case(suite, "set", 10);
	tcase_add_test(tcase, set);
	tcase_add_test(tcase, full_set);
	tcase_add_test(tcase, concurrent_adds);
	tcase_add_test(tcase, identities);
	tcase_add_test(tcase, version);
	return suite;
}
