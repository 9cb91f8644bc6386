/* SPDX-License-Identifier: Apache-2.0 */
/* stshim probe: does the GPU of this host use the CPU's memory? */
#include "probe.h"

#include <argp.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "report.h"

struct settings {
	bool json, refresh;
};

static error_t parse(int key, char *argument, struct argp_state *state)
{
	struct settings *settings = state->input;

	(void)argument;
	switch (key) {
	case 'j':
		settings->json = true;
		return 0;
	case 'r':
		settings->refresh = true;
		return 0;
	case ARGP_KEY_ARG:
		argp_error(state, "too many arguments: %s", argument);
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* What became of asking a library, in a word for JSON. */
static const char *state_word(const struct probe_result *result, unsigned library)
{
	static const char *const words[] = {"",	      "absent",	   "missing-symbol",
					    "failed", "no-device", "answered"};
	static const char *const ends[] = {"failed", "exited", "crashed", "timeout"};
	uint32_t state = result->asked[library].answer.state;

	return state == PROBE_STARTED ? ends[result->asked[library].end] : words[state];
}

static void describe_device(FILE *stream, const struct probe_answer *answer, unsigned device)
{
	static const struct {
		enum probe_fact fact;
		const char *yes, *no;
	} words[] = {
		{PROBE_INTEGRATED, "integrated", "not integrated"},
		{PROBE_PAGEABLE, "reads pageable memory", "reads registered memory only"},
		{PROBE_HOST_TABLES, "by the CPU's page tables", "not by the CPU's page tables"},
	};
	const char *comma = "";

	fprintf(stream, "GPU %u: ", device);
	if (!answer->known[device])
		fputs("nothing could be asked", stream);
	for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (!(answer->known[device] & words[i].fact))
			continue;
		fprintf(stream, "%s%s", comma,
			answer->holds[device] & words[i].fact ? words[i].yes : words[i].no);
		comma = ", ";
	}
}

/* What became of asking a library, in words; to be freed. */
static char *describe(const struct probe_result *result, unsigned library)
{
	const struct probe_answer *answer = &result->asked[library].answer;
	char *text = NULL;
	size_t size;
	FILE *stream = open_memstream(&text, &size);

	if (!stream)
		return NULL;
	if (answer->state == PROBE_ABSENT)
		fputs("not installed", stream);
	else
		fprintf(stream, "%s: ", answer->library);
	if (answer->state == PROBE_MISSING)
		fprintf(stream, "has no %s", answer->symbol);
	else if (answer->state == PROBE_FAILED)
		fprintf(stream, "%s returned %d", answer->symbol, answer->status);
	else if (answer->state == PROBE_NO_DEVICE)
		fputs("no device", stream);
	else if (answer->state == PROBE_STARTED && result->asked[library].end == PROBE_CRASHED)
		fprintf(stream, "crashed (%s) in %s", strsignal(result->asked[library].signal),
			*answer->symbol ? answer->symbol : "its start-up code");
	else if (answer->state == PROBE_STARTED)
		fprintf(stream, "%s in %s",
			result->asked[library].end == PROBE_LATE ? "gave no answer in time"
								 : "ended the process",
			*answer->symbol ? answer->symbol : "its start-up code");
	for (unsigned i = 0; answer->state == PROBE_DONE && i < answer->devices; i++) {
		fputs(i ? "; " : "", stream);
		describe_device(stream, answer, i);
	}
	fclose(stream);
	return text;
}

static void print_kernel(const struct stn_uma_facts *facts)
{
	printf("  kernel        %s", facts->amd_apu ? "AMD APU" : "no AMD APU");
	if (*facts->nvidia_gpu)
		printf("; NVIDIA GPU: %s", facts->nvidia_gpu);
	if (*facts->device_tree)
		printf("; device tree: %s", facts->device_tree);
	printf("; product: %s\n", *facts->product ? facts->product : "not named");
}

static void print_text(const struct probe_result *result, bool cached, const char *path)
{
	printf("unified memory: %s (%s)\n", result->unified ? "yes" : "no", result->why);
	for (unsigned i = 0; !cached && i < probe_table_size(); i++) {
		char *text = describe(result, i);

		printf("  %-12s  %s\n", probe_table_name(i), text ? text : "");
		free(text);
	}
	if (!cached)
		print_kernel(&result->facts);
	if (*path)
		printf("remembered until the next boot in %s\n", path);
	if (cached)
		puts("to ask again: stshim probe --refresh");
}

static void add_fact(cJSON *object, const char *key, const struct probe_answer *answer,
		     unsigned device, enum probe_fact fact)
{
	if (answer->known[device] & fact)
		cJSON_AddBoolToObject(object, key, (answer->holds[device] & fact) != 0);
	else
		cJSON_AddNullToObject(object, key);
}

static cJSON *library_to_json(const struct probe_result *result, unsigned library)
{
	const struct probe_answer *answer = &result->asked[library].answer;
	cJSON *object = cJSON_CreateObject(), *devices;
	char *text = describe(result, library);

	report_json_text(object, "name", probe_table_name(library));
	report_json_text(object, "state", state_word(result, library));
	report_json_text(object, "text", text ? text : "");
	free(text);
	devices = cJSON_AddArrayToObject(object, "devices");
	for (unsigned i = 0; answer->state == PROBE_DONE && i < answer->devices; i++) {
		cJSON *device = cJSON_CreateObject();

		add_fact(device, "integrated", answer, i, PROBE_INTEGRATED);
		add_fact(device, "pageable_memory_access", answer, i, PROBE_PAGEABLE);
		add_fact(device, "host_page_tables", answer, i, PROBE_HOST_TABLES);
		cJSON_AddItemToArray(devices, device);
	}
	return object;
}

static void print_json(const struct probe_result *result, bool cached, const char *path)
{
	cJSON *object = cJSON_CreateObject(), *libraries, *kernel;

	cJSON_AddBoolToObject(object, "unified", result->unified);
	report_json_text(object, "why", result->why);
	cJSON_AddBoolToObject(object, "cached", cached);
	report_json_text(object, "cache", path);
	libraries = cJSON_AddArrayToObject(object, "libraries");
	for (unsigned i = 0; !cached && i < probe_table_size(); i++)
		cJSON_AddItemToArray(libraries, library_to_json(result, i));
	if (!cached) {
		kernel = cJSON_AddObjectToObject(object, "kernel");
		cJSON_AddBoolToObject(kernel, "amd_apu", result->facts.amd_apu);
		report_json_text(kernel, "nvidia_gpu", result->facts.nvidia_gpu);
		report_json_text(kernel, "device_tree", result->facts.device_tree);
		report_json_text(kernel, "product", result->facts.product);
	}
	report_json_print(object);
}

/* Remembers the verdict, or says why that is not possible. */
static void remember(const struct probe_result *result, char path[PATH_MAX])
{
	int error = probe_cache_write(result, path);

	if (error == 0)
		return;
	if (*path)
		report_warning("every `stshim run' asks again until that can be written", "%s: %s",
			       path, strerror(-error));
	else
		report_warning("set it, or set STSHIM_UMA to yes or no",
			       "the answer is not remembered: XDG_RUNTIME_DIR is not set");
	*path = '\0';
}

int stn_tool_probe(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"json", 'j', NULL, 0, "Print JSON", 0},
		{"refresh", 'r', NULL, 0, "Ask again, whatever is remembered", 0},
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.doc = "Asks the GPU libraries of this host whether the GPU uses the CPU's memory, "
		       "in processes of their own and for two seconds at most, and remembers the "
		       "answer until the next boot.\v"
		       "Exit status: 0 if it does, 1 if not, 2 for a usage error.",
	};
	struct settings settings = {0};
	struct probe_result result = {.why = "asked earlier since the boot"};
	char path[PATH_MAX] = "";
	int cached;

	argp_parse(&argp, argc, argv, 0, NULL, &settings);
	cached = settings.refresh ? -1 : probe_cached();
	if (cached < 0) {
		probe_ask(&result);
		remember(&result, path);
	} else {
		result.unified = cached == 1;
	}
	(settings.json ? print_json : print_text)(&result, cached >= 0, path);
	return result.unified ? EXIT_YES : EXIT_NO;
}
