/* SPDX-License-Identifier: Apache-2.0 */
#include "caller.h"

#include <link.h>
#include <stdint.h>
#include <string.h>

struct search {
	uintptr_t caller;
	bool in_safetensors; /* the caller lies in the extension */
	bool torch;	     /* libtorch is loaded */
	bool numpy;	     /* numpy's core is loaded */
};

static bool contains(const struct dl_phdr_info *info, uintptr_t address)
{
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		uintptr_t start = info->dlpi_addr + header->p_vaddr;

		if (header->p_type == PT_LOAD && address >= start &&
		    address - start < header->p_memsz)
			return true;
	}
	return false;
}

static int visit(struct dl_phdr_info *info, size_t size, void *argument)
{
	struct search *search = argument;
	const char *name = info->dlpi_name ? strrchr(info->dlpi_name, '/') : NULL;

	(void)size;
	if (!name)
		return 0;
	if (strncmp(name, "/libtorch", 9) == 0)
		search->torch = true;
	else if (strncmp(name, "/_multiarray_umath", 18) == 0)
		search->numpy = true;
	else if (strncmp(name, "/_safetensors_rust", 18) == 0 && contains(info, search->caller))
		search->in_safetensors = true;
	return 0;
}

bool stn_caller_reads_headers(const void *caller)
{
	struct search search = {.caller = (uintptr_t)caller};

	dl_iterate_phdr(visit, &search);
	return search.in_safetensors && (search.torch || !search.numpy);
}
