/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include "fault.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum option_id {
	OPTION_DELAY = 1,
	OPTION_META_DELAY,
	OPTION_BANDWIDTH,
	OPTION_SEEK,
	OPTION_SEEK_APART,
	OPTION_LARGE,
	OPTION_KEEP_CACHE,
	OPTION_DIRECT_IO,
	OPTION_INVALIDATE,
	OPTION_UNTIL_EOF,
	OPTION_THREADS,
	OPTION_MAX_BACKGROUND,
	OPTION_MAX_READAHEAD,
	OPTION_REPEAT,
	OPTION_ATTR_TIMEOUT,
	OPTION_ENTRY_TIMEOUT,
	OPTION_FSNAME,
	OPTION_SUBTYPE,
	OPTION_CONTROL,
	OPTION_FAULT,
	OPTION_HELP,
};

static const struct option LONG_OPTIONS[] = {
	{"delay-ms", required_argument, NULL, OPTION_DELAY},
	{"meta-delay-ms", required_argument, NULL, OPTION_META_DELAY},
	{"bandwidth", required_argument, NULL, OPTION_BANDWIDTH},
	{"seek-ms", required_argument, NULL, OPTION_SEEK},
	{"seek-apart", no_argument, NULL, OPTION_SEEK_APART},
	{"large-ms", required_argument, NULL, OPTION_LARGE},
	{"keep-cache", no_argument, NULL, OPTION_KEEP_CACHE},
	{"direct-io", no_argument, NULL, OPTION_DIRECT_IO},
	{"invalidate", no_argument, NULL, OPTION_INVALIDATE},
	{"until-eof", no_argument, NULL, OPTION_UNTIL_EOF},
	{"threads", required_argument, NULL, OPTION_THREADS},
	{"max-background", required_argument, NULL, OPTION_MAX_BACKGROUND},
	{"max-readahead", required_argument, NULL, OPTION_MAX_READAHEAD},
	{"repeat", required_argument, NULL, OPTION_REPEAT},
	{"attr-timeout", required_argument, NULL, OPTION_ATTR_TIMEOUT},
	{"entry-timeout", required_argument, NULL, OPTION_ENTRY_TIMEOUT},
	{"fsname", required_argument, NULL, OPTION_FSNAME},
	{"subtype", required_argument, NULL, OPTION_SUBTYPE},
	{"control", required_argument, NULL, OPTION_CONTROL},
	{"fault", required_argument, NULL, OPTION_FAULT},
	{"help", no_argument, NULL, OPTION_HELP},
	{NULL, 0, NULL, 0},
};

static const char USAGE[] =
	"usage: stn-testfs [options] SOURCE_DIR MOUNTPOINT\n"
	"Mounts SOURCE_DIR read-only through FUSE, with latency and faults, in the foreground.\n"
	"Prints \"ready\" once mounted. SIGTERM unmounts.\n"
	"  --delay-ms F        wait F ms before each READ is answered\n"
	"  --meta-delay-ms F   the same for every other request\n"
	"  --bandwidth BYTES   bytes a second over all reads\n"
	"  --seek-ms F         keeps all reads for F ms from one that does not go on where the "
	"last\n"
	"                      one ended, nor at 0; best with --threads 1\n"
	"  --seek-apart        each open file has a link of its own: --bandwidth is its, and "
	"--seek-ms\n"
	"                      keeps its reads only, from one more than 2 MiB from its last one\n"
	"  --large-ms F        a READ of more than 512 KiB takes F ms longer\n"
	"  --threads N         most requests served at once (32)\n"
	"  --max-background N  asynchronous requests the kernel keeps in flight (12)\n"
	"  --max-readahead B   bytes\n"
	"  --repeat N          files of whole pages are N times as long: the same bytes again\n"
	"  --attr-timeout S, --entry-timeout S   the kernel's caches (60)\n"
	"  --keep-cache        FOPEN_KEEP_CACHE    --direct-io   FOPEN_DIRECT_IO\n"
	"  --invalidate        notify_inval_inode inside each READ, before it is answered\n"
	"  --fault SPEC        eio:GLOB:OFFSET:LENGTH short:GLOB:SIZE hang:GLOB:OFFSET:LENGTH\n"
	"                      die:GLOB:OFFSET shrink:GLOB:OFFSET:SIZE noopen:GLOB\n"
	"  --control PATH      Unix socket: stats, reset, release, fault SPEC, nofaults, delay MS\n"
	"  --fsname NAME, --subtype NAME   as in the mount table\n"
	"  --until-eof         stop when standard input ends\n";

