/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "uma.h"
#include "unit.h"

#define NODES	"root/sys/class/kfd/kfd/topology/nodes/"
#define BOOT_ID "6f3c2f5e-1111-2222-3333-444455556666"
#define YES	"boot_id=" BOOT_ID "\nunified=yes\n"
#define NO	"boot_id=" BOOT_ID "\nunified=no\n"

static const struct {
	struct stn_uma_facts facts;
	bool unified;
	const char *why;
} verdicts[] = {
	{{.probe = -1}, false, "no sign of it"},
	{{.probe = 1}, true, "cached probe"},
	{{.probe = 0, .amd_apu = true, .nvidia_gpu = "NVIDIA GB10"}, false, "cached probe"},
	{{.probe = -1, .amd_apu = true}, true, "AMD APU in the KFD topology"},
	{{.probe = -1, .device_tree = "nvidia,p3737-0000 nvidia,tegra234"},
	 true,
	 "NVIDIA Tegra in the device tree"},
	{{.probe = -1, .device_tree = "raspberrypi,4-model-b brcm,bcm2711"},
	 false,
	 "no sign of it"},
	{{.probe = -1, .nvidia_gpu = "NVIDIA GB10"}, true, "NVIDIA GPU with the CPU's memory"},
	{{.probe = -1, .nvidia_gpu = "NVIDIA GH200 480GB"},
	 true,
	 "NVIDIA GPU with the CPU's memory"},
	{{.probe = -1, .nvidia_gpu = "NVIDIA GB200"}, true, "NVIDIA GPU with the CPU's memory"},
	{{.probe = -1, .nvidia_gpu = "NVIDIA GB300"}, true, "NVIDIA GPU with the CPU's memory"},
	{{.probe = -1, .nvidia_gpu = "Orin (nvgpu)"}, true, "NVIDIA GPU with the CPU's memory"},
	{{.probe = -1, .nvidia_gpu = "NVIDIA Thor"}, true, "NVIDIA GPU with the CPU's memory"},
	{{.probe = -1, .nvidia_gpu = "NVIDIA GeForce RTX 4090"}, false, "no sign of it"},
	{{.probe = -1, .nvidia_gpu = "NVIDIA H100 80GB HBM3"}, false, "no sign of it"},
	{{.probe = -1, .product = "NVIDIA DGX Spark"}, true, "DGX Spark"},
	{{.probe = -1, .product = "NVIDIA_DGX_Spark"}, true, "DGX Spark"},
	{{.probe = -1, .product = "DGX H100"}, false, "no sign of it"},
	{{.probe = -1, .product = "Standard PC (Q35 + ICH9, 2009)"}, false, "no sign of it"},
};

START_TEST(verdict)
{
	const char *why = NULL;
	bool unified = stn_uma_verdict(&verdicts[_i].facts, &why);

	ck_assert_str_eq(why, verdicts[_i].why);
	ck_assert_int_eq(unified, verdicts[_i].unified);
}
END_TEST

/* Collects from the tree that the test has made; every fact is set, whatever was there before. */
static struct stn_uma_facts collect(const char *runtime_dir)
{
	struct stn_uma_facts facts;

	memset(&facts, 0xa5, sizeof(facts));
	stn_uma_collect("root", runtime_dir, &facts);
	return facts;
}

START_TEST(nothing_there)
{
	struct stn_uma_facts facts = collect(NULL);

	ck_assert(!facts.amd_apu);
	ck_assert_str_eq(facts.device_tree, "");
	ck_assert_str_eq(facts.nvidia_gpu, "");
	ck_assert_str_eq(facts.product, "");
	ck_assert_int_eq(facts.probe, -1);
}
END_TEST

/* Nodes of the KFD topology: cores and SIMD units of each, ended by -1. */
static const struct {
	const char *name;
	int cores[4], units[4];
	bool apu;
} topologies[] = {
	{"a processor alone", {16, -1}, {0}, false},
	{"a processor and a card", {16, 0, -1}, {0, 240}, false},
	{"an APU", {16, -1}, {40}, true},
	{"a card before an APU", {0, 8, -1}, {240, 48}, true},
	{"two processors and an APU", {16, 16, 8, -1}, {0, 0, 48}, true},
};

