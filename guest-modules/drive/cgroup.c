// SPDX-License-Identifier: GPL-2.0-only
/* The memory cgroup that the driver works in. */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drive.h"

#define CGROUP_ROOT "/sys/fs/cgroup"

static const char *cgroup_path(const char *key, const char *file)
{
	static __thread char path[PATH_MAX];
	const char *name = find_argument(key);

	if (!*name || strchr(name, '/') || name[0] == '.')
		fail(EINVAL, "\"%s\" is not the name of a cgroup", name);
	snprintf(path, sizeof(path), "%s/%s%s%s", CGROUP_ROOT, name, *file ? "/" : "", file);
	return path;
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
		fail(EINVAL, "\"%s\" is not the name of a cgroup file", key);
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
	char text[FILE_BYTES];
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

/* EAGAIN: the kernel could not reclaim that much, which is an answer and not an error. */
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

const struct verb cgroup_verbs[] = {
	{ "cgroup", run_cgroup, "name! max high swap_max" },
	{ "cgroup-set", run_cgroup_set, "name! key! value!" },
	{ "cgroup-stat", run_cgroup_stat, "name!" },
	{ "reclaim", run_reclaim, "cgroup! bytes! swappiness" },
	{ NULL, NULL, NULL }
};
