/* SPDX-License-Identifier: Apache-2.0 */
#include "run_target.h"

#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SCRIPTS_FOLLOWED 5 /* as the kernel (fs/exec.c) */
#define NOTES_READ	 4096

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#endif

static bool is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

bool run_target_find(const char *program, char path[PATH_MAX])
{
	const char *directory = getenv("PATH");

	if (strchr(program, '/'))
		return snprintf(path, PATH_MAX, "%s", program) < PATH_MAX && is_program(path);
	if (!directory)
		directory = "/bin:/usr/bin";
	for (;;) {
		int length = (int)strcspn(directory, ":");

		if (snprintf(path, PATH_MAX, "%.*s%s%s", length, directory, length ? "/" : "",
			     program) < PATH_MAX &&
		    is_program(path))
			return true;
		if (!directory[length])
			return false;
		directory += length + 1;
	}
}

/* True if the kernel gives the program more rights than its caller has (AT_SECURE). */
static bool gains_rights(int fd)
{
	struct stat st;
	struct statvfs fs;

	if (fstat(fd, &st) < 0 || (fstatvfs(fd, &fs) == 0 && (fs.f_flag & ST_NOSUID)))
		return false;
	if ((st.st_mode & S_ISUID) && st.st_uid != getuid())
		return true;
	if ((st.st_mode & S_ISGID) && (st.st_mode & S_IXGRP) && st.st_gid != getgid())
		return true;
	return getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0;
}

/* True if the notes have the build id of a Go program. */
static bool has_go_note(int fd, const Elf64_Phdr *segment)
{
	char notes[NOTES_READ];
	ssize_t got = pread(fd, notes, sizeof(notes), (off_t)segment->p_offset);
	size_t length = got < 0 ? 0 : (size_t)got, at = 0;

	if (length > segment->p_filesz)
		length = segment->p_filesz;
	while (at + sizeof(Elf64_Nhdr) + 4 <= length) {
		Elf64_Nhdr note;

		memcpy(&note, notes + at, sizeof(note));
		if (note.n_namesz == 4 && note.n_type == 4 &&
		    memcmp(notes + at + sizeof(note), "Go\0\0", 4) == 0)
			return true;
		if (note.n_namesz > length || note.n_descsz > length)
			return false;
		at += sizeof(note) + ((note.n_namesz + 3) & ~3u) + ((note.n_descsz + 3) & ~3u);
	}
	return false;
}

static const char *judge_elf(int fd, const Elf64_Ehdr *header)
{
	bool interpreter = false, go = false;

	if (header->e_ident[EI_CLASS] != ELFCLASS64)
		return "is a 32-bit program: there is no 32-bit library";
	if (header->e_machine != OWN_MACHINE)
		return "is for another architecture: the library cannot be loaded into it";
	for (unsigned i = 0; i < header->e_phnum; i++) {
		Elf64_Phdr segment;

		if (pread(fd, &segment, sizeof(segment),
			  (off_t)(header->e_phoff + i * sizeof(segment))) != sizeof(segment))
			return NULL;
		interpreter |= segment.p_type == PT_INTERP;
		go |= segment.p_type == PT_NOTE && has_go_note(fd, &segment);
	}
	if (go)
		return "is a Go program: it reads files without libc, where the library is not "
		       "asked";
	if (!interpreter)
		return "is a static program: no library can be loaded into it";
	if (gains_rights(fd))
		return "runs with more rights than its caller (setuid, setgid or capabilities): "
		       "the library is inert in it";
	return NULL;
}

/* The first word of an env command line that is the program. */
static const char *skip_env_options(char *rest)
{
	char *word, *save = NULL;

	for (word = strtok_r(rest, " \t", &save); word; word = strtok_r(NULL, " \t", &save))
		if (*word != '-' && !strchr(word, '='))
			return word;
	return NULL;
}

/* Finds the interpreter in a script's first line, "#!" skipped; env is looked through. */
static bool find_interpreter(char *line, char path[PATH_MAX])
{
	char *rest, *name;
	const char *word;

	line[strcspn(line, "\n")] = '\0';
	line += strspn(line, " \t");
	rest = line + strcspn(line, " \t");
	if (*rest)
		*rest++ = '\0';
	name = strrchr(line, '/');
	if (!name || strcmp(name, "/env") != 0)
		return snprintf(path, PATH_MAX, "%s", line) < PATH_MAX;
	word = skip_env_options(rest);
	return word && run_target_find(word, path);
}

/* Opens path and judges it; a script's interpreter is written to next. */
static const char *judge_file(const char *path, char next[PATH_MAX])
{
	union {
		Elf64_Ehdr header;
		char text[512];
	} start = {0};
	const char *obstacle = NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	next[0] = '\0';
	if (fd < 0)
		return NULL;
	if (pread(fd, &start, sizeof(start) - 1, 0) > 4) {
		if (memcmp(start.text, ELFMAG, SELFMAG) == 0)
			obstacle = judge_elf(fd, &start.header);
		else if (start.text[0] == '#' && start.text[1] == '!' &&
			 !find_interpreter(start.text + 2, next))
			next[0] = '\0';
	}
	close(fd);
	return obstacle;
}

const char *run_target_obstacle(const char *path)
{
	char current[PATH_MAX], next[PATH_MAX];
	const char *obstacle;

	snprintf(current, sizeof(current), "%s", path);
	for (unsigned i = 0; i < SCRIPTS_FOLLOWED; i++) {
		obstacle = judge_file(current, next);
		if (obstacle || !next[0])
			return obstacle;
		memcpy(current, next, sizeof(current));
	}
	return NULL;
}
