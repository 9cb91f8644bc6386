/* SPDX-License-Identifier: Apache-2.0 */
#include "ahead.h"

int64_t stn_ahead_read(struct stn_range *range)
{
	(void)range;
	return STN_AHEAD_NOT;
}
