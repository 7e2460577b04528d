// SPDX-License-Identifier: GPL-2.0-only
/*
 * drive - acts in the guest as the process whose memory a device holds
 *
 * Reads commands from standard input, one a line:
 *
 *	verb [value ...] [key=value ...]
 *
 * A value without a key belongs to the verb's next key in the order of the table
 * at the end of this file, where a key with '!' must be given.  Sizes take K, M
 * or G, double quotes keep spaces together, '#' starts a comment.  Each command
 * is answered by one line of JSON, in order:
 *
 *	{"step": 1, "verb": "touch", "ok": true, "pages": 4096, "minflt": 4096, ..., "ms": 9}
 *	{"step": 2, "verb": "hold", "ok": false, "errno": 2, "error": "no subscriber is ..."}
 *
 * Before the answer of a long command, at most once a second:
 *
 *	{"progress": {"step": 3, "done": 1200, "total": 24576}}
 *
 * Usage: drive [cpu=N|any]   (default 0: madvise drains the LRU caches only of its own CPU)
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "notifier_hold_uapi.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define PAGE_BYTES 4096UL
#define TABLE_BYTES (512 * PAGE_BYTES)	/* what one page table maps */
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))
#define NAME_BYTES 32
#define ARGUMENTS_MAX 16
#define BUFFERS_MAX 32
#define SUBSCRIBERS_MAX 32
#define CGROUP_ROOT "/sys/fs/cgroup"

/* linux/mman.h, newer than some C libraries. */
#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

struct name_value {
	const char *name;
	long value;
};

static const struct name_value policies[] = {
	{ "accept", NH_ACCEPT },
	{ "eagain-mayfail", NH_EAGAIN_MAYFAIL },
	{ "eagain-reclaim", NH_EAGAIN_RECLAIM },
	{ "eagain-always", NH_EAGAIN_ALWAYS },
	{ "errno", NH_ERRNO },
	{ "wait", NH_WAIT_FENCE },
	{ "mutex", NH_WAIT_MUTEX },
	{ "mayfail-trylock", NH_MAYFAIL_TRYLOCK },
	{ NULL, 0 }
};

static const struct name_value whens[] = {
	{ "mayfail", NH_WHEN_MAYFAIL },
	{ "reclaim", NH_WHEN_RECLAIM },
	{ "always", NH_WHEN_ALWAYS },
	{ NULL, 0 }
};

static const struct name_value interfaces[] = {
	{ "register", 0 },
	{ "get", NH_SUB_GET },
	{ NULL, 0 }
};

static const struct name_value hows[] = {
	{ "get", NH_HOW_GET },
	{ "pin", NH_HOW_PIN },
	{ NULL, 0 }
};

static const struct name_value gfps[] = {
	{ "account", NH_GFP_ACCOUNT },
	{ "movable", NH_GFP_MOVABLE },
	{ NULL, 0 }
};

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
	{ NULL, 0 }
};

static const struct name_value errnos[] = {
	{ "EPERM", -EPERM },
	{ "EINTR", -EINTR },
	{ "EIO", -EIO },
	{ "EAGAIN", -EAGAIN },
	{ "ENOMEM", -ENOMEM },
	{ "EFAULT", -EFAULT },
	{ "EBUSY", -EBUSY },
	{ "EINVAL", -EINVAL },
	{ "EDEADLK", -EDEADLK },
	{ NULL, 0 }
};

struct buffer {
	char name[NAME_BYTES];	/* empty: the entry is free */
	char *addr;
	size_t size;
};

struct subscriber {
	char name[NAME_BYTES];	/* empty: the entry is free */
	int fd;
	char *addr;
	size_t size;
};

struct argument {
	const char *key;
	const char *value;
};

struct verb {
	const char *name;
	void (*run)(void);
	const char *keys;
};

static struct buffer buffers[BUFFERS_MAX];
static struct subscriber subscribers[SUBSCRIBERS_MAX];
static int log_fd = -1;

/* The command in work. */
static unsigned long step;
static const struct verb *verb;
static struct argument arguments[ARGUMENTS_MAX];
static size_t argument_count;
static jmp_buf failed;
static int failed_errno;
static char failed_text[512];

/* Its answer, as far as it has come. */
static char answer[16384];
static size_t answer_length;
static double last_output_s;

/* ---- answers ---- */

static void answer_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void answer_text(const char *format, ...)
{
	va_list list;
	int length;

	va_start(list, format);
	length = vsnprintf(answer + answer_length, sizeof(answer) - answer_length, format, list);
	va_end(list);
	if (length > 0)
		answer_length += (size_t)length;
	if (answer_length >= sizeof(answer))
		answer_length = sizeof(answer) - 1;
}

static void answer_string(const char *text)
{
	answer_text("\"");
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			answer_text("\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			answer_text("\\u%04x", *text);
		else
			answer_text("%c", *text);
	}
	answer_text("\"");
}

