/* SPDX-License-Identifier: Apache-2.0 */
/* stshim inject: the library in a root directory, and the line that has every program load it. */
#ifndef STSHIM_INJECT_H
#define STSHIM_INJECT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* In the root: where the library goes (glibc and musl look there without being told) and what has
 * glibc load it. */
#define INJECT_DIRECTORY "/usr/lib"
#define INJECT_NAME	 "libstnommap.so"
#define INJECT_LIBRARY	 INJECT_DIRECTORY "/" INJECT_NAME
#define INJECT_PRELOAD	 "/etc/ld.so.preload"

#define INJECT_TRIES   40
#define INJECT_REASON  512
#define INJECT_PROGRAM 64

/* What is to be done with which root. */
struct inject {
	const char *root;		/* absolute, without links */
	const char *library;		/* the file to be injected, as this process names it */
	bool env;			/* LD_PRELOAD in the environment instead of ld.so.preload */
	const char *more[INJECT_TRIES]; /* commands to try as well */
	size_t more_count;
};

/* The result of the self-test, in memory shared with the process that makes it. */
struct inject_verdict {
	bool good;
	bool entered;		    /* into a copy of the root, or half of the way */
	char reason[INJECT_REASON]; /* why not */
	unsigned count;
	char programs[INJECT_TRIES][INJECT_PROGRAM]; /* that were tried */
};

/* Opens a path as a program in the root would, links included (openat2). Descriptor or -errno. */
int inject_open(const char *root, const char *path, int flags);

/* Reads a file of the root as a text, to be freed; "" if there is none. NULL with *error set: ELOOP
 * if it is a link. */
char *inject_read(const char *root, const char *path, int *error);

/* True if a file of the root and a file of ours have the same bytes. */
bool inject_same(const char *root, const char *path, const char *ours);

/*
 * Replaces or makes a file of the root, at once or not at all: with text, or with the bytes of the
 * file from. An existing file keeps owner and mode. 0 or -errno; -ELOOP if it is a link.
 */
int inject_write(const char *root, const char *directory, const char *name, const char *text,
		 const char *from);

/* Removes a file of the root. 0, also if there is none, or -errno. */
int inject_unlink(const char *root, const char *directory, const char *name);

/* True if the text of an ld.so.preload names the library. */
bool inject_is_listed(const char *preload);

/* The text with the library in front, or without it: as it was before. To be freed. */
char *inject_listed(const char *preload);
char *inject_unlisted(const char *preload);

/* What the headers of a root's programs say. */
struct inject_libc {
	char program[PATH_MAX];		  /* that was looked at; "" = no dynamic one is known */
	char interpreter[INJECT_PROGRAM]; /* its loader */
	bool musl;
};

/*
 * Looks at the root's programs and its C library, and whether the library can be loaded there.
 * False with the reason.
 */
bool inject_look(const struct inject *inject, struct inject_libc *libc, char reason[INJECT_REASON]);

/*
 * Runs programs of the root without and with the library, in a copy of the root that nobody else
 * sees, and compares what they print. Up to a minute and a half. The root itself is not written.
 */
bool inject_try(const struct inject *inject, const struct inject_libc *libc,
		struct inject_verdict *verdict);

/* Of the self-test: enters the copy; false with the reason. The process cannot leave it. */
bool inject_enter(const char *path, struct inject_verdict *verdict);

/* Puts text (or NULL), or the bytes of a descriptor (or -1), into a file of the copy. */
bool inject_write_layer(const char *path, const char *text, int from);

/* Sets the reason; returns false. */
bool inject_refuse(struct inject_verdict *verdict, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The programs that the self-test knows, as absolute paths; NULL behind the last. */
const char *inject_program(size_t number);

/*
 * ELF, 64 bits, in the byte order of this machine. Each looks at a whole file in memory and trusts
 * nothing in it.
 */
struct inject_elf {
	const unsigned char *bytes;
	size_t size;
};

/* Maps a file; false if it is not such a file. *what is set to a word for what it is instead. */
bool inject_elf_open(int fd, struct inject_elf *elf, const char **what);
void inject_elf_close(struct inject_elf *elf);

unsigned inject_elf_machine(const struct inject_elf *elf);
const char *inject_machine_name(unsigned machine);

/* The program's loader, "" for a static one; a string in the file. */
const char *inject_elf_interpreter(const struct inject_elf *elf);

/*
 * The first version that the library needs of libc.so.6 and libc does not define; NULL if there is
 * none. A string in the file.
 */
const char *inject_elf_missing(const struct inject_elf *library, const struct inject_elf *libc);

/* The newest version "GLIBC_2.X" that libc defines, or "none". A string in the file. */
const char *inject_elf_newest(const struct inject_elf *libc);

#endif
