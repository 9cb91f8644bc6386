/* SPDX-License-Identifier: Apache-2.0 */
#include "uffd.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include "config.h"
#include "sys.h"

/* Newer than some headers. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#define IOCTL_NEW _IO(UFFDIO, 0x00) /* of /dev/userfaultfd, Linux 6.1 */

/* struct uffdio_move of Linux 6.8. */
struct move {
	uint64_t to, from, length, mode;
	int64_t moved;
};

/* struct uffdio_poison of Linux 6.6. */
struct poison {
	struct uffdio_range range;
	uint64_t mode;
	int64_t updated;
};

#define IOCTL_MOVE   _IOWR(UFFDIO, 0x05, struct move)
#define IOCTL_POISON _IOWR(UFFDIO, 0x08, struct poison)

static int control(int fd, unsigned long request, void *argument)
{
	return (int)stn_sys_call(SYS_ioctl, fd, (long)request, (long)argument, 0, 0, 0);
}

/* A userfaultfd from the device, which whoever may open it may use in full. */
static int open_device(void)
{
	int device = stn_sys_open("/dev/userfaultfd", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	int fd;

	if (device < 0)
		return device;
	fd = (int)stn_sys_call(SYS_ioctl, device, IOCTL_NEW, O_CLOEXEC | O_NONBLOCK, 0, 0, 0);
	stn_sys_close(device);
	return fd;
}

static int open_call(int flags)
{
	return (int)stn_sys_call(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | flags, 0, 0, 0, 0, 0);
}

int stn_uffd_open(bool *user_only)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = open_device(), rc;

	*user_only = false;
	if (fd < 0 && stn_config.fill != STN_FILL_LAZY && stn_sys_filtered())
		return fd;
	if (fd < 0)
		fd = open_call(0);
	if (fd == -EPERM) {
		*user_only = true;
		fd = open_call(UFFD_USER_MODE_ONLY);
	}
	if (fd < 0)
		return fd;
	rc = control(fd, UFFDIO_API, &api);
	if (rc == 0)
		return fd;
	stn_sys_close(fd);
	return rc;
}

int stn_uffd_register(int fd, void *memory, size_t size)
{
	struct uffdio_register wanted = {
		.range = {(uintptr_t)memory, size},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return control(fd, UFFDIO_REGISTER, &wanted);
}

int stn_uffd_read(int fd, uintptr_t *addresses, int most)
{
	struct uffd_msg messages[16];
	const int room = (int)(sizeof(messages) / sizeof(messages[0]));
	ssize_t got = stn_sys_read(fd, messages,
				   sizeof(messages[0]) * (size_t)(most < room ? most : room));
	int count = 0;

	if (got == -EAGAIN)
		return 0;
	if (got < 0)
		return (int)got;
	for (size_t i = 0; i < (size_t)got / sizeof(messages[0]); i++)
		if (messages[i].event == UFFD_EVENT_PAGEFAULT)
			addresses[count++] = (uintptr_t)messages[i].arg.pagefault.address;
	return count;
}

int stn_uffd_move(int fd, void *to, void *from, size_t size, size_t *done)
{
	struct move move = {(uintptr_t)to, (uintptr_t)from, size, 0, 0};
	int rc = control(fd, IOCTL_MOVE, &move);

	*done = move.moved > 0 ? (size_t)move.moved : 0;
	return rc;
}

int stn_uffd_copy(int fd, void *to, const void *from, size_t size, size_t *done)
{
	struct uffdio_copy copy = {.dst = (uintptr_t)to, .src = (uintptr_t)from, .len = size};
	int rc = control(fd, UFFDIO_COPY, &copy);

	*done = copy.copy > 0 ? (size_t)copy.copy : 0;
	return rc;
}

int stn_uffd_zero(int fd, void *to, size_t size)
{
	struct uffdio_zeropage zero = {.range = {(uintptr_t)to, size}};

	return control(fd, UFFDIO_ZEROPAGE, &zero);
}

int stn_uffd_poison(int fd, void *to, size_t size, size_t *done)
{
	struct poison poison = {.range = {(uintptr_t)to, size}};
	int rc = control(fd, IOCTL_POISON, &poison);

	*done = poison.updated > 0 ? (size_t)poison.updated : 0;
	return rc;
}

int stn_uffd_wake(int fd, void *memory, size_t size)
{
	struct uffdio_range range = {(uintptr_t)memory, size};

	return control(fd, UFFDIO_WAKE, &range);
}
