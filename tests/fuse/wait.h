/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTFS_WAIT_H
#define TESTFS_WAIT_H

#include <stdint.h>

uint64_t wait_now(void);
void wait_until(uint64_t time);

#endif
