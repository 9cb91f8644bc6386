/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The self-test: a child enters a copy of the root and runs programs there without and with the
 * library.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "inject.h"

#define OUTPUT	    16384 /* bytes of a program's output that are compared */
#define INJECT_PATH 4352  /* LD_PRELOAD= and a path */
#define WORDS	    12
#define SECONDS	    10 /* a program */
#define LIMIT	    90 /* seconds for all */
#define NOBODY	    65534

/* A command that any root may have, and that prints the same each time. */
static const struct attempt {
	const char *words[WORDS];
	bool nobody; /* setuid: run by somebody whom that helps */
} attempts[] = {
	{{"/bin/sh", "-c", "echo works; (echo inner); exit 3"}, false},
	{{"/bin/bash", "-c", "echo $BASH_VERSION | while read a; do echo $a; done"}, false},
	{{"/bin/true"}, false},
	{{"/bin/ls", "-d", "/", "/usr"}, false},
	{{"/usr/bin/env", "--version"}, false},
	{{"/usr/bin/python3", "-c", "import mmap, os, sys; mmap.mmap(-1, 9); print(sys.version)"},
	 false},
	{{"/usr/local/bin/python3", "-c",
	  "import mmap, os, sys; mmap.mmap(-1, 9); print(sys.version)"},
	 false},
	{{"/opt/conda/bin/python3", "-c",
	  "import mmap, os, sys; mmap.mmap(-1, 9); print(sys.version)"},
	 false},
	{{"/usr/bin/perl", "-e", "fork; print \"$]\n\"; wait"}, false},
	{{"/usr/bin/apt-get", "--version"}, false},
	{{"/usr/bin/dpkg", "--version"}, false},
	{{"/usr/bin/rpm", "--version"}, false},
	{{"/usr/bin/ssh", "-V"}, false},
	{{"/usr/bin/git", "--version"}, false},
	{{"/usr/bin/curl", "--version"}, false},
	{{"/usr/bin/openssl", "version"}, false},
	{{"/usr/bin/tar", "--version"}, false},
	{{"/bin/su", "--help"}, true},
	{{"/usr/bin/passwd", "--help"}, true},
	{{"/usr/bin/sudo", "-V"}, true},
};

#define ATTEMPTS (sizeof(attempts) / sizeof(attempts[0]))

const char *inject_program(size_t number)
{
	return number < ATTEMPTS ? attempts[number].words[0] : NULL;
}

/* What a command has done. */
struct outcome {
	int status; /* of wait(2); -1 = it did not end */
	char text[2][OUTPUT];
	size_t length[2];
};

/* Everything that the child needs. */
struct job {
	const struct inject *inject;
	const struct inject_libc *libc;
	struct inject_verdict *verdict;
	int library;	    /* open */
	char *preload;	    /* the root's ld.so.preload without the library */
	const char *place;  /* of the library, as the commands have it */
	bool by_variable;   /* it is loaded through LD_PRELOAD */
	bool copy;	    /* this is a copy of the root */
	const char *listed; /* the root's ld.so.preload as it is */
};

/* In the command's process. */
static void become(const struct attempt *attempt, const char *preload, int out, int err)
{
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	static char home[] = "HOME=/", language[] = "LC_ALL=C";
	static char library[INJECT_PATH];
	char *environment[] = {path, home, language, preload ? library : NULL, NULL};

	if (preload)
		snprintf(library, sizeof(library), "LD_PRELOAD=%s", preload);

	dup2(out, 1);
	dup2(err, 2);
	if (attempt->nobody &&
	    (setgroups(0, NULL) != 0 || setgid(NOBODY) != 0 || setuid(NOBODY) != 0))
		_exit(126);
	execve(attempt->words[0], (char *const *)(uintptr_t)attempt->words, environment);
	_exit(127);
}

