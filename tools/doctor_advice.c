/* SPDX-License-Identifier: Apache-2.0 */
/* What to do about what was found, in plain words. */
#include <err.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "doctor.h"
#include "fs.h"
#include "report.h"
#include "text.h"

#define MIB	    1048576.0
#define FAST_ENOUGH 3.0 /* GB/s: a limit above is none that matters */

/* Adds a line of advice unless it is there already. */
__attribute__((format(printf, 2, 3))) static void advise(struct doctor *doctor, const char *format,
							 ...)
{
	va_list arguments;
	char *text;
	int length;

	va_start(arguments, format);
	length = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (length < 0)
		err(1, "memory");
	for (unsigned i = 0; i < doctor->advice_count; i++)
		if (strcmp(doctor->advice[i], text) == 0) {
			free(text);
			return;
		}
	doctor->advice =
		reallocarray(doctor->advice, doctor->advice_count + 1, sizeof(*doctor->advice));
	if (!doctor->advice)
		err(1, "memory");
	doctor->advice[doctor->advice_count++] = text;
}

static void advise_fstype(const char *name, void *argument)
{
	advise(argument,
	       "STSHIM_FSTYPES: no file system is called %s; see libstnommap(7) for the "
	       "names",
	       name);
}

static void advise_on_settings(struct doctor *doctor)
{
	for (size_t i = 0; i < stn_config_rows(); i++) {
		struct doctor_row row;

		doctor_row(doctor, i, &row);
		if (row.bad)
			advise(doctor, "%s=%s is not understood and counts as %s; give %s",
			       row.row.name, row.given,
			       *row.row.fallback ? row.row.fallback : "empty", row.row.values);
	}
	if (*doctor->config.unknown)
		advise(doctor, "no such variable, look for a slip of the pen: %s",
		       doctor->config.unknown);
	doctor_unknown_fstypes(&doctor->config, advise_fstype, doctor);
	if (doctor->config.mode == STN_MODE_OFF)
		advise(doctor, "STSHIM_MODE=off: the library does nothing; unset it");
	if (doctor->config.mode == STN_MODE_OBSERVE)
		advise(doctor, "STSHIM_MODE=observe: the library only says what it would do; unset "
			       "it");
}

/* Whether a map of a large file, with this access, is filled lazily under a setting of STSHIM_FILL
 * and with a kind of userfaultfd. */
static bool fills_lazily(const struct stn_config *config, uint64_t fill, enum stn_lazy_kind kind,
			 int prot)
{
	const struct stn_facts facts = {
		.fill = fill,
		.io = config->io,
		.mlock = config->mlock,
		.file_size = UINT32_MAX,
		.length = UINT32_MAX,
		.prot = prot,
		.flags = MAP_PRIVATE,
	};

	return stn_policy_suits_lazy(&facts, kind);
}

/* What lazy fill lacks here, although it is wanted. */
static void advise_on_uffd(struct doctor *doctor)
{
	const struct doctor_host *host = &doctor->host;

	if (host->uffd_kills)
		advise(doctor, "a seccomp filter kills whoever calls userfaultfd, and with it a "
			       "program that maps a model: unset STSHIM_FILL");
	else if (host->uffd == STN_LAZY_NONE && host->seccomp == 2)
		advise(doctor, "under a seccomp filter (such as Docker's default profile) there is "
			       "no userfaultfd: eager only, the caller waits in mmap for the whole "
			       "fill; /dev/userfaultfd in the container, or a profile that allows "
			       "userfaultfd and STSHIM_FILL=lazy, lifts that");
	else if (host->uffd == STN_LAZY_NONE)
		advise(doctor, "the kernel has no userfaultfd: eager only, the caller waits in "
			       "mmap for the whole fill; a kernel with CONFIG_USERFAULTFD lifts "
			       "that");
	else if (host->uffd == STN_LAZY_USER_ONLY)
		advise(doctor, "userfaultfd is for faults in user mode only: read-only maps can be "
			       "filled lazily, others while the caller waits in mmap; access to "
			       "/dev/userfaultfd, vm.unprivileged_userfaultfd=1 or "
			       "CAP_SYS_PTRACE lifts that");
}

