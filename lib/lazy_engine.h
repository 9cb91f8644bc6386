/* SPDX-License-Identifier: Apache-2.0 */
/* Inside lazy fill. Used by the lazy*.c files only; see lazy.h. */
#ifndef STN_LAZY_ENGINE_H
#define STN_LAZY_ENGINE_H

#include <stdatomic.h>

#include "ahead.h"
#include "lazy.h"
#include "pace.h"
#include "page.h"
#include "pool.h"
#include "process.h"
#include "staging.h"

#define STN_LAZIES	  256u /* mappings at a time; others are filled eagerly */
#define STN_LAZY_PACES	  16u  /* mounts of which is known how they are read best */
#define STN_LAZY_HANDLES  16u  /* of a mapping */
#define STN_LAZY_KEPT	  32u  /* pieces of a mapping that are read and kept back */
#define STN_LAZY_ACCESSES 16u  /* parts of a mapping with another access that are remembered */
#define STN_LAZY_BLOCK	  ((uint64_t)STN_STAGING_BLOCK)
#define STN_LAZY_UNITS	  ((uint32_t)(STN_LAZY_BLOCK / STN_AHEAD_UNIT)) /* of a block */

/* The state of one unit (STN_AHEAD_UNIT bytes) of a mapping. */
enum stn_unit {
	STN_UNIT_EMPTY,
	STN_UNIT_WANTED,  /* to be read when there is nothing more urgent */
	STN_UNIT_QUEUED,  /* to be read next: a thread waits for it */
	STN_UNIT_READING, /* a thread reads it */
	STN_UNIT_AWAITED, /* a thread reads it, and the program waits for it */
	STN_UNIT_KEPT,	  /* read, but not placed: a marker */
	STN_UNIT_HELD,	  /* read by a sweep, but not placed: lazy_hold.c */
	STN_UNIT_PLACING, /* a thread places it */
	STN_UNIT_PEEKED,  /* there, and held as well as it was in the file */
	STN_UNIT_PRESENT,
	STN_UNIT_GONE, /* the program's or the file's own */
	STN_UNIT_LOST, /* missing, and the kernel refuses everything: who touches it waits for ever
			*/
};

#define STN_LAZY_ENDS 8 /* reads by one descriptor whose ends are remembered */

/* The file, opened once more: for one read at a time. */
struct stn_lazy_handle {
	int fd;	     /* -1: not open */
	bool busy;   /* a thread reads by it, or opens it */
	uint64_t at; /* where its last read has ended */
};

/* A descriptor that a thread reads by. */
struct stn_lazy_use {
	struct stn_lazy_handle *handle; /* NULL: the one that is for all */
	int fd;
	bool shared;	/* others read by it when this one began, all far from this one */
	uint64_t begun; /* clock */
	struct stn_request_read request; /* of what size, for the mount's pace */
};

/* Consecutive units that are read at once. */
struct stn_lazy_piece {
	uint32_t first, count;
	char *block;	 /* their bytes, if they are kept back */
	bool held;	 /* these stay where they are, as the file has them: a copy is placed */
	uint32_t stored; /* bits: units of a block whose bytes may be the program's own by now */
};

/* A part of a mapping that the program has given another access. */
struct stn_lazy_access {
	uintptr_t start, end;
	int prot;
};

