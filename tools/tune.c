/* SPDX-License-Identifier: Apache-2.0 */
/* stshim tune: shows and sets what can be set of a mount from outside. */
#include <argp.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"
#include "mount.h"
#include "report.h"
#include "text.h"

#define KEEP UINT64_MAX

struct settings {
	const char *path;
	bool json;
	uint64_t wanted[MOUNT_LIMITS]; /* KEEP: leave it */
};

/* One limit before and after. */
struct outcome {
	int error; /* of the last access, -errno */
	uint64_t before, after;
};

/* max_background is 16 bits wide in the protocol, read-ahead an int of KiB. */
static const uint64_t most[] = {UINT16_MAX, UINT16_MAX, INT32_MAX / 1024};

static error_t parse(int key, char *argument, struct argp_state *state)
{
	struct settings *settings = state->input;
	uint64_t *wanted;

	switch (key) {
	case 'j':
		settings->json = true;
		return 0;
	case 'b':
	case 'c':
	case 'r':
		wanted = &settings->wanted[key == 'b'	? MOUNT_MAX_BACKGROUND
					   : key == 'c' ? MOUNT_CONGESTION
							: MOUNT_READ_AHEAD];
		if (!stn_text_number(argument, strlen(argument), wanted) ||
		    *wanted > most[wanted - settings->wanted] || (key != 'r' && *wanted == 0))
			argp_error(state, "%s is not understood; give a number from %d to %llu",
				   argument, key != 'r',
				   (unsigned long long)most[wanted - settings->wanted]);
		return 0;
	case ARGP_KEY_ARG:
		if (settings->path)
			argp_error(state, "too many arguments: %s", argument);
		settings->path = argument;
		return 0;
	case ARGP_KEY_NO_ARGS:
		argp_error(state, "no mount is given");
		return EINVAL;
	default:
		return ARGP_ERR_UNKNOWN;
	}
}

/* Reads a limit, sets it if that is wanted, and reads what has become of it. */
static void handle(const struct mount *mount, enum mount_limit limit, uint64_t wanted,
		   struct outcome *outcome)
{
	outcome->error = mount_limit_read(mount, limit, &outcome->before);
	outcome->after = outcome->before;
	if (wanted == KEEP || outcome->error == -ENOTSUP)
		return;
	outcome->error = mount_limit_write(mount, limit, wanted);
	if (outcome->error == 0)
		outcome->error = mount_limit_read(mount, limit, &outcome->after);
}

/* What to do about an error. */
static const char *remedy_for(enum mount_limit limit, int error)
{
	if (limit != MOUNT_READ_AHEAD && error == -ENOENT && !mount_has_fusectl())
		return "as root: mount -t fusectl none /sys/fs/fuse/connections";
	if (error == -EACCES || error == -EPERM)
		return limit == MOUNT_READ_AHEAD ? "run it as root"
						 : "run it as root or as the owner of the mount";
	if (error == -EROFS)
		return "run it on the host: /sys is read-only in this container";
	return "see that the file system is still mounted";
}

/* Says what could not be read or set; false if there was anything. */
static bool complain(const struct mount *mount, const struct settings *settings,
		     const struct outcome *outcomes)
{
	bool good = true;

	for (enum mount_limit i = 0; i < MOUNT_LIMITS; i++) {
		char path[PATH_MAX];
		int error = outcomes[i].error;

		if (error == -ENOTSUP && settings->wanted[i] != KEEP)
			report_error("it can be set on FUSE only", "%s has no %s (%s)",
				     mount->point, mount_limit_name(i), mount->type);
		else if (error && error != -ENOTSUP && mount_limit_path(mount, i, path))
			report_error(remedy_for(i, error), "%s: %s", path, strerror(-error));
		good &= error == 0 || (error == -ENOTSUP && settings->wanted[i] == KEEP);
		/* The kernel takes an ordinary user's value only up to a limit of its own. */
		if (error == 0 && settings->wanted[i] != KEEP &&
		    outcomes[i].after != settings->wanted[i]) {
			report_error("run it as root, or raise the fuse module's "
				     "max_user_bgreq or max_user_congthresh",
				     "%s is %llu, not %llu", mount_limit_name(i),
				     (unsigned long long)outcomes[i].after,
				     (unsigned long long)settings->wanted[i]);
			good = false;
		}
	}
	return good;
}