START_TEST(topology)
{
	char name[256], text[256];

	for (int node = 0; topologies[_i].cores[node] >= 0; node++) {
		snprintf(name, sizeof(name), NODES "%d/properties", node);
		snprintf(text, sizeof(text),
			 "cpu_cores_count %d\nsimd_count %d\nmem_banks_count 1\n",
			 topologies[_i].cores[node], topologies[_i].units[node]);
		unit_text(name, text);
	}
	ck_assert_msg(collect(NULL).amd_apu == topologies[_i].apu, "%s", topologies[_i].name);
}
END_TEST

/* The strings of "compatible", each ended by NUL, become words. */
START_TEST(device_tree)
{
	static const char compatible[] = "nvidia,p3737-0000+p3701-0000\0nvidia,p3701-0000\0"
					 "nvidia,tegra234";
	static const char one[] = "brcm,bcm2711";
	static char many[4096];

	unit_write("root/proc/device-tree/compatible", compatible, sizeof(compatible));
	ck_assert_str_eq(collect(NULL).device_tree,
			 "nvidia,p3737-0000+p3701-0000 nvidia,p3701-0000 "
			 "nvidia,tegra234");
	unit_write("root/proc/device-tree/compatible", one, sizeof(one));
	ck_assert_str_eq(collect(NULL).device_tree, "brcm,bcm2711");
	memset(many, 'x', sizeof(many));
	unit_write("root/proc/device-tree/compatible", many, sizeof(many));
	ck_assert_uint_eq(strlen(collect(NULL).device_tree), 255);
}
END_TEST

static const struct {
	const char *information, *model;
} gpus[] = {
	{"Model: \t\t NVIDIA GB10\nIRQ:   \t\t 40\n", "NVIDIA GB10"},
	{"IRQ: 4\nModel: NVIDIA GH200 480GB\n", "NVIDIA GH200 480GB"},
	{"Model:\n", ""},
	{"Model:", ""},
	{"IRQ: 40\n", ""},
	{"", ""},
};

START_TEST(nvidia)
{
	unit_text("root/proc/driver/nvidia/gpus/000f:01:00.0/information", gpus[_i].information);
	ck_assert_str_eq(collect(NULL).nvidia_gpu, gpus[_i].model);
}
END_TEST

/* A directory of cards without any, and a name that does not fit. */
START_TEST(nvidia_edges)
{
	static char text[1024] = "Model: ";

	ck_assert_int_eq(mkdir("root", 0755), 0);
	unit_text("root/proc/driver/nvidia/gpus/.hidden", "");
	ck_assert_str_eq(collect(NULL).nvidia_gpu, "");
	memset(text + 7, 'x', sizeof(text) - 8);
	unit_text("root/proc/driver/nvidia/gpus/0000:01:00.0/information", text);
	ck_assert_uint_eq(strlen(collect(NULL).nvidia_gpu), 127);
}
END_TEST

START_TEST(product)
{
	unit_text("root/sys/class/dmi/id/product_name", "NVIDIA_DGX_Spark\n");
	ck_assert_str_eq(collect(NULL).product, "NVIDIA_DGX_Spark");
	unit_text("root/sys/class/dmi/id/product_name", "");
	ck_assert_str_eq(collect(NULL).product, "");
}
END_TEST

/* Writes boot id and probe file; the probe is the calling user's, in a directory of theirs. */
static void write_probe(const char *boot_id, const char *probe)
{
	unit_text("root/proc/sys/kernel/random/boot_id", boot_id);
	unit_text("run/stnommap/probe", probe);
	ck_assert_int_eq(chmod("run/stnommap/probe", 0600), 0);
}

static int found_probe(void)
{
	return collect(unit_path("run")).probe;
}

static const struct {
	const char *text;
	int probe;
} probes[] = {
	{YES, 1},
	{NO, 0},
	{"unified=yes\nboot_id=" BOOT_ID "\n", 1},
	{"boot_id=" BOOT_ID "\n", -1},
	{"boot_id=" BOOT_ID "\nunified=maybe\n", -1},
	{"boot_id=another\nunified=yes\n", -1},
	{"boot_id=\nunified=yes\n", -1},
	{"unified=yes\n", -1},
	{"", -1},
};

START_TEST(probe_text)
{
	write_probe(BOOT_ID "\n", probes[_i].text);
	ck_assert_int_eq(found_probe(), probes[_i].probe);
}
END_TEST

/* Without a boot id of our own no probe can be from this boot. */
START_TEST(probe_without_boot_id)
{
	write_probe("\n", "boot_id=\nunified=yes\n");
	ck_assert_int_eq(found_probe(), -1);
	ck_assert_int_eq(unlink("root/proc/sys/kernel/random/boot_id"), 0);
	ck_assert_int_eq(found_probe(), -1);
}
END_TEST

