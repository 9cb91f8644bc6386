/* SPDX-License-Identifier: Apache-2.0 */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "inject.h"

/* length bytes at offset, or NULL if the file does not have them. */
static const void *at(const struct inject_elf *elf, uint64_t offset, uint64_t length)
{
	if (offset > elf->size || length > elf->size - offset)
		return NULL;
	return elf->bytes + offset;
}

static const Elf64_Ehdr *header(const struct inject_elf *elf)
{
	return (const Elf64_Ehdr *)(const void *)elf->bytes;
}

/* The program header of a number, or NULL. Copied: nothing says that it is aligned. */
static bool segment(const struct inject_elf *elf, unsigned number, Elf64_Phdr *out)
{
	const void *found;

	if (number >= header(elf)->e_phnum || header(elf)->e_phentsize != sizeof(*out))
		return false;
	found = at(elf, header(elf)->e_phoff + number * sizeof(*out), sizeof(*out));
	if (found)
		memcpy(out, found, sizeof(*out));
	return found != NULL;
}

static bool find_segment(const struct inject_elf *elf, unsigned type, Elf64_Phdr *out)
{
	for (unsigned i = 0; segment(elf, i, out); i++)
		if (out->p_type == type)
			return true;
	return false;
}

/* The place in the file of an address in the loaded image; UINT64_MAX if there is none. */
static uint64_t offset_of(const struct inject_elf *elf, uint64_t address)
{
	Elf64_Phdr load;

	for (unsigned i = 0; segment(elf, i, &load); i++)
		if (load.p_type == PT_LOAD && address >= load.p_vaddr &&
		    address - load.p_vaddr < load.p_filesz)
			return load.p_offset + (address - load.p_vaddr);
	return UINT64_MAX;
}

/* A string that ends within the file, else "". */
static const char *string_at(const struct inject_elf *elf, uint64_t offset)
{
	const char *text = at(elf, offset, 1);

	return text && memchr(text, '\0', elf->size - offset) ? text : "";
}

/* The value of an entry of the dynamic section; UINT64_MAX if there is none. */
static uint64_t dynamic(const struct inject_elf *elf, int64_t tag)
{
	Elf64_Phdr place;
	Elf64_Dyn entry;

	if (!find_segment(elf, PT_DYNAMIC, &place))
		return UINT64_MAX;
	for (uint64_t i = 0; i < place.p_filesz / sizeof(entry); i++) {
		const void *found = at(elf, place.p_offset + i * sizeof(entry), sizeof(entry));

		if (!found)
			break;
		memcpy(&entry, found, sizeof(entry));
		if (entry.d_tag == tag)
			return entry.d_un.d_val;
		if (entry.d_tag == DT_NULL)
			break;
	}
	return UINT64_MAX;
}

/* A string of the dynamic string table. */
static const char *dynamic_string(const struct inject_elf *elf, uint64_t number)
{
	uint64_t table = offset_of(elf, dynamic(elf, DT_STRTAB));

	return table == UINT64_MAX ? "" : string_at(elf, table + number);
}

bool inject_elf_open(int fd, struct inject_elf *elf, const char **what)
{
	const uint16_t one = 1;
	const unsigned char order = *(const unsigned char *)&one ? ELFDATA2LSB : ELFDATA2MSB;
	struct stat st;
	void *bytes;

	*what = "no ELF file";
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(Elf64_Ehdr))
		return false;
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (bytes == MAP_FAILED)
		return false;
	*elf = (struct inject_elf){.bytes = bytes, .size = (size_t)st.st_size};
	if (memcmp(elf->bytes, ELFMAG, SELFMAG) == 0)
		*what = elf->bytes[EI_CLASS] != ELFCLASS64 ? "a 32-bit file"
			: elf->bytes[EI_DATA] != order	   ? "of another byte order"
							   : NULL;
	if (*what)
		inject_elf_close(elf);
	return !*what;
}

void inject_elf_close(struct inject_elf *elf)
{
	munmap((void *)(uintptr_t)elf->bytes, elf->size);
	*elf = (struct inject_elf){0};
}

