/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a lazily filled mapping reads when the program touches something that is not there. Pure
 * bookkeeping over offsets into the mapping; the caller guards it.
 *
 * The rule. A first touch somewhere is no proof that anything near it is wanted (a loader may touch
 * each tensor once): it reads one unit. A touch that carries on where an earlier one led makes the
 * two a run; it reads a megabyte and, ahead of that, a share of the length that the run has proven:
 * a quarter of it or a little more, so that a program which takes half of every tensor reads little
 * of the other half. A run that has not left the tensor in which it began is read to its end at
 * most, and to its end at once if that is near. From 48 MiB on it is as much again as the run is
 * long, which soon is everything from here on. Part of what is read ahead is kept back, the marker:
 * the touch of it says that the program follows, and the next window is read while it works on this
 * one. A program that is faster than the file touches what is being read ahead: that is read next,
 * and no window is added before the last one is reached. Runs go backwards too. Several go on at
 * once, for several threads. What all of them have gone through, in whatever order, counts too: if
 * that is 48 MiB and two thirds of what it lies in, more than one tensor, what lies between is read
 * and as much again beyond (memmove copies piece by piece, each of them backwards); if it is most
 * of the mapping, the rest.
 *
 * A sweep is first touches of tensors of which none is gone into: a loader that makes all tensors
 * of a file before any is used. After three that lie one behind the other what they lie in is read
 * and as much again beyond, after eight such touches, or 48 MiB, or two dozen tensors in any order,
 * everything. So that this does not take a round trip for each, the first touch of a tensor of a
 * file has the heads of the next seven read along with it, once, which are kept back as markers.
 *
 * A mapping of at most 8 MiB is read as a whole when anything but its header is touched; one that
 * may be stored into and whose header has been read before, when anything is.
 *
 * Confined, nothing is read beyond the tensor that is gone into, where it is known where they are.
 */
#ifndef STN_AHEAD_H
#define STN_AHEAD_H

#include <stdbool.h>
#include <stdint.h>

struct stn_tensors;

#define STN_AHEAD_UNIT                                                                             \
	((uint64_t)64 << 10) /* the least that is read: bytes, and their alignment                 \
			      */
#define STN_AHEAD_RUNS	16
#define STN_AHEAD_HEADS 7

/* One run of touches. */
struct stn_run {
	uint64_t first; /* where it began */
	uint64_t at;	/* the last touch */
	uint64_t low;	/* all of [low, high) is or will be read on its behalf */
	uint64_t high;
	uint64_t asked;	  /* where its last window begins; backwards: where that ends */
	uint64_t marker;  /* its unit is kept back until it is touched; UINT64_MAX: none */
	uint64_t used_at; /* clock of touches, for replacing the oldest */
	bool backwards;
	bool live;
};

struct stn_ahead {
	uint64_t size;		       /* bytes of the mapping */
	uint64_t covered;	       /* bytes that the runs have gone through */
	uint64_t lowest, highest;      /* where, with what was touched alone */
	uint64_t dense_to;	       /* how far has been read on because that lies densely */
	uint64_t touches;	       /* counts */
	uint64_t sweep_from, sweep_to; /* what the sweep lies in, and has had read */
	uint64_t begun_at;	       /* the last first touch of a tensor */
	uint32_t sweep; /* such touches in a row, each of the tensor behind the one before */
	uint32_t begun; /* such touches in a row, in any order */
	struct stn_tensors *tensors;	 /* where tensors begin, by the caller; NULL: unknown */
	uint64_t heads[STN_AHEAD_HEADS]; /* units kept back until they are touched; or UINT64_MAX */
	bool confined; /* nothing is read beyond the tensor that is gone into; by the caller */
	bool random;   /* the program said that it goes about at random */
	bool all;      /* everything has been asked for */
	bool swept;    /* that is because of a sweep: nothing of it need ever be used */
	struct stn_run runs[STN_AHEAD_RUNS];
};

/* What to read because of a touch; empty ranges have from == to. Multiples of a unit, or the end.
 */
struct stn_ahead_plan {
	uint64_t from, to;	       /* at once */
	uint64_t ahead_from, ahead_to; /* afterwards */
	uint64_t marker;	       /* a unit of it that is kept back, or UINT64_MAX */
	bool heads;		       /* afterwards the heads as well */
};

/* Starts the books of a mapping of size bytes. */
void stn_ahead_start(struct stn_ahead *ahead, uint64_t size);

/* True if the mapping is so small that it is read as a whole. */
bool stn_ahead_is_small(const struct stn_ahead *ahead);

/* Takes note of a touch at offset (below size), of something missing or kept back. */
void stn_ahead_touch(struct stn_ahead *ahead, uint64_t offset, struct stn_ahead_plan *plan);

/* True if a run's marker lies in [from, to). */
bool stn_ahead_marked(const struct stn_ahead *ahead, uint64_t from, uint64_t to);

/* Forgets the markers in [from, to): nothing there need be kept back. */
void stn_ahead_unmark(struct stn_ahead *ahead, uint64_t from, uint64_t to);

#endif
