/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "doctor.h"
#include "fs.h"
#include "report.h"

static void add_host(cJSON *parent, const struct doctor_host *host)
{
	static const char *const kinds[] = {
		[STN_LAZY_UNKNOWN] = "none",
		[STN_LAZY_NONE] = "none",
		[STN_LAZY_USER_ONLY] = "user-mode-only",
		[STN_LAZY_FULL] = "full",
	};
	cJSON *object = cJSON_AddObjectToObject(parent, "host"), *uffd, *kills;

	report_json_text(object, "kernel", host->kernel);
	report_json_number(object, "page_size", host->page);
	report_json_number(object, "huge_page_size", host->huge_page);
	report_json_text(object, "huge_pages", host->huge_mode);
	uffd = cJSON_AddObjectToObject(object, "userfaultfd");
	report_json_text(uffd, "kind", kinds[host->uffd]);
	report_json_text(uffd, "through",
			 host->uffd <= STN_LAZY_NONE ? "nothing"
			 : host->uffd_device	     ? "device"
						     : "system-call");
	cJSON_AddBoolToObject(uffd, "move", host->uffd_move);
	cJSON_AddBoolToObject(object, "close_range", host->close_range);
	cJSON_AddBoolToObject(object, "proc", host->proc);
	cJSON_AddBoolToObject(object, "memory_names", host->names);
	cJSON_AddNumberToObject(object, "seccomp", (double)host->seccomp);
	cJSON_AddNumberToObject(object, "seccomp_filters", (double)host->filters);
	kills = cJSON_AddArrayToObject(object, "seccomp_kills");
	if (host->uffd_kills)
		report_json_append(kills, "userfaultfd");
	if (host->close_range_kills)
		report_json_append(kills, "close_range");
	cJSON_AddBoolToObject(object, "unified", host->unified);
	report_json_text(object, "unified_why", host->unified_why);
	report_json_text(object, "nvidia_gpu", host->gpu);
	report_json_text(object, "library", host->library);
	cJSON_AddBoolToObject(object, "preloaded", host->preloaded);
}

static void add_memory(cJSON *parent, const struct doctor_host *host)
{
	cJSON *object = cJSON_AddObjectToObject(parent, "memory");

	report_json_number(object, "total", host->view.host_total);
	report_json_number(object, "available", host->view.host_available);
	report_json_number(object, "group_limit", host->view.group_limit);
	report_json_number(object, "group_available", host->view.group_available);
	report_json_number(object, "room", host->room.available);
	report_json_text(object, "room_limit", host->room.limit ? host->room.limit : "");
	report_json_number(object, "room_margin", host->room.margin);
	report_json_number(object, "memlock", host->memlock);
}

static void add_fstype(const char *name, void *argument)
{
	report_json_append(argument, name);
}

static void add_settings(cJSON *parent, const struct doctor *doctor)
{
	cJSON *array = cJSON_AddArrayToObject(parent, "configuration");
	char names[sizeof(doctor->config.unknown)], *save;

	for (size_t i = 0; i < stn_config_rows(); i++) {
		cJSON *object = cJSON_CreateObject();
		struct doctor_row row;

		doctor_row(doctor, i, &row);
		report_json_text(object, "name", row.row.name);
		report_json_text(object, "value",
				 row.given && !row.bad ? row.given : row.row.fallback);
		report_json_text(object, "default", row.row.fallback);
		if (row.given)
			report_json_text(object, "given", row.given);
		else
			cJSON_AddNullToObject(object, "given");
		cJSON_AddBoolToObject(object, "bad", row.bad);
		report_json_text(object, "values", row.row.values);
		cJSON_AddItemToArray(array, object);
	}
	array = cJSON_AddArrayToObject(parent, "unknown_variables");
	strcpy(names, doctor->config.unknown);
	for (char *name = strtok_r(names, " ", &save); name; name = strtok_r(NULL, " ", &save))
		report_json_append(array, name);
	doctor_unknown_fstypes(&doctor->config, add_fstype,
			       cJSON_AddArrayToObject(parent, "unknown_file_systems"));
}

