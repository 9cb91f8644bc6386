/* SPDX-License-Identifier: Apache-2.0 */
/* The next definitions of the calls that read the program's memory in the kernel: see write.c. */
#ifndef STN_WRITE_H
#define STN_WRITE_H

/* Finds them. Called by stn_real_resolve. */
void stn_write_resolve(void);

#endif
