/* SPDX-License-Identifier: Apache-2.0 */
/* stshim doctor: what it finds out, in one structure that is printed as text or as JSON. */
#ifndef STSHIM_DOCTOR_H
#define STSHIM_DOCTOR_H

#include <cjson/cJSON.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "budget.h"
#include "config.h"
#include "mount.h"
#include "policy.h"

/* What the library would find in a process that this one starts. */
struct doctor_host {
	char kernel[128];
	uint64_t page, huge_page; /* bytes; huge_page 0: none */
	char huge_mode[16];	  /* always, madvise, never; or empty */
	bool close_range;	  /* with a table of descriptors of its own */
	bool proc;
	bool names;			    /* anonymous memory can have names */
	enum stn_lazy_kind uffd;	    /* UNKNOWN: whoever asked did not answer */
	bool uffd_kills, close_range_kills; /* a seccomp filter ends who calls it */
	bool uffd_device;	  /* full through /dev/userfaultfd, which is asked first */
	bool uffd_move;		  /* UFFDIO_MOVE */
	int uffd_error;		  /* why there is no full one by the system call, errno */
	int64_t seccomp, filters; /* of /proc/self/status; -1 unknown */
	struct stn_budget_view view;
	struct stn_budget_verdict room; /* available: what a process could engage now */
	bool unified;
	const char *unified_why; /* constant string */
	char gpu[128];		 /* model of the first NVIDIA GPU, or empty */
	uint64_t memlock;	 /* RLIMIT_MEMLOCK, bytes */
	char library[PATH_MAX];	 /* empty: not found */
	bool preloaded;		 /* LD_PRELOAD or /etc/ld.so.preload has it */
};

/* One file, and what would become of private mappings of it: decided for a read-only one. */
struct doctor_file {
	char path[PATH_MAX];
	uint64_t size, file_system; /* f_type */
	bool regular, dax, readable;
	bool cached; /* the page cache has it */
	enum stn_decision decision;
	bool lazy, lazy_writable;	/* filled lazily if read-only; if writable */
	struct stn_budget_verdict room; /* of STN_DECLINED_MEMORY */
};

/* Bytes of the single reads that are timed: what the kernel makes one request of on FUSE. */
#define DOCTOR_REQUEST ((uint64_t)1 << 20)

/* A timed direct read. */
struct doctor_measure {
	bool tried;
	int error;	  /* errno of the first read that failed, 0 = none */
	uint64_t bytes;	  /* read by all threads */
	uint64_t elapsed; /* nanoseconds */
	uint64_t latency; /* nanoseconds of one read of request bytes, alone */
	uint64_t request;
	bool in_time; /* all threads came back */
};

#define DOCTOR_MOST_FILES 64

/* A path of the command line: a file, or the models below a directory. */
struct doctor_path {
	const char *path;
	int error;  /* errno of looking at it; 0 = none */
	bool hangs; /* there was no answer in time */
	bool directory;
	bool placed; /* mount is known */
	bool more;   /* more models than fit */
	struct mount mount;
	uint64_t file_system;		       /* f_type */
	uint64_t limit[MOUNT_LIMITS], waiting; /* UINT64_MAX: not known */
	unsigned count;
	struct doctor_file file[DOCTOR_MOST_FILES]; /* of an empty directory: count 0 and file[0],
						       a model that might be there */
	struct doctor_measure measure;		    /* of the first file */
};

/* All of it. */
struct doctor {
	struct stn_config config;
	struct doctor_host host;
	struct doctor_path **paths;
	unsigned path_count;
	char **advice;
	unsigned advice_count;
};

/* Looks at the host. */
void doctor_look_at_host(const struct stn_config *config, struct doctor_host *host);

/* Looks at a path, in a process of its own for five seconds at most. To be freed. */
struct doctor_path *doctor_look_at_path(const char *path, const struct stn_config *config);

/* Decides about the files of a path, one after the other as a program that maps all of them. */
void doctor_decide(const struct doctor *doctor, struct doctor_path *path);

/* Reads the first file of the path directly: 256 MiB or two seconds at most. */
void doctor_measure_path(const struct stn_config *config, struct doctor_path *path);

/* True if every file of the path, or a model in the directory, would be engaged. */
bool doctor_engages(const struct doctor_path *path);

/* True if the library could engage anything in a process started here. */
bool doctor_host_serves(const struct doctor *doctor);

/* Why a file gets its decision, in words; written to out. */
void doctor_explain(const struct doctor *doctor, const struct doctor_file *file, char *out,
		    size_t size);

/* Collects the advice; everything else must be known. */
void doctor_advise(struct doctor *doctor);

/* What is known of row number index of the configuration. */
struct doctor_row {
	struct stn_config_row row;
	const char *given; /* NULL: not set */
	bool bad;
};
void doctor_row(const struct doctor *doctor, size_t index, struct doctor_row *out);

/* Calls visit for each name in STSHIM_FSTYPES that no file system has. */
void doctor_unknown_fstypes(const struct stn_config *config, void (*visit)(const char *, void *),
			    void *argument);

/* "engaged" or "declined:REASON", in out. */
const char *doctor_decision(enum stn_decision decision, char out[64]);

/* Prints everything. */
void doctor_print_text(const struct doctor *doctor);
void doctor_print_json(const struct doctor *doctor);

#endif
