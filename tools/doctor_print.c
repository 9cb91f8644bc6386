/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "doctor.h"
#include "fs.h"
#include "report.h"

static const char *yes_no(bool value)
{
	return value ? "yes" : "no";
}

/* A limit in bytes, "none" where there is none. */
static const char *limit_text(uint64_t bytes, char out[REPORT_BYTES])
{
	return bytes == UINT64_MAX ? "none" : report_bytes(bytes, out);
}

static const char *uffd_text(const struct doctor_host *host)
{
	static char none[128];

	switch (host->uffd) {
	case STN_LAZY_FULL:
		return host->uffd_device ? "full, by /dev/userfaultfd" : "full, by the system call";
	case STN_LAZY_USER_ONLY:
		return "user mode only";
	case STN_LAZY_NONE:
		snprintf(none, sizeof(none), "none: %s", strerror(host->uffd_error));
		return none;
	default:
		return host->uffd_kills ? "none: whoever asks for it is killed" : "none";
	}
}

static void print_kernel(const struct doctor_host *host, struct report_table *table)
{
	char text[REPORT_BYTES], huge[REPORT_BYTES];

	report_table_cell(table, "kernel");
	report_table_cell(table, "%s", host->kernel);
	report_table_cell(table, "pages");
	report_table_cell(table, "%s; huge pages %s (%s)", report_bytes(host->page, text),
			  host->huge_page ? report_bytes(host->huge_page, huge) : "none",
			  *host->huge_mode ? host->huge_mode : "no transparent ones");
	report_table_cell(table, "userfaultfd");
	report_table_cell(table, "%s%s", uffd_text(host),
			  host->uffd_move ? "; with UFFDIO_MOVE" : "");
	report_table_cell(table, "close_range");
	report_table_cell(table, "%s",
			  host->close_range_kills ? "no: whoever calls it is killed"
						  : yes_no(host->close_range));
	report_table_cell(table, "seccomp");
	report_table_cell(table, "%s",
			  host->seccomp == 2   ? "a filter"
			  : host->seccomp == 1 ? "strict"
			  : host->seccomp == 0 ? "none"
					       : "unknown");
	report_table_cell(table, "names of memory");
	report_table_cell(table, "%s", yes_no(host->names));
}

static void print_memory(const struct doctor_host *host, struct report_table *table)
{
	char a[REPORT_BYTES], b[REPORT_BYTES];

	report_table_cell(table, "memory");
	report_table_cell(table, "%s, %s available", report_bytes(host->view.host_total, a),
			  report_bytes(host->view.host_available, b));
	report_table_cell(table, "control group");
	if (host->view.group_limit == UINT64_MAX)
		report_table_cell(table, "no limit");
	else
		report_table_cell(table, "limit %s, %s left", limit_text(host->view.group_limit, a),
				  limit_text(host->view.group_available, b));
	report_table_cell(table, "room");
	report_table_cell(table, "%s (by %s, beside a margin of %s)",
			  limit_text(host->room.available, a),
			  host->room.limit ? host->room.limit : "nothing",
			  report_bytes(host->room.margin, b));
	report_table_cell(table, "unified memory");
	report_table_cell(table, "%s (%s)%s%s", yes_no(host->unified), host->unified_why,
			  *host->gpu ? "; GPU: " : "", host->gpu);
	report_table_cell(table, "library");
	report_table_cell(table, "%s; preloaded here: %s",
			  *host->library ? host->library : "not found", yes_no(host->preloaded));
}

static void print_host(const struct doctor_host *host)
{
	struct report_table table;

	puts("host");
	report_table_start(&table, "ll");
	print_kernel(host, &table);
	print_memory(host, &table);
	report_table_print(&table, stdout, 2);
}

static void print_settings(const struct doctor *doctor)
{
	struct report_table table;

	puts("\nconfiguration");
	report_table_start(&table, "lll");
	for (size_t i = 0; i < stn_config_rows(); i++) {
		struct doctor_row row;
		const char *value;

		doctor_row(doctor, i, &row);
		value = row.given && !row.bad ? row.given : row.row.fallback;
		report_table_cell(&table, "%s", row.row.name);
		report_table_cell(&table, "%s", *value ? value : "(empty)");
		if (row.bad)
			report_table_cell(&table, "the default: %s is not understood", row.given);
		else
			report_table_cell(&table, "%s", row.given ? "set" : "");
	}
	report_table_print(&table, stdout, 2);
	if (*doctor->config.unknown)
		printf("  no such variable: %s\n", doctor->config.unknown);
}

static void print_limits(const struct doctor_path *path)
{
	const char *comma = "  limits: ";

	for (enum mount_limit i = 0; i < MOUNT_LIMITS; i++) {
		if (path->limit[i] == UINT64_MAX)
			continue;
		printf("%s%s %llu", comma, mount_limit_name(i), (unsigned long long)path->limit[i]);
		comma = ", ";
	}
	if (path->waiting != UINT64_MAX) {
		printf("%srequests waiting now %llu", comma, (unsigned long long)path->waiting);
		comma = ", ";
	}
	if (comma[0] == ',')
		putchar('\n');
}

static void print_measure(const struct doctor_measure *measure)
{
	char bytes[REPORT_BYTES];
	double seconds = (double)measure->elapsed / 1e9;

	if (!measure->tried)
		return;
	if (measure->error && measure->bytes == 0) {
		printf("  measured: %s\n", strerror(measure->error));
		return;
	}
	printf("  measured: one read of %s %.3g ms; ", report_bytes(measure->request, bytes),
	       (double)measure->latency / 1e6);
	printf("%s in parallel in %.3f s, %.2f GB/s%s\n", report_bytes(measure->bytes, bytes),
	       seconds, seconds > 0 ? (double)measure->bytes / seconds / 1e9 : 0,
	       measure->in_time ? "" : ", and reads that did not end");
}

static void print_files(const struct doctor *doctor, const struct doctor_path *path)
{
	struct report_table table;

	report_table_start(&table, "lrll");
	for (unsigned i = 0; i == 0 || i < path->count; i++) {
		const struct doctor_file *file = &path->file[i];
		char bytes[REPORT_BYTES], decision[64], why[PATH_MAX];

		doctor_explain(doctor, file, why, sizeof(why));
		report_table_cell(&table, "%s",
				  path->count == 0  ? "(a model here)"
				  : path->directory ? file->path + strlen(path->path)
						    : "decision");
		report_table_cell(&table, "%s", path->count ? report_bytes(file->size, bytes) : "");
		report_table_cell(&table, "%s", doctor_decision(file->decision, decision));
		report_table_cell(&table, "%s", why);
	}
	report_table_print(&table, stdout, 2);
}

static void print_path(const struct doctor *doctor, const struct doctor_path *path)
{
	printf("\n%s\n", path->path);
	if (path->hangs)
		puts("  the file system does not answer");
	if (path->placed)
		printf("  on %s at %s, from %s (%s)\n", path->mount.type, path->mount.point,
		       path->mount.source, path->mount.options);
	if (path->error)
		printf("  %s\n", strerror(path->error));
	if (path->hangs || path->error)
		return;
	print_limits(path);
	print_measure(&path->measure);
	print_files(doctor, path);
}

void doctor_print_text(const struct doctor *doctor)
{
	print_host(&doctor->host);
	print_settings(doctor);
	for (unsigned i = 0; i < doctor->path_count; i++)
		print_path(doctor, doctor->paths[i]);
	if (doctor->advice_count)
		puts("\nadvice");
	for (unsigned i = 0; i < doctor->advice_count; i++)
		printf("  - %s\n", doctor->advice[i]);
}
