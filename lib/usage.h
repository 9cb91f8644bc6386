/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a program uses what is filled for it at once, by the marks that the processor leaves in
 * the page tables: a program that opens a file for every tensor must not have it read whole each
 * time. Asked of huge pages only, where it costs next to nothing; without them nothing is known.
 */
#ifndef STN_USAGE_H
#define STN_USAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Clears the marks of size bytes of filled memory, which the program has not seen yet. False if
 * they cannot be cleared (locked memory, before Linux 5.4). */
bool stn_usage_clear(char *memory, size_t size);

/*
 * Before [start, end) is unmapped: if that ends the mapping of a whole model of which less than
 * half was used, the model is not filled at once again (declined:reread). Nothing is judged in a
 * child that has inherited the memory: fork copies page tables without the marks. May take a thread
 * of the pool; no lock held.
 */
void stn_usage_judge(uintptr_t start, uintptr_t end);

#endif
