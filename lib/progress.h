/* SPDX-License-Identifier: Apache-2.0 */
/* The bar that STSHIM_PROGRESS=on draws on stderr for a fill that takes more than a second. */
#ifndef STN_PROGRESS_H
#define STN_PROGRESS_H

#include "fill.h"

/* Draws a bar of done bytes of all; last: and ends the line. */
void stn_progress_draw(uint64_t done, uint64_t all, bool last);

/* Draws the state of the fill that the job is (see stn_job_tick). Runs in the program's thread. */
void stn_progress_tick(struct stn_job *job);

/* Ends the line if anything was drawn. */
void stn_progress_end(struct stn_fill *fill);

#endif
