/* SPDX-License-Identifier: Apache-2.0 */
#include "page.h"

#include <stdatomic.h>
#include <sys/auxv.h>

#include "file.h"

static _Atomic size_t huge_size;

size_t stn_page_size(void)
{
	size_t size = getauxval(AT_PAGESZ);

	return size ? size : 4096;
}

size_t stn_page_huge_known(void)
{
	return atomic_load(&huge_size);
}

size_t stn_page_huge_read(void)
{
	uint64_t size = stn_page_huge_known();

	if (size)
		return size;
	size = stn_file_number("/sys/kernel/mm/transparent_hugepage", "hpage_pmd_size");
	if (size == UINT64_MAX)
		return 0;
	atomic_store(&huge_size, size);
	return size;
}
