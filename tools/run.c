/* SPDX-License-Identifier: Apache-2.0 */
/* stshim run: starts a program with the library. */
#include <argp.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "config.h"
#include "library.h"
#include "probe.h"
#include "report.h"
#include "run_preload.h"
#include "run_report.h"
#include "run_target.h"
#include "run_wait.h"

/* As env(1) and others: the statuses below are the program's own. */
enum { EXIT_OURS = 125, EXIT_NOT_EXECUTABLE = 126, EXIT_NOT_FOUND = 127 };

#define MOST_VARIABLES 60
#define KEY_VARIABLE   1000 /* and more: the row of the configuration */

enum report_kind { REPORT_NONE, REPORT_TABLE, REPORT_JSON };

struct settings {
	const char *library; /* NULL: look for it */
	enum report_kind report;
	char **program;
};

/* The one variable that given() returns. */
static const char *given_name, *given_value;

static char *given(const char *name)
{
	return strcmp(name, given_name) == 0 ? (char *)(uintptr_t)given_value : NULL;
}

/* Sets the variable of a row, if the library would understand the value. */
static void set_variable(size_t index, const char *value, struct argp_state *state)
{
	static struct stn_config config;
	struct stn_config_row row;

	stn_config_row(index, &row);
	given_name = row.name;
	given_value = value;
	stn_config_read(&config, given);
	if (config.bad)
		argp_error(state, "%s=%s is not understood; give %s", row.name, value, row.values);
	setenv(row.name, value, 1);
}

static error_t parse_report(const char *format, struct settings *settings)
{
	settings->report = !format || strcmp(format, "table") == 0 ? REPORT_TABLE
			   : strcmp(format, "json") == 0	   ? REPORT_JSON
								   : REPORT_NONE;
	return settings->report == REPORT_NONE ? EINVAL : 0;
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
	struct settings *settings = state->input;

	if (key >= KEY_VARIABLE && key < KEY_VARIABLE + MOST_VARIABLES) {
		set_variable((size_t)(key - KEY_VARIABLE), argument, state);
		return 0;
	}
	switch (key) {
	case 'l':
		settings->library = argument;
		return 0;
	case 'r':
		if (parse_report(argument, settings))
			argp_error(state, "--report: %s is not understood; give table or json",
				   argument);
		return 0;
	case ARGP_KEY_ARG:
		settings->program = state->argv + state->next - 1;
		state->next = state->argc;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no program is given");
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* STSHIM_READ_MIN becomes read-min. */
static const char *option_name(const char *variable, char *out, size_t size)
{
	snprintf(out, size, "%s", variable + strlen("STSHIM_"));
	for (char *c = out; *c; c++)
		*c = *c == '_' ? '-' : (char)tolower((unsigned char)*c);
	return out;
}

/* Writes an option for each variable of the library to options, which must be zeroed. */
static void add_variables(struct argp_option *options)
{
	static char names[MOST_VARIABLES][32], texts[MOST_VARIABLES][256];

	for (size_t i = 0; i < stn_config_rows() && i < MOST_VARIABLES; i++) {
		struct stn_config_row row;

		stn_config_row(i, &row);
		options[i].name = option_name(row.name, names[i], sizeof(names[i]));
		snprintf(texts[i], sizeof(texts[i]), "%s: %s (default: %s)", row.name, row.values,
			 *row.fallback ? row.fallback : "empty");
		options[i].doc = texts[i];
		options[i].arg = "VALUE";
		options[i].key = KEY_VARIABLE + (int)i;
		options[i].group = 2;
	}
}

static void parse_arguments(int argc, char **argv, struct settings *settings)
{
	static struct argp_option options[MOST_VARIABLES + 4] = {
		{"report", 'r', "FORMAT", OPTION_ARG_OPTIONAL,
		 "Stay until the program ends, then show on stderr what the library did: table "
		 "(default) or json",
		 1},
		{"library", 'l', "FILE", 0, "Use this library", 1},
		{0, 0, NULL, 0, "Variables of the library, see libstnommap(7):", 2},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "PROGRAM [ARGUMENT...]",
		.doc = "Starts PROGRAM with libstnommap.so in front of LD_PRELOAD.\v"
		       "Exit status: that of PROGRAM; 2 for a usage error, 125 if the library is "
		       "not found, 126 if PROGRAM cannot be executed, 127 if it is not found.",
	};

	add_variables(options + 3);
	argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, settings);
}

/* Puts the library into LD_PRELOAD; false with an error printed. */
static bool preload(const char *library)
{
	char path[PATH_MAX];

	if (!library && !library_find(path)) {
		report_error("name it with --library FILE",
			     "libstnommap.so is not where this program was installed");
		return false;
	}
	if (library && !realpath(library, path)) {
		report_error("give the path of libstnommap.so", "%s: %s", library, strerror(errno));
		return false;
	}
	if (run_preload_set(path) < 0) {
		report_error("copy it to another place and name that with --library",
			     "%s: LD_PRELOAD cannot hold a path with blanks, ':' or '$'", path);
		return false;
	}
	return true;
}

/* What the environment does not say yet: unified memory, and a bar for those who watch. */
static void complete_environment(void)
{
	const char *mode = getenv("STSHIM_MODE");

	if (isatty(STDERR_FILENO))
		setenv("STSHIM_PROGRESS", "on", 0);
	if (!getenv("STSHIM_UMA") && !(mode && strcmp(mode, "off") == 0))
		setenv("STSHIM_UMA", probe_unified() ? "yes" : "no", 1);
}

static void warn_about(const char *program)
{
	char path[PATH_MAX];
	const char *obstacle = run_target_find(program, path) ? run_target_obstacle(path) : NULL;

	if (obstacle)
		report_warning("it runs as always", "%s %s", path, obstacle);
}

static int cannot_start(const char *program, int error)
{
	report_error(error == ENOENT ? "give a path, or a name that is in PATH"
				     : "see that it is a program for this machine and executable",
		     "%s: %s", program, strerror(error));
	return error == ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE;
}

/* Runs the program as a child and reports. */
static int run_with_report(const struct settings *settings)
{
	struct run_report report;
	int status = 0, error;

	if (!run_report_begin(&report))
		return EXIT_OURS;
	error = run_wait(settings->program, &status);
	if (error == 0)
		run_report_print(&report, settings->report == REPORT_JSON);
	run_report_end(&report);
	if (error)
		return cannot_start(settings->program[0], error);
	run_end_like(status);
}

int stn_tool_run(int argc, char **argv)
{
	struct settings settings = {0};

	parse_arguments(argc, argv, &settings);
	if (!preload(settings.library))
		return EXIT_OURS;
	complete_environment();
	warn_about(settings.program[0]);
	if (settings.report != REPORT_NONE)
		return run_with_report(&settings);
	execvp(settings.program[0], settings.program);
	return cannot_start(settings.program[0], errno);
}