/* Whether the caller waits for the fill, and what would change that. */
static void advise_on_fill(struct doctor *doctor)
{
	const struct stn_config *config = &doctor->config;
	bool wanted = fills_lazily(config, config->fill, STN_LAZY_FULL, PROT_READ);
	bool could = fills_lazily(config, STN_FILL_LAZY, STN_LAZY_FULL, PROT_READ);

	if (config->fill == STN_FILL_EAGER)
		return;
	if (config->fill == STN_FILL_LAZY && !wanted)
		advise(doctor, "STSHIM_FILL=lazy is without effect beside STSHIM_IO=buffered and "
			       "STSHIM_MLOCK: unset those, or STSHIM_FILL");
	if (could)
		advise_on_uffd(doctor);
	if (could && !wanted && fills_lazily(config, STN_FILL_LAZY, doctor->host.uffd, PROT_READ))
		advise(doctor, "the caller waits in mmap for the whole fill; if it has better to "
			       "do, or does not need all of the file: set STSHIM_FILL=lazy");
}

static void advise_on_host(struct doctor *doctor)
{
	const struct doctor_host *host = &doctor->host;

	if (host->close_range_kills)
		advise(doctor, "a seccomp filter kills whoever calls close_range, and with it a "
			       "program that maps a model: set STSHIM_MODE=off, or allow the call");
	else if (!host->close_range)
		advise(doctor, "close_range does not work here (Linux before 5.9, or a seccomp "
			       "filter that is older): the library declines every mapping; use a "
			       "newer kernel or container runtime");
	if (!host->proc)
		advise(doctor, "/proc is not mounted: the library declines every mapping; mount "
			       "it");
	advise_on_fill(doctor);
	if (!host->huge_page || strcmp(host->huge_mode, "never") == 0)
		advise(doctor, "there are no transparent huge pages: filling memory takes several "
			       "times as long; as root: echo madvise > "
			       "/sys/kernel/mm/transparent_hugepage/enabled");
	if (doctor->config.mlock != STN_MLOCK_OFF && host->memlock < host->view.host_total / 2)
		advise(doctor, "STSHIM_MLOCK is set and the limit on locked memory is low: raise "
			       "it (ulimit -l, or LimitMEMLOCK= of the service)");
	if (!*host->library)
		advise(doctor, "libstnommap.so is not where this program was installed: install "
			       "both together");
	if (!host->preloaded && *host->library)
		advise(doctor,
		       "programs started here do not have the library: stshim run PROGRAM, "
		       "or LD_PRELOAD=%s",
		       host->library);
}

/* The pattern that would match a name: its suffix, or the name itself. */
static void advise_name(struct doctor *doctor, const char *path)
{
	const char *name = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	const char *dot = strrchr(name, '.');

	if (strstr(path, "/blobs/"))
		advise(doctor,
		       "programs that open this file by this name: set "
		       "STSHIM_FILES='%s:*/blobs/*'",
		       doctor->config.files);
	else
		advise(doctor, "if %s is a model: set STSHIM_FILES='%s:*%s'", name,
		       doctor->config.files, dot ? dot : name);
}

/* Writes the names of STSHIM_FSTYPES that mean something and one more to out. */
static void extend_list(const char *list, const char *name, char *out, size_t size)
{
	struct stn_text text;

	stn_text_start(&text, out, size);
	for (; *list; list += strspn(list, ",: ")) {
		size_t length = strcspn(list, ",: ");

		for (size_t i = 0; stn_fs_known(list, length) && i < length; i++)
			stn_text_add_char(&text, list[i]);
		if (stn_fs_known(list, length))
			stn_text_add_char(&text, ',');
		list += length;
	}
	stn_text_add(&text, name);
}

static void advise_file_system(struct doctor *doctor, const struct doctor_path *path,
			       const struct doctor_file *file)
{
	const char *name = stn_fs_name(file->file_system);
	const char *type = path->placed ? path->mount.type : name;
	char list[sizeof(doctor->config.file_systems) + 64];

	extend_list(doctor->config.file_systems, name, list, sizeof(list));
	if (strcmp(name, "other") == 0)
		advise(doctor,
		       "mount is %s, which has no name here: set STSHIM_FSTYPES=all, or "
		       "STSHIM_MODE=always",
		       type);
	else
		advise(doctor,
		       "mount is %s: set STSHIM_FSTYPES=%s if reading from it is slow or "
		       "hangs",
		       type, list);
}

