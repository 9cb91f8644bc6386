/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that were found to be no model's, so that a program which reads from sockets and
 * pipes while it has a model open does not pay for a look at each read.
 *
 * Nothing tells when a number becomes another file's. What is remembered is forgotten whenever a
 * model is opened under its name, and after STN_STRANGER_READS reads. A descriptor that turned into
 * a model's in another way (dup, a raw system call, a message) is read by the kernel until then,
 * rightly but through the page cache. The opposite mistake cannot happen: a descriptor that is
 * taken for a model's has just been looked at.
 */
#ifndef STN_STRANGERS_H
#define STN_STRANGERS_H

#include <stdbool.h>
#include <stdint.h>

#define STN_STRANGER_READS 64

/* True if fd was no model's when it was last looked at, not long ago. Lock-free, a few nanoseconds.
 */
bool stn_stranger_known(int fd);

/* What to give to stn_stranger_note, asked for before the descriptor is looked at. */
uint32_t stn_stranger_era(void);

/* Remembers that fd is no model's, unless a model has been opened since the era. */
void stn_stranger_note(int fd, uint32_t era);

/* Forgets all: a model has been opened. Async-signal-safe. */
void stn_strangers_forget(void);

#endif
