/* SPDX-License-Identifier: Apache-2.0 */
#include "probe_table.h"

#include <dlfcn.h>
#include <ffi.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifdef STN_HAVE_CUDA
#include <cuda_runtime_api.h>
#else
/* cuda_runtime_api.h; the driver's CUdevice_attribute has the same numbers. */
enum {
	cudaDevAttrIntegrated = 18,
	cudaDevAttrPageableMemoryAccess = 88,
	cudaDevAttrPageableMemoryAccessUsesHostPageTables = 100,
};
#endif

/* hip/hip_runtime_api.h, since ROCm 5. */
enum { HIP_INTEGRATED = 16, HIP_PAGEABLE = 65, HIP_HOST_TABLES = 66 };
/* nvml.h: nvmlDeviceAddressingMode_v1; ATS is one of its values. */
enum { NVML_MODE_VERSION = 0x1000008, NVML_MODE_OFFSET = 4, NVML_ATS = 2 };
/* ze_api.h: GPUs only; ze_device_properties_t and the offset of its flags. */
enum { ZE_GPU_ONLY = 1, ZE_PROPERTIES = 3, ZE_FLAGS_OFFSET = 28, ZE_INTEGRATED = 1 };

#define MOST_STEPS     8
#define MOST_ARGUMENTS 3
#define RECORD_SIZE    1024

/* What the calls of one library read and write. */
struct slots {
	int32_t count;	 /* of drivers, then of devices */
	int32_t index;	 /* of the device that is asked about */
	int32_t ordinal; /* its number for the library */
	int32_t number;	 /* an answer */
	void *driver[PROBE_MOST_DEVICES];
	void *device[PROBE_MOST_DEVICES];
	_Alignas(8) unsigned char record[RECORD_SIZE];
};

/* Types of arguments. OUT: the address of the slot. */
enum kind {
	NONE,
	VALUE,	     /* int: value */
	INDEX,	     /* int */
	ORDINAL,     /* int */
	DRIVER,	     /* pointer: the first driver */
	DEVICE,	     /* pointer: the handle of the device */
	COUNT_OUT,   /* int *, preset to what fits */
	ORDINAL_OUT, /* int * */
	NUMBER_OUT,  /* int * */
	DRIVERS_OUT, /* void **, an array */
	DEVICES_OUT, /* void **, an array */
	DEVICE_OUT,  /* void **, of the one device */
	RECORD_OUT,  /* a structure, whose first 32 bits are preset to value */
};

/* What a call is for; every one returns an int that is 0 for success. */
enum meaning {
	END,
	SET_UP,	 /* must succeed */
	COUNTS,	 /* must succeed, and count is then the number of drivers or devices */
	PREPARE, /* for each device: must succeed for what follows about it */
	TELLS	 /* for each device: a fact, unless it fails or the symbol is missing */
};

struct step {
	enum meaning meaning;
	const char *symbol;
	struct {
		enum kind kind;
		uint32_t value;
	} argument[MOST_ARGUMENTS];
	enum probe_fact fact; /* of TELLS: holds if (word & mask) == mask */
	uint32_t mask;
	size_t offset; /* of the word in the record; 0: the word is the number */
};

