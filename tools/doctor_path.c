/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "child.h"
#include "fs.h"
#include "names.h"
#include "page.h"
#include "sys.h"

#define LOOK_WITHIN  5000 /* milliseconds for a server to answer */
#define MOST_ENTRIES 10000
#define MOST_DEPTH   6

/* What the child that looks is given, and what it leaves. */
struct look {
	const struct stn_config *config;
	bool over;
	struct doctor_path path;
};

/* True if the page cache has a file, not on FUSE; of his own files the asker is told the truth. */
static bool is_cached(const char *path, const struct doctor_file *file)
{
	bool look = file->regular && file->readable && file->file_system != STN_FS_FUSE;
	int fd = look ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	bool cached = fd >= 0 && stn_fs_cached(fd, file->size);

	if (fd >= 0)
		close(fd);
	return cached;
}

/* Notes what one file shows. 0 or errno. */
static int look_at_file(const char *path, struct doctor_file *file)
{
	int fd = open(path, O_PATH | O_CLOEXEC), error;
	struct statx st = {0};
	struct statfs fs = {0};

	if (fd < 0)
		return errno;
	error = -stn_sys_statx(fd, STATX_BASIC_STATS, &st);
	if (!error && fstatfs(fd, &fs) < 0)
		error = errno;
	close(fd);
	snprintf(file->path, sizeof(file->path), "%s", path);
	file->size = st.stx_size;
	file->regular = S_ISREG(st.stx_mode);
	file->dax = (st.stx_attributes & STATX_ATTR_DAX) != 0;
	file->file_system = (uint32_t)fs.f_type;
	file->readable = access(path, R_OK) == 0;
	file->cached = (st.stx_uid == geteuid() || geteuid() == 0) && is_cached(path, file);
	return error;
}

static int by_name(const FTSENT **a, const FTSENT **b)
{
	return strcmp((*a)->fts_name, (*b)->fts_name);
}

/* Collects the models below a directory; links are followed, as in a cache of Hugging Face. */
static void look_below(const char *directory, const struct stn_config *config,
		       struct doctor_path *path)
{
	char *const roots[] = {(char *)(uintptr_t)directory, NULL};
	FTS *tree = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, by_name);
	unsigned seen = 0;
	FTSENT *entry;

	while (tree && seen++ < MOST_ENTRIES && (entry = fts_read(tree))) {
		if (entry->fts_info == FTS_D && entry->fts_level >= MOST_DEPTH)
			fts_set(tree, entry, FTS_SKIP);
		if (entry->fts_info != FTS_F || !stn_names_match(config->files, entry->fts_path))
			continue;
		path->more = path->count == DOCTOR_MOST_FILES;
		if (path->more)
			break;
		if (look_at_file(entry->fts_path, &path->file[path->count]) == 0)
			path->count++;
	}
	if (tree)
		fts_close(tree);
}

/* A model that might be in an empty directory. */
static void imagine_file(struct doctor_path *path)
{
	path->file[0] = (struct doctor_file){.size = 2 << 20,
					     .file_system = path->file_system,
					     .regular = true,
					     .readable = true};
}

/* Notes which mount fd is on, and its limits: nothing that its server is asked for. */
static void look_at_mount(int fd, struct doctor_path *path)
{
	path->placed = mount_of(fd, &path->mount);
	for (enum mount_limit i = 0; path->placed && i < MOUNT_LIMITS; i++)
		if (mount_limit_read(&path->mount, i, &path->limit[i]) < 0)
			path->limit[i] = UINT64_MAX;
	if (path->placed)
		path->waiting = mount_waiting(&path->mount);
}

/* Walks down to the path, so that the mount that does not answer is known by then. */
static void approach(struct doctor_path *path)
{
	const char *slash = path->path;
	char prefix[PATH_MAX];

	while ((slash = strchr(slash, '/'))) {
		int fd;

		slash++;
		snprintf(prefix, sizeof(prefix), "%.*s", (int)(slash - path->path), path->path);
		fd = open(prefix, O_PATH | O_CLOEXEC);
		if (fd < 0)
			return;
		look_at_mount(fd, path);
		close(fd);
	}
}

