/* SPDX-License-Identifier: Apache-2.0 */
#include "uma.h"

#include <limits.h>
#include <string.h>

#include "file.h"
#include "names.h"
#include "sys.h"
#include "text.h"

/* The kernel's directory entry (getdents64(2)). */
struct kernel_entry {
	uint64_t inode;
	int64_t next;
	uint16_t length; /* of this entry in bytes */
	uint8_t type;
	char name[];
};

static void join(char *out, size_t size, const char *root, const char *path)
{
	struct stn_text text;

	stn_text_start(&text, out, size);
	stn_text_add(&text, root);
	stn_text_add(&text, path);
}

/* Copies name of the first entry of a directory that is not hidden; false if there is none. */
static bool first_entry(const char *directory, char *out, size_t size)
{
	_Alignas(8) char buffer[1024];
	int fd = stn_sys_open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool found = false;
	long got = 0;

	while (fd >= 0 && !found &&
	       (got = stn_sys_call(SYS_getdents64, fd, (long)buffer, sizeof(buffer), 0, 0, 0)) > 0)
		for (long at = 0; at < got && !found;) {
			struct kernel_entry *entry = (struct kernel_entry *)(void *)(buffer + at);
			struct stn_text text;

			at += entry->length;
			found = entry->name[0] != '.';
			stn_text_start(&text, out, size);
			stn_text_add(&text, entry->name);
		}
	if (fd >= 0)
		stn_sys_close(fd);
	return found;
}

/* True if a node of the KFD topology has both kinds of cores: an APU. */
static bool find_amd_apu(const char *root)
{
	char path[PATH_MAX], text[2048];

	for (unsigned node = 0; node < 64; node++) {
		struct stn_text name;

		join(path, sizeof(path), root, "/sys/class/kfd/kfd/topology/nodes/");
		stn_text_start(&name, path + strlen(path), sizeof(path) - strlen(path));
		stn_text_add_number(&name, node);
		stn_text_add(&name, "/properties");
		if (stn_file_read(path, text, sizeof(text)) < 0)
			return false;
		if (stn_text_field(text, "cpu_cores_count") > 0 &&
		    stn_text_field(text, "simd_count") > 0)
			return true;
	}
	return false;
}

static void read_line(const char *root, const char *path, char *out, size_t size)
{
	char name[PATH_MAX];

	join(name, sizeof(name), root, path);
	stn_file_read(name, out, size);
	out[strcspn(out, "\n")] = '\0';
}

static void read_device_tree(const char *root, struct stn_uma_facts *facts)
{
	char path[PATH_MAX];
	ssize_t length;

	join(path, sizeof(path), root, "/proc/device-tree/compatible");
	length = stn_file_read(path, facts->device_tree, sizeof(facts->device_tree));
	for (ssize_t i = 0; i + 1 < length; i++)
		if (facts->device_tree[i] == '\0')
			facts->device_tree[i] = ' ';
}

static void read_nvidia(const char *root, struct stn_uma_facts *facts)
{
	char directory[PATH_MAX], entry[256], text[1024];
	struct stn_text path;
	char *model;

	facts->nvidia_gpu[0] = '\0';
	join(directory, sizeof(directory), root, "/proc/driver/nvidia/gpus");
	if (!first_entry(directory, entry, sizeof(entry)))
		return;
	stn_text_start(&path, directory + strlen(directory), sizeof(directory) - strlen(directory));
	stn_text_add_char(&path, '/');
	stn_text_add(&path, entry);
	stn_file_read_in(directory, "information", text, sizeof(text));
	model = strstr(text, "Model:");
	if (!model)
		return;
	model += 6 + strspn(model + 6, " \t");
	model[strcspn(model, "\n")] = '\0';
	stn_text_start(&path, facts->nvidia_gpu, sizeof(facts->nvidia_gpu));
	stn_text_add(&path, model);
}

/*
 * Reads a cached verdict: "boot_id=ID" and "unified=yes|no" lines, written by `stshim probe`. Only
 * a regular file of the given owner that nobody else may write, from this boot, counts.
 */
static int read_probe(const char *path, unsigned owner, const char *boot_id)
{
	const unsigned writable_by_others = 022, type = 0170000, regular = 0100000;
	int fd = stn_sys_open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct statx st = {0};
	char text[512] = "";
	const char *id;
	ssize_t length = 0;

	if (fd < 0)
		return -1;
	if (stn_sys_statx(fd, STATX_BASIC_STATS, &st) == 0 && (st.stx_mode & type) == regular &&
	    st.stx_uid == owner && !(st.stx_mode & writable_by_others) && st.stx_nlink == 1)
		length = stn_sys_read(fd, text, sizeof(text) - 1);
	stn_sys_close(fd);
	id = length > 0 ? strstr(text, "boot_id=") : NULL;
	if (!id || !*boot_id || strncmp(id + 8, boot_id, strlen(boot_id)) != 0)
		return -1;
	return strstr(text, "unified=yes") ? 1 : strstr(text, "unified=no") ? 0 : -1;
}

int stn_uma_cached(const char *root, const char *runtime_dir)
{
	char path[PATH_MAX], boot_id[64];
	int verdict;

	read_line(root, "/proc/sys/kernel/random/boot_id", boot_id, sizeof(boot_id));
	join(path, sizeof(path), root, "/run/stnommap/probe");
	verdict = read_probe(path, 0, boot_id);
	if (verdict < 0 && runtime_dir && *runtime_dir == '/') {
		join(path, sizeof(path), runtime_dir, "/stnommap/probe");
		verdict = read_probe(path, stn_sys_geteuid(), boot_id);
	}
	return verdict;
}

void stn_uma_collect(const char *root, const char *runtime_dir, struct stn_uma_facts *facts)
{
	facts->amd_apu = find_amd_apu(root);
	read_device_tree(root, facts);
	read_nvidia(root, facts);
	read_line(root, "/sys/class/dmi/id/product_name", facts->product, sizeof(facts->product));
	facts->probe = stn_uma_cached(root, runtime_dir);
}

bool stn_uma_verdict(const struct stn_uma_facts *facts, const char **why)
{
	/* GPUs and modules whose memory is the CPU's, or that reach it as their own. */
	static const char *const nvidia = "*GB10*:*GH200*:*GB200*:*GB300*:*Tegra*:*Orin*:*Thor*";

	*why = "cached probe";
	if (facts->probe >= 0)
		return facts->probe == 1;
	*why = "AMD APU in the KFD topology";
	if (facts->amd_apu)
		return true;
	*why = "NVIDIA Tegra in the device tree";
	if (strstr(facts->device_tree, "nvidia,tegra"))
		return true;
	*why = "NVIDIA GPU with the CPU's memory";
	if (stn_names_match(nvidia, facts->nvidia_gpu))
		return true;
	*why = "DGX Spark";
	if (stn_names_match("*DGX*Spark*:*DGX_Spark*", facts->product))
		return true;
	*why = "no sign of it";
	return false;
}