static void advise_on_file(struct doctor *doctor, const struct doctor_path *path,
			   const struct doctor_file *file)
{
	if (!file->readable)
		advise(doctor, "%s: not readable for this user", file->path);
	if (file->decision == STN_DECLINED_NOT_A_MODEL)
		advise_name(doctor, file->path);
	if (file->decision == STN_DECLINED_FILE_SYSTEM)
		advise_file_system(doctor, path, file);
	if (file->decision == STN_DECLINED_MEMORY)
		advise(doctor,
		       "%s does not fit (%s): give the container or the host more memory, "
		       "or load fewer files at once",
		       file->path, file->room.limit);
}

/* Bytes of one request to the server, if what was read was at least that. */
static double request_size(const struct doctor_path *path)
{
	uint64_t most = mount_option(&path->mount, "max_read");

	if (path->measure.request < DOCTOR_REQUEST)
		return 0;
	return (double)(most < DOCTOR_REQUEST ? most : DOCTOR_REQUEST);
}

/* What the limit on requests in flight means, if the time of one was measured. */
static void advise_on_limit(struct doctor *doctor, const struct doctor_path *path)
{
	double limit = (double)path->limit[MOUNT_MAX_BACKGROUND], request = request_size(path);
	double seconds = (double)path->measure.latency / 1e9;
	double cap, wanted;

	if (path->limit[MOUNT_MAX_BACKGROUND] == UINT64_MAX || request <= 0)
		return;
	cap = limit * request / seconds / 1e9;
	wanted = (double)doctor->config.threads * (double)doctor->config.block / request;
	if (cap < FAST_ENOUGH && limit < wanted)
		advise(doctor,
		       "the server lets %.0f requests of %.3g MiB be in flight: at the %.3g ms "
		       "seen that caps this mount at %.2g GB/s; raise max_background: stshim tune "
		       "%s --max-background %.0f",
		       limit, request / MIB, seconds * 1e3, cap, path->mount.point, wanted);
}

static void advise_on_measure(struct doctor *doctor, const struct doctor_path *path)
{
	const struct doctor_measure *measure = &path->measure;

	if (!measure->tried)
		return;
	if (!measure->in_time)
		advise(doctor,
		       "%s: the server did not answer all reads within seconds; look at "
		       "it before a program hangs on it",
		       path->path);
	else if (measure->error)
		advise(doctor,
		       "%s: direct reads fail (%s): the library reads through the page "
		       "cache there, two requests at a time on FUSE",
		       path->path, strerror(measure->error));
	advise_on_limit(doctor, path);
}

/* The kernel's switch for a FUSE mount whose server has died. */
static void advise_on_death(struct doctor *doctor, const struct doctor_path *path)
{
	const struct mount *mount = &path->mount;

	if (!path->placed || !mount_is_fuse(mount))
		return;
	advise(doctor,
	       "%s is FUSE: while its server does not answer, a program that reads from it cannot "
	       "be killed, unless the connection is aborted: echo 1 > "
	       "/sys/fs/fuse/connections/%u/abort",
	       mount->point, mount->major << 20 | mount->minor);
}

static void advise_on_files(struct doctor *doctor, const struct doctor_path *path)
{
	for (unsigned i = 0; i == 0 || i < path->count; i++)
		advise_on_file(doctor, path, &path->file[i]);
	if (path->directory && path->count == 0)
		advise(doctor,
		       "%s: no file in it matches STSHIM_FILES=%s; the answer is for one that did",
		       path->path, doctor->config.files);
	if (path->more)
		advise(doctor, "%s: only the first %u models were looked at", path->path,
		       path->count);
}

static void advise_on_path(struct doctor *doctor, const struct doctor_path *path)
{
	if (path->hangs)
		advise(doctor, "%s: its file system does not answer; look at the server",
		       path->path);
	if (path->hangs || doctor_engages(path))
		advise_on_death(doctor, path);
	if (path->hangs || path->error)
		return;
	advise_on_files(doctor, path);
	advise_on_measure(doctor, path);
}

void doctor_advise(struct doctor *doctor)
{
	advise_on_settings(doctor);
	advise_on_host(doctor);
	for (unsigned i = 0; i < doctor->path_count; i++)
		advise_on_path(doctor, doctor->paths[i]);
}
