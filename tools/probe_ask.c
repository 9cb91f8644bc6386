/* SPDX-License-Identifier: Apache-2.0 */
#include "probe.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file.h"
#include "sys.h"

/* Milliseconds. All libraries are asked at the same time. */
#define ANSWER_WITHIN 1500
#define REAP_WITHIN   100
#define END_WITHIN    1800

/* Shared with the process that asks, and by that with one for each library and one for the kernel.
 */
struct asking {
	struct stn_uma_facts facts;
	bool facts_read;
	struct probe_answer answer[PROBE_MOST_LIBRARIES];
	struct child child[PROBE_MOST_LIBRARIES + 1];
	bool over; /* the statuses of the children are final */
};

struct question {
	struct asking *asking;
	unsigned library;
};

static void ask_library(void *argument)
{
	const struct question *question = argument;

	probe_table_ask(question->library, &question->asking->answer[question->library]);
}

/* A broken driver may hang whoever reads its files in /proc. */
static void ask_kernel(void *argument)
{
	struct asking *asking = ((const struct question *)argument)->asking;

	stn_uma_collect("", getenv("XDG_RUNTIME_DIR"), &asking->facts);
	asking->facts_read = true;
}

/* Kills the children of this process; what the libraries have started and left is among them, since
 * its parent ended. */
static void kill_children(void)
{
	char text[4096];

	if (stn_file_read("/proc/thread-self/children", text, sizeof(text)) <= 0)
		return;
	for (char *at = text; *at; at += strspn(at, " \n")) {
		long pid = strtol(at, &at, 10);

		if (pid > 0)
			kill((pid_t)pid, SIGKILL);
	}
}

/* Leaves no child alive, unless a system call keeps it. */
static void clean_up(void)
{
	uint64_t deadline = child_deadline(REAP_WITHIN);

	kill_children();
	while (waitpid(-1, NULL, WNOHANG) >= 0 && stn_sys_clock(CLOCK_MONOTONIC) < deadline)
		stn_sys_sleep(1000000);
}

/*
 * In a process between: starts a process for each question, waits for all of them, and leaves none
 * of them alive, nor what they have started.
 */
static void ask_all(void *argument)
{
	struct asking *asking = argument;
	unsigned libraries = probe_table_size();
	struct question question = {.asking = asking};
	uint64_t deadline = child_deadline(ANSWER_WITHIN);

	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	child_start(&asking->child[libraries], ask_kernel, &question);
	for (; question.library < libraries; question.library++)
		child_start(&asking->child[question.library], ask_library, &question);
	for (unsigned i = 0; i <= libraries; i++)
		child_await(&asking->child[i], deadline);
	asking->over = true;
	for (unsigned i = 0; i <= libraries; i++)
		child_kill(&asking->child[i]);
	clean_up();
}

/* How the process of a library ended, from its status and what it has written. */
static void judge_end(const struct asking *asking, unsigned library, struct probe_result *result)
{
	const struct child *child = &asking->child[library];
	bool told = asking->answer[library].state != PROBE_STARTED;

	result->asked[library].end = PROBE_ENDED;
	if (told)
		return;
	if (!asking->over || child->pid) {
		result->asked[library].end = PROBE_LATE;
	} else if (WIFSIGNALED(child->status)) {
		result->asked[library].end = PROBE_CRASHED;
		result->asked[library].signal = WTERMSIG(child->status);
	} else {
		result->asked[library].end = PROBE_EXITED;
	}
}

/* Takes an answer over; its writer may have written anything. */
static void take_answer(const struct asking *asking, unsigned library, struct probe_result *result)
{
	struct probe_answer *answer = &result->asked[library].answer;

	*answer = asking->answer[library];
	answer->library[sizeof(answer->library) - 1] = '\0';
	answer->symbol[sizeof(answer->symbol) - 1] = '\0';
	if (answer->state > PROBE_DONE)
		answer->state = PROBE_STARTED;
	if (answer->devices > PROBE_MOST_DEVICES)
		answer->devices = PROBE_MOST_DEVICES;
	judge_end(asking, library, result);
}

/* What is known of one vendor's GPUs. */
struct opinion {
	bool yes, no;
};

static void weigh_answer(const struct probe_answer *answer, struct opinion *opinion)
{
	const uint32_t deciding = PROBE_INTEGRATED | PROBE_HOST_TABLES;

	for (unsigned i = 0; answer->state == PROBE_DONE && i < answer->devices; i++) {
		if (answer->holds[i] & deciding)
			opinion->yes = true;
		else if (answer->known[i] & deciding)
			opinion->no = true;
	}
}

/* The vendors' libraries first, then what the kernel says. */
static void decide(struct probe_result *result)
{
	struct opinion opinions[PROBE_VENDORS] = {0};
	const char *kernel_says;
	bool kernel, yes = false, no = false;

	for (unsigned i = 0; i < probe_table_size(); i++)
		weigh_answer(&result->asked[i].answer, &opinions[probe_table_vendor(i)]);
	result->facts.probe = -1;
	kernel = stn_uma_verdict(&result->facts, &kernel_says);
	if (kernel)
		opinions[result->facts.amd_apu ? PROBE_AMD : PROBE_NVIDIA].yes = true;
	for (unsigned i = 0; i < PROBE_VENDORS; i++) {
		yes |= opinions[i].yes;
		no |= opinions[i].no && !opinions[i].yes;
	}
	result->unified = yes && !no;
	result->why = no       ? "a GPU has memory of its own"
		      : kernel ? kernel_says
		      : yes    ? "the GPU uses the CPU's memory"
			       : "no sign of it";
}

void probe_ask(struct probe_result *result)
{
	struct asking *asking = child_share(sizeof(*asking));
	struct child child = {0};

	memset(result, 0, sizeof(*result));
	if (asking && child_start(&child, ask_all, asking)) {
		child_await(&child, child_deadline(END_WITHIN));
		child_kill(&child);
		child_await(&child, child_deadline(REAP_WITHIN));
		if (asking->facts_read)
			result->facts = asking->facts;
		for (unsigned i = 0; i < probe_table_size(); i++)
			take_answer(asking, i, result);
	}
	if (asking)
		munmap(asking, sizeof(*asking));
	decide(result);
}
