/* SPDX-License-Identifier: Apache-2.0 */
/* Mappings made by the library, and its configuration, for tests above single modules. */
#ifndef UNIT_ENGAGED_H
#define UNIT_ENGAGED_H

#include "engage.h"

#define UNIT_STATS "stats.jsonl" /* in the test's directory */

/*
 * Reads the configuration anew with these variables ("NAME=value", NULL at the end) and none else.
 * Statistics go to UNIT_STATS.
 */
void unit_configure(const char *first, ...) __attribute__((sentinel));

/* Makes a pattern file and declares it a model; an open descriptor. */
int unit_model(const char *name, size_t size);

/* Declares the file behind a descriptor a model, under the name path. */
void unit_declare(int fd, const char *path);

/* A call that maps length bytes of fd from offset. */
struct stn_map_call unit_call(int fd, size_t length, int prot, int flags, uint64_t offset);

/* Maps by the library, which must engage. */
char *unit_engage(int fd, size_t length, int prot, int flags, uint64_t offset);

/* The last line of the statistics, or "" if there is none. */
const char *unit_last_line(void);

/* True if the last line of the statistics has this decision, for example "declined:memory". */
bool unit_last_decision(const char *decision);

/* True if a keeper is mapped, or anything else of the file called name. */
int unit_maps_of(const char *name);

#endif
