/* SPDX-License-Identifier: Apache-2.0 */
#include "doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "file.h"
#include "library.h"
#include "page.h"
#include "probe.h"
#include "run_preload.h"
#include "sys.h"
#include "text.h"
#include "uffd.h"
#include "uma.h"

#define TRIAL_WITHIN 1000 /* milliseconds */

/* linux/userfaultfd.h of the kernel that runs may be newer than that of the build. */
#define NEW_UFFD     _IO(0xAA, 0x00)
#define FEATURE_MOVE ((uint64_t)1 << 16)
#define USER_MODE    1

/* A userfaultfd, or -1. Not stn_uffd_open: that agrees on the protocol, and with it the features
 * can no longer be asked for. */
static int open_uffd(int flags, bool device)
{
	int fd, from;

	if (!device)
		return (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags);
	from = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	fd = from < 0 ? -1 : ioctl(from, NEW_UFFD, O_CLOEXEC | O_NONBLOCK);
	close(from);
	return fd;
}

/* In a child: a seccomp filter may kill for it. */
static void try_uffd(void *argument)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct doctor_host *host = argument;
	bool user_only;
	int fd = stn_uffd_open(&user_only);

	host->uffd = fd < 0 ? STN_LAZY_NONE : user_only ? STN_LAZY_USER_ONLY : STN_LAZY_FULL;
	host->uffd_error = fd < 0 ? -fd : 0;
	if (fd < 0)
		return;
	close(fd);
	fd = open_uffd(0, true);
	host->uffd_device = fd >= 0;
	if (fd < 0)
		fd = open_uffd(user_only ? USER_MODE : 0, false);
	host->uffd_move = ioctl(fd, UFFDIO_API, &api) == 0 && (api.features & FEATURE_MOVE);
	close(fd);
}

/* In a child, for the same reason, and because it closes everything. */
static void try_tables(void *argument)
{
	struct doctor_host *host = argument;

	host->close_range = stn_sys_empty_fd_table() == 0;
}

/* In a child: a broken driver may hang whoever reads its files in /proc. */
static void ask_hardware(void *argument)
{
	struct doctor_host *host = argument;
	struct stn_uma_facts facts;

	stn_uma_collect("", getenv("XDG_RUNTIME_DIR"), &facts);
	memcpy(host->gpu, facts.nvidia_gpu, sizeof(host->gpu));
	host->unified = stn_uma_verdict(&facts, &host->unified_why);
}

/* Makes the trials, each in a process of its own. */
static void make_trials(struct doctor_host *host)
{
	static void (*const trials[])(void *) = {try_uffd, try_tables, ask_hardware};
	struct doctor_host *shared = child_share(sizeof(*shared));
	bool killed[3] = {false};
	struct child child;

	if (!shared)
		return;
	*shared = *host;
	for (unsigned i = 0; i < 3; i++) {
		child_start(&child, trials[i], shared);
		if (!child_await(&child, child_deadline(TRIAL_WITHIN)))
			child_kill(&child);
		else
			killed[i] = WIFSIGNALED(child.status) && WTERMSIG(child.status) == SIGSYS;
	}
	*host = *shared;
	host->uffd_kills = killed[0];
	host->close_range_kills = killed[1];
}

/* The word in brackets: "always [madvise] never". */
static void read_huge_mode(char out[16])
{
	char text[128], *start, *end;

	out[0] = '\0';
	stn_file_read("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof(text));
	start = strchr(text, '[');
	end = start ? strchr(start, ']') : NULL;
	if (end)
		snprintf(out, 16, "%.*s", (int)(end - start - 1), start + 1);
}

static void look_at_kernel(struct doctor_host *host)
{
	char status[4096];
	struct utsname name;
	struct rlimit limit;

	if (uname(&name) == 0)
		snprintf(host->kernel, sizeof(host->kernel), "%.60s %.60s", name.release,
			 name.machine);
	host->page = stn_page_size();
	host->huge_page = stn_page_huge_read();
	read_huge_mode(host->huge_mode);
	stn_file_read("/proc/self/status", status, sizeof(status));
	host->seccomp = stn_text_field(status, "Seccomp:");
	host->filters = stn_text_field(status, "Seccomp_filters:");
	host->proc = access("/proc/thread-self/fd", F_OK) == 0;
	host->names = prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, 0, host->page, NULL) == 0 ||
		      errno == ENOMEM;
	host->memlock = getrlimit(RLIMIT_MEMLOCK, &limit) == 0 ? limit.rlim_cur : 0;
}

/* What the budget has for a mapping of no size at all: the room that there is. */
static void look_at_memory(const struct stn_config *config, struct doctor_host *host)
{
	struct stn_budget_use use = {.memory_kind = config->memory_kind,
				     .memory_value = config->memory_value};

	stn_budget_read(&host->view);
	stn_budget_decide(&host->view, &use, 0, &host->room);
}

void doctor_look_at_host(const struct stn_config *config, struct doctor_host *host)
{
	*host = (struct doctor_host){.unified_why = "the hardware gave no answer in time"};
	look_at_kernel(host);
	look_at_memory(config, host);
	make_trials(host);
	if (config->uma != STN_ANSWER_AUTO) {
		host->unified = config->uma == STN_ANSWER_YES;
		host->unified_why = "STSHIM_UMA";
	}
	library_find(host->library);
	host->preloaded = run_preload_present();
}