static void reply(const char *key, uint64_t value)
{
	answer_text(", \"%s\": %llu", key, (unsigned long long)value);
}

static void reply_signed(const char *key, int64_t value)
{
	answer_text(", \"%s\": %lld", key, (long long)value);
}

static void reply_bool(const char *key, bool value)
{
	answer_text(", \"%s\": %s", key, value ? "true" : "false");
}

/* End the command with an error; a handler that calls this holds nothing open. */
static void fail(int error, const char *format, ...)
	__attribute__((noreturn, format(printf, 2, 3)));
static void fail(int error, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(failed_text, sizeof(failed_text), format, list);
	va_end(list);
	failed_errno = error;
	longjmp(failed, 1);
}

static void fail_errno(const char *what) __attribute__((noreturn));
static void fail_errno(const char *what)
{
	int error = errno;

	fail(error, "%s: %s", what, strerror(error));
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void progress(size_t done, size_t total)
{
	double now;

	if (done % 64)
		return;
	now = now_s();
	if (now - last_output_s < 1)
		return;
	last_output_s = now;
	printf("{\"progress\": {\"step\": %lu, \"done\": %zu, \"total\": %zu}}\n",
	       step, done, total);
	fflush(stdout);
}

/* ---- arguments ---- */

static const char *find_argument(const char *key)
{
	size_t i;

	for (i = 0; i < argument_count; i++) {
		if (!strcmp(arguments[i].key, key))
			return arguments[i].value;
	}
	return NULL;
}

static bool parse_size(const char *text, uint64_t *value)
{
	unsigned int shift = 0;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, 0);
	if (errno)
		return false;
	if (*end == 'K')
		shift = 10;
	else if (*end == 'M')
		shift = 20;
	else if (*end == 'G')
		shift = 30;
	if (shift)
		end++;
	if (*end || *value > UINT64_MAX >> shift)
		return false;
	*value <<= shift;
	return true;
}

static uint64_t number_argument(const char *key, uint64_t absent, uint64_t min, uint64_t max)
{
	const char *text = find_argument(key);
	uint64_t value;

	if (!text)
		return absent;
	if (!parse_size(text, &value))
		fail(EINVAL, "%s=%s is not a number with K, M or G", key, text);
	if (value < min || value > max)
		fail(ERANGE, "%s=%s is not within %llu..%llu", key, text,
		     (unsigned long long)min, (unsigned long long)max);
	return value;
}

static long choice_argument(const char *key, const struct name_value *choices, const char *absent)
{
	const char *text = find_argument(key);
	const struct name_value *choice;
	char known[400] = "";

	if (!text)
		text = absent;
	for (choice = choices; choice->name; choice++) {
		if (!strcmp(choice->name, text))
			return choice->value;
		strncat(known, " ", sizeof(known) - strlen(known) - 1);
		strncat(known, choice->name, sizeof(known) - strlen(known) - 1);
	}
	fail(EINVAL, "%s=%s is not one of%s", key, text, known);
}

/* A name from the table, which stands for -errno, or a number as the kernel is to see it. */
static int errno_argument(const char *key)
{
	const char *text = find_argument(key);
	long value;
	char *end;

	if (!text)
		return 0;
	value = strtol(text, &end, 10);
	if (*end || end == text)
		return (int)choice_argument(key, errnos, "");
	if (value < -4095 || value > 4095)
		fail(ERANGE, "%s=%s is not within -4095..4095", key, text);
	return (int)value;
}

static struct buffer *find_buffer(const char *name)
{
	size_t i;

	for (i = 0; i < BUFFERS_MAX; i++) {
		if (buffers[i].name[0] && !strcmp(buffers[i].name, name))
			return &buffers[i];
	}
	return NULL;
}

static struct buffer *buffer_argument(const char *key)
{
	const char *name = find_argument(key);
	struct buffer *buffer = find_buffer(name);

	if (!buffer)
		fail(ENOENT, "no buffer is named \"%s\"", name);
	return buffer;
}

static struct subscriber *find_subscriber(const char *name)
{
	size_t i;

	for (i = 0; i < SUBSCRIBERS_MAX; i++) {
		if (subscribers[i].name[0] && !strcmp(subscribers[i].name, name))
			return &subscribers[i];
	}
	return NULL;
}

static struct subscriber *subscriber_argument(void)
{
	const char *name = find_argument("name");
	struct subscriber *subscriber = find_subscriber(name);

	if (!subscriber)
		fail(ENOENT, "no subscriber is named \"%s\"", name);
	return subscriber;
}

static const char *new_name(void)
{
	const char *name = find_argument("name");

	if (!*name || strlen(name) >= NAME_BYTES)
		fail(EINVAL, "a name has 1 to %d characters", NAME_BYTES - 1);
	if (find_buffer(name) || find_subscriber(name))
		fail(EEXIST, "\"%s\" exists", name);
	return name;
}

