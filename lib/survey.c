/* SPDX-License-Identifier: Apache-2.0 */
#include "survey.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "config.h"
#include "lazy.h"
#include "page.h"
#include "sys.h"
#include "text.h"
#include "uma.h"

static _Atomic int unified_memory = -1;
static char runtime_dir[1024];

void stn_survey_set_runtime_dir(const char *directory)
{
	if (directory && strlen(directory) < sizeof(runtime_dir))
		memcpy(runtime_dir, directory, strlen(directory) + 1);
}

int stn_survey_unified(void)
{
	if (stn_config.uma != STN_ANSWER_AUTO)
		return stn_config.uma == STN_ANSWER_YES;
	return atomic_load(&unified_memory);
}

/* Looks at the hardware once in the life of the process. */
static bool find_unified(void)
{
	struct stn_uma_facts facts;
	const char *why;
	int known = stn_survey_unified();

	if (known >= 0)
		return known;
	stn_uma_collect("", runtime_dir, &facts);
	known = stn_uma_verdict(&facts, &why);
	atomic_store(&unified_memory, known);
	return known;
}

int stn_survey_descriptor(int fd, char *out, size_t size)
{
	/* The leader may have ended, and /proc may number processes otherwise than we are numbered.
	 */
	char thread[64];
	ssize_t length = stn_sys_readlink("/proc/thread-self", thread, sizeof(thread) - 1);
	struct stn_text text;

	if (length < 0)
		return (int)length;
	thread[length] = '\0';
	stn_text_start(&text, out, size);
	stn_text_add(&text, "/proc/");
	stn_text_add(&text, thread);
	stn_text_add(&text, "/fd/");
	stn_text_add_number(&text, (uint64_t)fd);
	return 0;
}

static void run_survey(struct stn_call *call)
{
	struct stn_survey *survey = (struct stn_survey *)(void *)call;
	ssize_t length =
		stn_sys_readlink(survey->descriptor, survey->path, sizeof(survey->path) - 1);

	survey->path[length > 0 ? length : 0] = '\0';
	stn_budget_read(&survey->view);
	survey->unified = find_unified();
	survey->huge_page = stn_page_huge_read();
	if (survey->lazy)
		stn_lazy_probe_here();
}

struct stn_survey *stn_survey_run(int fd, bool lazy, int *error)
{
	struct stn_survey *survey = stn_call_make(sizeof(*survey), run_survey);

	*error = -ENOMEM;
	if (!survey)
		return NULL;
	survey->lazy = lazy;
	*error = stn_survey_descriptor(fd, survey->descriptor, sizeof(survey->descriptor));
	if (*error == 0)
		*error = stn_pool_run(&survey->call.job, (unsigned)stn_config.threads,
				      stn_config.timeout, NULL);
	if (*error == 0)
		return survey;
	stn_survey_put(survey);
	return NULL;
}

void stn_survey_put(struct stn_survey *survey)
{
	stn_job_put(&survey->call.job);
}
