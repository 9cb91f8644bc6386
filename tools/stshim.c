/* SPDX-License-Identifier: Apache-2.0 */
/* stshim: main and the table of subcommands. */
#include <argp.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "report.h"

const char *argp_program_version = "stshim " STN_VERSION;

static const struct subcommand {
	const char *name, *shown; /* shown: as it begins its errors */
	command *run;
	const char *summary;
} table[] = {
	{"run", "stshim run", stn_tool_run, "start a program with the library"},
	{"doctor", "stshim doctor", stn_tool_doctor,
	 "what this host offers, and what would engage"},
	{"tune", "stshim tune", stn_tool_tune, "show and set the limits of a mount"},
	{"probe", "stshim probe", stn_tool_probe, "ask the GPU whether it shares the CPU's memory"},
	{"inspect", "stshim inspect", stn_tool_inspect, "show what is in a model file"},
	{"stats", "stshim stats", stn_tool_stats, "show the library's statistics as tables"},
	{"bench", "stshim bench", stn_tool_bench, "measure ways to read a file, here"},
	{"inject", "stshim inject", stn_tool_inject,
	 "put the library into a root directory, or take it out"},
};

#define ENTRIES (sizeof(table) / sizeof(table[0]))

/* Appends the list of subcommands to the help. */
static char *add_list(int key, const char *text, void *input)
{
	char *out = NULL;
	size_t size;
	FILE *stream;

	(void)input;
	if (key != ARGP_KEY_HELP_POST_DOC || !(stream = open_memstream(&out, &size)))
		return (char *)(uintptr_t)text;
	fputs("Subcommands:\n", stream);
	for (size_t i = 0; i < ENTRIES; i++)
		fprintf(stream, "  %-9s %s\n", table[i].name, table[i].summary);
	fputs("\n`stshim SUBCOMMAND --help' says more; so does stshim(1).", stream);
	fclose(stream);
	return out;
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
	const struct subcommand **chosen = state->input;

	if (key == ARGP_KEY_NO_ARGS)
		argp_error(state, "no subcommand is given");
	if (key != ARGP_KEY_ARG)
		return ARGP_ERR_UNKNOWN;
	for (size_t i = 0; i < ENTRIES; i++)
		if (strcmp(table[i].name, argument) == 0)
			*chosen = &table[i];
	if (!*chosen)
		argp_error(state, "no such subcommand: %s", argument);
	/* The rest is the subcommand's. */
	state->next = state->argc;
	return 0;
}

int main(int argc, char **argv)
{
	static const struct argp argp = {
		.parser = parse,
		.args_doc = "SUBCOMMAND [ARGUMENT...]",
		.doc = "Runs, explains and measures libstnommap.so.\v",
		.help_filter = add_list,
	};
	const struct subcommand *chosen = NULL;
	int first = 1;

	argp_err_exit_status = EXIT_USAGE;
	argv[0] = (char *)(uintptr_t) "stshim";
	if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &chosen))
		return EXIT_USAGE;
	while (strcmp(argv[first], chosen->name) != 0)
		first++;
	argv[first] = (char *)(uintptr_t)chosen->shown;
	report_begin(chosen->shown);
	return chosen->run(argc - first, argv + first);
}