/* The part of a buffer that the keys offset and size select; all of it without them. */
static struct buffer range_argument(void)
{
	const struct buffer *buffer = buffer_argument("name");
	struct buffer range = *buffer;
	uint64_t offset = number_argument("offset", 0, 0, buffer->size - PAGE_BYTES);

	range.addr += offset;
	range.size = buffer->size - offset;
	range.size = number_argument("size", range.size, PAGE_BYTES, range.size);
	if ((offset | range.size) % PAGE_BYTES)
		fail(EINVAL, "offset and size are multiples of %lu", PAGE_BYTES);
	return range;
}

static size_t size_argument(const char *key)
{
	uint64_t size = number_argument(key, 0, PAGE_BYTES, NH_BUFFER_MAX);

	if (size % PAGE_BYTES)
		fail(EINVAL, "%s is a multiple of %lu", key, PAGE_BYTES);
	return size;
}

/* ---- files of proc, sysfs and cgroupfs ---- */

/* Returns 0, or errno after a failure. */
static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		error = errno;
	close(fd);
	return error;
}

static void must_write(const char *path, const char *text)
{
	int error = write_file(path, text);

	if (error)
		fail(error, "writing \"%s\" to %s: %s", text, path, strerror(error));
}

/* Read a whole small file; false if there is none. */
static bool read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t got;

	if (fd < 0)
		return false;
	while (length < size - 1 && (got = read(fd, text + length, size - 1 - length)) > 0)
		length += (size_t)got;
	close(fd);
	text[length] = '\0';
	return true;
}

/* The sum of the values of all "key value" lines whose key begins with `prefix`. */
static uint64_t sum_lines(const char *text, const char *prefix, bool whole_key)
{
	size_t length = strlen(prefix);
	uint64_t sum = 0;

	while (text && *text) {
		const char *space = strchr(text, ' ');

		if (!space)
			break;
		if (!strncmp(text, prefix, length) &&
		    (!whole_key || (size_t)(space - text) == length))
			sum += strtoull(space, NULL, 10);
		text = strchr(space, '\n');
		if (text)
			text++;
	}
	return sum;
}

static const char *cgroup_path(const char *key, const char *file)
{
	static char path[PATH_MAX];
	const char *name = find_argument(key);

	if (!*name || strchr(name, '/') || name[0] == '.')
		fail(EINVAL, "\"%s\" is no name of a cgroup", name);
	snprintf(path, sizeof(path), "%s/%s%s%s", CGROUP_ROOT, name, *file ? "/" : "", file);
	return path;
}

/* ---- buffers ---- */

struct faults {
	long minor;
	long major;
};

static struct faults read_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (struct faults){ usage.ru_minflt, usage.ru_majflt };
}

static void reply_faults(struct faults before)
{
	struct faults after = read_faults();

	reply("minflt", (uint64_t)(after.minor - before.minor));
	reply("majflt", (uint64_t)(after.major - before.major));
}

/*
 * Map at the start of a page table of its own, with nothing else in its last one:
 * the kernel widens some ranges to whole page tables (Linux 6.1, __split_huge_pmd,
 * when a VMA beside ours changes), and it would merge neighbours into one VMA.
 */
