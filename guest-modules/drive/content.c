// SPDX-License-Identifier: GPL-2.0-only
/* User space writes to a buffer, and checks its content. */
#define _GNU_SOURCE
#include <errno.h>

#include "drive.h"

/* Write the pattern of `seed` as a process does; pages are counted from the buffer's first. */
static void run_touch(void)
{
	const struct buffer *buffer = buffer_argument("name");
	struct buffer range = range_argument();
	uint64_t seed = number_argument("seed", 1, 0, UINT32_MAX);
	size_t first = (size_t)(range.addr - buffer->addr) / PAGE_BYTES;
	size_t stride = stride_argument();
	size_t pages = range.size / PAGE_BYTES;
	struct faults before = read_faults();
	size_t page, word, seen = 0;

	for (page = 0; page < pages; page += stride, seen++) {
		volatile uint64_t *words = (uint64_t *)(range.addr + page * PAGE_BYTES);

		for (word = 0; word < PAGE_WORDS; word++)
			words[word] = nh_pattern(seed, first + page, word);
		progress(seen, pages / stride);
	}
	reply("pages", seen);
	reply_faults(before);
}

static void run_user_check(void)
{
	const struct buffer *buffer = buffer_argument("name");
	struct buffer range = range_argument();
	uint64_t seed = number_argument("seed", 1, 0, UINT32_MAX);
	size_t first = (size_t)(range.addr - buffer->addr) / PAGE_BYTES;
	size_t stride = stride_argument();
	size_t pages = range.size / PAGE_BYTES;
	struct faults before = read_faults();
	size_t page, word, seen = 0;
	size_t bad = 0;

	for (page = 0; page < pages; page += stride, seen++) {
		const volatile uint64_t *words = (uint64_t *)(range.addr + page * PAGE_BYTES);

		for (word = 0; word < PAGE_WORDS; word++) {
			if (words[word] != nh_pattern(seed, first + page, word)) {
				bad++;
				break;
			}
		}
		progress(seen, pages / stride);
	}
	reply("pages", seen);
	reply("bad", bad);
	reply_faults(before);
}

const struct verb content_verbs[] = {
	{ "touch", run_touch, "name! seed offset size stride" },
	{ "user-write", run_touch, "name! seed offset size stride" },
	{ "user-check", run_user_check, "name! seed offset size stride" },
	{ NULL, NULL, NULL }
};
