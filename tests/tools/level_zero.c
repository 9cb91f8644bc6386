/* SPDX-License-Identifier: Apache-2.0 */
/* Stands in for libze_loader. STANDIN_ZE: integrated, none; else a GPU with memory of its own. */
#include <stdint.h>

#include "standin.h"

#define VARIABLE "STANDIN_ZE"

/* The start of ze_device_properties_t. */
struct properties {
	uint32_t type;
	void *next;
	uint32_t device_type, vendor, device, flags;
};

int zeInit(uint32_t flags);
int zeDriverGet(uint32_t *count, void **drivers);
int zeDeviceGet(void *driver, uint32_t *count, void **devices);
int zeDeviceGetProperties(void *device, struct properties *properties);

static char driver_handle, device_handle;

int zeInit(uint32_t flags)
{
	standin_begin(VARIABLE);
	return flags != 1 ? 1 : standin_is(VARIABLE, "none") ? 0x78000001 : 0;
}

int zeDriverGet(uint32_t *count, void **drivers)
{
	if (*count == 0)
		return 1;
	*count = 1;
	drivers[0] = &driver_handle;
	return 0;
}

int zeDeviceGet(void *driver, uint32_t *count, void **devices)
{
	if (driver != &driver_handle || *count == 0)
		return 1;
	*count = 1;
	devices[0] = &device_handle;
	return 0;
}

int zeDeviceGetProperties(void *device, struct properties *properties)
{
	if (device != &device_handle || properties->type != 3)
		return 1;
	properties->flags = 8 | standin_is(VARIABLE, "integrated");
	return 0;
}
