// SPDX-License-Identifier: GPL-2.0-only
/* Buffers: named memory of the driver. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "drive.h"

enum {
	KIND_ANON,
	KIND_SHMEM,
	KIND_FILE,
	KIND_CODE,
	KIND_PRIVATE,
	KIND_HUGETLB,
	KIND_HUGETLB_SHARED,
};

static const struct name_value kinds[] = {
	{ "anon", KIND_ANON },
	{ "shmem", KIND_SHMEM },
	{ "file", KIND_FILE },
	{ "code", KIND_CODE },
	{ "private", KIND_PRIVATE },
	{ "hugetlb", KIND_HUGETLB },
	{ "hugetlb-shared", KIND_HUGETLB_SHARED },
	{ NULL, 0 }
};

static struct buffer buffers[BUFFERS_MAX];

struct buffer *find_buffer(const char *name)
{
	size_t i;

	for (i = 0; i < BUFFERS_MAX; i++) {
		if (buffers[i].name[0] && !strcmp(buffers[i].name, name))
			return &buffers[i];
	}
	return NULL;
}

struct buffer *buffer_argument(const char *key)
{
	const char *name = find_argument(key);
	struct buffer *buffer = find_buffer(name);

	if (!buffer)
		fail(ENOENT, "no buffer is named \"%s\"", name);
	return buffer;
}

/* The part of a buffer that the keys offset and size select; all of it without them. */
struct buffer part_argument(const struct buffer *buffer)
{
	struct buffer range = *buffer;
	uint64_t offset = number_argument("offset", 0, 0, buffer->size - PAGE_BYTES);

	range.addr += offset;
	range.size = buffer->size - offset;
	range.size = number_argument("size", range.size, PAGE_BYTES, range.size);
	if ((offset | range.size) % PAGE_BYTES)
		fail(EINVAL, "offset and size must be multiples of %lu", PAGE_BYTES);
	return range;
}

struct buffer range_argument(void)
{
	return part_argument(buffer_argument("name"));
}

/* In pages: every page, or one page in each stride of bytes. */
size_t stride_argument(void)
{
	uint64_t stride = number_argument("stride", PAGE_BYTES, PAGE_BYTES, NH_BUFFER_MAX);

	if (stride % PAGE_BYTES)
		fail(EINVAL, "stride must be a multiple of %lu", PAGE_BYTES);
	return stride / PAGE_BYTES;
}

/* The faults of the calling thread. */
struct faults read_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (struct faults){ usage.ru_minflt, usage.ru_majflt };
}

void reply_faults(struct faults before)
{
	struct faults after = read_faults();

	reply("minflt", (uint64_t)(after.minor - before.minor));
	reply("majflt", (uint64_t)(after.major - before.major));
}

/* Addresses for `size` bytes, with page tables that hold nothing else. */
void *reserve(size_t size)
{
	size_t span = (size + TABLE_BYTES - 1) / TABLE_BYTES * TABLE_BYTES;
	uintptr_t base = (uintptr_t)mmap(NULL, span + 2 * TABLE_BYTES, PROT_NONE,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if ((void *)base == MAP_FAILED)
		return MAP_FAILED;
	return (void *)((base / TABLE_BYTES + 1) * TABLE_BYTES);
}

/*
 * Map at the start of a page table of its own, with nothing else in its last one:
 * the kernel widens some ranges to whole page tables (Linux 6.1, __split_huge_pmd,
 * when a neighbouring VMA changes), and it would merge neighbours into one VMA.
 */
void *map_apart(size_t size, int prot, int flags, int fd)
{
	uintptr_t base = (uintptr_t)reserve(size);

	if ((void *)base == MAP_FAILED)
		return MAP_FAILED;
	return mmap((void *)base, size, prot, flags | MAP_FIXED, fd, 0);
}

static void *map_file(const char *path, size_t size, int prot, int sharing)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *addr;

	if (fd < 0)
		fail_errno(path);
	if (ftruncate(fd, (off_t)size)) {
		int error = errno;

		close(fd);
		fail(error, "%s: %s", path, strerror(error));
	}
	addr = map_apart(size, prot, sharing, fd);
	close(fd);
	return addr;
}

struct buffer *new_buffer(const char *name, void *addr, size_t size)
{
	size_t i;

	if (addr == MAP_FAILED)
		fail_errno("mmap");
	i = claim(buffers[0].name, sizeof(buffers[0]), BUFFERS_MAX);
	if (i == BUFFERS_MAX) {
		munmap(addr, size);
		fail(ENOSPC, "there are %d buffers", BUFFERS_MAX);
	}
	buffers[i].addr = addr;
	buffers[i].size = size;
	strcpy(buffers[i].name, name);
	return &buffers[i];
}

/* What is in no file, by its kind. */
static int nameless_flags(long kind)
{
	switch (kind) {
	case KIND_SHMEM:
		return MAP_ANONYMOUS | MAP_SHARED;
	case KIND_HUGETLB:
		return MAP_ANONYMOUS | MAP_HUGETLB | MAP_PRIVATE;
	case KIND_HUGETLB_SHARED:
		return MAP_ANONYMOUS | MAP_HUGETLB | MAP_SHARED;
	default:
		return MAP_ANONYMOUS | MAP_PRIVATE;
	}
}

/*
 * kind=code can take a uprobe: private, executable, never writable.  kind=private shows
 * the pages of a file until they are written to, and then copies of them.  kind=hugetlb
 * comes out of the pool of /proc/sys/vm/nr_hugepages.
 */
static void run_map(void)
{
	const char *name = new_name();
	const char *path = find_argument("path");
	long kind = choice_argument("kind", kinds, "anon");
	size_t size = size_argument("size");
	bool huge = number_argument("thp", 0, 0, 1);
	struct buffer *buffer;
	void *addr;

	if (!!path != (kind == KIND_FILE || kind == KIND_CODE || kind == KIND_PRIVATE))
		fail(EINVAL, "path= goes with kind=file, kind=code and kind=private");
	if (kind == KIND_FILE)
		addr = map_file(path, size, PROT_READ | PROT_WRITE, MAP_SHARED);
	else if (kind == KIND_CODE)
		addr = map_file(path, size, PROT_READ | PROT_EXEC, MAP_PRIVATE);
	else if (kind == KIND_PRIVATE)
		addr = map_file(path, size, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	else
		addr = map_apart(size, PROT_READ | PROT_WRITE, nameless_flags(kind), -1);
	buffer = new_buffer(name, addr, size);
	/* Reclaim does not unmap a huge page that has an extra reference. */
	madvise(buffer->addr, size, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	reply("addr", (uintptr_t)buffer->addr);
	reply("pages", size / PAGE_BYTES);
}

static void run_unmap(void)
{
	struct buffer *buffer = buffer_argument("name");
	struct buffer range = range_argument();

	if (munmap(range.addr, range.size))
		fail_errno("munmap");
	if (range.size == buffer->size)
		buffer->name[0] = '\0';
	reply("pages", range.size / PAGE_BYTES);
}

const struct verb buffer_verbs[] = {
	{ "map", run_map, "name! kind size! path thp" },
	{ "unmap", run_unmap, "name! offset size" },
	{ NULL, NULL, NULL }
};
