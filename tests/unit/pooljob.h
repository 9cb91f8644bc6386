/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs for the tests of the pool: steps that count, meet each other, or wait to be let go. */
#ifndef UNIT_POOLJOB_H
#define UNIT_POOLJOB_H

#include "pool.h"

/* What all steps of a test share; steps have no other memory that outlives their job. */
struct unit_gate {
	int inside; /* steps that run now */
	int most;   /* of them at once so far */
	int meet;   /* a step goes on when so many are inside, or after some seconds; 0: at once */
	int missed; /* steps that did not meet */
	int open;   /* a step that has to wait goes on when this is not 0 */
	int waiting;
	int left;     /* jobs whose caller has gone */
	int late;     /* steps that ended after that */
	int released; /* jobs whose last reference is gone */
};

struct unit_job {
	struct stn_job job;
	struct unit_gate *gate;
	unsigned steps;	  /* to be claimed */
	unsigned claimed; /* so far */
	unsigned settled;
	unsigned sum;	/* of the numbers of the steps that were run */
	unsigned waits; /* so many steps, the first ones, wait for the gate to open */
	uint64_t pause; /* nanoseconds that each step takes */
};

/* A job of so many steps; at most width threads can help. */
struct unit_job *unit_job_make(struct unit_gate *gate, unsigned steps, unsigned width);

/* True once so many steps wait at the gate. */
bool unit_gate_reached(struct unit_gate *gate, int count);

/* Lets all go that wait. */
void unit_gate_open(struct unit_gate *gate);

/* Runs a call that does nothing, with a time-out of three seconds. */
int unit_pool_ping(unsigned threads);

#endif
