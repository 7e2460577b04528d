// SPDX-License-Identifier: GPL-2.0-only
/* userfaultfd(2): pages that are write-protected for a monitor in user space. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "drive.h"

/* linux/userfaultfd.h, Linux commit adef440691ba ("userfaultfd: UFFDIO_MOVE uABI") (in v6.8). */
#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move;
};

#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif

static int uffd = -1;

static void open_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API };

	if (uffd >= 0)
		return;
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0)
		fail_errno("userfaultfd");
	if (ioctl(uffd, UFFDIO_API, &api))
		fail_errno("UFFDIO_API");
}

static void register_range(struct buffer range, uint64_t mode)
{
	struct uffdio_register argument = {
		.range = { .start = (uintptr_t)range.addr, .len = range.size },
		.mode = mode,
	};

	open_userfaultfd();
	if (ioctl(uffd, UFFDIO_REGISTER, &argument))
		fail_errno("UFFDIO_REGISTER");
}

static void write_protect(struct buffer range, uint64_t mode)
{
	struct uffdio_writeprotect argument = {
		.range = { .start = (uintptr_t)range.addr, .len = range.size },
		.mode = mode,
	};

	if (ioctl(uffd, UFFDIO_WRITEPROTECT, &argument))
		fail_errno("UFFDIO_WRITEPROTECT");
}

/* A write to a protected page waits until the page is unprotected. */
static void run_write_protect(void)
{
	struct buffer range = range_argument();

	register_range(range, UFFDIO_REGISTER_MODE_WP);
	write_protect(range, UFFDIO_WRITEPROTECT_MODE_WP);
}

static void run_write_unprotect(void)
{
	write_protect(range_argument(), 0);
}

/* Move the pages of one buffer to the addresses of another, which must have no pages. */
static void run_move_pages(void)
{
	struct buffer *from = buffer_argument("name");
	struct buffer *to = buffer_argument("into");
	struct uffdio_move argument = {
		.dst = (uintptr_t)to->addr,
		.src = (uintptr_t)from->addr,
		.len = from->size,
	};

	if (to->size < from->size)
		fail(EINVAL, "%s is smaller than %s", to->name, from->name);
	register_range(*to, UFFDIO_REGISTER_MODE_MISSING);
	if (ioctl(uffd, UFFDIO_MOVE, &argument))
		fail_errno("UFFDIO_MOVE");
	reply("pages", (uint64_t)argument.move / PAGE_BYTES);
}

const struct verb userfault_verbs[] = {
	{ "write-protect", run_write_protect, "name! offset size" },
	{ "write-unprotect", run_write_unprotect, "name! offset size" },
	{ "move-pages", run_move_pages, "name! into!" },
	{ NULL, NULL, NULL }
};
