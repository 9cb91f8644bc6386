/* SPDX-License-Identifier: Apache-2.0 */
/* Decisions and settings in words. */
#include <stdlib.h>
#include <string.h>

#include "doctor.h"
#include "fs.h"
#include "report.h"

const char *doctor_decision(enum stn_decision decision, char out[64])
{
	const char *reason = stn_decision_reason(decision);

	snprintf(out, 64, "%s%s%s", stn_decision_verb(decision), *reason ? ":" : "", reason);
	return out;
}

/* When it is filled, "" if before mmap returns. */
static const char *explain_fill(const struct doctor_file *file)
{
	if (file->lazy && file->lazy_writable)
		return "; filled as it is touched";
	return file->lazy ? "; filled as it is touched if the map is read-only" : "";
}

/* Why a mapping is engaged. */
static void explain_engaged(const struct doctor *doctor, const struct doctor_file *file, char *out,
			    size_t size)
{
	const char *fill = explain_fill(file);

	if (doctor->config.mode == STN_MODE_ALWAYS)
		snprintf(out, size, "STSHIM_MODE is always%s", fill);
	else if (stn_fs_listed(doctor->config.file_systems, file->file_system))
		snprintf(out, size, "STSHIM_FSTYPES has %s%s", stn_fs_name(file->file_system),
			 fill);
	else
		snprintf(out, size, "CPU and GPU share memory%s", fill);
}

static void explain_memory(const struct doctor_file *file, char *out, size_t size)
{
	char needed[REPORT_BYTES], left[REPORT_BYTES], margin[REPORT_BYTES];

	snprintf(out, size, "%s: %s needed, %s left beside a margin of %s",
		 file->room.limit ? file->room.limit : "memory",
		 report_bytes(file->room.needed, needed), report_bytes(file->room.available, left),
		 report_bytes(file->room.margin, margin));
}

/* Why it is declined, where no figure belongs to it. */
static const char *explain_declined(enum stn_decision decision)
{
	switch (decision) {
	case STN_DECLINED_OFF:
		return "STSHIM_MODE is off";
	case STN_DECLINED_NOT_REGULAR:
		return "it is not a regular file";
	case STN_DECLINED_MEMORY_BACKED:
		return "the file is in memory already";
	case STN_DECLINED_DAX:
		return "the file is on persistent memory and needs no reading";
	case STN_DECLINED_EMPTY:
		return "the file has no bytes";
	case STN_DECLINED_NO_THREAD:
		return "a thread cannot have a table of descriptors of its own (close_range)";
	case STN_DECLINED_NO_PROCFS:
		return "there is no /proc of this process";
	default:
		return "";
	}
}

void doctor_explain(const struct doctor *doctor, const struct doctor_file *file, char *out,
		    size_t size)
{
	const struct stn_config *config = &doctor->config;

	if (stn_decision_engaged(file->decision))
		explain_engaged(doctor, file, out, size);
	else if (file->decision == STN_DECLINED_MEMORY)
		explain_memory(file, out, size);
	else if (file->decision == STN_DECLINED_NOT_A_MODEL)
		snprintf(out, size, "its name matches none of STSHIM_FILES=%s", config->files);
	else if (file->decision == STN_DECLINED_FILE_SYSTEM)
		snprintf(out, size, "it is on %s, and STSHIM_FSTYPES is %s",
			 stn_fs_name(file->file_system), config->file_systems);
	else
		snprintf(out, size, "%s", explain_declined(file->decision));
}

void doctor_row(const struct doctor *doctor, size_t index, struct doctor_row *out)
{
	stn_config_row(index, &out->row);
	out->given = getenv(out->row.name);
	out->bad = doctor->config.bad >> index & 1;
}

void doctor_unknown_fstypes(const struct stn_config *config, void (*visit)(const char *, void *),
			    void *argument)
{
	const char *list = config->file_systems;
	char name[64];

	for (; *list; list += strspn(list, ",: ")) {
		size_t length = strcspn(list, ",: ");

		snprintf(name, sizeof(name), "%.*s", (int)length, list);
		if (length && !stn_fs_known(list, length))
			visit(name, argument);
		list += length;
	}
}

bool doctor_host_serves(const struct doctor *doctor)
{
	return doctor->host.close_range && doctor->host.proc &&
	       doctor->config.mode != STN_MODE_OFF && doctor->config.mode != STN_MODE_OBSERVE;
}
