/* SPDX-License-Identifier: Apache-2.0 */
/* What can be told from headers, before anything of the root runs. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "inject.h"

/* The interpreter is told by its name: ld-musl-x86_64.so.1. */
#define MUSL "/ld-musl-"

/* Takes over what a program says; false with the reason if it is not for us. */
static bool judge_program(const char *path, const struct inject_elf *program,
			  const struct inject_elf *library, struct inject_libc *libc,
			  char reason[INJECT_REASON])
{
	const char *interpreter = inject_elf_interpreter(program);

	if (inject_elf_machine(program) != inject_elf_machine(library)) {
		snprintf(reason, INJECT_REASON, "%.200s is for %s, the library for %s", path,
			 inject_machine_name(inject_elf_machine(program)),
			 inject_machine_name(inject_elf_machine(library)));
		return false;
	}
	if (*interpreter)
		snprintf(libc->program, sizeof(libc->program), "%s", path);
	snprintf(libc->interpreter, sizeof(libc->interpreter), "%s", interpreter);
	libc->musl = strstr(interpreter, MUSL) != NULL;
	return true;
}

/* The programs that may be in the root: those that the self-test knows, then the user's. */
static bool candidate(const struct inject *inject, size_t number, char path[PATH_MAX])
{
	size_t known = 0;

	while (inject_program(known))
		known++;
	if (number < known)
		snprintf(path, PATH_MAX, "%s", inject_program(number));
	else if (number - known < inject->more_count)
		snprintf(path, PATH_MAX, "%.*s", (int)strcspn(inject->more[number - known], " "),
			 inject->more[number - known]);
	return number < known + inject->more_count;
}

/* Looks for a dynamic program; false with the reason if there is one that is not for us. */
static bool find_program(const struct inject *inject, const struct inject_elf *library,
			 struct inject_libc *libc, char reason[INJECT_REASON])
{
	char path[PATH_MAX];
	bool good = true;

	for (size_t i = 0; !libc->program[0] && good && candidate(inject, i, path); i++) {
		int fd = inject_open(inject->root, path, O_RDONLY | O_NONBLOCK);
		struct inject_elf program;
		const char *what;

		if (fd < 0)
			continue;
		if (inject_elf_open(fd, &program, &what)) {
			good = judge_program(path, &program, library, libc, reason);
			inject_elf_close(&program);
		} else if (strcmp(what, "no ELF file") != 0) {
			good = false;
			snprintf(reason, INJECT_REASON, "%.200s is %s, the library a 64-bit one",
				 path, what);
		}
		close(fd);
	}
	return good;
}

/* Opens the root's libc.so.6; false if there is none where it is looked for. */
static bool open_libc(const struct inject *inject, struct inject_elf *libc)
{
	static const char *const places[] = {"/lib/x86_64-linux-gnu",
					     "/lib/aarch64-linux-gnu",
					     "/lib64",
					     "/usr/lib64",
					     "/usr/lib",
					     "/lib"};
	char path[64];
	const char *what;

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		bool good;
		int fd;

		snprintf(path, sizeof(path), "%s/libc.so.6", places[i]);
		fd = inject_open(inject->root, path, O_RDONLY | O_NONBLOCK);
		good = fd >= 0 && inject_elf_open(fd, libc, &what);
		if (fd >= 0)
			close(fd);
		if (good)
			return true;
	}
	return false;
}

/* Compares what the library needs of glibc with what the root's has. */
static bool compare_versions(const struct inject *inject, const struct inject_elf *library,
			     char reason[INJECT_REASON])
{
	struct inject_elf libc;
	const char *missing;

	if (!open_libc(inject, &libc))
		return true;
	missing = inject_elf_missing(library, &libc);
	if (missing)
		snprintf(reason, INJECT_REASON,
			 "the library needs %s, the root's libc.so.6 has up to %s", missing,
			 inject_elf_newest(&libc));
	inject_elf_close(&libc);
	return !missing;
}

bool inject_look(const struct inject *inject, struct inject_libc *libc, char reason[INJECT_REASON])
{
	struct inject_elf library;
	const char *what;
	int fd = open(inject->library, O_RDONLY | O_CLOEXEC);
	bool good = false;

	*libc = (struct inject_libc){.musl = false};
	if (fd < 0) {
		snprintf(reason, INJECT_REASON, "%s: %s", inject->library, strerror(errno));
	} else if (!inject_elf_open(fd, &library, &what)) {
		snprintf(reason, INJECT_REASON, "%s is %s, not a library for 64 bits",
			 inject->library, what);
	} else {
		good = find_program(inject, &library, libc, reason) &&
		       (libc->musl || compare_versions(inject, &library, reason));
		inject_elf_close(&library);
	}
	if (fd >= 0)
		close(fd);
	return good;
}
