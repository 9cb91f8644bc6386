/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for libamdhip64. STANDIN_HIP as STANDIN_CUDART in cuda_runtime.c. */
#include "standin.h"

#define VARIABLE "STANDIN_HIP"

int hipGetDeviceCount(int *count);
int hipDeviceGetAttribute(int *value, int attribute, int device);

int hipGetDeviceCount(int *count)
{
	standin_begin(VARIABLE);
	*count = 1;
	return standin_is(VARIABLE, "none") ? 100 : 0;
}

int hipDeviceGetAttribute(int *value, int attribute, int device)
{
	(void)device;
	*value = (attribute == 16 && standin_is(VARIABLE, "integrated")) ||
		 (attribute == 66 && standin_is(VARIABLE, "tables"));
	return 0;
}
