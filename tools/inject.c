/* SPDX-License-Identifier: Apache-2.0 */
#include "inject.h"

#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "library.h"
#include "report.h"

#define ENV_LINE "ENV LD_PRELOAD=" INJECT_LIBRARY

enum action { ACTION_INJECT, ACTION_REMOVE, ACTION_CHECK };

struct arguments {
	enum action action;
	bool json;
	const char *root, *library;
	struct inject inject;
};

/* What was found and done, for the output. */
struct result {
	bool good, changed;
	bool library, listed; /* in the root, at the end */
	const char *state;    /* "injected", "absent", "refused", "broken" */
	struct inject_libc libc;
	struct inject_verdict verdict;
};

static error_t parse(int key, char *argument, struct argp_state *state)
{
	struct arguments *arguments = state->input;

	switch (key) {
	case 'r':
		arguments->root = argument;
		return 0;
	case 'R':
		arguments->action = ACTION_REMOVE;
		return 0;
	case 'c':
		arguments->action = ACTION_CHECK;
		return 0;
	case 'e':
		arguments->inject.env = true;
		return 0;
	case 'l':
		arguments->library = argument;
		return 0;
	case 'j':
		arguments->json = true;
		return 0;
	case 't':
		if (argument[0] != '/' || arguments->inject.more_count == INJECT_TRIES)
			argp_error(state, "--try: give a few commands with absolute paths");
		arguments->inject.more[arguments->inject.more_count++] = argument;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "%s: give the directory with --root", argument);
		return 0;
	case ARGP_KEY_END:
		if (!arguments->root)
			argp_error(state, "--root DIR is needed");
		return 0;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Sets the reason for an error of a system call; returns false. */
static bool fail(struct result *result, const char *path, int error)
{
	return inject_refuse(&result->verdict, "%s: %s", path,
			     error == ELOOP ? "is a symbolic link; replace it by a file"
					    : strerror(error));
}

/* What is in the root. */
static bool look_at_state(const struct inject *inject, struct result *result)
{
	int error, fd = inject_open(inject->root, INJECT_LIBRARY, 0);
	char *text = inject_read(inject->root, INJECT_PRELOAD, &error);

	result->library = fd >= 0;
	result->listed = text && inject_is_listed(text);
	free(text);
	if (fd >= 0)
		close(fd);
	return text ? true : fail(result, INJECT_PRELOAD, error);
}

/* Everything that must hold before the root is touched. */
static bool examine(const struct inject *inject, struct result *result)
{
	if (!inject_look(inject, &result->libc, result->verdict.reason))
		return false;
	if (!result->libc.program[0])
		return inject_refuse(&result->verdict,
				     "no dynamic program is known in this root to try it with; "
				     "name one with --try");
	if (result->libc.musl && !inject->env)
		return inject_refuse(&result->verdict,
				     "the C library is musl, which does not read " INJECT_PRELOAD
				     "; use --env, and in the image: " ENV_LINE);
	return inject_try(inject, &result->libc, &result->verdict);
}

/* Replaces ld.so.preload by text; an empty one is removed. */
static bool write_preload(const struct inject *inject, struct result *result, const char *text)
{
	int rc = *text ? inject_write(inject->root, "/etc", "ld.so.preload", text, NULL)
		       : inject_unlink(inject->root, "/etc", "ld.so.preload");

	result->changed = true;
	return rc == 0 ? true : fail(result, INJECT_PRELOAD, -rc);
}

/* Has every program load it, which is the last step. */
static bool list_library(const struct inject *inject, struct result *result)
{
	int error;
	char *text = inject_read(inject->root, INJECT_PRELOAD, &error), *new;
	bool good = text != NULL;

	if (!good)
		return fail(result, INJECT_PRELOAD, error);
	if (!inject_is_listed(text)) {
		new = inject_listed(text);
		good = write_preload(inject, result, new);
		free(new);
	}
	free(text);
	return good;
}

static bool put_in(const struct inject *inject, struct result *result)
{
	bool had = result->library;
	int rc;

	result->state = "refused";
	if (!examine(inject, result))
		return false;
	if (!inject_same(inject->root, INJECT_LIBRARY, inject->library)) {
		rc = inject_write(inject->root, INJECT_DIRECTORY, INJECT_NAME, NULL,
				  inject->library);
		if (rc < 0)
			return fail(result, INJECT_LIBRARY, -rc);
		result->changed = true;
	}
	if (!inject->env && !list_library(inject, result)) {
		if (!had)
			inject_unlink(inject->root, INJECT_DIRECTORY, INJECT_NAME);
		return false;
	}
	result->state = "injected";
	return true;
}

static bool take_out(const struct inject *inject, struct result *result)
{
	int error, rc;
	char *text = inject_read(inject->root, INJECT_PRELOAD, &error), *new;
	bool good = text != NULL;

	result->state = "broken";
	if (!good)
		return fail(result, INJECT_PRELOAD, error);
	/* The line first: a line without its file has every program complain. */
	if (inject_is_listed(text)) {
		new = inject_unlisted(text);
		good = write_preload(inject, result, new);
		free(new);
	}
	free(text);
	if (!good)
		return false;
	rc = inject_unlink(inject->root, INJECT_DIRECTORY, INJECT_NAME);
	if (rc < 0)
		return fail(result, INJECT_LIBRARY, -rc);
	result->changed |= result->library;
	result->state = "absent";
	return true;
}

/* Says whether what is there works. The library that is tried is the root's own. */
static bool check(const struct inject *inject, struct result *result)
{
	struct inject own = *inject;
	char path[64];
	int fd;
	bool good;

	result->state = "absent";
	if (!result->library && !result->listed)
		return inject_refuse(&result->verdict, "the library is not in this root");
	result->state = "broken";
	if (!result->library)
		return inject_refuse(&result->verdict,
				     INJECT_PRELOAD " names the library, and %s is not there",
				     INJECT_LIBRARY);
	if (!result->listed && !inject->env)
		return inject_refuse(&result->verdict, "the library is there, and " INJECT_PRELOAD
						       " does not name it");
	fd = inject_open(inject->root, INJECT_LIBRARY, O_RDONLY);
	if (fd < 0)
		return fail(result, INJECT_LIBRARY, -fd);
	/* The self-test closes descriptors: a name that holds without this one, in its own root. */
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", getpid(), fd);
	own.library = path;
	good = examine(&own, result);
	close(fd);
	if (good)
		result->state = "injected";
	return good;
}

static void print_json(const struct arguments *arguments, const struct result *result)
{
	cJSON *object = cJSON_CreateObject(), *array;

	report_json_text(object, "root", arguments->inject.root);
	report_json_text(object, "state", result->state);
	cJSON_AddBoolToObject(object, "changed", result->changed);
	cJSON_AddBoolToObject(object, "library", result->library);
	cJSON_AddBoolToObject(object, "listed", result->listed);
	report_json_text(object, "path", INJECT_LIBRARY);
	report_json_text(object, "env", ENV_LINE);
	report_json_text(object, "reason", result->good ? "" : result->verdict.reason);
	array = cJSON_AddArrayToObject(object, "tried");
	for (unsigned i = 0; i < result->verdict.count; i++)
		report_json_append(array, result->verdict.programs[i]);
	report_json_print(object);
}

/* What a success looks like. */
static void print_success(const struct arguments *arguments, const struct result *result)
{
	const char *root = arguments->inject.root;

	if (arguments->action == ACTION_REMOVE) {
		printf("%s: %s\n", root,
		       result->changed ? "the library is out" : "the library was not in");
		return;
	}
	printf("%s: %s; %u program%s the same with it:", root,
	       arguments->action == ACTION_CHECK ? "the library is in and works"
	       : result->changed		 ? "the library is in"
						 : "the library was in already",
	       result->verdict.count, result->verdict.count == 1 ? " does" : "s do");
	for (unsigned i = 0; i < result->verdict.count; i++)
		printf(" %s", strrchr(result->verdict.programs[i], '/') + 1);
	putchar('\n');
	if (arguments->inject.env)
		puts(ENV_LINE);
}

/* What to do about a failure. */
static const char *remedy(enum action action, const struct result *result)
{
	if (action == ACTION_INJECT)
		return "the root is as it was";
	if (action == ACTION_CHECK)
		return strcmp(result->state, "absent") == 0
			       ? "put it in with stshim inject --root"
			       : "put it in anew, or take it out with --remove";
	return "run it as the user who owns the root, or remove both by hand";
}

static void print(const struct arguments *arguments, const struct result *result)
{
	if (arguments->json)
		print_json(arguments, result);
	else if (result->good)
		print_success(arguments, result);
	else
		report_error(remedy(arguments->action, result), "%s: %s", arguments->inject.root,
			     result->verdict.reason);
}

/* Makes the paths absolute; false if there is nothing there, which is said. */
static bool find_paths(struct arguments *arguments)
{
	static char root[PATH_MAX], library[PATH_MAX];

	arguments->inject.root = realpath(arguments->root, root);
	if (!arguments->inject.root) {
		report_error("give the directory of an image", "%s: %s", arguments->root,
			     strerror(errno));
		return false;
	}
	arguments->inject.library = library;
	if (arguments->library ? !realpath(arguments->library, library) : !library_find(library))
		arguments->inject.library = NULL;
	if (arguments->action == ACTION_INJECT && !arguments->inject.library) {
		report_error("name it with --library", "%s: %s",
			     arguments->library ? arguments->library : "libstnommap.so",
			     arguments->library ? strerror(errno) : "not found beside stshim");
		return false;
	}
	return true;
}

int stn_tool_inject(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"root", 'r', "DIR", 0, "The image's root directory", 0},
		{"remove", 'R', NULL, 0, "Take the library out again", 0},
		{"check", 'c', NULL, 0, "Say whether it is in, and try whether it works", 0},
		{"env", 'e', NULL, 0,
		 "Only copy the library, and print the ENV line that has it loaded", 0},
		{"library", 'l', "FILE", 0, "The library (default: the one beside stshim)", 0},
		{"try", 't', "COMMAND", 0,
		 "Try this command as well: words, the first of them an absolute path in the "
		 "root; it must print the same each time",
		 0},
		{"json", 'j', NULL, 0, "Print JSON", 0},
		{0}};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Puts the library into a root directory: as " INJECT_LIBRARY
		       ", named in " INJECT_PRELOAD ". Before that, programs of the root run "
		       "without and with it in a copy that nobody else sees, and must do the "
		       "same.\v"
		       "Exit status: 0 done, 1 refused or not in, 2 wrong usage.",
	};
	static struct arguments arguments;
	static struct result result;

	argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	if (!find_paths(&arguments))
		return EXIT_NO;
	result.state = "broken";
	result.good = look_at_state(&arguments.inject, &result) &&
		      (arguments.action == ACTION_REMOVE  ? take_out
		       : arguments.action == ACTION_CHECK ? check
							  : put_in)(&arguments.inject, &result);
	if (result.changed)
		look_at_state(&arguments.inject, &result);
	print(&arguments, &result);
	return result.good ? EXIT_YES : EXIT_NO;
}
