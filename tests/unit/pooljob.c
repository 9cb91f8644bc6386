/* SPDX-License-Identifier: Apache-2.0 */
#include "pooljob.h"

#include "sys.h"
#include "unit.h"

#define PATIENCE 5000 /* ms that steps wait for each other */

static bool claim(struct stn_job *job, struct stn_step *step)
{
	struct unit_job *self = (struct unit_job *)(void *)job;

	if (self->claimed == self->steps)
		return false;
	step->offset = self->claimed++;
	step->length = 1;
	return true;
}

static void meet(struct unit_gate *gate)
{
	int seen = __atomic_load_n(&gate->most, __ATOMIC_RELAXED);

	for (int i = 0; seen < gate->meet && i < PATIENCE; i++) {
		stn_sys_sleep(1000000);
		seen = __atomic_load_n(&gate->most, __ATOMIC_RELAXED);
	}
	if (seen < gate->meet)
		__atomic_add_fetch(&gate->missed, 1, __ATOMIC_RELAXED);
}

/* On a thread of the pool: nothing of libc here. */
static void run(struct stn_job *job, struct stn_step *step)
{
	const struct unit_job *self = (const struct unit_job *)(const void *)job;
	struct unit_gate *gate = self->gate;
	bool waits = step->offset < self->waits;
	int inside = __atomic_add_fetch(&gate->inside, 1, __ATOMIC_RELAXED);
	int most = __atomic_load_n(&gate->most, __ATOMIC_RELAXED);

	while (inside > most && !__atomic_compare_exchange_n(&gate->most, &most, inside, false,
							     __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		;
	meet(gate);
	if (self->pause)
		stn_sys_sleep(self->pause);
	if (waits)
		__atomic_add_fetch(&gate->waiting, 1, __ATOMIC_RELAXED);
	while (waits && !__atomic_load_n(&gate->open, __ATOMIC_ACQUIRE))
		stn_sys_sleep(1000000);
	__atomic_sub_fetch(&gate->inside, 1, __ATOMIC_RELAXED);
	step->result = (int64_t)step->offset + 1;
}

static bool settle(struct stn_job *job, const struct stn_step *step)
{
	struct unit_job *self = (struct unit_job *)(void *)job;

	self->sum += (unsigned)step->result;
	return ++self->settled == self->steps;
}

/* On leaving of the caller, and for each step that ends later. */
static void abandon(struct stn_job *job, const struct stn_step *step)
{
	const struct unit_job *self = (const struct unit_job *)(const void *)job;

	__atomic_add_fetch(step ? &self->gate->late : &self->gate->left, 1, __ATOMIC_RELAXED);
}

static void release(struct stn_job *job)
{
	struct unit_job *self = (struct unit_job *)(void *)job;

	__atomic_add_fetch(&self->gate->released, 1, __ATOMIC_RELAXED);
}

struct unit_job *unit_job_make(struct unit_gate *gate, unsigned steps, unsigned width)
{
	static const struct stn_job_type type = {.claim = claim,
						 .run = run,
						 .settle = settle,
						 .abandon = abandon,
						 .release = release};
	struct unit_job *self = stn_job_make(sizeof(*self), &type);

	ck_assert_ptr_nonnull(self);
	self->gate = gate;
	self->steps = steps;
	self->job.width = width;
	return self;
}

bool unit_gate_reached(struct unit_gate *gate, int count)
{
	for (int i = 0; i < PATIENCE; i++) {
		if (__atomic_load_n(&gate->waiting, __ATOMIC_RELAXED) >= count)
			return true;
		stn_sys_sleep(1000000);
	}
	return false;
}

void unit_gate_open(struct unit_gate *gate)
{
	__atomic_store_n(&gate->open, 1, __ATOMIC_RELEASE);
}

static void nothing(struct stn_call *call)
{
	(void)call;
}

int unit_pool_ping(unsigned threads)
{
	struct stn_call *call = stn_call_make(sizeof(*call), nothing);
	int rc;

	if (!call)
		return -1;
	rc = stn_pool_run(&call->job, threads, 3000000000, NULL);
	stn_job_put(&call->job);
	return rc;
}