/* One mapping. Everything under the pool's lock but the plan, and what steps use by themselves. */
struct stn_lazy {
	struct stn_lazy_plan plan; /* constant */
	size_t mapped;		   /* bytes that begin with this struct */
	uint32_t index;		   /* in the table */
	uint32_t id;		   /* what the mapping's records in the registry say */
	int uffd;		   /* in the crew's table of descriptors, as is */
	int file;		   /* the file, direct */
	int copy;	  /* the file, buffered: some of it was in the page cache; else -1 */
	uint32_t sharing; /* threads that read by file */
	uint64_t at[STN_LAZY_ENDS]; /* where the last of those reads will end, in the file */
	uint32_t latest;	    /* which of them was begun last */
	bool apart;		    /* it may be opened once more */
	struct stn_lazy_handle handles[STN_LAZY_HANDLES];
	uint32_t units;
	uint32_t counts[STN_UNIT_LOST + 1]; /* units in each state */
	uint32_t running;		    /* threads that read or place for it */
	uint32_t cursor;		    /* where the last read began */
	struct stn_pace *pace; /* of its mount; NULL if there are too many, or it is copied */
	bool moves;	       /* UFFDIO_MOVE may do */
	bool user_only;	       /* system calls that touch a hole fail */
	bool surrendered;      /* no more reading */
	bool changed;	       /* nor here: it is another file now, or shorter than its size */
	bool shorter;	       /* a read has met its end before that; atomic */
	bool surrendering;     /* a thread gives its holes to the file */
	bool published;	       /* it is in the registry, or has been; till then nobody sees it */
	bool plain;	       /* it has no holes, and no descriptor; reads may still run */
	bool mixed;	       /* pages may be there in units that are not */
	bool flush;	       /* place what is kept back */
	bool recorded;	       /* the journal has it */
	bool to_record;	       /* the journal is to have it now */
	bool drawn;	       /* a progress bar has been begun */
	uint32_t wake_from,
		wake_to; /* units that have gone, for which threads may wait; none: equal */
	enum stn_decision outcome; /* what the journal will say */
	uint32_t failures;	   /* units that could not be read */
	uint64_t header;	   /* bytes of the header that were asked for, 0: none yet */
	uint64_t begun;		   /* clock */
	uint64_t moved_at;	   /* clock of the last progress */
	uint64_t read_bytes;
	uint64_t copied_bytes; /* of them from the page cache */
	uint64_t returned_bytes;
	uint64_t stuck_at;  /* offset in the file of what was waited for when it was given up */
	uint64_t failed_at; /* offset in the file of the first I/O error, +1; 0: none */
	uint32_t most_running;
	struct stn_ahead ahead;
	struct stn_lazy_piece kept[STN_LAZY_KEPT];
	struct stn_lazy_access access[STN_LAZY_ACCESSES]; /* in their order */
	uint32_t accesses;
	char *held; /* what a sweep has read, as far apart as it belongs; NULL: nothing is held */
	void *held_area;     /* the memory that this is a part of, */
	size_t held_mapped;  /* and its bytes */
	bool held_tried;     /* whether to hold has been decided */
	bool release;	     /* place what is held and has been entered */
	uint32_t entered_to; /* unit up to which the program has gone through, tensor by tensor, */
	uint32_t entered;    /* and the tensors of that */
	uint32_t lent;	     /* threads that copy from it for other mappings */
	bool checked;	     /* what others hold has been compared with this file, */
	bool borrows;	     /* and is the same version */
	uint64_t borrowed_bytes;
	uint8_t *blocks;    /* for each block what holds of it, see lazy_hold.c */
	uint8_t *inherited; /* bits: units that a child of the fork in progress has */
	uint8_t unit[];	    /* enum stn_unit */
};

/* What serves all mappings of a process. Pool lock, but for what is said to be constant. */
struct stn_lazy_engine {
	struct stn_job job; /* in the lazy crew's list while there is anything to serve */
	bool listed;	    /* it is in that list */
	bool serving;	    /* a thread waits for faults */
	bool deaf; /* it is told of none, or nobody reads: all mappings are given up. That thread's
		    */
	int error; /* -errno: why that is so */
	int epoll; /* -1 while none does */
	int bell;  /* a userfaultfd whose only page is bell_page; -1 while none does */
	char *bell_page;      /* constant */
	uint32_t count;	      /* mappings */
	uint32_t running;     /* reads */
	uint32_t stuck;	      /* of them for mappings that have been given up */
	uint32_t turn;	      /* in the table, whose read is next */
	uint32_t forks;	      /* in progress */
	uint32_t looks_begun; /* of the waiting thread at all mappings, */
	uint32_t looks_ended; /* and of them those that it is done with; neither starts anew */
	uint32_t news;	      /* futex: changes when something has been placed or given back */
	uint64_t budget_left; /* what the last look left */
	uint64_t unchecked;   /* bytes read since */
	bool limited; /* addresses that are only reserved count, too: RLIMIT_AS and its like */
	struct stn_staging staging;
	struct stn_pace paces[STN_LAZY_PACES];
	struct stn_lazy *lazies[STN_LAZIES];
	struct stn_lazy *ended[STN_LAZIES]; /* to be freed */
	uint32_t ending;		    /* of them being freed */
};

