/* SPDX-License-Identifier: Apache-2.0 */
/* Handing engaged memory back to the file, so that a call gets exactly what a file mapping would
 * give. */
#ifndef STN_GIVEBACK_H
#define STN_GIVEBACK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Replaces every registered piece of [start, end) that is still ours by the file's own mapping,
 * with the access that the piece has now. Records whose memory is somebody else's by now are
 * forgotten.
 *
 * 0; -EINVAL at the first piece that is locked in memory, unless locked_too (it is locked again
 * then, to be read when it is touched); -ENODEV if a piece has no keeper: it stays, with its bytes;
 * or -errno if the kernel has no room for another area: the piece stays too. Takes a thread of the
 * pool; no lock held, not for signal handlers.
 */
int stn_giveback(uintptr_t start, uintptr_t end, bool locked_too);

/*
 * Forgets the records of [start, end) whose memory is somebody else's by now. True if any memory
 * there is still ours. Takes a thread of the pool; no lock held, not for signal handlers.
 */
bool stn_giveback_prune(uintptr_t start, uintptr_t end);

#endif