static void add_mount(cJSON *parent, const struct doctor_path *path)
{
	cJSON *object;

	if (!path->placed) {
		cJSON_AddNullToObject(parent, "mount");
		return;
	}
	object = cJSON_AddObjectToObject(parent, "mount");
	report_json_text(object, "point", path->mount.point);
	report_json_text(object, "type", path->mount.type);
	report_json_text(object, "source", path->mount.source);
	report_json_text(object, "options", path->mount.options);
	for (enum mount_limit i = 0; i < MOUNT_LIMITS; i++)
		report_json_number(object, mount_limit_name(i), path->limit[i]);
	report_json_number(object, "waiting", path->waiting);
}

static void add_files(cJSON *parent, const struct doctor *doctor, const struct doctor_path *path)
{
	cJSON *array = cJSON_AddArrayToObject(parent, "files");

	for (unsigned i = 0; i == 0 || i < path->count; i++) {
		const struct doctor_file *file = &path->file[i];
		cJSON *object = cJSON_CreateObject(), *fill;
		char why[PATH_MAX];

		doctor_explain(doctor, file, why, sizeof(why));
		if (path->count)
			report_json_text(object, "path", file->path);
		else
			cJSON_AddNullToObject(object, "path");
		report_json_number(object, "size", path->count ? file->size : 0);
		report_json_text(object, "file_system", stn_fs_name(file->file_system));
		cJSON_AddBoolToObject(object, "readable", file->readable);
		report_json_text(object, "decision", stn_decision_verb(file->decision));
		report_json_text(object, "reason", stn_decision_reason(file->decision));
		report_json_text(object, "why", why);
		fill = cJSON_AddObjectToObject(object, "fill");
		report_json_text(fill, "read_only", file->lazy ? "lazy" : "eager");
		report_json_text(fill, "writable", file->lazy_writable ? "lazy" : "eager");
		cJSON_AddItemToArray(array, object);
	}
}

static void add_measure(cJSON *parent, const struct doctor_measure *measure)
{
	double seconds = (double)measure->elapsed / 1e9;
	cJSON *object;

	if (!measure->tried) {
		cJSON_AddNullToObject(parent, "measured");
		return;
	}
	object = cJSON_AddObjectToObject(parent, "measured");
	report_json_number(object, "request", measure->request);
	cJSON_AddNumberToObject(object, "request_seconds", (double)measure->latency / 1e9);
	report_json_number(object, "bytes", measure->bytes);
	cJSON_AddNumberToObject(object, "seconds", seconds);
	cJSON_AddNumberToObject(object, "gb_per_s",
				seconds > 0 ? (double)measure->bytes / seconds / 1e9 : 0);
	report_json_text(object, "error", measure->error ? strerror(measure->error) : "");
	cJSON_AddBoolToObject(object, "in_time", measure->in_time);
}

static cJSON *path_to_json(const struct doctor *doctor, const struct doctor_path *path)
{
	cJSON *object = cJSON_CreateObject();

	report_json_text(object, "path", path->path);
	cJSON_AddBoolToObject(object, "engages", doctor_engages(path));
	cJSON_AddBoolToObject(object, "hangs", path->hangs);
	report_json_text(object, "error", path->error ? strerror(path->error) : "");
	cJSON_AddBoolToObject(object, "directory", path->directory);
	add_mount(object, path);
	if (path->error || path->hangs)
		cJSON_AddArrayToObject(object, "files");
	else
		add_files(object, doctor, path);
	add_measure(object, &path->measure);
	return object;
}

void doctor_print_json(const struct doctor *doctor)
{
	cJSON *object = cJSON_CreateObject(), *paths, *advice;

	add_host(object, &doctor->host);
	add_memory(object, &doctor->host);
	add_settings(object, doctor);
	paths = cJSON_AddArrayToObject(object, "paths");
	for (unsigned i = 0; i < doctor->path_count; i++)
		cJSON_AddItemToArray(paths, path_to_json(doctor, doctor->paths[i]));
	advice = cJSON_AddArrayToObject(object, "advice");
	for (unsigned i = 0; i < doctor->advice_count; i++)
		report_json_append(advice, doctor->advice[i]);
	report_json_print(object);
}
