/* SPDX-License-Identifier: Apache-2.0 */
#include "symbols.h"

#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <string.h>

#define VERSION_HIDDEN 0x8000u

/* The tables of one loaded object. */
struct object {
	uintptr_t base;
	const ElfW(Sym) * symbols;
	const char *strings;
	const uint32_t *gnu_hash;
	const uint32_t *sysv_hash;
	const uint16_t *versions; /* NULL if it has none */
};

/* What goes through all objects. */
struct search {
	const struct stn_symbols_wanted *wanted;
	size_t count;
	uint64_t found; /* bit i: wanted[i] has been found */
	bool passed;	/* our own object lies behind us */
};

/* Entries of the dynamic section are addresses in glibc, offsets in musl and the vDSO. */
static const void *address_of(const struct object *object, ElfW(Addr) value)
{
	return (const void *)(value < object->base ? value + object->base : value);
}

static void take_entry(struct object *object, const ElfW(Dyn) * entry)
{
	const void *address = address_of(object, entry->d_un.d_ptr);

	switch (entry->d_tag) {
	case DT_SYMTAB:
		object->symbols = address;
		break;
	case DT_STRTAB:
		object->strings = address;
		break;
	case DT_GNU_HASH:
		object->gnu_hash = address;
		break;
	case DT_HASH:
		object->sysv_hash = address;
		break;
	case DT_VERSYM:
		object->versions = address;
		break;
	default:
		break;
	}
}

static bool read_object(const struct dl_phdr_info *info, struct object *object)
{
	memset(object, 0, sizeof(*object));
	object->base = info->dlpi_addr;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		const ElfW(Dyn) * entry;

		if (header->p_type != PT_DYNAMIC)
			continue;
		entry = (const ElfW(Dyn) *)(info->dlpi_addr + header->p_vaddr);
		for (; entry->d_tag != DT_NULL; entry++)
			take_entry(object, entry);
	}
	return object->symbols && object->strings && (object->gnu_hash || object->sysv_hash);
}

/* True if symbol number index is a plain function of this name, in its default version. */
static bool is_definition(const struct object *object, uint32_t index, const char *name)
{
	const ElfW(Sym) *symbol = &object->symbols[index];

	return symbol->st_shndx != SHN_UNDEF && (symbol->st_info & 15) == STT_FUNC &&
	       !(object->versions && object->versions[index] & VERSION_HIDDEN) &&
	       strcmp(object->strings + symbol->st_name, name) == 0;
}

static uint32_t hash_of(const char *name)
{
	uint32_t hash = 5381;

	for (const unsigned char *c = (const unsigned char *)name; *c; c++)
		hash = hash * 33 + *c;
	return hash;
}

/* Looks a name up in a GNU hash table: header, Bloom filter, buckets, chains. */
static uint32_t find_gnu(const struct object *object, const char *name)
{
	const uint32_t *table = object->gnu_hash;
	uint32_t bucket_count = table[0], first = table[1], bloom_size = table[2];
	const ElfW(Addr) *bloom = (const ElfW(Addr) *)(const void *)(table + 4);
	const uint32_t *buckets = (const uint32_t *)(const void *)(bloom + bloom_size);
	const uint32_t *chain = buckets + bucket_count;
	const uint32_t bits = 8 * sizeof(ElfW(Addr));
	uint32_t hash = hash_of(name);
	ElfW(Addr) mask = (ElfW(Addr))1 << (hash % bits) | (ElfW(Addr))1
								   << ((hash >> table[3]) % bits);

	if ((bloom[hash / bits % bloom_size] & mask) != mask)
		return 0;
	for (uint32_t i = buckets[hash % bucket_count]; i >= first && i; i++) {
		if ((chain[i - first] | 1) == (hash | 1) && is_definition(object, i, name))
			return i;
		if (chain[i - first] & 1)
			break;
	}
	return 0;
}

/* Looks a name up in an object that has only the old hash table: through all of its symbols. */
static uint32_t find_plain(const struct object *object, const char *name)
{
	uint32_t count = object->sysv_hash[1];

	for (uint32_t i = 1; i < count; i++)
		if (is_definition(object, i, name))
			return i;
	return 0;
}

static bool is_ours(const struct dl_phdr_info *info)
{
	uintptr_t here = (uintptr_t)&stn_symbols_resolve;

	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + header->p_vaddr;

		if (header->p_type == PT_LOAD && here >= start && here - start < header->p_memsz)
			return true;
	}
	return false;
}

static int visit(struct dl_phdr_info *info, size_t size, void *argument)
{
	struct search *search = argument;
	struct object object;

	(void)size;
	if (!search->passed) {
		search->passed = is_ours(info);
		return 0;
	}
	if (!read_object(info, &object))
		return 0;
	for (size_t i = 0; i < search->count; i++) {
		const char *name = search->wanted[i].name;
		uint32_t index;
		uintptr_t address;

		if (search->found >> i & 1)
			continue;
		index = object.gnu_hash ? find_gnu(&object, name) : find_plain(&object, name);
		if (!index)
			continue;
		address = object.base + object.symbols[index].st_value;
		memcpy(search->wanted[i].slot, &address, sizeof(address));
		search->found |= (uint64_t)1 << i;
	}
	return search->found + 1 == (uint64_t)1 << search->count;
}

void stn_symbols_resolve(const struct stn_symbols_wanted *wanted, size_t count)
{
	struct search search = {.wanted = wanted, .count = count};

	dl_iterate_phdr(visit, &search);
}