enum stn_lazy_step {
	STN_LAZY_SERVE, /* waits for faults */
	STN_LAZY_READ, /* lane: the mapping, offset: first unit, length: units, detail: the block */
	STN_LAZY_RECORD, /* lane: the mapping */
	STN_LAZY_END,	 /* lane: index in the list of ended mappings */
};

/* The mappings, for the child of a fork, which finds nothing in its engine's place. */
extern struct stn_lazy *stn_lazy_fork_table[STN_LAZIES];

/* The engine of this process, or NULL if there is none. Pool lock held or on its threads. */
struct stn_lazy_engine *stn_lazy_engine_peek(void);

/* Wakes the thread that waits for faults, from any thread, and waits until it has looked. No lock
 * held. */
void stn_lazy_ring(struct stn_lazy_engine *engine);

/* Changes the state of units [first, first + count) that are in state from. The number changed. */
uint32_t stn_lazy_turn(struct stn_lazy *lazy, uint32_t first, uint32_t count, enum stn_unit from,
		       enum stn_unit to);

/* Units that are neither present nor gone. */
static inline uint32_t stn_lazy_left(const struct stn_lazy *lazy)
{
	return lazy->units - lazy->counts[STN_UNIT_PRESENT] - lazy->counts[STN_UNIT_PEEKED] -
	       lazy->counts[STN_UNIT_GONE];
}

/* Units of which the memory holds nothing yet. */
static inline uint32_t stn_lazy_unread(const struct stn_lazy *lazy)
{
	return stn_lazy_left(lazy) - lazy->counts[STN_UNIT_HELD];
}

/* The bytes of units [first, first + count), fewer at the end of the mapping. */
static inline uint64_t stn_lazy_bytes(const struct stn_lazy *lazy, uint32_t first, uint32_t count)
{
	uint64_t from = first * STN_AHEAD_UNIT, to = from + count * STN_AHEAD_UNIT;

	return stn_min(to, lazy->plan.length) - from;
}

/* The staging blocks that so many units take. */
static inline unsigned stn_lazy_blocks(uint32_t count)
{
	return (count + STN_LAZY_UNITS - 1) / STN_LAZY_UNITS;
}

/* Cuts off the next read of any mapping, the urgent ones first. Fills the step. */
bool stn_lazy_claim_read(struct stn_lazy_engine *engine, struct stn_step *step);

/* True if a thread more would find something to read. */
bool stn_lazy_has_reads(const struct stn_lazy_engine *engine);

/* None is open yet. */
void stn_lazy_handle_start(struct stn_lazy *lazy);

/* Chooses the descriptor for a read of bytes at an offset in the file, and opens it if need be,
 * which may wait for the server; and the size of its requests. To be put back after the read; good:
 * that has brought all of the bytes, past the page cache. Take the pool lock; on a thread of the
 * lazy crew. */
void stn_lazy_handle_take(struct stn_lazy *lazy, uint64_t offset, uint64_t bytes,
			  struct stn_lazy_use *use);
void stn_lazy_handle_put(struct stn_lazy *lazy, uint64_t offset, uint64_t bytes,
			 const struct stn_lazy_use *use, bool good);

/* Closes what has been opened for a mapping. Nobody reads; on a thread of the lazy crew. */
void stn_lazy_handle_close_all(struct stn_lazy *lazy);

/* In a child: none is open. */
void stn_lazy_handle_forget_all(void);

/* Does a read, places it or keeps it back. No lock held. */
void stn_lazy_run_read(struct stn_lazy_engine *engine, struct stn_step *step);

/* Notes that the program touches a byte, by its offset in the mapping. True if a piece that was
 * kept back must be placed: *piece is it, its units are being placed now. */
