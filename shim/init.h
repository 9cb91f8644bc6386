/* SPDX-License-Identifier: Apache-2.0 */
#ifndef STN_INIT_H
#define STN_INIT_H

#include <stdbool.h>

/* True once the library may act: after its constructor, unless it is off or the program is
 * privileged. */
extern bool stn_active;

/* Registers the fork handlers; does it once, before the first mapping is engaged. */
void stn_fork_watch(void);

#endif
