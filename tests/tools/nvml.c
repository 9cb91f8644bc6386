/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for libnvidia-ml. STANDIN_NVML: ats, hmm, none, old (without the symbol's support). */
#include "standin.h"

#define VARIABLE "STANDIN_NVML"

struct mode {
	unsigned version, value;
};

int nvmlInit_v2(void);
int nvmlDeviceGetCount_v2(unsigned *count);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetAddressingMode(void *device, struct mode *mode);

static char handle;

int nvmlInit_v2(void)
{
	standin_begin(VARIABLE);
	return standin_is(VARIABLE, "none") ? 9 : 0;
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
	*count = 1;
	return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device)
{
	*device = &handle + index;
	return 0;
}

int nvmlDeviceGetAddressingMode(void *device, struct mode *mode)
{
	if (device != &handle || mode->version != 0x1000008)
		return 2;
	mode->value = standin_is(VARIABLE, "ats") ? 2 : standin_is(VARIABLE, "hmm") ? 1 : 0;
	return standin_is(VARIABLE, "old") ? 3 : 0;
}
