/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Libraries that stand in for those of GPU vendors. What one claims and how it misbehaves is in a
 * variable of the environment.
 */
#ifndef STANDIN_H
#define STANDIN_H

#include <stdbool.h>

/* Misbehaves as the variable says: crash, abort, hang, exit, fork, stray, print, handlers. To be
 * called at the start of each library's first call. */
void standin_begin(const char *variable);

/* True if the variable is the word. */
bool standin_is(const char *variable, const char *word);

#endif
