/* SPDX-License-Identifier: Apache-2.0 */
#include "policy.h"

#include <linux/mman.h>
#include <stddef.h>
#include <sys/mman.h>

#include "config.h"
#include "fs.h"
#include "page.h"

#define LAZY_LEAST ((uint64_t)1 << 20)	/* bytes; what is smaller is read in one go */
#define LAZY_NEED  ((uint64_t)64 << 20) /* bytes to begin with */

/* One decision's two words. */
static const struct {
	const char *verb, *reason;
} words[STN_DECISIONS] = {
	[STN_ENGAGED] = {"engaged", ""},
	[STN_ENGAGED_PEEK] = {"engaged", "header-peek"},
	[STN_DECLINED_OFF] = {"declined", "off"},
	[STN_DECLINED_NOT_A_MODEL] = {"declined", "not-a-model"},
	[STN_DECLINED_NOT_REGULAR] = {"declined", "not-regular"},
	[STN_DECLINED_FILE_SYSTEM] = {"declined", "file-system"},
	[STN_DECLINED_MEMORY_BACKED] = {"declined", "memory-backed"},
	[STN_DECLINED_DAX] = {"declined", "dax"},
	[STN_DECLINED_WRITABLE_SHARED] = {"declined", "writable-shared"},
	[STN_DECLINED_EXECUTABLE] = {"declined", "executable"},
	[STN_DECLINED_FIXED] = {"declined", "fixed"},
	[STN_DECLINED_HUGE_TLB] = {"declined", "huge-tlb"},
	[STN_DECLINED_NO_ACCESS] = {"declined", "no-access"},
	[STN_DECLINED_OPEN_FOR_WRITING] = {"declined", "open-for-writing"},
	[STN_DECLINED_EMPTY] = {"declined", "empty"},
	[STN_DECLINED_PAST_END] = {"declined", "past-end"},
	[STN_DECLINED_NO_FALLBACK] = {"declined", "no-fallback"},
	[STN_DECLINED_CACHED] = {"declined", "cached"},
	[STN_DECLINED_REREAD] = {"declined", "reread"},
	[STN_DECLINED_MEMORY] = {"declined", "memory"},
	[STN_DECLINED_REGIONS] = {"declined", "regions"},
	[STN_DECLINED_NO_THREAD] = {"declined", "no-thread"},
	[STN_DECLINED_NO_PROCFS] = {"declined", "no-procfs"},
	[STN_DECLINED_STALLED] = {"declined", "stalled"},
	[STN_ABANDONED_TIMEOUT] = {"abandoned", "timeout"},
	[STN_ABANDONED_MEMORY] = {"abandoned", "memory"},
	[STN_ABANDONED_IO_ERROR] = {"abandoned", "io-error"},
	[STN_ABANDONED_CHANGED] = {"abandoned", "changed"},
	[STN_RETURNED_IO_ERROR] = {"returned", "io-error"},
	[STN_RETURNED_ADVICE] = {"returned", "advice"},
};

const char *stn_decision_verb(enum stn_decision decision)
{
	return words[decision].verb;
}

const char *stn_decision_reason(enum stn_decision decision)
{
	return words[decision].reason;
}

bool stn_decision_engaged(enum stn_decision decision)
{
	return decision == STN_ENGAGED || decision == STN_ENGAGED_PEEK;
}

/* What mmap was asked for, or STN_ENGAGED if nothing of it stands in the way. */
static enum stn_decision screen_call(const struct stn_facts *facts)
{
	bool shared = (facts->flags & MAP_TYPE) != MAP_PRIVATE;

	if (facts->prot & PROT_EXEC)
		return STN_DECLINED_EXECUTABLE;
	if (facts->flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))
		return STN_DECLINED_FIXED;
	if (facts->flags & MAP_HUGETLB)
		return STN_DECLINED_HUGE_TLB;
	if (shared && (facts->prot & PROT_WRITE))
		return STN_DECLINED_WRITABLE_SHARED;
	if (!(facts->prot & PROT_READ))
		return STN_DECLINED_NO_ACCESS;
	return STN_ENGAGED;
}

/* What the file is, or STN_ENGAGED if nothing of it stands in the way. */
static enum stn_decision screen_file(const struct stn_facts *facts)
{
	if (!facts->model)
		return STN_DECLINED_NOT_A_MODEL;
	if (!facts->regular)
		return STN_DECLINED_NOT_REGULAR;
	if (facts->open_for_writing)
		return STN_DECLINED_OPEN_FOR_WRITING;
	if (stn_fs_memory_backed(facts->file_system))
		return STN_DECLINED_MEMORY_BACKED;
	if (facts->dax)
		return STN_DECLINED_DAX;
	if (facts->file_size == 0 || facts->length == 0)
		return STN_DECLINED_EMPTY;
	if (facts->offset >= facts->file_size)
		return STN_DECLINED_PAST_END;
	return STN_ENGAGED;
}