/* Reads what a command has written into a file in memory. */
static void take_text(int fd, struct outcome *outcome, int which)
{
	ssize_t got = pread(fd, outcome->text[which], OUTPUT - 1, 0);

	outcome->length[which] = got > 0 ? (size_t)got : 0;
	outcome->text[which][outcome->length[which]] = '\0';
	close(fd);
}

/* preload: what LD_PRELOAD is to be, or NULL. */
static void run_command(const struct attempt *attempt, const char *preload, struct outcome *outcome)
{
	int out = memfd_create("out", MFD_CLOEXEC), err = memfd_create("err", MFD_CLOEXEC);
	struct child child = {.pid = fork()};

	if (child.pid == 0)
		become(attempt, preload, out, err);
	outcome->status = -1;
	if (child.pid > 0 && child_await(&child, child_deadline(SECONDS * 1000)))
		outcome->status = child.status;
	else if (child.pid > 0)
		kill(child.pid, SIGKILL);
	take_text(out, outcome, 0);
	take_text(err, outcome, 1);
}

/* The first line of what one has written and the other has not. */
static void first_difference(const char *a, const char *b, char *out, size_t size)
{
	const char *line = b;

	for (size_t i = 0; b[i] && a[i] == b[i]; i++)
		if (b[i] == '\n')
			line = b + i + 1;
	snprintf(out, size, "%.*s", (int)strcspn(line, "\n"), line);
}

static bool same_outcome(const struct outcome *bare, const struct outcome *loaded)
{
	return bare->status == loaded->status && bare->length[0] == loaded->length[0] &&
	       bare->length[1] == loaded->length[1] &&
	       memcmp(bare->text[0], loaded->text[0], bare->length[0]) == 0 &&
	       memcmp(bare->text[1], loaded->text[1], bare->length[1]) == 0;
}

/* Says in what a command has differed. */
static bool tell_difference(struct inject_verdict *verdict, const char *program,
			    const struct outcome *bare, const struct outcome *loaded)
{
	char line[200] = "";

	if (strcmp(bare->text[1], loaded->text[1]) != 0)
		first_difference(bare->text[1], loaded->text[1], line, sizeof(line));
	else if (strcmp(bare->text[0], loaded->text[0]) != 0)
		first_difference(bare->text[0], loaded->text[0], line, sizeof(line));
	if (loaded->status == -1)
		return inject_refuse(verdict, "%s does not end with the library", program);
	if (WIFSIGNALED(loaded->status) && loaded->status != bare->status)
		return inject_refuse(verdict, "%s is ended by %s with the library", program,
				     strsignal(WTERMSIG(loaded->status)));
	return inject_refuse(verdict, "%s does not do the same with the library: %s", program,
			     *line ? line : "another exit status");
}

/* True if the root's loader loads the library: it is asked for a list. */
static bool is_loaded(const struct job *job, const char *preload)
{
	static struct outcome outcome;
	const struct attempt list = {{job->libc->interpreter, "--list", job->libc->program}, false};

	run_command(&list, preload, &outcome);
	if (outcome.status == 0 && strstr(outcome.text[0], job->place))
		return true;
	outcome.text[1][strcspn(outcome.text[1], "\n")] = '\0';
	return inject_refuse(job->verdict, "%s does not load the library: %.300s",
			     job->libc->program, outcome.text[1]);
}

/* The commands that the root has, those that were asked for last; how many. */
static size_t choose(const struct inject *inject, struct attempt out[INJECT_TRIES])
{
	size_t count = 0;

	for (size_t i = 0; i < ATTEMPTS; i++)
		if (access(attempts[i].words[0], X_OK) == 0)
			out[count++] = attempts[i];
	for (size_t i = 0; i < inject->more_count && count < INJECT_TRIES; i++, count++) {
		char *text = strdup(inject->more[i]), *rest = text;

		out[count] = (struct attempt){.nobody = false};
		for (size_t word = 0; text && word + 1 < WORDS && rest; word++)
			out[count].words[word] = strsep(&rest, " ");
	}
	return count;
}

