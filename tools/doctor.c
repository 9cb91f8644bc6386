/* SPDX-License-Identifier: Apache-2.0 */
/* stshim doctor: what this host offers, and what the library would do about files. */
#include "doctor.h"

#include <argp.h>
#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "command.h"

struct settings {
	bool json, measure;
	char **paths;
	unsigned count;
};

static error_t parse(int key, char *argument, struct argp_state *state)
{
	struct settings *settings = state->input;

	(void)argument;
	switch (key) {
	case 'j':
		settings->json = true;
		return 0;
	case 'm':
		settings->measure = true;
		return 0;
	case ARGP_KEY_ARGS:
		settings->paths = state->argv + state->next;
		settings->count = (unsigned)(state->argc - state->next);
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

static void examine_paths(struct doctor *doctor, const struct settings *settings)
{
	doctor->paths = calloc(settings->count + 1, sizeof(*doctor->paths));
	if (!doctor->paths)
		err(EXIT_NO, "memory");
	for (unsigned i = 0; i < settings->count; i++) {
		struct doctor_path *path = doctor_look_at_path(settings->paths[i], &doctor->config);

		doctor->paths[doctor->path_count++] = path;
		if (path->error || path->hangs)
			continue;
		doctor_decide(doctor, path);
		if (settings->measure)
			doctor_measure_path(&doctor->config, path);
	}
}

static int verdict(const struct doctor *doctor)
{
	for (unsigned i = 0; i < doctor->path_count; i++)
		if (!doctor_engages(doctor->paths[i]))
			return EXIT_NO;
	return doctor_host_serves(doctor) ? EXIT_YES : EXIT_NO;
}

int stn_tool_doctor(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"json", 'j', NULL, 0, "Print JSON", 0},
		{"measure", 'm', NULL, 0,
		 "Read each path directly, 256 MiB or two seconds at most, and show how fast that "
		 "is",
		 0},
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "[PATH...]",
		.doc = "Shows what this host offers to libstnommap.so, how it is configured here, "
		       "and what it would do about each PATH (a file, or a directory with models), "
		       "and why. Ends with advice.\v"
		       "Exit status: 0 if every PATH would be engaged (without a PATH: if the "
		       "library could engage anything), 1 if not, 2 for a usage error.",
	};
	struct settings settings = {0};
	struct doctor doctor = {0};

	argp_parse(&argp, argc, argv, 0, NULL, &settings);
	stn_config_read(&doctor.config, getenv);
	stn_config_find_unknown(&doctor.config, environ);
	/* What the library's functions go by when they are asked here. */
	stn_config = doctor.config;
	doctor_look_at_host(&doctor.config, &doctor.host);
	examine_paths(&doctor, &settings);
	doctor_advise(&doctor);
	(settings.json ? doctor_print_json : doctor_print_text)(&doctor);
	return verdict(&doctor);
}
