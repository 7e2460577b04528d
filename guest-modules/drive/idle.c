// SPDX-License-Identifier: GPL-2.0-only
/* Idle page tracking: Documentation/admin-guide/mm/idle_page_tracking.rst */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "drive.h"

#define BITMAP "/sys/kernel/mm/page_idle/bitmap"
#define PAGEMAP_FRAME ((1ULL << 55) - 1)

/* The page frame behind an address; 0 if nothing is mapped. */
static uint64_t frame_of(int pagemap, const char *addr)
{
	off_t offset = (off_t)((uintptr_t)addr / PAGE_BYTES * sizeof(uint64_t));
	uint64_t entry;

	if (pread(pagemap, &entry, sizeof(entry), offset) != sizeof(entry))
		fail(EIO, "/proc/self/pagemap: short read");
	return entry & PAGEMAP_PRESENT ? entry & PAGEMAP_FRAME : 0;
}

/*
 * Mark each mapped page of the range as idle, or count those that still are.  The last
 * pages of memory, if they are fewer than 64, cannot be read: the kernel answers 0 bytes.
 */
static void walk_idle(struct buffer range, bool mark)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int bitmap = open(BITMAP, O_RDWR | O_CLOEXEC);
	uint64_t pages = 0, idle = 0, bits;
	size_t offset;
	ssize_t got;

	if (pagemap < 0 || bitmap < 0)
		fail_errno(BITMAP);
	for (offset = 0; offset < range.size; offset += PAGE_BYTES) {
		uint64_t frame = frame_of(pagemap, range.addr + offset);
		off_t place = (off_t)(frame / 64 * sizeof(bits));

		if (!frame)
			continue;
		bits = 1ULL << frame % 64;
		got = mark ? pwrite(bitmap, &bits, sizeof(bits), place) :
			     pread(bitmap, &bits, sizeof(bits), place);
		if (got < 0)
			fail_errno(BITMAP);
		pages += !!got;
		idle += got && bits >> frame % 64 & 1;
	}
	close(bitmap);
	close(pagemap);
	reply("pages", pages);
	reply("idle", idle);
}

/* The kernel asks CPU and devices once, and forgets what they accessed until now. */
static void run_idle(void)
{
	walk_idle(range_argument(), true);
}

static void run_idle_check(void)
{
	walk_idle(range_argument(), false);
}

const struct verb idle_verbs[] = {
	{ "idle", run_idle, "name! offset size" },
	{ "idle-check", run_idle_check, "name! offset size" },
	{ NULL, NULL, NULL }
};
