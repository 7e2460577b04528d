// SPDX-License-Identifier: GPL-2.0-only
/* The machine as a whole: counters, kswapd, files of /proc and /sys. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "drive.h"

/* 0: lockdep switched itself off at its first report; -1: the kernel has no lockdep. */
static int read_debug_locks(void)
{
	char text[FILE_BYTES];
	const char *found;

	if (!read_file("/proc/lockdep_stats", text, sizeof(text)))
		return -1;
	found = strstr(text, "debug_locks:");
	return found ? atoi(found + strlen("debug_locks:")) : -1;
}

static void run_vmstat(void)
{
	static const char *const counters[] = {
		"pgscan_direct", "pgscan_kswapd", "pgscan_khugepaged", "pgsteal_direct",
		"pgsteal_kswapd", "pgscan_anon", "pgscan_file", "pgsteal_anon", "pgsteal_file",
		"pswpin", "pswpout", "pgmajfault", "oom_kill", "nr_foll_pin_acquired",
		"nr_foll_pin_released", "nr_free_pages", "pgscan_direct_throttle",
		"nr_isolated_anon", "nr_isolated_file",
	};
	char text[FILE_BYTES];
	size_t i;

	/* Without this the per-CPU counts are missing, up to 125 on each CPU. */
	write_file("/proc/sys/vm/stat_refresh", "1");
	if (!read_file("/proc/vmstat", text, sizeof(text)))
		fail_errno("/proc/vmstat");
	reply("allocstall", sum_lines(text, "allocstall_", false));
	for (i = 0; i < ARRAY_SIZE(counters); i++)
		reply(counters[i], sum_lines(text, counters[i], true));
	if (read_file("/sys/kernel/warn_count", text, sizeof(text)))
		reply("warn_count", strtoull(text, NULL, 10));
	/* The kernel's own state: -1 is a kernel without lockdep. */
	if (read_file("/proc/sys/kernel/tainted", text, sizeof(text)))
		reply("taint", strtoull(text, NULL, 10));
	reply_signed("debug_locks", read_debug_locks());
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
 * Let kswapd run only on this CPU, with low priority.  Allocations that are not ours
 * (those of the swap device's driver) wake it, and otherwise it takes half of the
 * pages before direct reclaim gets to them.  Not SCHED_IDLE: kswapd may hold what
 * other tasks wait for.
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

/* Wait until the number in a file, or after a key in the file, is at least `min`. */
static void run_await(void)
{
	const char *path = find_argument("path");
	const char *key = find_argument("key");
	uint64_t min = number_argument("min", 1, 0, UINT64_MAX);
	double end_s = now_s() + AWAIT_LIMIT_MS / 1000.0;
	const struct timespec pause = { .tv_nsec = AWAIT_PAUSE_NS };
	char text[FILE_BYTES];
	uint64_t value;

	for (;;) {
		if (!read_file(path, text, sizeof(text)))
			fail_errno(path);
		value = key ? sum_lines(text, key, true) : strtoull(text, NULL, 0);
		if (value >= min)
			break;
		if (now_s() > end_s)
			fail(ETIMEDOUT, "%s: %llu after %d ms, %llu wanted", path,
			     (unsigned long long)value, AWAIT_LIMIT_MS, (unsigned long long)min);
		nanosleep(&pause, NULL);
	}
	reply("value", value);
}

/* The program must not write to standard output, which carries only our answers. */
static void run_program(char *const argv[])
{
	posix_spawn_file_actions_t actions;
	int status = 0, error;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
	error = posix_spawn(&pid, argv[0], &actions, NULL, argv, NULL);
	posix_spawn_file_actions_destroy(&actions);
	if (error)
		fail(error, "%s: %s", argv[0], strerror(error));
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (status)
		fail(EIO, "%s: wait status %#x", argv[0], (unsigned int)status);
}

/* An empty file system on a RAM disk, where files have pages that reclaim can write back. */
static void run_filesystem(void)
{
	static char *const argv[] = { "/bin/busybox", "mke2fs", "-F", "/dev/ram0", NULL };

	run_program(argv);
	mkdir("/mnt", 0755);
	if (mount("/dev/ram0", "/mnt", "ext2", MS_NOSUID | MS_NODEV, ""))
		fail_errno("/mnt");
}

const struct verb machine_verbs[] = {
	{ "vmstat", run_vmstat, "" },
	{ "kswapd", run_kswapd, "cpu" },
	{ "await", run_await, "path! key min" },
	{ "filesystem", run_filesystem, "" },
	{ "write", run_write, "path! value!" },
	{ NULL, NULL, NULL }
};
