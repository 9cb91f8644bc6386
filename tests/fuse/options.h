/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTFS_OPTIONS_H
#define TESTFS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/* What the command line asks for. Times of the kernel's caches are in seconds. */
struct options {
	double delay_ms;
	double meta_delay_ms;
	uint64_t bandwidth; /* bytes a second over all reads, 0 = no cap */
	double seek_ms;	 /* what a read that does not go on where the last one ended takes longer */
	bool seek_apart; /* each open file has a link of its own */
	double large_ms; /* what a large read (COUNTER_LARGE) takes longer */
	bool keep_cache;
	bool direct_io;
	bool invalidate;
	bool until_eof; /* stop when standard input ends */
	unsigned threads;
	unsigned max_background; /* 0 = the kernel's */
	unsigned max_readahead;	 /* bytes, 0 = the kernel's */
	unsigned repeat;	 /* times that a file is shown over */
	double attr_timeout;
	double entry_timeout;
	const char *fsname;
	const char *subtype;
	const char *control;
	const char *source;
	const char *mountpoint;
};

int options_parse(struct options *options, int argc, char **argv);

#endif
