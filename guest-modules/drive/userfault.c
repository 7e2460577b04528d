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

/*
 * linux/fs.h, Linux commit 52526ca7fdb9 ("fs/proc/task_mmu: implement IOCTL to get
 * and optionally clear info about PTEs") (in v6.7).
 */
#ifndef PAGEMAP_SCAN
struct page_region {
	__u64 start;
	__u64 end;
	__u64 categories;
};

struct pm_scan_arg {
	__u64 size;
	__u64 flags;
	__u64 start;
	__u64 end;
	__u64 walk_end;
	__u64 vec;
	__u64 vec_len;
	__u64 max_pages;
	__u64 category_inverted;
	__u64 category_mask;
	__u64 category_anyof_mask;
	__u64 return_mask;
};

#define PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_arg)
#define PAGE_IS_WRITTEN 0x2
#define PM_SCAN_WP_MATCHING 0x1
#define PM_SCAN_CHECK_WPASYNC 0x2
#endif

/* linux/userfaultfd.h, Linux commits 2bad466cc9d9 (in v6.4) and d61ea1cb0095 (in v6.7). */
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC 0x8000
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED 0x2000
#endif

static int uffd = -1;

static void open_userfaultfd(uint64_t features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };

	if (uffd >= 0)
		return;
	uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	if (uffd < 0)
		fail_errno("userfaultfd");
	if (ioctl(uffd, UFFDIO_API, &api))
		fail_errno("UFFDIO_API");
}

/* The features are those of the first registration of the process. */
static void register_range(struct buffer range, uint64_t mode, uint64_t features)
{
	struct uffdio_register argument = {
		.range = { .start = (uintptr_t)range.addr, .len = range.size },
		.mode = mode,
	};

	open_userfaultfd(features);
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

	register_range(range, UFFDIO_REGISTER_MODE_WP, 0);
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
	register_range(*to, UFFDIO_REGISTER_MODE_MISSING, 0);
	if (ioctl(uffd, UFFDIO_MOVE, &argument))
		fail_errno("UFFDIO_MOVE");
	reply("pages", (uint64_t)argument.move / PAGE_BYTES);
}

/*
 * PAGEMAP_SCAN of what was written since the last scan, which write-protects it again
 * (tools/testing/selftests/mm/pagemap_ioctl.c).  A write to such a page goes on at once.
 */
static void run_scan(void)
{
	struct buffer range = range_argument();
	struct page_region found[512];
	struct pm_scan_arg argument = {
		.size = sizeof(argument),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)range.addr,
		.end = (uintptr_t)range.addr + range.size,
		.vec = (uintptr_t)found,
		.vec_len = ARRAY_SIZE(found),
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	uint64_t pages = 0;
	int fd, regions, i;

	register_range(range, UFFDIO_REGISTER_MODE_WP,
		       UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED);
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_errno("/proc/self/pagemap");
	regions = ioctl(fd, PAGEMAP_SCAN, &argument);
	if (regions < 0) {
		int error = errno;

		close(fd);
		fail(error, "PAGEMAP_SCAN: %s", strerror(error));
	}
	close(fd);
	for (i = 0; i < regions; i++)
		pages += (found[i].end - found[i].start) / PAGE_BYTES;
	reply("pages", pages);
}

const struct verb userfault_verbs[] = {
	{ "write-protect", run_write_protect, "name! offset size" },
	{ "write-unprotect", run_write_unprotect, "name! offset size" },
	{ "move-pages", run_move_pages, "name! into!" },
	{ "scan", run_scan, "name! offset size" },
	{ NULL, NULL, NULL }
};