/* Reads a number between 0 and max into *value. Returns 0 or -EINVAL. */
static int parse_number(const char *text, double max, double *value)
{
	char *end;

	*value = strtod(text, &end);
	if (end == text || *end != '\0' || !(*value >= 0 && *value <= max)) {
		fprintf(stderr, "stn-testfs: bad number: %s\n", text);
		return -EINVAL;
	}
	return 0;
}

/* Stores a numeric option. Returns 0, or -EINVAL for a bad value or an option that is none. */
static int set_number(struct options *options, int id, const char *text)
{
	double value;

	if (parse_number(text, id == OPTION_BANDWIDTH ? 1e15 : 4e9, &value) != 0)
		return -EINVAL;
	switch (id) {
	case OPTION_DELAY:
		options->delay_ms = value;
		return 0;
	case OPTION_META_DELAY:
		options->meta_delay_ms = value;
		return 0;
	case OPTION_BANDWIDTH:
		options->bandwidth = (uint64_t)value;
		return 0;
	case OPTION_SEEK:
		options->seek_ms = value;
		return 0;
	case OPTION_LARGE:
		options->large_ms = value;
		return 0;
	case OPTION_THREADS:
		options->threads = value < 1 ? 1 : (unsigned)value;
		return 0;
	case OPTION_MAX_BACKGROUND:
		options->max_background = (unsigned)value;
		return 0;
	case OPTION_MAX_READAHEAD:
		options->max_readahead = (unsigned)value;
		return 0;
	case OPTION_REPEAT:
		options->repeat = value < 1 ? 1 : (unsigned)value;
		return 0;
	case OPTION_ATTR_TIMEOUT:
		options->attr_timeout = value;
		return 0;
	case OPTION_ENTRY_TIMEOUT:
		options->entry_timeout = value;
		return 0;
	default:
		return -EINVAL;
	}
}

/* Stores one option. Returns 0 or -EINVAL. */
static int set_option(struct options *options, int id, const char *text)
{
	switch (id) {
	case OPTION_SEEK_APART:
		options->seek_apart = true;
		return 0;
	case OPTION_KEEP_CACHE:
		options->keep_cache = true;
		return 0;
	case OPTION_DIRECT_IO:
		options->direct_io = true;
		return 0;
	case OPTION_INVALIDATE:
		options->invalidate = true;
		return 0;
	case OPTION_UNTIL_EOF:
		options->until_eof = true;
		return 0;
	case OPTION_FSNAME:
		options->fsname = text;
		return 0;
	case OPTION_SUBTYPE:
		options->subtype = text;
		return 0;
	case OPTION_CONTROL:
		options->control = text;
		return 0;
	case OPTION_FAULT:
		if (fault_add(text) == 0)
			return 0;
		fprintf(stderr, "stn-testfs: bad fault: %s\n", text);
		return -EINVAL;
	case OPTION_HELP:
		fputs(USAGE, stdout);
		exit(0);
	case '?':
		return -EINVAL;
	default:
		return set_number(options, id, text);
	}
}

/* Fills *options from the command line; faults go straight into the fault list. Returns 0, or
 * -EINVAL after a message on stderr. */
int options_parse(struct options *options, int argc, char **argv)
{
	int id;

	*options = (struct options){
		.threads = 32,
		.repeat = 1,
		.attr_timeout = 60,
		.entry_timeout = 60,
		.fsname = "stn-testfs",
		.subtype = "stn-testfs",
	};
	while ((id = getopt_long(argc, argv, "", LONG_OPTIONS, NULL)) != -1)
		if (set_option(options, id, optarg) != 0)
			return -EINVAL;
	if (argc - optind != 2) {
		fputs(USAGE, stderr);
		return -EINVAL;
	}
	options->source = argv[optind];
	options->mountpoint = argv[optind + 1];
	return 0;
}