/* In a child: everything here may wait for a file system's server. */
static void look(void *argument)
{
	struct look *look = argument;
	struct doctor_path *path = &look->path;
	struct statfs fs;
	struct stat st;
	int fd;

	approach(path);
	fd = open(path->path, O_PATH | O_CLOEXEC);
	if (fd >= 0)
		look_at_mount(fd, path);
	if (fd < 0 || fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0) {
		path->error = errno;
		look->over = true;
		return;
	}
	path->file_system = (uint32_t)fs.f_type;
	path->directory = S_ISDIR(st.st_mode);
	if (path->directory)
		look_below(path->path, look->config, path);
	else
		path->error = look_at_file(path->path, &path->file[0]);
	if (!path->directory && !path->error)
		path->count = 1;
	if (path->count == 0)
		imagine_file(path);
	look->over = true;
}

struct doctor_path *doctor_look_at_path(const char *path, const struct stn_config *config)
{
	struct look *shared = child_share(sizeof(*shared));
	struct doctor_path *copy = malloc(sizeof(*copy));
	struct child child;
	bool late;

	if (!shared || !copy)
		err(EXIT_FAILURE, "memory");
	shared->config = config;
	shared->path.path = path;
	shared->path.waiting = UINT64_MAX;
	for (enum mount_limit i = 0; i < MOUNT_LIMITS; i++)
		shared->path.limit[i] = UINT64_MAX;
	child_start(&child, look, shared);
	late = !child_await(&child, child_deadline(LOOK_WITHIN));
	child_kill(&child);
	if (!shared->over && !late)
		shared->path.error = EAGAIN;
	/* A slow server, or one that has stopped: what was found by then is something. */
	shared->path.more |= late;
	shared->path.hangs = late && shared->path.count == 0;
	*copy = shared->path;
	munmap(shared, sizeof(*shared));
	return copy;
}

/* The facts of a read-only private mapping of the whole file, as stn_engagement_look has them. */
static struct stn_facts facts_of(const struct doctor *doctor, const struct doctor_path *path,
				 const struct doctor_file *file)
{
	return (struct stn_facts){
		.mode = doctor->config.mode,
		.fill = doctor->config.fill,
		.io = doctor->config.io,
		.mlock = doctor->config.mlock,
		.cache = doctor->config.cache,
		.file_systems = doctor->config.file_systems,
		/* A directory stands for the models in it. */
		.model = path->directory || stn_names_match(doctor->config.files, file->path),
		.regular = file->regular,
		.dax = file->dax,
		.cached = file->cached,
		.unified = doctor->host.unified,
		.file_system = file->file_system,
		.prot = PROT_READ,
		.flags = MAP_PRIVATE,
		.file_size = file->size,
		.length = stn_round_up(file->size, stn_page_size()),
		.fits = true,
	};
}

/* Whether a mapping of a file would be filled lazily: read-only, and writable. */
static void decide_fill(const struct doctor *doctor, struct stn_facts facts,
			struct doctor_file *file)
{
	file->lazy = stn_policy_suits_lazy(&facts, doctor->host.uffd);
	facts.prot = PROT_READ | PROT_WRITE;
	file->lazy_writable = stn_policy_suits_lazy(&facts, doctor->host.uffd);
}

void doctor_decide(const struct doctor *doctor, struct doctor_path *path)
{
	struct stn_budget_use use = {.unified = doctor->host.unified,
				     .memory_kind = doctor->config.memory_kind,
				     .memory_value = doctor->config.memory_value};

	for (unsigned i = 0; i == 0 || i < path->count; i++) {
		struct doctor_file *file = &path->file[i];
		struct stn_facts facts = facts_of(doctor, path, file);

		decide_fill(doctor, facts, file);
		facts.lazy = file->lazy;
		use.reserve = file->lazy ? file->size : 0;
		stn_budget_decide(&doctor->host.view, &use, stn_policy_need(&facts), &file->room);
		facts.fits = file->room.fits;
		file->decision = stn_policy_decide(&facts);
		if (!stn_decision_engaged(file->decision))
			continue;
		if (file->lazy)
			use.holes += file->size;
		else
			use.planned += file->size;
		if (!doctor->host.proc)
			file->decision = STN_DECLINED_NO_PROCFS;
		else if (!doctor->host.close_range)
			file->decision = STN_DECLINED_NO_THREAD;
	}
}

bool doctor_engages(const struct doctor_path *path)
{
	if (path->error || path->hangs)
		return false;
	for (unsigned i = 0; i == 0 || i < path->count; i++)
		if (!stn_decision_engaged(path->file[i].decision) || !path->file[i].readable)
			return false;
	return true;
}
