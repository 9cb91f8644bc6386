/* SPDX-License-Identifier: Apache-2.0 */
/* Does the GPU of this host use the CPU's memory? */
#ifndef STN_UMA_H
#define STN_UMA_H

#include <stdbool.h>
#include <stddef.h>

/* What the host says about its processors. */
struct stn_uma_facts {
	bool amd_apu;	       /* a KFD topology node has CPU cores and SIMD units */
	char device_tree[256]; /* the device tree's "compatible", blanks between the strings; or
				  empty */
	char nvidia_gpu[128];  /* model of the first NVIDIA GPU, or empty */
	char product[128];     /* DMI product name, or empty */
	int probe; /* cached verdict of `stshim probe`: 1 yes, 0 no, -1 none to be trusted */
};

/*
 * Collects the facts below root ("" outside tests). runtime_dir is the user's XDG_RUNTIME_DIR or
 * NULL. Opens files: see file.h.
 */
void stn_uma_collect(const char *root, const char *runtime_dir, struct stn_uma_facts *facts);

/* The cached verdict alone, as in facts->probe. Opens files: see file.h. */
int stn_uma_cached(const char *root, const char *runtime_dir);

/* The verdict; *why is set to a constant string. Pure. */
bool stn_uma_verdict(const struct stn_uma_facts *facts, const char **why);

#endif
