/* SPDX-License-Identifier: Apache-2.0 */
/* What a program is, as far as the library can be loaded into it. */
#ifndef STSHIM_RUN_TARGET_H
#define STSHIM_RUN_TARGET_H

#include <limits.h>
#include <stdbool.h>

/* Finds the file that execvp would start; false if there is none. */
bool run_target_find(const char *program, char path[PATH_MAX]);

/*
 * Says why the library does nothing in the program at path, or in the interpreter of the script at
 * path: a sentence that the program's name begins, "is a static program: ...". NULL if nothing
 * speaks against it. Constant strings.
 */
const char *run_target_obstacle(const char *path);

#endif