/* Where the file is: the mode, the list of file systems, unified memory. */
static enum stn_decision screen_place(const struct stn_facts *facts)
{
	if (facts->mode == STN_MODE_OFF)
		return STN_DECLINED_OFF;
	if (facts->mode == STN_MODE_ALWAYS || facts->unified ||
	    stn_fs_listed(facts->file_systems, facts->file_system))
		return STN_ENGAGED;
	return STN_DECLINED_FILE_SYSTEM;
}

bool stn_policy_needs_unified(const struct stn_facts *facts)
{
	struct stn_facts without = *facts;

	without.unified = false;
	return screen_place(&without) == STN_DECLINED_FILE_SYSTEM;
}

/* A whole file mapped read-only and private by code that reads headers; see DESIGN "The header
 * peek". */
static bool is_peek(const struct stn_facts *facts)
{
	return facts->header_reader && !facts->lazy && facts->fill != STN_FILL_EAGER &&
	       facts->prot == PROT_READ && !(facts->flags & MAP_LOCKED) &&
	       (facts->flags & MAP_TYPE) == MAP_PRIVATE && facts->offset == 0 &&
	       facts->length >= facts->file_size;
}

enum stn_decision stn_policy_screen(const struct stn_facts *facts)
{
	enum stn_decision decision = screen_call(facts);

	if (decision == STN_ENGAGED)
		decision = screen_file(facts);
	if (decision == STN_ENGAGED)
		decision = screen_place(facts);
	if (decision == STN_ENGAGED && is_peek(facts))
		decision = STN_ENGAGED_PEEK;
	return decision;
}

enum stn_decision stn_policy_read(const struct stn_facts *facts)
{
	enum stn_decision decision = screen_file(facts);

	if (decision == STN_ENGAGED)
		decision = screen_place(facts);
	if (decision != STN_ENGAGED || facts->file_system == STN_FS_FUSE)
		return decision;
	if (facts->cached)
		return STN_DECLINED_CACHED;
	return facts->delivered + stn_policy_bytes(facts) > 2 * facts->file_size
		       ? STN_DECLINED_REREAD
		       : STN_ENGAGED;
}

uint64_t stn_policy_bytes(const struct stn_facts *facts)
{
	uint64_t left = facts->file_size - facts->offset;

	return facts->length < left ? facts->length : left;
}

uint64_t stn_policy_need(const struct stn_facts *facts)
{
	uint64_t bytes = stn_policy_bytes(facts);

	return facts->lazy && !facts->unified ? stn_min(bytes, LAZY_NEED) : bytes;
}

bool stn_policy_suits_lazy(const struct stn_facts *facts, enum stn_lazy_kind kind)
{
	const int at_once = MAP_POPULATE | MAP_LOCKED;

	if (facts->fill == STN_FILL_EAGER || facts->flags & at_once ||
	    facts->mlock != STN_MLOCK_OFF || facts->io == STN_IO_BUFFERED ||
	    stn_policy_bytes(facts) <= LAZY_LEAST)
		return false;
	return kind == STN_LAZY_FULL || (kind == STN_LAZY_USER_ONLY && facts->prot == PROT_READ);
}

bool stn_policy_asks_cache(const struct stn_facts *facts)
{
	return facts->file_system != STN_FS_FUSE && !facts->unified &&
	       facts->fill == STN_FILL_AUTO && facts->mlock == STN_MLOCK_OFF &&
	       facts->cache != STN_CACHE_DROP;
}

/* True if the file is read a third time; what a lazily filled mapping reads is not known yet. */
static bool delivers_too_much(const struct stn_facts *facts)
{
	uint64_t more = facts->lazy ? 1 : stn_policy_bytes(facts);

	return facts->delivered + more > 2 * facts->file_size;
}

enum stn_decision stn_policy_decide(const struct stn_facts *facts)
{
	enum stn_decision decision = stn_policy_screen(facts);

	if (!stn_decision_engaged(decision))
		return decision;
	if (facts->cached && stn_policy_asks_cache(facts))
		return STN_DECLINED_CACHED;
	/* A program that opens a shard for every tensor must not read it whole each time. */
	if (decision == STN_ENGAGED && delivers_too_much(facts))
		return STN_DECLINED_REREAD;
	return facts->fits ? decision : STN_DECLINED_MEMORY;
}