static void *map_apart(size_t size, int flags, int fd)
{
	size_t span = (size + TABLE_BYTES - 1) / TABLE_BYTES * TABLE_BYTES;
	uintptr_t base;

	base = (uintptr_t)mmap(NULL, span + 2 * TABLE_BYTES, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if ((void *)base == MAP_FAILED)
		return MAP_FAILED;
	base = (base / TABLE_BYTES + 1) * TABLE_BYTES;
	return mmap((void *)base, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
}

static void *map_anonymous(size_t size, int sharing)
{
	return map_apart(size, sharing | MAP_ANONYMOUS, -1);
}

static void *map_file(const char *path, size_t size)
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
	addr = map_apart(size, MAP_SHARED, fd);
	close(fd);
	return addr;
}

static struct buffer *new_buffer(const char *name, void *addr, size_t size)
{
	size_t i;

	if (addr == MAP_FAILED)
		fail_errno("mmap");
	for (i = 0; i < BUFFERS_MAX && buffers[i].name[0]; i++)
		;
	if (i == BUFFERS_MAX) {
		munmap(addr, size);
		fail(ENOSPC, "there are %d buffers", BUFFERS_MAX);
	}
	strcpy(buffers[i].name, name);
	buffers[i].addr = addr;
	buffers[i].size = size;
	return &buffers[i];
}

static void run_map(void)
{
	const char *name = new_name();
	const char *kind = find_argument("kind");
	const char *path = find_argument("path");
	size_t size = size_argument("size");
	bool huge = number_argument("thp", 0, 0, 1);
	struct buffer *buffer;

	if (!!path != !strcmp(kind, "file"))
		fail(EINVAL, "path= goes with kind=file");
	if (!strcmp(kind, "anon"))
		buffer = new_buffer(name, map_anonymous(size, MAP_PRIVATE), size);
	else if (!strcmp(kind, "shmem"))
		buffer = new_buffer(name, map_anonymous(size, MAP_SHARED), size);
	else if (!strcmp(kind, "file"))
		buffer = new_buffer(name, map_file(path, size), size);
	else
		fail(EINVAL, "kind=%s is not one of anon shmem file", kind);
	/* Reclaim does not unmap a huge page with an extra reference. */
	if (!huge)
		madvise(buffer->addr, size, MADV_NOHUGEPAGE);
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

/* Write the pattern of `seed` as a process does; pages are counted from the buffer's first. */
static void run_touch(void)
{
	const struct buffer *buffer = buffer_argument("name");
	struct buffer range = range_argument();
	uint64_t seed = number_argument("seed", 1, 0, UINT32_MAX);
	size_t first = (size_t)(range.addr - buffer->addr) / PAGE_BYTES;
	size_t pages = range.size / PAGE_BYTES;
	struct faults before = read_faults();
	size_t page, word;

	for (page = 0; page < pages; page++) {
		volatile uint64_t *words = (uint64_t *)(range.addr + page * PAGE_BYTES);

		for (word = 0; word < PAGE_WORDS; word++)
			words[word] = nh_pattern(seed, first + page, word);
		progress(page, pages);
	}
	reply("pages", pages);
	reply_faults(before);
}

static void run_user_check(void)
{
	const struct buffer *buffer = buffer_argument("name");
	struct buffer range = range_argument();
	uint64_t seed = number_argument("seed", 1, 0, UINT32_MAX);
	size_t first = (size_t)(range.addr - buffer->addr) / PAGE_BYTES;
	size_t pages = range.size / PAGE_BYTES;
	struct faults before = read_faults();
	size_t page, word;
	size_t bad = 0;

	for (page = 0; page < pages; page++) {
		const volatile uint64_t *words = (uint64_t *)(range.addr + page * PAGE_BYTES);

		for (word = 0; word < PAGE_WORDS; word++) {
			if (words[word] != nh_pattern(seed, first + page, word)) {
				bad++;
				break;
			}
		}
		progress(page, pages);
	}
	reply("pages", pages);
	reply("bad", bad);
	reply_faults(before);
}

static void run_advise(void)
{
	struct buffer range = range_argument();
	long advice = choice_argument("advice", advices, "");

	if (madvise(range.addr, range.size, (int)advice))
		fail_errno("madvise");
}

static void run_protect(void)
{
	struct buffer range = range_argument();
	long protection = choice_argument("prot", protections, "");

	if (mprotect(range.addr, range.size, (int)protection))
		fail_errno("mprotect");
}

/* ---- subscribers ---- */

static void must_ioctl(const struct subscriber *subscriber, unsigned long request, void *argument)
{
	if (ioctl(subscriber->fd, request, argument))
		fail_errno(verb->name);
}

static void run_subscribe(void)
{
	const char *name = new_name();
	const struct buffer *buffer = buffer_argument("buffer");
	struct nh_subscribe argument = {
		.addr = (uintptr_t)buffer->addr,
		.len = buffer->size,
		.policy = (uint32_t)choice_argument("policy", policies, ""),
		.error = errno_argument("errno"),
		.when = (uint32_t)choice_argument("when", whens, "mayfail"),
		.wait_ms = (uint32_t)number_argument("wait_ms", 500, 0, NH_WAIT_MS_MAX),
		.flags = (uint32_t)choice_argument("interface", interfaces, "register"),
	};
	size_t i;
	int fd;

	if (number_argument("end", 1, 0, 1))
		argument.flags |= NH_SUB_END;
	for (i = 0; i < SUBSCRIBERS_MAX && subscribers[i].name[0]; i++)
		;
	if (i == SUBSCRIBERS_MAX)
		fail(ENOSPC, "there are %d subscribers", SUBSCRIBERS_MAX);
	fd = open("/dev/notifier_hold", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail_errno("/dev/notifier_hold");
	if (ioctl(fd, NH_SUBSCRIBE, &argument)) {
		int error = errno;

		close(fd);
		fail(error, "subscribe: %s", strerror(error));
	}
	strcpy(subscribers[i].name, name);
	subscribers[i].fd = fd;
	subscribers[i].addr = buffer->addr;
	subscribers[i].size = buffer->size;
	reply("subscriber", argument.subscriber);
}

static void run_policy(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_set_policy argument = {
		.policy = (uint32_t)choice_argument("policy", policies, ""),
		.error = errno_argument("errno"),
		.when = (uint32_t)choice_argument("when", whens, "mayfail"),
		.wait_ms = (uint32_t)number_argument("wait_ms", 500, 0, NH_WAIT_MS_MAX),
	};

	must_ioctl(subscriber, NH_SET_POLICY, &argument);
}

static void run_unsubscribe(void)
{
	struct subscriber *subscriber = subscriber_argument();

	close(subscriber->fd);
	subscriber->name[0] = '\0';
}

static void run_hold(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_hold argument = { .how = (uint32_t)choice_argument("how", hows, "get") };

	must_ioctl(subscriber, NH_HOLD_PAGES, &argument);
	reply("pages", argument.pages);
}

static void run_release(void)
{
	struct nh_hold argument = {};

	must_ioctl(subscriber_argument(), NH_PUT_PAGES, &argument);
	reply("pages", argument.pages);
}

static void run_device_write(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_device argument = { .seed = number_argument("seed", 1, 0, UINT32_MAX) };

	must_ioctl(subscriber, NH_DEVICE_WRITE, &argument);
	reply("pages", argument.pages);
}

static void run_device_check(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_device argument = { .seed = number_argument("seed", 1, 0, UINT32_MAX) };

	must_ioctl(subscriber, NH_DEVICE_CHECK, &argument);
	reply("pages", argument.pages);
	reply("bad", argument.bad);
}

/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT 0x8000000000000000ULL
#define PAGEMAP_SWAPPED 0x4000000000000000ULL

static void reply_pagemap(const char *addr, size_t size)
{
	size_t pages = size / PAGE_BYTES;
	size_t present = 0, swapped = 0;
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
		}
	}
	close(fd);
	reply("pages", pages);
	reply("present", present);
	reply("swapped", swapped);
}

/* Of a buffer what the page table says, of a subscriber also what struct page says. */
static void run_pages(void)
{
	const struct buffer *buffer = find_buffer(find_argument("name"));
	const struct subscriber *subscriber;
	struct nh_pages argument = {};

	if (buffer) {
		reply_pagemap(buffer->addr, buffer->size);
		return;
	}
	subscriber = subscriber_argument();
	reply_pagemap(subscriber->addr, subscriber->size);
	must_ioctl(subscriber, NH_GET_PAGES, &argument);
	reply("held", argument.held);
	reply("mapped", argument.mapped);
	reply("swapcache", argument.swapcache);
	reply("dirty", argument.dirty);
	reply("writeback", argument.writeback);
	reply("pinned", argument.pinned);
	reply("lru", argument.lru);
	reply("active", argument.active);
	reply("buddy", argument.buddy);
	reply("refs_min", argument.refs_min);
	reply("refs_max", argument.refs_max);
}

static void run_same(void)
{
	struct nh_same argument = {};

	must_ioctl(subscriber_argument(), NH_GET_SAME, &argument);
	reply("same", argument.same);
	reply("differ", argument.differ);
	reply("absent", argument.absent);
}

static void run_stats(void)
{
	struct nh_stats argument = {};

	must_ioctl(subscriber_argument(), NH_GET_STATS, &argument);
	reply("starts", argument.starts);
	reply("ends", argument.ends);
	reply("own", argument.own);
	reply("mayfail", argument.mayfail);
	reply("direct", argument.direct);
	reply("refused", argument.refused);
	reply("waits", argument.waits);
	reply("timeouts", argument.timeouts);
}

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

static void run_build(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_build argument = {
		.how = (uint32_t)choice_argument("how", hows, "get"),
		.alloc = (uint32_t)number_argument("alloc", 1, 0, 64),
	};

	must_ioctl(subscriber, NH_BUILD, &argument);
	reply("pages", argument.pages);
	reply("allocated", argument.allocated);
	reply("failed", argument.failed);
	reply("callbacks", argument.callbacks);
	reply("timeouts", argument.timeouts);
	reply_signed("result", argument.result);
}

/* ---- pressure ---- */

/* Touch memory of our own, one word a page; kept only under a name. */
static void run_charge(void)
{
	const char *name = find_argument("name") ? new_name() : NULL;
	size_t size = size_argument("size");
	size_t pages = size / PAGE_BYTES;
	struct faults before = read_faults();
	char *addr = map_anonymous(size, MAP_PRIVATE);
	size_t page;

	if (addr == MAP_FAILED)
		fail_errno("mmap");
	madvise(addr, size, MADV_NOHUGEPAGE);
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

static void write_limit(const char *key, const char *file)
{
	const char *text = find_argument(key);
	char number[32];

	if (!text)
		return;
	if (strcmp(text, "max")) {
		snprintf(number, sizeof(number), "%llu",
			 (unsigned long long)number_argument(key, 0, 0, UINT64_MAX));
		text = number;
	}
	must_write(cgroup_path("name", file), text);
}

/* Create it if need be, set its limits, move in. */
static void run_cgroup(void)
{
	must_write(CGROUP_ROOT "/cgroup.subtree_control", "+memory");
	if (mkdir(cgroup_path("name", ""), 0755) && errno != EEXIST)
		fail_errno(cgroup_path("name", ""));
	write_limit("max", "memory.max");
	write_limit("high", "memory.high");
	write_limit("swap_max", "memory.swap.max");
	must_write(cgroup_path("name", "cgroup.procs"), "0");
}

static void run_cgroup_set(void)
{
	const char *key = find_argument("key");
	const char *value = find_argument("value");
	char number[32];
	uint64_t size;

	if (strchr(key, '/'))
		fail(EINVAL, "\"%s\" is no name of a cgroup file", key);
	if (parse_size(value, &size)) {
		snprintf(number, sizeof(number), "%llu", (unsigned long long)size);
		value = number;
	}
	must_write(cgroup_path("name", key), value);
}

static void run_cgroup_stat(void)
{
	static const char *const stats[] = {
		"anon", "file", "shmem", "kernel", "swapcached", "pgscan", "pgsteal",
		"pgscan_direct", "pgsteal_direct", "pgscan_kswapd", "pgmajfault",
	};
	static const char *const events[] = { "high", "max", "oom", "oom_kill" };
	static char text[16384];
	size_t i;

	if (!read_file(cgroup_path("name", "memory.current"), text, sizeof(text)))
		fail(ENOENT, "no cgroup is named \"%s\"", find_argument("name"));
	reply("current", strtoull(text, NULL, 10));
	if (read_file(cgroup_path("name", "memory.swap.current"), text, sizeof(text)))
		reply("swap_current", strtoull(text, NULL, 10));
	if (read_file(cgroup_path("name", "memory.stat"), text, sizeof(text))) {
		for (i = 0; i < ARRAY_SIZE(stats); i++)
			reply(stats[i], sum_lines(text, stats[i], true));
	}
	if (read_file(cgroup_path("name", "memory.events"), text, sizeof(text))) {
		answer_text(", \"events\": {");
		for (i = 0; i < ARRAY_SIZE(events); i++)
			answer_text("%s\"%s\": %llu", i ? ", " : "", events[i],
				    (unsigned long long)sum_lines(text, events[i], true));
		answer_text("}");
	}
}

static void run_cgroup_leave(void)
{
	must_write(CGROUP_ROOT "/cgroup.procs", "0");
}

static void run_cgroup_remove(void)
{
	if (rmdir(cgroup_path("name", "")))
		fail_errno(cgroup_path("name", ""));
}

/* EAGAIN: the kernel could not reclaim as much, which is an answer and not an error. */
static void run_reclaim(void)
{
	unsigned long long bytes = number_argument("bytes", 0, PAGE_BYTES, UINT64_MAX);
	char request[64];
	int error;

	if (find_argument("swappiness"))
		snprintf(request, sizeof(request), "%llu swappiness=%llu", bytes,
			 (unsigned long long)number_argument("swappiness", 0, 0, 200));
	else
		snprintf(request, sizeof(request), "%llu", bytes);
	error = write_file(cgroup_path("cgroup", "memory.reclaim"), request);
	if (error && error != EAGAIN)
		fail(error, "writing \"%s\" to memory.reclaim: %s", request, strerror(error));
	reply_bool("short", error == EAGAIN);
}

/* ---- the machine ---- */

static void run_vmstat(void)
{
	static const char *const counters[] = {
		"pgscan_direct", "pgscan_kswapd", "pgscan_khugepaged", "pgsteal_direct",
		"pgsteal_kswapd", "pgscan_anon", "pgscan_file", "pgsteal_anon", "pgsteal_file",
		"pswpin", "pswpout", "pgmajfault", "oom_kill", "nr_foll_pin_acquired",
		"nr_foll_pin_released", "nr_free_pages", "pgscan_direct_throttle",
	};
	static char text[16384];
	size_t i;

	if (!read_file("/proc/vmstat", text, sizeof(text)))
		fail_errno("/proc/vmstat");
	reply("allocstall", sum_lines(text, "allocstall_", false));
	for (i = 0; i < ARRAY_SIZE(counters); i++)
		reply(counters[i], sum_lines(text, counters[i], true));
	if (read_file("/sys/kernel/warn_count", text, sizeof(text)))
		reply("warn_count", strtoull(text, NULL, 10));
	if (read_file("/proc/sys/kernel/tainted", text, sizeof(text)))
		reply("tainted", strtoull(text, NULL, 10));
}

/* The pid of the process or kernel thread with this name, or 0. */
static pid_t find_process(const char *name)
{
	struct dirent *entry;
	pid_t pid = 0;
	DIR *proc = opendir("/proc");

	while (proc && !pid && (entry = readdir(proc))) {
		char path[NAME_MAX + 16], comm[64];

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		if (!read_file(path, comm, sizeof(comm)))
			continue;
		comm[strcspn(comm, "\n")] = '\0';
		if (!strcmp(comm, name))
			pid = atoi(entry->d_name);
	}
	if (proc)
		closedir(proc);
	return pid;
}

/*
 * Let kswapd run only on this CPU and give way there.  It is woken by allocations
 * that are not ours (those of the swap device's driver), and otherwise takes half
 * of the pages before direct reclaim gets to them.  Not SCHED_IDLE: it may hold
 * what the others wait for.
 */
static void run_kswapd(void)
{
	uint64_t cpu = number_argument("cpu", 0, 0, CPU_SETSIZE - 1);
	pid_t pid = find_process("kswapd0");
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (!pid)
		fail(ESRCH, "there is no kswapd0");
	if (sched_setaffinity(pid, sizeof(set), &set) ||
	    setpriority(PRIO_PROCESS, (id_t)pid, 19))
		fail_errno("kswapd0");
	reply("pid", (uint64_t)pid);
}

static void run_write(void)
{
	must_write(find_argument("path"), find_argument("value"));
}

static void open_log(void)
{
	if (log_fd < 0)
		log_fd = open("/dev/notifier_hold_log", O_RDONLY | O_CLOEXEC);
	if (log_fd < 0)
		fail_errno("/dev/notifier_hold_log");
}

static void run_log(void)
{
	struct nh_log_header header;

	open_log();
	if (pread(log_fd, &header, sizeof(header), 0) != sizeof(header))
		fail(EIO, "/dev/notifier_hold_log: short read");
	reply("abi", header.abi);
	reply("subscribers", header.subscribers);
	reply("count", header.count);
	reply("lost", header.lost);
	reply("capacity", header.capacity);
}

static void run_log_reset(void)
{
	open_log();
	if (ioctl(log_fd, NH_LOG_RESET))
		fail_errno("log-reset");
}

static void run_quench(void)
{
	uint32_t value = (uint32_t)number_argument("value", 1, 0, 1);

	open_log();
	if (ioctl(log_fd, NH_LOG_QUENCH, &value))
		fail_errno("quench");
}

/* The same place in the event log, by the number of this step, and in the kernel log. */
static void run_mark(void)
{
	uint64_t number = step;
	char line[256];

	open_log();
	if (ioctl(log_fd, NH_LOG_MARK, &number))
		fail_errno("mark");
	snprintf(line, sizeof(line), "<6>drive: mark %lu %s\n", step, find_argument("text"));
	must_write("/dev/kmsg", line);
}

static void run_quit(void)
{
}

/* ---- commands ---- */

/* Keys in the order of values that come without a key; '!' marks what must be given. */
static const struct verb verbs[] = {
	{ "map", run_map, "name! kind! size! path thp" },
	{ "unmap", run_unmap, "name! offset size" },
	{ "touch", run_touch, "name! seed offset size" },
	{ "user-write", run_touch, "name! seed offset size" },
	{ "user-check", run_user_check, "name! seed offset size" },
	{ "advise", run_advise, "name! advice! offset size" },
	{ "protect", run_protect, "name! prot! offset size" },
	{ "subscribe", run_subscribe, "name! buffer! policy! errno when wait_ms end interface" },
	{ "policy", run_policy, "name! policy! errno when wait_ms" },
	{ "unsubscribe", run_unsubscribe, "name!" },
	{ "hold", run_hold, "name! how" },
	{ "release", run_release, "name!" },
	{ "device-write", run_device_write, "name! seed" },
	{ "device-check", run_device_check, "name! seed" },
	{ "pages", run_pages, "name!" },
	{ "same", run_same, "name!" },
	{ "stats", run_stats, "name!" },
	{ "kalloc", run_kalloc, "name! gfp! pages stop_allocstall stop_callbacks limit_ms" },
	{ "build", run_build, "name! how alloc" },
	{ "charge", run_charge, "size! name" },
	{ "cgroup", run_cgroup, "name! max high swap_max" },
	{ "cgroup-set", run_cgroup_set, "name! key! value!" },
	{ "cgroup-stat", run_cgroup_stat, "name!" },
	{ "cgroup-leave", run_cgroup_leave, "" },
	{ "cgroup-remove", run_cgroup_remove, "name!" },
	{ "reclaim", run_reclaim, "cgroup! bytes! swappiness" },
	{ "vmstat", run_vmstat, "" },
	{ "kswapd", run_kswapd, "cpu" },
	{ "write", run_write, "path! value!" },
	{ "log", run_log, "" },
	{ "log-reset", run_log_reset, "" },
	{ "quench", run_quench, "value" },
	{ "mark", run_mark, "text!" },
	{ "quit", run_quit, "" },
};

/* Cut the next word off `*rest`, in place; NULL at the end of the line. */
static char *next_word(char **rest)
{
	char *from = *rest;
	char *word, *to;
	bool quoted = false;

	while (*from == ' ' || *from == '\t')
		from++;
	if (!*from || *from == '#')
		return NULL;
	word = from;
	to = from;
	for (; *from && (quoted || (*from != ' ' && *from != '\t')); from++) {
		if (*from == '"')
			quoted = !quoted;
		else
			*to++ = *from;
	}
	if (quoted)
		fail(EINVAL, "a quote is not closed");
	if (*from)
		from++;
	*to = '\0';
	*rest = from;
	return word;
}

/* Find `word` of `length` among the verb's keys; returns the key as kept for good, or NULL. */
static const char *find_key(char keys[][NAME_BYTES], size_t count, const char *word, size_t length)
{
	size_t i;

	for (i = 0; i < count; i++) {
		if (strlen(keys[i]) == length && !strncmp(keys[i], word, length))
			return keys[i];
	}
	return NULL;
}

static void parse_arguments(char *rest)
{
	static char keys[ARGUMENTS_MAX][NAME_BYTES];
	bool required[ARGUMENTS_MAX] = {};
	const char *text = verb->keys;
	size_t count = 0, next = 0, i;
	char *word;

	while (*text) {
		size_t length = strcspn(text, " !");

		memcpy(keys[count], text, length);
		keys[count][length] = '\0';
		text += length;
		required[count++] = *text == '!';
		text += strspn(text, " !");
	}
	while ((word = next_word(&rest))) {
		char *equals = strchr(word, '=');
		struct argument *argument = &arguments[argument_count];

		if (equals) {
			argument->key = find_key(keys, count, word, (size_t)(equals - word));
			argument->value = equals + 1;
			if (!argument->key)
				fail(EINVAL, "%s has no key \"%.*s\"; its keys: %s", verb->name,
				     (int)(equals - word), word, *verb->keys ? verb->keys : "none");
		} else {
			while (next < count && find_argument(keys[next]))
				next++;
			if (next == count)
				fail(EINVAL, "%s: \"%s\" is one value too many; its keys: %s",
				     verb->name, word, *verb->keys ? verb->keys : "none");
			argument->key = keys[next];
			argument->value = word;
		}
		if (find_argument(argument->key))
			fail(EINVAL, "%s: %s is given twice", verb->name, argument->key);
		argument_count++;
	}
	for (i = 0; i < count; i++) {
		if (required[i] && !find_argument(keys[i]))
			fail(EINVAL, "%s needs %s=", verb->name, keys[i]);
	}
}

static const struct verb *find_verb(const char *name)
{
	char known[512] = "";
	size_t i;

	for (i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
		strncat(known, " ", sizeof(known) - strlen(known) - 1);
		strncat(known, verbs[i].name, sizeof(known) - strlen(known) - 1);
	}
	fail(EINVAL, "no verb \"%s\"; the verbs:%s", name, known);
}

/* Run one line and answer it; returns false after quit. */
static bool obey(char *line)
{
	static const struct verb unknown = { "?", run_quit, "" };
	static double start_s;	/* not on the stack: it has to outlive a longjmp */
	char *rest = line;
	char *word;

	verb = &unknown;
	argument_count = 0;
	answer_length = 0;
	if (setjmp(failed)) {
		answer_length = 0;
		answer_text("{\"step\": %lu, \"verb\": \"%s\", \"ok\": false, ", step, verb->name);
		answer_text("\"errno\": %d, \"error\": ", failed_errno);
		answer_string(failed_text);
	} else {
		word = next_word(&rest);
		if (!word)
			return true;	/* an empty line or a comment is no step */
		step++;
		start_s = now_s();
		last_output_s = start_s;
		verb = find_verb(word);
		parse_arguments(rest);
		answer_text("{\"step\": %lu, \"verb\": \"%s\", \"ok\": true", step, verb->name);
		verb->run();
		reply("ms", (uint64_t)((now_s() - start_s) * 1000));
	}
	puts(strcat(answer, "}"));
	fflush(stdout);
	return verb->run != run_quit || verb == &unknown;
}

static int pin_to_cpu(const char *text)
{
	uint64_t cpu;
	cpu_set_t set;

	if (!strcmp(text, "any"))
		return 0;
	if (!parse_size(text, &cpu) || cpu >= CPU_SETSIZE) {
		errno = EINVAL;
		return -1;
	}
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

int main(int argc, char **argv)
{
	const char *cpu = "0";
	char *line = NULL;
	size_t size = 0;
	ssize_t length;

	if (argc == 2 && !strncmp(argv[1], "cpu=", 4)) {
		cpu = argv[1] + 4;
	} else if (argc != 1) {
		fprintf(stderr, "usage: drive [cpu=N|any]\n");
		return 2;
	}
	if (pin_to_cpu(cpu)) {
		fprintf(stderr, "drive: cpu=%s: %s\n", cpu, strerror(errno));
		return 2;
	}
	while ((length = getline(&line, &size, stdin)) > 0) {
		if (line[length - 1] == '\n')
			line[length - 1] = '\0';
		if (!obey(line))
			break;
	}
	return 0;
}