static void print_text(const struct mount *mount, const struct outcome *outcomes)
{
	static const char *const meanings[] = {"requests in flight",
					       "from so many on read-ahead is held back",
					       "KiB that the kernel reads ahead"};
	struct report_table table;

	printf("%s: %s, %s\n", mount->point, mount->type, mount->source);
	report_table_start(&table, "lrl");
	for (enum mount_limit i = 0; i < MOUNT_LIMITS; i++) {
		const struct outcome *outcome = &outcomes[i];

		report_table_cell(&table, "%s", mount_limit_name(i));
		if (outcome->error)
			report_table_cell(&table, "-");
		else if (outcome->before != outcome->after)
			report_table_cell(&table, "%llu -> %llu",
					  (unsigned long long)outcome->before,
					  (unsigned long long)outcome->after);
		else
			report_table_cell(&table, "%llu", (unsigned long long)outcome->after);
		report_table_cell(&table, "%s", meanings[i]);
	}
	report_table_print(&table, stdout, 2);
}

static void print_json(const struct mount *mount, const struct outcome *outcomes)
{
	cJSON *object = cJSON_CreateObject(), *limits;

	report_json_text(object, "mount", mount->point);
	report_json_text(object, "type", mount->type);
	report_json_text(object, "source", mount->source);
	limits = cJSON_AddObjectToObject(object, "limits");
	for (enum mount_limit i = 0; i < MOUNT_LIMITS; i++) {
		cJSON *limit = cJSON_AddObjectToObject(limits, mount_limit_name(i));
		uint64_t none = UINT64_MAX;

		report_json_number(limit, "before", outcomes[i].error ? none : outcomes[i].before);
		report_json_number(limit, "now", outcomes[i].error ? none : outcomes[i].after);
	}
	report_json_print(object);
}

/* Finds the mount; false with an error printed. */
static bool find(const char *path, struct mount *mount)
{
	int fd = open(path, O_PATH | O_CLOEXEC);
	bool found;

	if (fd < 0) {
		report_error("give the directory where the file system is mounted", "%s: %s", path,
			     strerror(errno));
		return false;
	}
	found = mount_of(fd, mount);
	if (!found)
		report_error("see that /proc is mounted",
			     "%s: its mount is not in "
			     "/proc/self/mountinfo",
			     path);
	close(fd);
	return found;
}

int stn_tool_tune(int argc, char **argv)
{
	static const struct argp_option options[] = {
		{"max-background", 'b', "N", 0, "Requests that may be in flight (FUSE)", 0},
		{"congestion-threshold", 'c', "N", 0,
		 "Requests in flight from which on read-ahead is held back (FUSE)", 0},
		{"read-ahead", 'r', "KIB", 0, "KiB that the kernel reads ahead", 0},
		{"json", 'j', NULL, 0, "Print JSON", 0},
		{0},
	};
	static const struct argp argp = {
		.options = options,
		.parser = parse,
		.args_doc = "MOUNT",
		.doc = "Shows the limits of the file system that MOUNT is on, and sets those that "
		       "are given. They last until it is unmounted.\v"
		       "Exit status: 0 if all of it could be done, 1 if not, 2 for a usage error.",
	};
	struct settings settings = {.wanted = {KEEP, KEEP, KEEP}};
	struct outcome outcomes[MOUNT_LIMITS] = {0};
	struct mount mount = {0};

	argp_parse(&argp, argc, argv, 0, NULL, &settings);
	if (!find(settings.path, &mount))
		return EXIT_NO;
	for (enum mount_limit i = 0; i < MOUNT_LIMITS; i++)
		handle(&mount, i, settings.wanted[i], &outcomes[i]);
	(settings.json ? print_json : print_text)(&mount, outcomes);
	return complain(&mount, &settings, outcomes) ? EXIT_YES : EXIT_NO;
}
