/* SPDX-License-Identifier: Apache-2.0 */
#include "reading.h"

#include <errno.h>
#include <linux/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "config.h"
#include "engagement.h"
#include "fs.h"
#include "journal.h"
#include "page.h"
#include "process.h"
#include "readlog.h"
#include "range.h"
#include "signals.h"
#include "source.h"
#include "strangers.h"
#include "survey.h"
#include "sys.h"

#define PIECES	       8 /* of the program's that are looked at at a time; on the stack */
#define FAILURES_BORNE 8 /* requests of a version that the kernel had to finish */

/* One call while it is served. */
struct reading {
	const struct stn_read_call *call;
	struct stn_model *model;
	struct stn_facts facts;
	struct stn_range range;
	uint64_t wanted; /* bytes that the pieces have room for, then those to be had */
};

/* Finds the model behind the descriptor; no server is asked. */
static bool find_model(struct reading *reading)
{
	uint32_t era = stn_stranger_era();
	struct statx st;

	if (stn_sys_statx_cached(reading->call->fd, STATX_INO, &st) < 0)
		return false;
	reading->model =
		stn_names_find((uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor, st.stx_ino);
	if (!reading->model)
		stn_stranger_note(reading->call->fd, era);
	return reading->model != NULL;
}

/* The type of the file system, asked for once. 0 if it is refused. */
static uint64_t file_system_of(struct stn_model *model, int fd)
{
	uint64_t type = atomic_load(&model->file_system);
	struct statfs fs = {0};

	if (!type && stn_sys_fstatfs(fd, &fs) == 0) {
		type = (uint32_t)fs.f_type;
		atomic_store(&model->file_system, type);
	}
	return type;
}

/*
 * True for a small request on a file that is known not to be on FUSE, when nobody wants to know
 * what is decided: there is nothing more to be looked at.
 */
static bool is_plainly_small(const struct reading *reading)
{
	const struct stn_read_call *call = reading->call;
	uint64_t type = atomic_load(&reading->model->file_system);

	return type && type != STN_FS_FUSE && call->trusted && call->count == 1 &&
	       call->pieces->iov_len < stn_config.read_min &&
	       !stn_journal_wants(STN_DECLINED_FILE_SYSTEM);
}

/* Fills in what the file and its descriptor show. False for a descriptor that the kernel is to
 * deal with, whatever the file. */
static bool look_at_file(struct reading *reading)
{
	const unsigned type = 0170000, regular = 0100000;
	struct stn_facts *facts = &reading->facts;
	int fd = reading->call->fd, flags = stn_sys_fcntl(fd, F_GETFL, 0);
	struct statx st = {0};

	if (flags < 0 || flags & (O_PATH | O_DIRECT) || (flags & O_ACCMODE) == O_WRONLY ||
	    stn_sys_statx(fd, STATX_BASIC_STATS, &st) < 0)
		return false;
	stn_identity_from(&st, &reading->range.identity);
	reading->range.model = reading->model;
	stn_model_version(reading->model, &reading->range.identity);
	facts->model = true;
	facts->regular = (st.stx_mode & type) == regular;
	facts->dax = (st.stx_attributes & 0x200000 /* STATX_ATTR_DAX */) != 0;
	facts->open_for_writing = (flags & O_ACCMODE) != O_RDONLY;
	facts->file_system = file_system_of(reading->model, fd);
	facts->file_size = st.stx_size;
	facts->mode = stn_config.mode;
	facts->file_systems = stn_config.file_systems;
	facts->unified = stn_survey_unified() == 1;
	facts->delivered = atomic_load(&reading->model->reads.bytes) +
			   atomic_load(&reading->model->reads.reported);
	reading->range.owner = st.stx_uid;
	return true;
}

/* Copies the program's pieces from number first on; how many, or -errno. */
static int take_pieces(const struct stn_read_call *call, int first, struct iovec out[PIECES])
{
	int count = (int)stn_min((uint64_t)(call->count - first), PIECES);
	size_t size = (size_t)count * sizeof(*out);

	if (call->trusted)
		__builtin_memcpy(out, call->pieces + first, size);
	else if (stn_sys_copy(stn_sys_getpid(), out, call->pieces + first, size) != (ssize_t)size)
		return -EFAULT;
	return count;
}

/* True for memory that the kernel refuses at once, without a byte read, by its address alone. */
static bool is_no_memory(const struct iovec *piece)
{
	const uint64_t end = (uint64_t)1 << STN_SYS_ADDRESS_BITS;
	uint64_t start = (uintptr_t)piece->iov_base;

	return start >= end || piece->iov_len > end - start;
}

/* Adds up the pieces. False for what the kernel refuses, or has nothing to do for. */
static bool add_up(struct reading *reading)
{
	const struct stn_read_call *call = reading->call;
	const int most_pieces = 1024;
	struct iovec pieces[PIECES];
	uint64_t sum = 0;

	if (call->count <= 0 || call->count > most_pieces || (call->positioned && call->offset < 0))
		return false;
	for (int first = 0; first < call->count; first += PIECES) {
		int count = take_pieces(call, first, pieces);

		if (count < 0)
			return false;
		for (int i = 0; i < count; i++) {
			if (is_no_memory(&pieces[i]))
				return false;
			sum = stn_min(sum + pieces[i].iov_len, INT64_MAX);
		}
	}
	/* What one call can move at most: MAX_RW_COUNT in the kernel. */
	reading->wanted = stn_min(sum, stn_round_down(INT32_MAX, stn_page_size()));
	return sum > 0 && (!call->positioned || sum <= INT64_MAX - (uint64_t)call->offset);
}

/* Where the call begins to read. False if the descriptor has no position. */
static bool find_offset(struct reading *reading)
{
	int64_t offset = reading->call->positioned ? reading->call->offset
						   : stn_sys_lseek(reading->call->fd, 0, SEEK_CUR);

	reading->facts.offset = (uint64_t)offset;
	reading->facts.length = reading->wanted;
	return offset >= 0;
}

static void describe(const struct reading *reading, struct stn_readlog_entry *entry)
{
	*entry = (struct stn_readlog_entry){
		.fd = reading->call->fd,
		.model = reading->model,
		.identity = &reading->range.identity,
		.file_system = reading->facts.file_system,
		.bytes = reading->wanted,
	};
}

/* Looks at the hardware, if that could change the decision and has not been done. */
static void ask_hardware(struct reading *reading)
{
	struct stn_survey *survey;
	int error;

	if (stn_survey_unified() >= 0)
		return;
	survey = stn_survey_run(reading->call->fd, false, &error);
	if (!survey)
		return;
	reading->facts.unified = survey->unified;
	stn_survey_put(survey);
}

/*
 * True if the page cache has the file, asked once for a version of it: off FUSE the kernel copies
 * it from there faster than anybody reads it.
 */
static bool is_cached(const struct reading *reading)
{
	_Atomic uint64_t *known = &reading->model->reads.cached;
	uint64_t answer = atomic_load(known);

	if (reading->facts.file_system == STN_FS_FUSE || !stn_range_owned(&reading->range) ||
	    stn_config.cache == STN_CACHE_DROP)
		return false;
	if (!answer) {
		bool cached = stn_fs_cached(reading->call->fd, reading->facts.file_size);

		atomic_store(known, answer = cached ? 2 : 1);
	}
	return answer == 2;
}

/* True for a request that the kernel may serve where the page cache is no danger. */
static bool is_small(const struct reading *reading)
{
	uint64_t left = reading->facts.file_size - reading->facts.offset;

	return reading->facts.file_system != STN_FS_FUSE &&
	       stn_min(reading->wanted, left) < stn_config.read_min;
}

/* What is decided, with everything known. */
static enum stn_decision decision_of(struct reading *reading)
{
	enum stn_decision decision = stn_policy_read(&reading->facts);

	if (decision == STN_DECLINED_FILE_SYSTEM) {
		ask_hardware(reading);
		decision = stn_policy_read(&reading->facts);
	}
	if (decision == STN_ENGAGED && !is_small(reading)) {
		reading->facts.cached = is_cached(reading);
		decision = stn_policy_read(&reading->facts);
	}
	return decision;
}

/* The whole decision. False if the kernel is to serve the call; the journal knows why then, if
 * anybody should. */
static bool decide(struct reading *reading)
{
	struct stn_readlog_entry entry;
	enum stn_decision decision;

	/* A child that shares its parent's memory has no threads to ask. */
	reading->range.process = stn_process_get();
	if (!reading->range.process)
		return false;
	decision = decision_of(reading);
	/* Nothing to be read, and nothing to be said. */
	if (decision == STN_DECLINED_EMPTY || decision == STN_DECLINED_PAST_END)
		return false;
	if (decision == STN_ENGAGED && stn_config.mode != STN_MODE_OBSERVE)
		return atomic_load(&reading->model->reads.failures) <= FAILURES_BORNE;
	describe(reading, &entry);
	stn_readlog_decision(&entry, decision);
	return false;
}

/* Reserves the bytes to be had at the descriptor's position, so that others who read through the
 * same descriptor get other bytes. False if it has been closed meanwhile. */
static bool reserve(struct reading *reading)
{
	uint64_t size = reading->facts.file_size, wanted = reading->wanted, left;
	int fd = reading->call->fd;
	int64_t end = stn_sys_lseek(fd, (int64_t)wanted, SEEK_CUR);

	if (end < 0)
		return false;
	reading->range.offset = (uint64_t)end - wanted;
	/* Another thread may have read on meanwhile. */
	left = reading->range.offset < size ? size - reading->range.offset : 0;
	if (left < wanted) {
		stn_sys_lseek(fd, (int64_t)left - (int64_t)wanted, SEEK_CUR);
		reading->wanted = left;
	}
	return true;
}

/* Reads into all pieces, one after the other. Bytes, or -errno if there are none. */
static int64_t read_pieces(struct reading *reading)
{
	struct stn_range *range = &reading->range;
	struct iovec pieces[PIECES];
	uint64_t done = 0;

	for (int first = 0; first < reading->call->count && done < reading->wanted;
	     first += PIECES) {
		int count = take_pieces(reading->call, first, pieces);

		for (int i = 0; i < count && done < reading->wanted; i++) {
			int64_t got;

			range->memory = pieces[i].iov_base;
			range->length = stn_min(pieces[i].iov_len, reading->wanted - done);
			got = range->length ? stn_range_read(range) : 0;
			if (got < 0)
				return done ? (int64_t)done : got;
			done += (uint64_t)got;
			range->offset += (uint64_t)got;
			if ((uint64_t)got < range->length)
				return (int64_t)done;
		}
		if (count < 0)
			return done ? (int64_t)done : count;
	}
	return (int64_t)done;
}

/* Keeps the books of a call that was served. */
static void account(struct reading *reading, int64_t got)
{
	struct stn_readlog_entry entry;

	describe(reading, &entry);
	if (reading->range.waiting)
		entry.elapsed = stn_sys_clock(CLOCK_MONOTONIC) - reading->range.waiting;
	if (reading->range.broken)
		stn_readlog_decision(&entry, STN_ABANDONED_IO_ERROR);
	entry.bytes = got > 0 ? (uint64_t)got : 0;
	entry.direct_bytes = reading->range.direct_bytes;
	entry.buffered_bytes = reading->range.buffered_bytes;
	entry.threads = reading->range.threads;
	if (reading->range.failure) {
		atomic_fetch_add(&reading->model->reads.failures, 1);
		stn_readlog_decision(&entry, stn_engagement_error(reading->range.failure));
		/* All of it is the kernel's work. */
		if (!entry.direct_bytes && !entry.buffered_bytes)
			return;
	}
	if (entry.bytes)
		stn_readlog_served(&entry);
}

/* Gives back what was reserved and not read, unless the number is another file's by now. */
static void give_back(struct reading *reading, int64_t got)
{
	int64_t rest = (int64_t)reading->wanted - (got > 0 ? got : 0);

	if (rest && stn_source_is_file(reading->call->fd, &reading->range.identity))
		stn_sys_lseek(reading->call->fd, -rest, SEEK_CUR);
}

/* Reads. False if the descriptor has been closed meanwhile. */
static bool serve(struct reading *reading, ssize_t *result)
{
	const struct stn_read_call *call = reading->call;
	const struct stn_facts *facts = &reading->facts;
	struct stn_range *range = &reading->range;
	bool reserved;

	reading->wanted = stn_min(reading->wanted, facts->file_size - facts->offset);
	range->fd = call->fd;
	range->fuse = facts->file_system == STN_FS_FUSE;
	range->unified = facts->unified;
	range->offset = facts->offset;
	/* A handler that leaves by longjmp must not leave threads behind that write. */
	range->mask = stn_signals_block();
	reserved = call->positioned || reserve(reading);
	if (reserved)
		*result = reading->wanted ? read_pieces(reading) : 0;
	if (reserved && !call->positioned)
		give_back(reading, *result);
	stn_sys_sigmask(&range->mask, NULL);
	if (reserved)
		account(reading, *result);
	return reserved;
}

/* Serves a read of a descriptor that may be a model's. */
static bool serve_call(const struct stn_read_call *call, ssize_t *result)
{
	struct reading reading = {.call = call};

	if (stn_config.read_min == STN_READ_OFF || !find_model(&reading) ||
	    is_plainly_small(&reading) || !look_at_file(&reading) || !add_up(&reading) ||
	    !find_offset(&reading) || !decide(&reading))
		return false;
	if (is_small(&reading))
		return false;
	if (call->about_to)
		call->about_to();
	return serve(&reading, result);
}

bool stn_reading_serve(const struct stn_read_call *call, ssize_t *result)
{
	return call->fd >= 0 && !stn_stranger_known(call->fd) && serve_call(call, result);
}

bool stn_reading_covers(int fd)
{
	const struct stn_read_call call = {.fd = fd};
	struct reading reading = {.call = &call, .wanted = 1, .facts.length = 1};

	if (stn_config.read_min == STN_READ_OFF || !find_model(&reading) ||
	    !look_at_file(&reading) || !decide(&reading))
		return false;
	/* The number of a duplicate was perhaps another file's until now. */
	stn_strangers_forget();
	return true;
}
