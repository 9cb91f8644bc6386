/* SPDX-License-Identifier: Apache-2.0 */
#include "stats.h"

#include <argp.h>
#include <errno.h>
#include <string.h>

#include "command.h"
#include "report.h"

struct arguments {
	bool json;
	char *path;
};

static error_t parse(int key, char *argument, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case 'j':
		arguments->json = true;
		return 0;
	case ARGP_KEY_ARG:
		if (arguments->path)
			argp_error(state, "one file at a time");
		arguments->path = argument;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no file is given");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Reads the file or standard input; false if that fails, which is said. */
static bool read_file(struct stats *stats, const char *path)
{
	FILE *stream = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");

	if (!stream) {
		report_error("give the file that STSHIM_STATS named", "%s: %s", path,
			     strerror(errno));
		return false;
	}
	if (!stats_read(stats, stream)) {
		report_error("give the file that STSHIM_STATS named", "%s: %s", path,
			     strerror(errno));
		return false;
	}
	if (stream != stdin)
		fclose(stream);
	return true;
}

int stn_tool_stats(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"json", 'j', NULL, 0, "Print JSON instead of tables", 0}, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "FILE",
		.doc = "Adds up the lines that the library has written to the file that "
		       "STSHIM_STATS named: by file, by decision, throughput over time. FILE may "
		       "be - for standard input.\v"
		       "Exit status: 0 every line was understood, 1 some were not or the file "
		       "cannot be read, 2 wrong usage.",
	};
	static struct stats stats;
	struct arguments arguments = {0};

	argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	if (!read_file(&stats, arguments.path))
		return EXIT_NO;
	if (arguments.json)
		stats_print_json(&stats, arguments.path);
	else
		stats_print(&stats, arguments.path);
	return stats.broken_count ? EXIT_NO : EXIT_YES;
}