static const struct {
	unsigned mode;
	int probe;
} modes[] = {{0600, 1}, {0644, 1}, {0400, 1}, {0700, 1}, {0620, -1}, {0602, -1}, {0666, -1}};

/* What others may write is not to be trusted. */
START_TEST(probe_mode)
{
	write_probe(BOOT_ID "\n", YES);
	ck_assert_int_eq(chmod("run/stnommap/probe", modes[_i].mode), 0);
	ck_assert_int_eq(found_probe(), modes[_i].probe);
}
END_TEST

/* Nor a second name of a file, a symbolic link, or what is no regular file. */
START_TEST(probe_kind)
{
	write_probe(BOOT_ID "\n", YES);
	ck_assert_int_eq(link("run/stnommap/probe", "run/other"), 0);
	ck_assert_int_eq(found_probe(), -1);
	ck_assert_int_eq(unlink("run/stnommap/probe"), 0);
	ck_assert_int_eq(symlink("../other", "run/stnommap/probe"), 0);
	ck_assert_int_eq(found_probe(), -1);
	ck_assert_int_eq(unlink("run/stnommap/probe"), 0);
	ck_assert_int_eq(rename("run/other", "run/stnommap/probe"), 0);
	ck_assert_int_eq(found_probe(), 1);
	ck_assert_int_eq(rename("run/stnommap/probe", "run/other"), 0);
	ck_assert_int_eq(mkfifo("run/stnommap/probe", 0600), 0);
	ck_assert_int_eq(found_probe(), -1);
	ck_assert_int_eq(unlink("run/stnommap/probe"), 0);
	ck_assert_int_eq(mkdir("run/stnommap/probe", 0700), 0);
	ck_assert_int_eq(found_probe(), -1);
}
END_TEST

/* Another user's file counts neither in one's own directory nor, but root's, in the system's. */
START_TEST(probe_owner)
{
	bool root = geteuid() == 0;

	write_probe(BOOT_ID "\n", YES);
	ck_assert_int_eq(found_probe(), 1);
	ck_assert_int_eq(mkdir("root/run", 0755), 0);
	ck_assert_int_eq(rename("run/stnommap", "root/run/stnommap"), 0);
	ck_assert_int_eq(collect(NULL).probe, root ? 1 : -1);
	/* Only root can make a file of somebody else's. */
	if (root) {
		ck_assert_int_eq(chown("root/run/stnommap/probe", 12345, 0), 0);
		ck_assert_int_eq(collect(NULL).probe, -1);
		ck_assert_int_eq(rename("root/run/stnommap", "run/stnommap"), 0);
		ck_assert_int_eq(found_probe(), -1);
	}
}
END_TEST

/* The system's verdict comes first; a user's directory is only believed by its absolute path. */
START_TEST(probe_places)
{
	write_probe(BOOT_ID "\n", YES);
	unit_text("root/run/stnommap/probe", NO);
	ck_assert_int_eq(found_probe(), geteuid() == 0 ? 0 : 1);
	ck_assert_int_eq(unlink("root/run/stnommap/probe"), 0);
	ck_assert_int_eq(collect("run").probe, -1);
	ck_assert_int_eq(collect("").probe, -1);
	ck_assert_int_eq(found_probe(), 1);
}
END_TEST

Suite *unit_suite(void)
{
	Suite *suite = suite_create("uma");
	TCase *tcase = unit_case(suite, "verdict", 5);

	tcase_add_loop_test(tcase, verdict, 0, COUNT(verdicts));
	tcase = unit_case_in_dir(suite, "hardware", 5);
	tcase_add_test(tcase, nothing_there);
	tcase_add_loop_test(tcase, topology, 0, COUNT(topologies));
	tcase_add_test(tcase, device_tree);
	tcase_add_loop_test(tcase, nvidia, 0, COUNT(gpus));
	tcase_add_test(tcase, nvidia_edges);
	tcase_add_test(tcase, product);
	tcase = unit_case_in_dir(suite, "probe", 5);
	tcase_add_loop_test(tcase, probe_text, 0, COUNT(probes));
	tcase_add_test(tcase, probe_without_boot_id);
	tcase_add_loop_test(tcase, probe_mode, 0, COUNT(modes));
	tcase_add_test(tcase, probe_kind);
	tcase_add_test(tcase, probe_owner);
	tcase_add_test(tcase, probe_places);
	return suite;
}