static const struct library {
	const char *name;
	enum probe_vendor vendor;
	const char *file[6];
	int32_t no_device[3]; /* statuses that mean that there is no GPU, or no driver */
	struct step step[MOST_STEPS];
} table[] = {
	{"CUDA runtime",
	 PROBE_NVIDIA,
	 {"libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so"},
	 {100 /* cudaErrorNoDevice */, 35 /* cudaErrorInsufficientDriver */},
	 {{COUNTS, "cudaGetDeviceCount", {{COUNT_OUT, 0}}, 0, 0, 0},
	  {TELLS,
	   "cudaDeviceGetAttribute",
	   {{NUMBER_OUT, 0}, {VALUE, cudaDevAttrIntegrated}, {INDEX, 0}},
	   PROBE_INTEGRATED,
	   1,
	   0},
	  {TELLS,
	   "cudaDeviceGetAttribute",
	   {{NUMBER_OUT, 0}, {VALUE, cudaDevAttrPageableMemoryAccess}, {INDEX, 0}},
	   PROBE_PAGEABLE,
	   1,
	   0},
	  {TELLS,
	   "cudaDeviceGetAttribute",
	   {{NUMBER_OUT, 0},
	    {VALUE, cudaDevAttrPageableMemoryAccessUsesHostPageTables},
	    {INDEX, 0}},
	   PROBE_HOST_TABLES,
	   1,
	   0}}},
	{"CUDA driver",
	 PROBE_NVIDIA,
	 {"libcuda.so.1"},
	 {100 /* CUDA_ERROR_NO_DEVICE */, 34 /* CUDA_ERROR_STUB_LIBRARY */},
	 {{SET_UP, "cuInit", {{VALUE, 0}}, 0, 0, 0},
	  {COUNTS, "cuDeviceGetCount", {{COUNT_OUT, 0}}, 0, 0, 0},
	  {PREPARE, "cuDeviceGet", {{ORDINAL_OUT, 0}, {INDEX, 0}}, 0, 0, 0},
	  {TELLS,
	   "cuDeviceGetAttribute",
	   {{NUMBER_OUT, 0}, {VALUE, cudaDevAttrIntegrated}, {ORDINAL, 0}},
	   PROBE_INTEGRATED,
	   1,
	   0},
	  {TELLS,
	   "cuDeviceGetAttribute",
	   {{NUMBER_OUT, 0}, {VALUE, cudaDevAttrPageableMemoryAccess}, {ORDINAL, 0}},
	   PROBE_PAGEABLE,
	   1,
	   0},
	  {TELLS,
	   "cuDeviceGetAttribute",
	   {{NUMBER_OUT, 0},
	    {VALUE, cudaDevAttrPageableMemoryAccessUsesHostPageTables},
	    {ORDINAL, 0}},
	   PROBE_HOST_TABLES,
	   1,
	   0}}},
	{"NVML",
	 PROBE_NVIDIA,
	 {"libnvidia-ml.so.1"},
	 {9 /* NVML_ERROR_DRIVER_NOT_LOADED */, 6 /* NVML_ERROR_NOT_FOUND */},
	 {{SET_UP, "nvmlInit_v2", {{NONE, 0}}, 0, 0, 0},
	  {COUNTS, "nvmlDeviceGetCount_v2", {{COUNT_OUT, 0}}, 0, 0, 0},
	  {PREPARE, "nvmlDeviceGetHandleByIndex_v2", {{INDEX, 0}, {DEVICE_OUT, 0}}, 0, 0, 0},
	  {TELLS,
	   "nvmlDeviceGetAddressingMode",
	   {{DEVICE, 0}, {RECORD_OUT, NVML_MODE_VERSION}},
	   PROBE_HOST_TABLES,
	   NVML_ATS,
	   NVML_MODE_OFFSET}}},
	{"HIP",
	 PROBE_AMD,
	 {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so"},
	 {100 /* hipErrorNoDevice */, 35 /* hipErrorInsufficientDriver */},
	 {{COUNTS, "hipGetDeviceCount", {{COUNT_OUT, 0}}, 0, 0, 0},
	  {TELLS,
	   "hipDeviceGetAttribute",
	   {{NUMBER_OUT, 0}, {VALUE, HIP_INTEGRATED}, {INDEX, 0}},
	   PROBE_INTEGRATED,
	   1,
	   0},
	  {TELLS,
	   "hipDeviceGetAttribute",
	   {{NUMBER_OUT, 0}, {VALUE, HIP_PAGEABLE}, {INDEX, 0}},
	   PROBE_PAGEABLE,
	   1,
	   0},
	  {TELLS,
	   "hipDeviceGetAttribute",
	   {{NUMBER_OUT, 0}, {VALUE, HIP_HOST_TABLES}, {INDEX, 0}},
	   PROBE_HOST_TABLES,
	   1,
	   0}}},
	{"Level Zero",
	 PROBE_INTEL,
	 {"libze_loader.so.1"},
	 {0x78000001 /* ZE_RESULT_ERROR_UNINITIALIZED */},
	 {{SET_UP, "zeInit", {{VALUE, ZE_GPU_ONLY}}, 0, 0, 0},
	  {COUNTS, "zeDriverGet", {{COUNT_OUT, 0}, {DRIVERS_OUT, 0}}, 0, 0, 0},
	  {COUNTS, "zeDeviceGet", {{DRIVER, 0}, {COUNT_OUT, 0}, {DEVICES_OUT, 0}}, 0, 0, 0},
	  {TELLS,
	   "zeDeviceGetProperties",
	   {{DEVICE, 0}, {RECORD_OUT, ZE_PROPERTIES}},
	   PROBE_INTEGRATED,
	   ZE_INTEGRATED,
	   ZE_FLAGS_OFFSET}}},
};

unsigned probe_table_size(void)
{
	return sizeof(table) / sizeof(table[0]);
}

const char *probe_table_name(unsigned library)
{
	return table[library].name;
}

enum probe_vendor probe_table_vendor(unsigned library)
{
	return table[library].vendor;
}

/* An argument as libffi takes it: its type, and where its value is. */
struct argument {
	ffi_type *type;
	union {
		int32_t number;
		void *pointer;
	} value;
};

static void preset_record(struct slots *slots, uint32_t first)
{
	memset(slots->record, 0, sizeof(slots->record));
	memcpy(slots->record, &first, sizeof(first));
}

/* The address of the slot that an OUT argument is, or the handle that is passed. */
static void *pointer_for(enum kind kind, uint32_t value, struct slots *slots)
{
	switch (kind) {
	case DRIVER:
		return slots->driver[0];
	case DEVICE:
		return slots->device[slots->index];
	case COUNT_OUT:
		slots->count = PROBE_MOST_DEVICES;
		return &slots->count;
	case ORDINAL_OUT:
		return &slots->ordinal;
	case NUMBER_OUT:
		return &slots->number;
	case DRIVERS_OUT:
		return slots->driver;
	case DEVICES_OUT:
		return slots->device;
	case DEVICE_OUT:
		return &slots->device[slots->index];
	default:
		preset_record(slots, value);
		return slots->record;
	}
}

static void make_argument(enum kind kind, uint32_t value, struct slots *slots, struct argument *out)
{
	if (kind == VALUE || kind == INDEX || kind == ORDINAL) {
		out->type = &ffi_type_sint32;
		out->value.number = kind == VALUE   ? (int32_t)value
				    : kind == INDEX ? slots->index
						    : slots->ordinal;
		return;
	}
	out->type = &ffi_type_pointer;
	out->value.pointer = pointer_for(kind, value, slots);
}

/* Makes one call. Returns its status. */
static int32_t call(void *function, const struct step *step, struct slots *slots)
{
	struct argument arguments[MOST_ARGUMENTS];
	ffi_type *types[MOST_ARGUMENTS];
	void *values[MOST_ARGUMENTS];
	unsigned count = 0;
	ffi_arg result = 0;
	ffi_cif cif;

	for (; count < MOST_ARGUMENTS && step->argument[count].kind != NONE; count++) {
		make_argument(step->argument[count].kind, step->argument[count].value, slots,
			      &arguments[count]);
		types[count] = arguments[count].type;
		values[count] = &arguments[count].value;
	}
	if (ffi_prep_cif(&cif, FFI_DEFAULT_ABI, count, &ffi_type_sint32, types) != FFI_OK)
		return -1;
	ffi_call(&cif, FFI_FN(function), &result, values);
	return (int32_t)result;
}

/* Looks the symbol up and calls it; notes both in the answer. False without the symbol. */
static bool take(void *handle, const struct step *step, struct slots *slots,
		 struct probe_answer *answer)
{
	pid_t self = getpid();
	void *function;

	snprintf(answer->symbol, sizeof(answer->symbol), "%s", step->symbol);
	function = dlsym(handle, step->symbol);
	if (!function)
		return false;
	answer->status = call(function, step, slots);
	/* A library that forks may come back twice. */
	if (getpid() != self)
		_exit(0);
	return true;
}

static bool means_no_device(const struct library *library, int32_t status)
{
	for (unsigned i = 0; i < sizeof(library->no_device) / sizeof(library->no_device[0]); i++)
		if (library->no_device[i] && library->no_device[i] == status)
			return true;
	return false;
}

/* Takes the steps before those about each device; returns the first of these, NULL if it ends here.
 */
static const struct step *set_up(const struct library *library, void *handle, struct slots *slots,
				 struct probe_answer *answer)
{
	const struct step *step;

	for (step = library->step; step->meaning == SET_UP || step->meaning == COUNTS; step++) {
		answer->state = PROBE_STARTED;
		if (!take(handle, step, slots, answer)) {
			answer->state = PROBE_MISSING;
			return NULL;
		}
		answer->state = PROBE_NO_DEVICE;
		if (means_no_device(library, answer->status))
			return NULL;
		if (answer->status == 0 && (step->meaning == SET_UP || slots->count > 0))
			continue;
		if (answer->status != 0)
			answer->state = PROBE_FAILED;
		return NULL;
	}
	answer->state = PROBE_STARTED;
	return step;
}

static bool holds(const struct step *step, const struct slots *slots)
{
	uint32_t word = (uint32_t)slots->number;

	if (step->offset)
		memcpy(&word, slots->record + step->offset, sizeof(word));
	return (word & step->mask) == step->mask;
}

/* Asks about the device slots->index. */
static void ask_device(const struct step *step, void *handle, struct slots *slots,
		       struct probe_answer *answer)
{
	const struct step *end = step + MOST_STEPS;

	for (; step < end && step->meaning != END; step++) {
		bool good;

		slots->number = 0;
		good = take(handle, step, slots, answer) && answer->status == 0;
		if (!good && step->meaning == PREPARE)
			return;
		if (!good || step->meaning != TELLS)
			continue;
		answer->known[slots->index] |= step->fact;
		if (holds(step, slots))
			answer->holds[slots->index] |= step->fact;
	}
}

/* Loads the first of the library's files that is there. */
static void *load(const struct library *library, struct probe_answer *answer)
{
	for (unsigned i = 0; i < sizeof(library->file) / sizeof(library->file[0]); i++) {
		void *handle;

		if (!library->file[i])
			return NULL;
		snprintf(answer->library, sizeof(answer->library), "%s", library->file[i]);
		handle = dlopen(library->file[i], RTLD_NOW | RTLD_LOCAL);
		if (handle)
			return handle;
	}
	return NULL;
}

void probe_table_ask(unsigned number, struct probe_answer *answer)
{
	const struct library *library = &table[number];
	struct slots slots = {0};
	const struct step *step;
	void *handle = load(library, answer);

	if (!handle) {
		answer->state = PROBE_ABSENT;
		return;
	}
	step = set_up(library, handle, &slots, answer);
	if (!step)
		return;
	answer->devices = (uint32_t)slots.count;
	for (; slots.index < slots.count && slots.index < PROBE_MOST_DEVICES; slots.index++)
		ask_device(step, handle, &slots, answer);
	answer->state = PROBE_DONE;
}
