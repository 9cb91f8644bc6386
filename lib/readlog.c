/* SPDX-License-Identifier: Apache-2.0 */
#include "readlog.h"

#include "config.h"
#include "journal.h"
#include "page.h"
#include "source.h"
#include "survey.h"

#define DUE_LEAST ((uint64_t)64 << 20)
#define WHOLE_BUT ((uint64_t)1 << 20) /* bytes that a file read as a whole may lack */

bool stn_readlog_due(uint64_t reported, uint64_t bytes, uint64_t file_size)
{
	/* What another call has seen, a header that was mapped, will not come. */
	uint64_t slack = stn_min(file_size / 16, WHOLE_BUT);
	uint64_t before = reported + slack, now = before + bytes;

	return reported == 0 || bytes >= stn_max(reported / 2, DUE_LEAST) ||
	       (file_size && now / file_size > before / file_size);
}

/* Completes a record with the file and writes it. */
static void write_record(const struct stn_readlog_entry *entry, struct stn_record *record,
			 enum stn_decision decision)
{
	int error;
	struct stn_survey *survey = stn_survey_run(entry->fd, false, &error);

	record->event = "read";
	/* Another thread may have closed the descriptor, and its number be another file's. */
	if (survey && stn_source_is_file(entry->fd, entry->identity))
		record->path = survey->path;
	else
		record->path = "";
	record->identity = *entry->identity;
	record->file_system = entry->file_system;
	record->decision = decision;
	record->observed = stn_config.mode == STN_MODE_OBSERVE;
	record->note = record->note ? record->note : "";
	stn_journal_write(record);
	if (survey)
		stn_survey_put(survey);
}

void stn_readlog_decision(const struct stn_readlog_entry *entry, enum stn_decision decision)
{
	uint64_t bit = (uint64_t)1 << decision;
	struct stn_record record = {.bytes = entry->bytes};

	if (!stn_journal_wants(decision) || atomic_fetch_or(&entry->model->reads.told, bit) & bit)
		return;
	record.elapsed = entry->elapsed;
	write_record(entry, &record, decision);
}

/* Takes a counter's value and leaves zero. */
static uint64_t take(_Atomic uint64_t *counter)
{
	return atomic_exchange(counter, 0);
}

/* Writes a line with all that was served since the last one. */
static void report(const struct stn_readlog_entry *entry)
{
	struct stn_model_reads *reads = &entry->model->reads;
	struct stn_record record = {
		.bytes = take(&reads->bytes),
		.elapsed = take(&reads->time),
		.requests = take(&reads->requests),
		.direct_bytes = take(&reads->direct_bytes),
		.buffered_bytes = take(&reads->buffered_bytes),
		.threads = (unsigned)atomic_load(&reads->threads),
		.note = "read",
	};

	/* Another thread has just done it. */
	if (!record.requests)
		return;
	atomic_fetch_add(&reads->reported, record.bytes);
	if (stn_journal_wants(STN_ENGAGED))
		write_record(entry, &record, STN_ENGAGED);
}

void stn_readlog_served(const struct stn_readlog_entry *entry)
{
	struct stn_model_reads *reads = &entry->model->reads;
	uint64_t bytes = atomic_fetch_add(&reads->bytes, entry->bytes) + entry->bytes;

	atomic_fetch_add(&reads->requests, 1);
	atomic_fetch_add(&reads->time, entry->elapsed);
	atomic_fetch_add(&reads->direct_bytes, entry->direct_bytes);
	atomic_fetch_add(&reads->buffered_bytes, entry->buffered_bytes);
	if (entry->threads > atomic_load(&reads->threads))
		atomic_store(&reads->threads, entry->threads);
	if (stn_readlog_due(atomic_load(&reads->reported), bytes, entry->identity->size))
		report(entry);
}
