/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for libcudart. STANDIN_CUDART: a misbehaviour, integrated, tables, none, error; else a
 * GPU with memory of its own. */
#include "standin.h"

#define VARIABLE "STANDIN_CUDART"

int cudaGetDeviceCount(int *count);
int cudaDeviceGetAttribute(int *value, int attribute, int device);

int cudaGetDeviceCount(int *count)
{
	standin_begin(VARIABLE);
	*count = standin_is(VARIABLE, "two") ? 2 : 1;
	if (standin_is(VARIABLE, "many"))
		*count = 100000;
	if (standin_is(VARIABLE, "none"))
		return 100;
	return standin_is(VARIABLE, "error") ? 999 : 0;
}

int cudaDeviceGetAttribute(int *value, int attribute, int device)
{
	*value = (attribute == 18 && standin_is(VARIABLE, "integrated")) ||
		 (attribute == 18 && standin_is(VARIABLE, "two") && device == 0) ||
		 (attribute == 88) || (attribute == 100 && standin_is(VARIABLE, "tables"));
	return 0;
}
