// SPDX-License-Identifier: GPL-2.0-only
/* Allocates memory, so that the kernel reclaims. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "drive.h"

static const struct name_value gfps[] = {
	{ "account", NH_GFP_ACCOUNT },
	{ "movable", NH_GFP_MOVABLE },
	{ NULL, 0 }
};

static void run_kalloc(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_kalloc argument = {
		.gfp = (uint32_t)choice_argument("gfp", gfps, ""),
		.limit_ms = (uint32_t)number_argument("limit_ms", 30000, 1, 600000),
		.pages = number_argument("pages", UINT32_MAX, 1, UINT32_MAX),
		.stop_allocstall = number_argument("stop_allocstall", 0, 0, UINT32_MAX),
		.stop_callbacks = number_argument("stop_callbacks", 0, 0, UINT32_MAX),
	};

	must_ioctl(subscriber, NH_KALLOC, &argument);
	reply("allocated", argument.allocated);
	reply("failed", argument.failed);
	reply("allocstall", argument.allocstall);
	reply("callbacks", argument.callbacks);
}

/* Bytes that are free beyond `leave`. */
static size_t free_beyond(uint64_t leave)
{
	char text[FILE_BYTES];
	uint64_t free;

	if (!read_file("/proc/meminfo", text, sizeof(text)))
		fail_errno("/proc/meminfo");
	free = sum_lines(text, "MemFree:", true) << 10;
	if (free < leave + PAGE_BYTES)
		fail(ENOMEM, "%llu bytes are free, fewer than the %llu to leave",
		     (unsigned long long)free, (unsigned long long)leave);
	return (free - leave) / PAGE_BYTES * PAGE_BYTES;
}

/*
 * Touch new memory, one word a page; it is kept only if it gets a name.  Its size is
 * `size`, or the free memory less `leave`.  With lock=1 reclaim cannot take it.
 */
static void run_charge(void)
{
	const char *name = find_argument("name") ? new_name() : NULL;
	size_t size = find_argument("leave") ?
		free_beyond(number_argument("leave", 0, 0, UINT64_MAX)) : size_argument("size");
	size_t pages = size / PAGE_BYTES;
	struct faults before = read_faults();
	char *addr = map_apart(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	size_t page;

	if (addr == MAP_FAILED)
		fail_errno("mmap");
	madvise(addr, size, MADV_NOHUGEPAGE);
	if (number_argument("lock", 0, 0, 1) && mlock2(addr, size, MLOCK_ONFAULT)) {
		int error = errno;

		munmap(addr, size);
		fail(error, "mlock2: %s", strerror(error));
	}
	for (page = 0; page < pages; page++) {
		*(volatile uint64_t *)(addr + page * PAGE_BYTES) = page;
		progress(page, pages);
	}
	reply("pages", pages);
	reply_faults(before);
	if (name)
		new_buffer(name, addr, size);
	else
		munmap(addr, size);
}

const struct verb pressure_verbs[] = {
	{ "kalloc", run_kalloc, "name! gfp! pages stop_allocstall stop_callbacks limit_ms" },
	{ "charge", run_charge, "size name leave lock" },
	{ NULL, NULL, NULL }
};
