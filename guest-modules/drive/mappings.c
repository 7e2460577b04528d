// SPDX-License-Identifier: GPL-2.0-only
/* Calls that change a mapping or advise on it. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/mempolicy.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "drive.h"

/* From linux/mman.h; some C libraries are older. */
#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_SOFT_OFFLINE
#define MADV_SOFT_OFFLINE 101
#endif
#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

static const struct name_value protections[] = {
	{ "none", PROT_NONE },
	{ "r", PROT_READ },
	{ "rw", PROT_READ | PROT_WRITE },
	{ NULL, 0 }
};

static const struct name_value advices[] = {
	{ "cold", MADV_COLD },
	{ "pageout", MADV_PAGEOUT },
	{ "dontneed", MADV_DONTNEED },
	{ "free", MADV_FREE },
	{ "remove", MADV_REMOVE },
	{ "willneed", MADV_WILLNEED },
	{ "populate-read", MADV_POPULATE_READ },
	{ "populate-write", MADV_POPULATE_WRITE },
	{ "hugepage", MADV_HUGEPAGE },
	{ "nohugepage", MADV_NOHUGEPAGE },
	{ "collapse", MADV_COLLAPSE },
	{ "mergeable", MADV_MERGEABLE },
	{ "unmergeable", MADV_UNMERGEABLE },
	{ "hwpoison", MADV_HWPOISON },
	{ "soft-offline", MADV_SOFT_OFFLINE },
	{ "guard-install", MADV_GUARD_INSTALL },
	{ "guard-remove", MADV_GUARD_REMOVE },
	{ "random", MADV_RANDOM },
	{ "sequential", MADV_SEQUENTIAL },
	{ "dontfork", MADV_DONTFORK },
	{ "wipeonfork", MADV_WIPEONFORK },
	{ NULL, 0 }
};

static void survive(int signal)
{
	(void)signal;
}

/*
 * Advise on the range, or, with a stride, on `each` bytes of each stride, which are a page
 * unless it is given.  mm/memory-failure.c informs the owner of a poisoned page by a SIGBUS
 * that cannot be ignored.  A page that could not be taken out of use, because it is pinned,
 * is counted as busy.
 */
static void run_advise(void)
{
	struct buffer range = range_argument();
	long advice = choice_argument("advice", advices, "");
	size_t stride = stride_argument() * PAGE_BYTES;
	size_t each = number_argument("each", PAGE_BYTES, PAGE_BYTES, stride);
	size_t size = stride > PAGE_BYTES ? each : range.size;
	uint64_t busy = 0;
	size_t offset;
	int result = 0, error;

	if (stride == PAGE_BYTES)
		stride = range.size;
	if (advice == MADV_HWPOISON)
		signal(SIGBUS, survive);
	for (offset = 0; offset < range.size && !result; offset += stride) {
		result = madvise(range.addr + offset, size, (int)advice);
		if (result && errno == EBUSY && advice == MADV_SOFT_OFFLINE) {
			busy++;
			result = 0;
		}
	}
	error = errno;
	if (advice == MADV_HWPOISON)
		signal(SIGBUS, SIG_DFL);
	if (result)
		fail(error, "madvise: %s", strerror(error));
	if (advice == MADV_SOFT_OFFLINE)
		reply("busy", busy);
}

static void run_protect(void)
{
	struct buffer range = range_argument();
	long protection = choice_argument("prot", protections, "");

	if (mprotect(range.addr, range.size, (int)protection))
		fail_errno("mprotect");
}

/*
 * Move to `shift` bytes after the start of a page table; at 0 whole page tables move.
 * With apart=1 the old mapping stays, without pages (MREMAP_DONTUNMAP, in v5.7).
 */
static void run_move(void)
{
	struct buffer *buffer = buffer_argument("name");
	uint64_t shift = number_argument("shift", 0, 0, TABLE_BYTES - PAGE_BYTES);
	bool apart = number_argument("apart", 0, 0, 1);
	char *to;

	if (shift % PAGE_BYTES)
		fail(EINVAL, "shift must be a multiple of %lu", PAGE_BYTES);
	to = reserve(buffer->size + shift);
	if (to == MAP_FAILED)
		fail_errno("mmap");
	to = mremap(buffer->addr, buffer->size, buffer->size,
		    MREMAP_MAYMOVE | MREMAP_FIXED | (apart ? MREMAP_DONTUNMAP : 0), to + shift);
	if (to == MAP_FAILED)
		fail_errno("mremap");
	buffer->addr = to;
	reply("addr", (uintptr_t)to);
}

/* Map fresh anonymous memory over the range. */
static void run_replace(void)
{
	struct buffer range = range_argument();

	if (mmap(range.addr, range.size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		fail_errno("mmap");
}

static void run_lock(void)
{
	struct buffer range = range_argument();

	if (mlock(range.addr, range.size))
		fail_errno("mlock");
}

static void run_unlock(void)
{
	struct buffer range = range_argument();

	if (munlock(range.addr, range.size))
		fail_errno("munlock");
}

/* Write dirty pages to the file system, which makes their page table entries read-only. */
static void run_sync(void)
{
	struct buffer range = range_argument();

	if (msync(range.addr, range.size, MS_SYNC))
		fail_errno("msync");
}

/* Migrate to another node, page by page; `moved` counts the pages that are there afterwards. */
static void run_migrate(void)
{
	struct buffer range = range_argument();
	int node = (int)number_argument("node", 0, 0, 1023);
	size_t pages = range.size / PAGE_BYTES, moved = 0, count, page, i;
	void *addresses[512];
	int nodes[512], status[512];

	for (page = 0; page < pages; page += count) {
		count = pages - page < ARRAY_SIZE(nodes) ? pages - page : ARRAY_SIZE(nodes);
		for (i = 0; i < count; i++) {
			addresses[i] = range.addr + (page + i) * PAGE_BYTES;
			nodes[i] = node;
		}
		if (syscall(SYS_move_pages, 0, count, addresses, nodes, status, MPOL_MF_MOVE) < 0)
			fail_errno("move_pages");
		for (i = 0; i < count; i++)
			moved += status[i] == node;
	}
	reply("pages", pages);
	reply("moved", moved);
}

const struct verb mapping_verbs[] = {
	{ "advise", run_advise, "name! advice! offset size stride each" },
	{ "protect", run_protect, "name! prot! offset size" },
	{ "move", run_move, "name! shift apart" },
	{ "replace", run_replace, "name! offset size" },
	{ "lock", run_lock, "name! offset size" },
	{ "unlock", run_unlock, "name! offset size" },
	{ "sync", run_sync, "name! offset size" },
	{ "migrate", run_migrate, "name! node! offset size" },
	{ NULL, NULL, NULL }
};
