/* SPDX-License-Identifier: Apache-2.0 */
#include "readblock.h"

#include <errno.h>
#include <string.h>

#include "page.h"
#include "process.h"
#include "sys.h"

/* True if a read at offset goes on where this block's reader stopped, or a little behind. */
static bool continues(const struct stn_readblock *block, uint64_t offset)
{
	return offset >= block->next && offset - block->next <= STN_READBLOCK_LEAST;
}

uint64_t stn_readblock_size(const struct stn_readblock *block, uint64_t offset, uint64_t length)
{
	uint64_t size = stn_round_up(length, STN_READBLOCK_LEAST);

	if (!continues(block, offset))
		return STN_READBLOCK_LEAST;
	return stn_min(stn_max(2 * block->size, size), STN_READBLOCK_MOST);
}

/* The process's blocks, made if need be; NULL if memory is refused. Pool lock held. */
static struct stn_readblocks *blocks_of(struct stn_process *process)
{
	size_t size = stn_round_up(sizeof(struct stn_readblocks), stn_page_size());
	struct stn_readblocks *all = process->readblocks;

	if (all)
		return all;
	all = stn_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stn_sys_failed(all))
		return NULL;
	stn_sys_madvise(all, size, MADV_DONTFORK);
	return process->readblocks = all;
}

/*
 * Takes the lock again after something in between which a signal handler may have interrupted to
 * fork: in its child the blocks are not there. False then, and the lock is not taken.
 */
static bool enter_again(struct stn_process *process, const struct stn_readblocks *all,
			uint64_t *mask)
{
	*mask = stn_lock_enter(&process->pool_lock);
	if (process->readblocks == all)
		return true;
	stn_lock_leave(&process->pool_lock, *mask);
	return false;
}

/* Finds a block of this version that has the byte at offset; it gets a user. Pool lock held. */
static struct stn_readblock *find_block(struct stn_readblocks *all,
					const struct stn_identity *identity, uint64_t offset)
{
	for (unsigned i = 0; i < STN_READBLOCKS; i++) {
		struct stn_readblock *block = &all->blocks[i];

		if (offset < block->offset || offset - block->offset >= block->length ||
		    !stn_identity_equal(&block->identity, identity))
			continue;
		block->users++;
		block->last_use = ++all->uses;
		return block;
	}
	return NULL;
}

int64_t stn_readblock_copy(const struct stn_range *range, uint64_t done)
{
	struct stn_process *process = range->process;
	uint64_t offset = range->offset + done, mask = stn_lock_enter(&process->pool_lock);
	struct stn_readblocks *all = blocks_of(process);
	struct stn_readblock *block = all ? find_block(all, &range->identity, offset) : NULL;
	ssize_t copied = 0;

	if (block) {
		stn_lock_drop(&process->pool_lock);
		copied = stn_sys_copy(
			process->owner, range->memory + done,
			block->memory + (offset - block->offset),
			stn_min(range->length - done, block->offset + block->length - offset));
		stn_lock_retake(&process->pool_lock);
		block->users--;
	}
	stn_lock_leave(&process->pool_lock, mask);
	return copied;
}

/*
 * The block whose reader goes on at offset, else the one that nobody has used for longest; NULL if
 * all are in use. Pool lock held.
 */
static struct stn_readblock *choose_block(struct stn_readblocks *all,
					  const struct stn_identity *identity, uint64_t offset)
{
	struct stn_readblock *oldest = NULL;

	for (unsigned i = 0; i < STN_READBLOCKS; i++) {
		struct stn_readblock *block = &all->blocks[i];

		if (block->users)
			continue;
		if (stn_identity_equal(&block->identity, identity) && continues(block, offset))
			return block;
		if (!oldest || block->last_use < oldest->last_use)
			oldest = block;
	}
	if (oldest)
		oldest->next = UINT64_MAX; /* another reader's from now on */
	return oldest;
}

/* What is to be read into a block, and where. */
struct fetch {
	struct stn_readblocks *all;
	struct stn_readblock *block;
	uint64_t offset, length;
	char *memory;	 /* NULL: to be mapped */
	char *discarded; /* memory that is of no use any more */
	uint64_t discarded_size;
};

/* Takes a block for the calling thread, and decides how much to read. False if nothing is to be
 * read into it. Pool lock held. */
static bool begin_fetch(struct stn_readblocks *all, const struct stn_range *range, uint64_t done,
			struct fetch *fetch)
{
	uint64_t offset = range->offset + done, wanted = range->length - done, size;
	struct stn_readblock *block = choose_block(all, &range->identity, offset);

	*fetch = (struct fetch){.all = all, .block = block};
	if (!block)
		return false;
	size = stn_readblock_size(block, offset, wanted);
	fetch->offset = stn_round_down(offset, stn_page_size());
	fetch->length = stn_min(size, range->identity.size - fetch->offset);
	block->identity = range->identity;
	block->last_use = ++all->uses;
	block->length = 0;
	block->next = offset + wanted;
	block->size = stn_max(
		size, stn_min(stn_round_up(wanted, STN_READBLOCK_LEAST), STN_READBLOCK_MOST));
	if (wanted < size && block->mapped == stn_round_up(fetch->length, stn_page_size())) {
		fetch->memory = block->memory;
	} else {
		fetch->discarded = block->memory;
		fetch->discarded_size = block->mapped;
		block->memory = NULL;
		block->mapped = 0;
	}
	block->users = wanted < size;
	return wanted < size;
}

/* Maps memory for a block; children need it not. NULL if it is refused. */
static char *map_block(size_t size)
{
	char *memory = stn_sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
				    -1, 0);

	if (stn_sys_failed(memory))
		return NULL;
	stn_sys_madvise(memory, size, MADV_DONTFORK);
	return memory;
}

/* Gives the block what has been read, or makes it nobody's. Pool lock held. */
static void end_fetch(struct fetch *fetch, uint64_t had)
{
	struct stn_readblock *block = fetch->block;

	block->users--;
	block->memory = fetch->memory;
	block->mapped = fetch->memory ? stn_round_up(fetch->length, stn_page_size()) : 0;
	block->offset = fetch->offset;
	block->length = had;
	block->next = fetch->offset + had;
	if (!had)
		memset(&block->identity, 0, sizeof(block->identity));
}

bool stn_readblock_fetch(struct stn_range *range, uint64_t done)
{
	struct stn_process *process = range->process;
	uint64_t mask = stn_lock_enter(&process->pool_lock), had = 0;
	struct stn_readblocks *all = blocks_of(process);
	struct fetch fetch = {0};
	bool wanted = all && begin_fetch(all, range, done, &fetch), lost = false;
	int error;

	stn_lock_leave(&process->pool_lock, mask);
	if (fetch.discarded)
		stn_sys_munmap(fetch.discarded, fetch.discarded_size);
	if (!wanted)
		return false;
	if (!fetch.memory)
		fetch.memory = map_block(stn_round_up(fetch.length, stn_page_size()));
	if (fetch.memory)
		had = stn_range_transfer(range, fetch.memory, fetch.offset, fetch.length, true,
					 &error, &lost);
	if (lost)
		fetch.memory = NULL;
	if (!enter_again(process, all, &mask))
		return false;
	end_fetch(&fetch, had);
	stn_lock_leave(&process->pool_lock, mask);
	return had > range->offset + done - fetch.offset;
}
