/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for libcuda. STANDIN_CUDA as STANDIN_CUDART in cuda_runtime.c. */
#include "standin.h"

#define VARIABLE "STANDIN_CUDA"
#define DEVICE	 40 /* what the device is called after cuDeviceGet */

int cuInit(unsigned flags);
int cuDeviceGetCount(int *count);
int cuDeviceGet(int *device, int ordinal);
int cuDeviceGetAttribute(int *value, int attribute, int device);

int cuInit(unsigned flags)
{
	standin_begin(VARIABLE);
	return flags ? 1 : standin_is(VARIABLE, "none") ? 100 : 0;
}

int cuDeviceGetCount(int *count)
{
	*count = 1;
	return 0;
}

int cuDeviceGet(int *device, int ordinal)
{
	*device = DEVICE + ordinal;
	return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device)
{
	*value = attribute == 18 && standin_is(VARIABLE, "integrated");
	return device == DEVICE ? 0 : 101;
}