bool stn_lazy_touch(struct stn_lazy *lazy, uint64_t offset, struct stn_lazy_piece *piece);

/* Places a piece, whose units are being placed, and frees its block. No lock held. */
void stn_lazy_place(struct stn_lazy_engine *engine, struct stn_lazy *lazy,
		    const struct stn_lazy_piece *piece);

/* Decides, once, whether what a sweep reads of a mapping is held. On a thread of the lazy crew;
 * pool lock held. */
void stn_lazy_hold_begin(struct stn_lazy *lazy);

/* Where units that are going to be read are to be held; NULL if they are not. Pool lock held. */
char *stn_lazy_hold_take(struct stn_lazy *lazy, uint32_t first, uint32_t count);

/* True if the bytes of a piece are in memory that holds them. */
bool stn_lazy_is_held(const struct stn_lazy *lazy, const struct stn_lazy_piece *piece);

/* Such a piece has been read, or could not be. The second: pool lock held. */
void stn_lazy_hold_finish(struct stn_lazy_engine *engine, struct stn_lazy *lazy,
			  const struct stn_lazy_piece *piece);
void stn_lazy_hold_fail(struct stn_lazy *lazy, const struct stn_lazy_piece *piece);

/* The program touches a unit: if that is held it is awaited, and if it is not the head of a tensor
 * that has been entered. With many copies of heads the block of another head is not to be held any
 * more. True if stn_lazy_hold_serve has to do with it. Pool lock held. */
bool stn_lazy_hold_touch(const struct stn_lazy_engine *engine, struct stn_lazy *lazy,
			 uint32_t unit);

/* True while a thread is busy with the block of a unit. Pool lock held. */
bool stn_lazy_hold_is_busy(const struct stn_lazy *lazy, uint32_t unit);

/* True of an address in the memory that holds. On the thread that waits for faults. */
bool stn_lazy_hold_has(const struct stn_lazy *lazy, uintptr_t address);

/* Nothing will be held any more: gives the addresses back. Nobody reads or copies; pool lock held,
 * or the mapping is in no table. */
void stn_lazy_hold_end(struct stn_lazy *lazy);

/* Places what such a touch asks for. No lock held; on a thread of the lazy crew. */
void stn_lazy_hold_serve(struct stn_lazy_engine *engine, struct stn_lazy *lazy, uint32_t unit);

/* What lies in these units is not to be held any more. Pool lock held. */
void stn_lazy_hold_enter(struct stn_lazy *lazy, uint32_t first, uint32_t count);

/* Places what is awaited or not to be held any more of these units. No lock held; on a thread of
 * the lazy crew. */
void stn_lazy_hold_settle(struct stn_lazy_engine *engine, struct stn_lazy *lazy, uint32_t first,
			  uint32_t count);

/* Units have gone: gives back what was held of them. Pool lock held. */
void stn_lazy_hold_forget(struct stn_lazy *lazy, uint32_t first, uint32_t count);

/* Where a block is held, to be read by the caller until stn_lazy_hold_return: as the file has it.
 * NULL if it is not. The first: pool lock held; the second: no lock held. */
const char *stn_lazy_hold_lend(struct stn_lazy *lazy, uint32_t block);
void stn_lazy_hold_return(struct stn_lazy_engine *engine, struct stn_lazy *lazy, uint32_t block);

/*
 * Copies the first run of a range of a mapping's file from where another mapping of that holds it,
 * and returns its bytes. If nobody holds the first byte returns 0, with *gap set to the bytes up to
 * where it is worth asking again. No lock held.
 */
size_t stn_lazy_borrow(struct stn_lazy_engine *engine, struct stn_lazy *lazy, char *memory,
		       uint64_t at, uint64_t bytes, size_t *gap);

/* Has whoever waits for a piece of a mapping look again. No lock held. */
void stn_lazy_wake(const struct stn_lazy *lazy, uint32_t first, uint32_t count);

/* Finds out which of up to 512 pages are there, in memory or in swap; without pagemap, those in
 * memory. */