unsigned inject_elf_machine(const struct inject_elf *elf)
{
	return header(elf)->e_machine;
}

const char *inject_machine_name(unsigned machine)
{
	static char number[32];

	switch (machine) {
	case EM_X86_64:
		return "x86-64";
	case EM_AARCH64:
		return "aarch64";
	case EM_RISCV:
		return "RISC-V";
	case EM_PPC64:
		return "POWER";
	case EM_S390:
		return "s390x";
	default:
		snprintf(number, sizeof(number), "machine %u", machine);
		return number;
	}
}

const char *inject_elf_interpreter(const struct inject_elf *elf)
{
	Elf64_Phdr place;

	return find_segment(elf, PT_INTERP, &place) ? string_at(elf, place.p_offset) : "";
}

/* The version definition at *offset, and the next one's place; false at the end. */
static bool next_definition(const struct inject_elf *elf, uint64_t *offset, const char **name,
			    unsigned *left)
{
	Elf64_Verdef definition;
	Elf64_Verdaux first;
	const void *found = *left ? at(elf, *offset, sizeof(definition)) : NULL;

	if (!found)
		return false;
	memcpy(&definition, found, sizeof(definition));
	found = at(elf, *offset + definition.vd_aux, sizeof(first));
	if (!found)
		return false;
	memcpy(&first, found, sizeof(first));
	*name = dynamic_string(elf, first.vda_name);
	*offset += definition.vd_next;
	*left = definition.vd_next ? *left - 1 : 0;
	return true;
}

/* Where the version definitions begin, and how many there may be. */
static uint64_t definitions(const struct inject_elf *elf, unsigned *count)
{
	uint64_t number = dynamic(elf, DT_VERDEFNUM);

	*count = number < 10000 ? (unsigned)number : 0;
	return offset_of(elf, dynamic(elf, DT_VERDEF));
}

static bool defines(const struct inject_elf *elf, const char *version)
{
	unsigned left;
	uint64_t offset = definitions(elf, &left);
	const char *name;

	while (next_definition(elf, &offset, &name, &left))
		if (strcmp(name, version) == 0)
			return true;
	return false;
}

const char *inject_elf_newest(const struct inject_elf *libc)
{
	unsigned left;
	uint64_t offset = definitions(libc, &left);
	const char *name, *newest = "none";

	while (next_definition(libc, &offset, &name, &left))
		if (strncmp(name, "GLIBC_2.", 8) == 0 &&
		    (newest[0] == 'n' || strverscmp(name, newest) > 0))
			newest = name;
	return newest;
}

/* The first version among those needed of one file that libc does not define. */
static const char *missing_of(const struct inject_elf *library, const struct inject_elf *libc,
			      uint64_t offset, unsigned count)
{
	Elf64_Vernaux need;

	for (; count; count--) {
		const void *found = at(library, offset, sizeof(need));
		const char *name;

		if (!found)
			return NULL;
		memcpy(&need, found, sizeof(need));
		name = dynamic_string(library, need.vna_name);
		if (!defines(libc, name))
			return name;
		if (!need.vna_next)
			return NULL;
		offset += need.vna_next;
	}
	return NULL;
}

const char *inject_elf_missing(const struct inject_elf *library, const struct inject_elf *libc)
{
	uint64_t offset = offset_of(library, dynamic(library, DT_VERNEED));
	uint64_t left = dynamic(library, DT_VERNEEDNUM);
	Elf64_Verneed file;

	for (; left && left < 10000; left--) {
		const void *found = at(library, offset, sizeof(file));
		const char *missing = NULL;

		if (!found)
			return NULL;
		memcpy(&file, found, sizeof(file));
		if (strcmp(dynamic_string(library, file.vn_file), "libc.so.6") == 0)
			missing = missing_of(library, libc, offset + file.vn_aux, file.vn_cnt);
		if (missing || !file.vn_next)
			return missing;
		offset += file.vn_next;
	}
	return NULL;
}
