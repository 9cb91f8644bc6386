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

/* Looks for a dynamic program; false with the reason if there is one that is not for us. */
static bool find_program(const struct inject *inject, const struct inject_elf *library,
			 struct inject_libc *libc, char reason[INJECT_REASON])
{
	const char *path, *what;
	struct inject_elf program;
	bool good = true;

	for (size_t i = 0; !libc->program[0] && good && (path = inject_program(i)); i++) {
		int fd = inject_open(inject->root, path, O_RDONLY | O_NONBLOCK);

		if (fd < 0)
			continue;
		if (!inject_elf_open(fd, &program, &what)) {
			good = strcmp(what, "no ELF file") == 0;
			snprintf(reason, INJECT_REASON, "%s is %s, the library a 64-bit one", path,
				 what);
		} else {
			good = inject_elf_machine(&program) == inject_elf_machine(library);
			if (*inject_elf_interpreter(&program))
				snprintf(libc->program, INJECT_PROGRAM, "%s", path);
			snprintf(libc->interpreter, INJECT_PROGRAM, "%s",
				 inject_elf_interpreter(&program));
			libc->musl = strstr(inject_elf_interpreter(&program), MUSL) != NULL;
			if (!good)
				snprintf(reason, INJECT_REASON, "%s is for %s, the library for %s",
					 path, inject_machine_name(inject_elf_machine(&program)),
					 inject_machine_name(inject_elf_machine(library)));
			inject_elf_close(&program);
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
	const char *what = strerror(errno);
	int fd = open(inject->library, O_RDONLY | O_CLOEXEC);
	bool good;

	*libc = (struct inject_libc){.musl = false};
	good = fd >= 0 && inject_elf_open(fd, &library, &what);
	if (!good) {
		snprintf(reason, INJECT_REASON, "%s is %s, not a library for 64 bits",
			 inject->library, fd < 0 ? strerror(errno) : what);
	} else {
		good = find_program(inject, &library, libc, reason) &&
		       (libc->musl || compare_versions(inject, &library, reason));
		inject_elf_close(&library);
	}
	if (fd >= 0)
		close(fd);
	return good;
}
