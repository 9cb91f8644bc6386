/* SPDX-License-Identifier: Apache-2.0 */
#include "names.h"

#include <linux/stat.h>
#include <string.h>

#include "strangers.h"
#include "sys.h"
#include "text.h"

#define SET_SIZE 16384u /* a power of two; in .bss, so unused slots cost nothing */

static struct stn_model set[SET_SIZE];
static _Atomic uint32_t set_count;

/* Matches one character against the set that starts at glob ("[a-z]"); sets *end behind it. */
static bool match_set(const char *glob, const char *limit, char c, const char **end)
{
	const char *p = glob + 1;
	bool negate = p < limit && (*p == '!' || *p == '^');
	bool found = false;

	p += negate;
	for (bool first = true; p < limit && (first || *p != ']'); first = false, p++) {
		if (p + 2 < limit && p[1] == '-' && p[2] != ']') {
			found |= c >= p[0] && c <= p[2];
			p += 2;
		} else {
			found |= c == *p;
		}
	}
	*end = p < limit ? p + 1 : limit;
	return found != negate;
}

/* Matches one glob, [glob, limit), against the whole of path; linear but for the last '*'. */
static bool match_glob(const char *glob, const char *limit, const char *path)
{
	const char *star = NULL, *resume = NULL;

	while (*path) {
		const char *next = glob + 1;

		if (glob < limit && *glob == '*') {
			star = glob++;
			resume = path;
		} else if (glob < limit && (*glob == '[' ? match_set(glob, limit, *path, &next)
							 : *glob == '?' || *glob == *path)) {
			glob = next;
			path++;
		} else if (star) {
			glob = star + 1;
			path = ++resume;
		} else {
			return false;
		}
	}
	while (glob < limit && *glob == '*')
		glob++;
	return glob == limit;
}

bool stn_names_match(const char *globs, const char *path)
{
	while (*globs) {
		const char *limit = strchr(globs, ':');

		if (!limit)
			limit = globs + strlen(globs);
		if (limit > globs && match_glob(globs, limit, path))
			return true;
		globs = *limit ? limit + 1 : limit;
	}
	return false;
}

/* The first of the digits before end. */
static const char *digits_before(const char *path, const char *end)
{
	while (end > path && end[-1] >= '0' && end[-1] <= '9')
		end--;
	return end;
}

const char *stn_names_digits(const char *path, const char **end)
{
	const char *of = NULL;

	for (const char *p = path; (p = strstr(p, "-of-")) != NULL; p += 4)
		of = p;
	if (!of || strchr(of, '/') || digits_before(path, of) == of)
		return NULL;
	*end = of;
	return digits_before(path, of);
}

void stn_names_family(const char *path, struct stn_family *out)
{
	const char *end = path + strlen(path), *digits = stn_names_digits(path, &end);
	uint64_t number, count;

	*out = (struct stn_family){.key = 0xcbf29ce484222325u, .count = 1};
	for (const char *p = path; p < (digits ? digits : end); p++)
		out->key = (out->key ^ (unsigned char)*p) * 0x100000001b3u;
	if (!digits || !stn_text_number(digits, (size_t)(end - digits), &number) ||
	    !stn_text_number(end + 4, strspn(end + 4, "0123456789"), &count) || count < 1 ||
	    count > 100000)
		return;
	out->count = count;
	out->number = number;
}

/* How much of each sharded model has been mapped; a second model in a slot is counted with the
 * first. */
static _Atomic uint64_t families[256];

uint64_t stn_family_expected(const struct stn_model *model, uint64_t file_size)
{
	uint64_t whole = model->family.count * file_size;
	uint64_t mapped = atomic_load(&families[model->family.key & 255]);

	return model->family.count > 1 && whole > mapped ? whole - mapped : 0;
}

void stn_family_mapped(const struct stn_model *model, uint64_t bytes)
{
	if (model->family.count > 1)
		atomic_fetch_add(&families[model->family.key & 255], bytes);
}

static uint32_t slot_of(uint64_t device, uint64_t inode)
{
	uint64_t h = (inode ^ (device << 40 | device >> 24)) * 0x9e3779b97f4a7c15u;

	return (uint32_t)(h >> 40) & (SET_SIZE - 1);
}

bool stn_names_empty(void)
{
	return atomic_load_explicit(&set_count, memory_order_relaxed) == 0;
}

struct stn_model *stn_names_find(uint64_t device, uint64_t inode)
{
	uint32_t slot = slot_of(device, inode);

	for (uint32_t i = 0; i < SET_SIZE; i++, slot = (slot + 1) & (SET_SIZE - 1)) {
		uint64_t state = atomic_load_explicit(&set[slot].state, memory_order_acquire);

		if (state == 0)
			return NULL;
		if (state == 2 && set[slot].device == device && set[slot].inode == inode)
			return &set[slot];
	}
	return NULL;
}

bool stn_names_add(uint64_t device, uint64_t inode, const char *path)
{
	uint32_t slot = slot_of(device, inode);

	/* The number of its descriptor was perhaps another file's until now. */
	stn_strangers_forget();
	if (stn_names_find(device, inode))
		return true;
	if (atomic_load_explicit(&set_count, memory_order_relaxed) >= SET_SIZE / 4 * 3)
		return false;
	/* A slot that another thread is writing is passed over: at worst a file is listed twice. */
	for (uint64_t free = 0;
	     !atomic_compare_exchange_strong(&set[slot].state, &free, (uint64_t)1); free = 0)
		slot = (slot + 1) & (SET_SIZE - 1);
	set[slot].device = device;
	set[slot].inode = inode;
	stn_names_family(path, &set[slot].family);
	atomic_store_explicit(&set[slot].state, 2, memory_order_release);
	atomic_fetch_add_explicit(&set_count, 1, memory_order_release);
	stn_strangers_forget();
	return true;
}

void stn_identity_from(const struct statx *st, struct stn_identity *out)
{
	out->device = (uint64_t)st->stx_dev_major << 32 | st->stx_dev_minor;
	out->inode = st->stx_ino;
	out->size = st->stx_size;
	out->modified = st->stx_mtime.tv_sec * 1000000000 + st->stx_mtime.tv_nsec;
	out->changed = st->stx_ctime.tv_sec * 1000000000 + st->stx_ctime.tv_nsec;
}

bool stn_identity_equal(const struct stn_identity *a, const struct stn_identity *b)
{
	return a->device == b->device && a->inode == b->inode && a->size == b->size &&
	       a->modified == b->modified && a->changed == b->changed;
}

bool stn_identity_is_settled(const struct stn_identity *identity)
{
	const int64_t second = 1000000000, settled = 60;
	int64_t now = (int64_t)stn_sys_clock(CLOCK_REALTIME) / second;

	return identity->modified / second + settled < now;
}

void stn_model_version(struct stn_model *model, const struct stn_identity *identity)
{
	uint64_t digest = (identity->size * 0x9e3779b97f4a7c15u) ^
			  ((uint64_t)identity->modified * 0xc2b2ae3d27d4eb4fu) ^
			  (uint64_t)identity->changed;

	if (atomic_exchange(&model->version, digest) != digest) {
		atomic_store(&model->delivered, 0);
		atomic_store(&model->little_used, false);
		atomic_store(&model->whole, false);
		atomic_store(&model->header, 0);
		memset(&model->reads, 0, sizeof(model->reads));
	}
}
