/* SPDX-License-Identifier: Apache-2.0 */
/* A parent that is felt as little as possible: signals and the exit status pass through. */
#ifndef STSHIM_RUN_WAIT_H
#define STSHIM_RUN_WAIT_H

/*
 * Starts argv[0] as execvp does and waits until it has ended. *status is set as by wait(2). 0, or
 * the error that kept it from starting. Blocks all signals of the caller, for good.
 */
int run_wait(char **argv, int *status);

/* Ends this process as the program ended: with its exit status, or by the same signal. */
__attribute__((noreturn)) void run_end_like(int status);

#endif
