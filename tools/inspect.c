/* SPDX-License-Identifier: Apache-2.0 */
#include "inspect.h"

#include <argp.h>
#include <stdlib.h>
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

/* Finds out which format it is and reads the header. */
static void read_header(struct inspect_file *file, struct inspect_model *model)
{
	const char *magic = inspect_read(file, 0, 4, 0);

	if (file->error)
		return;
	if (magic && memcmp(magic, "GGUF", 4) == 0)
		inspect_gguf(file, model);
	else
		inspect_safetensors(file, model);
	if (!file->error)
		inspect_layout(model);
}

static void free_model(struct inspect_model *model)
{
	for (size_t i = 0; i < model->tensor_count; i++) {
		free(model->tensors[i].name);
		free(model->tensors[i].shape);
	}
	for (size_t i = 0; i < model->pair_count; i++) {
		free(model->pairs[i].key);
		free(model->pairs[i].value);
	}
	for (size_t i = 0; i < model->problem_count && i < INSPECT_PROBLEMS; i++)
		free(model->problems[i].text);
	free(model->tensors);
	free(model->pairs);
	free(model->problems);
	free(model->gaps);
	free(model->overlaps);
}

int stn_tool_inspect(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"json", 'j', NULL, 0, "Print JSON instead of tables", 0}, {0}};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "FILE",
		.doc = "Shows the header of a safetensors or GGUF file, and all that is wrong with "
		       "it. The tensors themselves are not read.\v"
		       "Exit status: 0 the header is sound, 1 it is not or cannot be read, 2 wrong "
		       "usage.",
	};
	struct arguments arguments = {0};
	struct inspect_file file;
	struct inspect_model model = {0};
	int rc;

	argp_parse(&argp, argc, argv, 0, NULL, &arguments);
	rc = inspect_open(&file, arguments.path);
	if (rc == EINVAL) {
		report_error("give a safetensors or GGUF file", "%s: not a regular file",
			     arguments.path);
		return EXIT_NO;
	}
	if (rc) {
		report_error("give a file that you may read", "%s: %s", arguments.path,
			     strerror(rc));
		return EXIT_NO;
	}
	read_header(&file, &model);
	if (file.error)
		report_error("the storage is at fault, not the header; try again",
			     "%s: reading the header: %s", arguments.path, strerror(file.error));
	else if (arguments.json)
		inspect_print_json(&model, arguments.path);
	else
		inspect_print(&model, arguments.path);
	rc = file.error || model.problem_count ? EXIT_NO : EXIT_YES;
	free_model(&model);
	inspect_close(&file);
	return rc;
}