void stn_lazy_look(uintptr_t start, size_t count, bool *there);

/* Gives what has become the file's own mapping the access that the program has given it. Pool lock
 * held, or in a child. */
void stn_lazy_restore_access(const struct stn_lazy *lazy, uintptr_t start, uintptr_t end);

/* Tells whoever waits in stn_lazy_fill. Pool lock held. */
void stn_lazy_tell(struct stn_lazy_engine *engine, struct stn_lazy *lazy);

/* Places what is kept back of a mapping. No lock held. */
void stn_lazy_place_kept(struct stn_lazy_engine *engine, struct stn_lazy *lazy);

/*
 * Gives a mapping up: what is missing of it becomes the file's own mapping. Blocks are freed as
 * their readers return. No lock held; on a thread of the lazy crew.
 */
void stn_lazy_surrender(struct stn_lazy_engine *engine, struct stn_lazy *lazy,
			enum stn_decision why);

/* Puts the file's own mapping in the place of units [first, first + count), which are being read.
 * No lock held; on a thread of the lazy crew. */
void stn_lazy_return_units(struct stn_lazy *lazy, uint32_t first, uint32_t count);

/* Waits for faults and serves them until no mapping is left. No lock held. */
void stn_lazy_run_serve(struct stn_lazy_engine *engine);

/* Has the waiting thread, if there is one, be told of the mapping's faults. 0 or -errno. Pool lock
 * held. */
int stn_lazy_watch(const struct stn_lazy_engine *engine, const struct stn_lazy *lazy);

/* Finds a mapping by its id; NULL for 0 and for what has ended. Pool lock held. */
struct stn_lazy *stn_lazy_find(const struct stn_lazy_engine *engine, uint32_t id);

/* True once the mapping is in the registry, or has been: what is read before that has no place to
 * go and would be lost. Pool lock held. */
bool stn_lazy_is_published(struct stn_lazy *lazy);

/* Closes and frees a mapping that is in no table, which may wait for the file's server. On a thread
 * of the lazy crew, or nothing is open yet; no lock held. */
void stn_lazy_free(struct stn_lazy *lazy);

/* Takes a mapping out of the table. Pool lock held. */
void stn_lazy_unlink(struct stn_lazy_engine *engine, struct stn_lazy *lazy);

/* In a child, also of one that ran no handlers (_Fork), which has its parent's table: no mapping is
 * being filled lazily. */
void stn_lazy_forget_all(void);

/* Accounts for a read that has ended. Pool lock held. */
void stn_lazy_settle_read(struct stn_lazy_engine *engine, const struct stn_step *step);

/* A mapping of which nothing is missing becomes plain memory. On the thread that waits for faults;
 * no lock held. */
void stn_lazy_make_plain(struct stn_lazy_engine *engine, struct stn_lazy *lazy);

/* Such a mapping that nobody reads for any more is freed by a step of its own. No lock held. */
void stn_lazy_end(struct stn_lazy_engine *engine, struct stn_lazy *lazy);

/* Says in the journal what could not be read first, before the program can see it. No lock held. */
void stn_lazy_record_failure(const struct stn_lazy *lazy, uint64_t offset, uint64_t bytes);

/* Says in the journal what has become of a mapping, once. No lock held. */
void stn_lazy_record(struct stn_lazy *lazy);

/* A step that does so for a mapping which has been given up but is still being read. Pool lock
 * held; it is settled as a read is. */
bool stn_lazy_claim_record(struct stn_lazy_engine *engine, struct stn_step *step);

/* Draws or ends the progress bar of a mapping. No lock held; on the waiting thread. */
void stn_lazy_draw(struct stn_lazy *lazy);

/* Such steps. Pool lock held for the first two, no lock for the third. */
bool stn_lazy_has_ended(const struct stn_lazy_engine *engine);
bool stn_lazy_has_news(const struct stn_lazy_engine *engine);
bool stn_lazy_claim_end(struct stn_lazy_engine *engine, struct stn_step *step);
void stn_lazy_run_end(struct stn_lazy *lazy);

#endif