/* What the self-test switches between: no trace of the library, and all of it. */
static bool set_library(const struct job *job, bool present)
{
	static const char no_layer[] = "the layer for the self-test cannot be written";
	bool listed = present && !job->by_variable, good = true;
	char *text;

	if (!job->copy)
		return true;
	if (present)
		good = inject_write_layer(INJECT_LIBRARY, NULL, job->library);
	else
		unlink(INJECT_LIBRARY);
	text = listed ? inject_listed(job->preload) : strdup(job->preload);
	good = good && text;
	if (good && !*text)
		unlink(INJECT_PRELOAD);
	else
		good = good && inject_write_layer(INJECT_PRELOAD, text, -1);
	free(text);
	return good ? true : inject_refuse(job->verdict, "%s: %s", no_layer, strerror(errno));
}

/* Runs all commands twice and compares; the library is in the layer when this returns true. */
static bool compare_all(const struct job *job)
{
	static struct attempt chosen[INJECT_TRIES];
	static struct outcome bare[INJECT_TRIES], loaded;
	size_t count = choose(job->inject, chosen);
	const char *preload = job->by_variable ? job->place : NULL;

	/* A library that is in already would be in both. */
	if (!job->copy && inject_is_listed(job->listed))
		return inject_refuse(job->verdict, "it is in already, and cannot be tried without "
						   "a private mount namespace");
	if (!set_library(job, false))
		return false;
	for (size_t i = 0; i < count; i++)
		run_command(&chosen[i], NULL, &bare[i]);
	if (!set_library(job, true) || !is_loaded(job, preload))
		return false;
	for (size_t i = 0; i < count; i++) {
		snprintf(job->verdict->programs[i], INJECT_PROGRAM, "%s", chosen[i].words[0]);
		job->verdict->count = (unsigned)i + 1;
		run_command(&chosen[i], preload, &loaded);
		if (!same_outcome(&bare[i], &loaded))
			return tell_difference(job->verdict, chosen[i].words[0], &bare[i], &loaded);
	}
	return true;
}

/* The child. */
static void run_job(void *argument)
{
	struct job *job = argument;
	int error;
	char *text = inject_read(job->inject->root, INJECT_PRELOAD, &error);

	job->library = open(job->inject->library, O_RDONLY | O_CLOEXEC);
	if (!text || job->library < 0) {
		inject_refuse(job->verdict, "%s: %s", text ? job->inject->library : INJECT_PRELOAD,
			      strerror(text ? errno : error));
		return;
	}
	job->listed = text;
	job->preload = inject_unlisted(text);
	job->copy = inject_enter(job->inject->root, job->verdict);
	/* While an image is built, as root without rights: the library is tried where it is. */
	if (!job->copy && (job->verdict->entered || strcmp(job->inject->root, "/") != 0))
		return;
	job->by_variable = job->inject->env || !job->copy;
	job->place = job->copy ? INJECT_LIBRARY : job->inject->library;
	job->verdict->good = compare_all(job);
}

bool inject_try(const struct inject *inject, const struct inject_libc *libc,
		struct inject_verdict *verdict)
{
	struct inject_verdict *shared = child_share(sizeof(*shared));
	struct job job = {.inject = inject, .libc = libc, .verdict = shared};
	struct child child = {.pid = 0};

	*verdict = (struct inject_verdict){.good = false};
	if (!shared || !child_start(&child, run_job, &job))
		return inject_refuse(verdict, "no process for the self-test: %s", strerror(errno));
	if (!child_await(&child, child_deadline(LIMIT * 1000))) {
		child_kill(&child);
		return inject_refuse(verdict, "the self-test has not ended in %d s", LIMIT);
	}
	*verdict = *shared;
	if (!verdict->good && !verdict->reason[0])
		inject_refuse(verdict, "the self-test has crashed");
	return verdict->good;
}
