/* SPDX-License-Identifier: Apache-2.0 */
#include "fault.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum fault_kind { FAULT_EIO, FAULT_SHORT, FAULT_HANG, FAULT_DIE, FAULT_SHRINK, FAULT_NOOPEN };

struct fault {
	struct fault *next;
	enum fault_kind kind;
	char *glob;
	uint64_t number[2];
	atomic_bool fired;    /* FAULT_SHRINK: the file is shorter from now on */
	struct timespec time; /* of that; written before fired */
	bool released;	      /* FAULT_HANG: no longer hangs */
};

static const struct {
	const char *name;
	unsigned numbers;
} KINDS[] = {
	[FAULT_EIO] = {"eio", 2}, [FAULT_SHORT] = {"short", 1},	  [FAULT_HANG] = {"hang", 2},
	[FAULT_DIE] = {"die", 1}, [FAULT_SHRINK] = {"shrink", 2}, [FAULT_NOOPEN] = {"noopen", 0},
};

static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct fault *faults;

/* Looks up a kind by the length bytes at name. Returns -EINVAL if there is none. */
static int find_kind(const char *name, size_t length)
{
	for (int i = 0; i < (int)(sizeof(KINDS) / sizeof(KINDS[0])); i++)
		if (strlen(KINDS[i].name) == length && memcmp(KINDS[i].name, name, length) == 0)
			return i;
	return -EINVAL;
}

/* Cuts the last ":NUMBER" off text into *number. Returns 0 or -EINVAL. */
static int cut_number(char *text, uint64_t *number)
{
	char *colon = strrchr(text, ':');
	char *end;

	if (colon == NULL || colon[1] < '0' || colon[1] > '9')
		return -EINVAL;
	*number = strtoull(colon + 1, &end, 10);
	if (*end != '\0')
		return -EINVAL;
	*colon = '\0';
	return 0;
}

/* Frees one fault. */
static void destroy(struct fault *fault)
{
	free(fault->glob);
	free(fault);
}

/* Reads KIND:GLOB:NUMBERS. Returns the fault or NULL. The numbers are taken from the end, so a
 * glob may contain colons. */
static struct fault *parse(const char *spec)
{
	const char *colon = strchr(spec, ':');
	int kind = colon == NULL ? -EINVAL : find_kind(spec, (size_t)(colon - spec));
	struct fault *fault;

	if (kind < 0)
		return NULL;
	fault = calloc(1, sizeof(*fault));
	fault->kind = (enum fault_kind)kind;
	fault->glob = strdup(colon + 1);
	for (unsigned i = KINDS[kind].numbers; i-- > 0;) {
		if (cut_number(fault->glob, &fault->number[i]) != 0) {
			destroy(fault);
			return NULL;
		}
	}
	return fault;
}

/* Adds a fault from its specification. Returns 0 or -EINVAL. */
int fault_add(const char *spec)
{
	struct fault *fault = parse(spec);

	if (fault == NULL)
		return -EINVAL;
	pthread_rwlock_wrlock(&lock);
	fault->next = faults;
	faults = fault;
	pthread_rwlock_unlock(&lock);
	return 0;
}

/* Removes all faults. Requests that hang already stay hung. */
void fault_clear(void)
{
	pthread_rwlock_wrlock(&lock);
	while (faults != NULL) {
		struct fault *next = faults->next;

		destroy(faults);
		faults = next;
	}
	pthread_rwlock_unlock(&lock);
}

/* Disarms the hang faults, so that a reader that is let go does not hang again at once. */
void fault_release(void)
{
	pthread_rwlock_wrlock(&lock);
	for (struct fault *fault = faults; fault != NULL; fault = fault->next)
		fault->released = true;
	pthread_rwlock_unlock(&lock);
}

/* Says whether the glob matches the path below the root or its last component. */
static bool matches(const struct fault *fault, const char *path)
{
	const char *slash = strrchr(path, '/');

	return fnmatch(fault->glob, path, 0) == 0 ||
	       (slash != NULL && fnmatch(fault->glob, slash + 1, 0) == 0);
}

/* Makes a shrink fault take effect. Returns true for the one caller that set it off. */
static bool fire(struct fault *fault)
{
	static pthread_mutex_t firing = PTHREAD_MUTEX_INITIALIZER;
	bool first;

	pthread_mutex_lock(&firing);
	first = !atomic_load(&fault->fired);
	if (first) {
		clock_gettime(CLOCK_REALTIME, &fault->time);
		atomic_store(&fault->fired, true);
	}
	pthread_mutex_unlock(&firing);
	return first;
}

/* Adds to *verdict what one fault says about a READ of [offset, end). */
static void apply(struct fault *fault, uint64_t offset, uint64_t end, struct fault_verdict *verdict)
{
	bool overlaps = end > fault->number[0] && offset - fault->number[0] < fault->number[1];
	bool reaches = end > fault->number[0];

	if (offset < fault->number[0])
		overlaps = reaches && fault->number[1] > 0;
	if (fault->kind == FAULT_EIO && overlaps)
		verdict->error = EIO;
	if (fault->kind == FAULT_HANG && overlaps && !fault->released)
		verdict->hang = true;
	if (fault->kind == FAULT_DIE && reaches)
		verdict->die = true;
	if (fault->kind == FAULT_SHORT && fault->number[0] < verdict->limit)
		verdict->limit = fault->number[0];
	if (fault->kind == FAULT_SHRINK) {
		if (reaches && fire(fault))
			verdict->shrunk = true;
		if (atomic_load(&fault->fired) && fault->number[1] < verdict->limit)
			verdict->limit = fault->number[1];
	}
}

/* Says what the faults do to a READ of length bytes at offset of the file at path. */
struct fault_verdict fault_check_read(const char *path, uint64_t offset, uint64_t length)
{
	struct fault_verdict verdict = {.limit = UINT64_MAX};

	pthread_rwlock_rdlock(&lock);
	for (struct fault *fault = faults; fault != NULL; fault = fault->next)
		if (matches(fault, path))
			apply(fault, offset, offset + length, &verdict);
	pthread_rwlock_unlock(&lock);
	return verdict;
}

/* Says whether an OPEN with these flags is to be answered with EINVAL. */
bool fault_refuses_open(const char *path, int flags)
{
	bool refuse = false;

	if ((flags & O_DIRECT) == 0)
		return false;
	pthread_rwlock_rdlock(&lock);
	for (struct fault *fault = faults; fault != NULL; fault = fault->next)
		refuse = refuse || (fault->kind == FAULT_NOOPEN && matches(fault, path));
	pthread_rwlock_unlock(&lock);
	return refuse;
}

/* Changes size and times of a file that a shrink fault has made shorter. */
void fault_change_attributes(const char *path, struct stat *attributes)
{
	pthread_rwlock_rdlock(&lock);
	for (struct fault *fault = faults; fault != NULL; fault = fault->next) {
		if (fault->kind != FAULT_SHRINK || !atomic_load(&fault->fired) ||
		    !matches(fault, path))
			continue;
		attributes->st_size = (off_t)fault->number[1];
		attributes->st_mtim = fault->time;
		attributes->st_ctim = fault->time;
	}
	pthread_rwlock_unlock(&lock);
}
