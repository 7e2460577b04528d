// SPDX-License-Identifier: GPL-2.0-only
/* The state of a range in the page table. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "drive.h"

/* Replies how many pages are present, swapped, or neither; and how many are soft-dirty. */
void reply_pagemap(const char *addr, size_t size)
{
	size_t pages = size / PAGE_BYTES;
	size_t present = 0, swapped = 0, soft_dirty = 0;
	uint64_t entries[512];
	size_t page, i;
	int fd;

	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_errno("/proc/self/pagemap");
	for (page = 0; page < pages; page += ARRAY_SIZE(entries)) {
		off_t offset = (off_t)(((uintptr_t)addr / PAGE_BYTES + page) * sizeof(entries[0]));
		size_t count = pages - page;

		if (count > ARRAY_SIZE(entries))
			count = ARRAY_SIZE(entries);
		if (pread(fd, entries, count * sizeof(entries[0]), offset) !=
		    (ssize_t)(count * sizeof(entries[0]))) {
			close(fd);
			fail(EIO, "/proc/self/pagemap: short read");
		}
		for (i = 0; i < count; i++) {
			present += !!(entries[i] & PAGEMAP_PRESENT);
			swapped += !!(entries[i] & PAGEMAP_SWAPPED);
			soft_dirty += !!(entries[i] & PAGEMAP_SOFT_DIRTY);
		}
	}
	close(fd);
	reply("pages", pages);
	reply("present", present);
	reply("swapped", swapped);
	reply("empty", pages - present - swapped);
	reply("soft_dirty", soft_dirty);
}
