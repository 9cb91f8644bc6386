/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How large the requests are that a mount takes best. The kernel makes as large ones of a read as
 * the server allows, mostly of 1 MiB, and several at once. For most servers that is best; some
 * (mergerfs) get fresh memory for each request that large, and are twice as fast with smaller ones.
 * That is found out once for each mount, from what the large reads take that are made anyway: some
 * as the kernel will have them, then some whose requests are small. Pure bookkeeping; the caller
 * guards it.
 */
#ifndef STN_REQUEST_H
#define STN_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#define STN_REQUEST_LEAST  6u  /* whole reads that are remembered */
#define STN_REQUEST_MOUNTS 16u /* in a table of them */

/* What is known of a mount. */
enum stn_request_phase {
	STN_REQUEST_WATCHING, /* what whole reads take */
	STN_REQUEST_TRYING,   /* reads are split, to compare */
	STN_REQUEST_WHOLE,    /* for good */
	STN_REQUEST_SPLIT,    /* for good */
};

struct stn_request {
	enum stn_request_phase phase;
	uint64_t quickest; /* nanoseconds of the quickest small read, 0: none yet */
	uint32_t running;  /* large reads, until it is known what is best */
	uint32_t whole;	   /* of them those that are not split */
	uint32_t watched;  /* whole reads that have ended */
	uint32_t begun;	   /* split reads that have begun in the trial */
	uint32_t tried;	   /* of them those that count */
	uint32_t better;   /* of them those that were much cheaper than whole ones */
	uint32_t worse;	   /* and those that were not */
	/* What the cheapest whole reads took for 1 MiB, nanoseconds, the cheapest first: by
	 * themselves, and divided by the reads that ran at the time. */
	uint64_t alone[STN_REQUEST_LEAST];
	uint64_t shared[STN_REQUEST_LEAST];
};

/* One of a table of mounts. */
struct stn_request_mount {
	uint64_t device; /* as in stn_identity; 0: unused */
	struct stn_request request;
};

/* A read, from begin to end. */
struct stn_request_read {
	uint64_t most;	  /* bytes to read at a time */
	uint32_t running; /* large reads with this one when it began; 0: it is not one of them */
	bool split;	  /* it is large, and made of small requests */
	bool counts;	  /* it is compared with others */
};

/* What is known of a mount, by its device; NULL if there are too many. */
struct stn_request *stn_request_of(struct stn_request_mount mounts[STN_REQUEST_MOUNTS],
				   uint64_t device);

/* A read of so many bytes begins; parallel: reads are not made one at a time. Fills *read. */
void stn_request_begin(struct stn_request *request, uint64_t bytes, bool parallel,
		       struct stn_request_read *read);

/* It has ended after elapsed nanoseconds; good: it has brought all of the bytes, past
 * the page cache. */
void stn_request_end(struct stn_request *request, uint64_t bytes,
		     const struct stn_request_read *read, uint64_t elapsed, bool good);

/* True while reads are being compared: they are to be short, so that it is soon known. */
bool stn_request_compares(const struct stn_request *request);

#endif
