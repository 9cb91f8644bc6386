/* SPDX-License-Identifier: Apache-2.0 */
/* Memory limits of the control groups, v1 and v2, that this process can see. */
#ifndef STN_CGROUP_H
#define STN_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One control group's limit and what it leaves. */
struct stn_cgroup_limit {
	uint64_t limit; /* bytes: the smaller of memory.max and memory.high; UINT64_MAX = none */
	uint64_t available; /* bytes that can still be charged, what is reclaimable counted as free
			     */
};

/* Where one hierarchy with the memory controller is, for this process. */
struct stn_cgroup_place {
	bool v2;	      /* cgroup2 */
	size_t mount_length;  /* length of the mount point within directory */
	char directory[4096]; /* the process's own group; empty when there is none to be seen */
};

/*
 * Finds the process's own memory cgroup through <proc>/cgroup and <proc>/mountinfo (proc is
 * "/proc/self"). place->directory is empty when none is visible. Opens files: see file.h.
 */
void stn_cgroup_find(const char *proc, bool v2, struct stn_cgroup_place *place);

/*
 * Calls visit for the group and each of its visible ancestors that has a limit. Opens files: see
 * file.h.
 */
void stn_cgroup_walk(const struct stn_cgroup_place *place,
		     void (*visit)(const struct stn_cgroup_limit *, void *), void *argument);

#endif
