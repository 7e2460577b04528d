// SPDX-License-Identifier: GPL-2.0-only
/* What happens once, before PID 1 serves the host. A step that fails is reported and skipped. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

#define ABI 2
#define SWAP_DISK "/dev/vda"
#define MODULES "/modules"

static char swap_state[64] = "none";
static char modules_state[192] = "ok";

struct mount_point {
	const char *path, *type, *options;
	bool needed;
};

static const struct mount_point MOUNTS[] = {
	{ "/proc", "proc", "", true },
	{ "/sys", "sysfs", "", true },
	{ "/dev", "devtmpfs", "mode=0755", true },
	{ "/dev/pts", "devpts", "mode=0620,ptmxmode=0666", false },
	{ "/dev/shm", "tmpfs", "mode=1777", false },
	{ "/tmp", "tmpfs", "mode=1777", true },
	{ "/run", "tmpfs", "mode=0755", true },
	{ "/sys/fs/cgroup", "cgroup2", "", false },
	{ "/sys/kernel/debug", "debugfs", "", false },
	{ "/sys/kernel/tracing", "tracefs", "", false },
};

void setup_mounts(void)
{
	int console;

	for (size_t i = 0; i < ARRAY_SIZE(MOUNTS); i++) {
		const struct mount_point *m = &MOUNTS[i];
		unsigned long flags = MS_NOSUID;

		if (strcmp(m->type, "devtmpfs"))
			flags |= MS_NODEV;
		mkdir(m->path, 0755);
		if (mount(m->type, m->path, m->type, flags, m->options) < 0 && m->needed)
			say("mount %s: %s", m->path, strerror(errno));
	}
	/* The archive's root is a tmpfs that everybody may write to, which no program expects. */
	if (chmod("/", 0755) < 0)
		say("chmod /: %s", strerror(errno));
	/* The kernel gave us /dev/console from the archive, or nothing when there is no console. */
	console = open("/dev/console", O_RDWR);
	if (console < 0)
		console = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		if (console >= 0)
			dup2(console, fd);
	if (console > 2)
		close(console);
	symlink("/proc/self/fd", "/dev/fd");
}

void setup_self(void)
{
	struct sched_param first = { .sched_priority = 1 };

	/* The boot was quiet to be fast; from here on KERN_INFO is printed, KERN_DEBUG is not. */
	klogctl(8 /* SYSLOG_ACTION_CONSOLE_LEVEL */, NULL, 7);
	setenv("PATH", "/bin:/sbin:/usr/bin:/usr/sbin", 1);
	setenv("HOME", "/root", 1);
	setenv("TERM", "linux", 1);
	sethostname("guest", 5);
	if (mlockall(MCL_CURRENT | MCL_FUTURE) < 0)
		say("mlockall: %s", strerror(errno));
	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &first) < 0)
		say("sched_setscheduler: %s", strerror(errno));
}

/* The host wrote the swap signature when it made the disk. */
void setup_swap(void)
{
	if (access(SWAP_DISK, F_OK) < 0)
		return;
	if (swapon(SWAP_DISK, 0) < 0)
		snprintf(swap_state, sizeof(swap_state), "%s", strerror(errno));
	else
		strcpy(swap_state, "ok");
}

static int is_module(const struct dirent *entry)
{
	size_t length = strlen(entry->d_name);

	return length > 3 && !strcmp(entry->d_name + length - 3, ".ko");
}

/* In the order of their names: the archive numbers them. */
void setup_modules(void)
{
	struct dirent **names;
	int count = scandir(MODULES, &names, is_module, alphasort);

	for (int i = 0; i < count; i++) {
		char path[512];
		int fd;

		snprintf(path, sizeof(path), MODULES "/%s", names[i]->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0) {
			snprintf(modules_state, sizeof(modules_state), "%.100s: %s",
				 names[i]->d_name, strerror(errno));
			say("module %s", modules_state);
		}
		if (fd >= 0)
			close(fd);
		free(names[i]);
	}
	if (count >= 0)
		free(names);
}

/*
 * Whether the kernel gave up its local APIC timer, because the host did not let
 * the timer count evenly at boot: harness/guest/boot.py does not use such a guest.
 */
static bool timer_given_up(void)
{
	static const char TOLD[] = "APIC timer disabled due to verification failure";
	int size = klogctl(10 /* SYSLOG_ACTION_SIZE_BUFFER */, NULL, 0);
	char *log = size > 0 ? malloc((size_t)size) : NULL;
	bool found = false;

	if (log) {
		int length = klogctl(3 /* SYSLOG_ACTION_READ_ALL */, log, size);

		found = length > 0 && memmem(log, (size_t)length, TOLD, sizeof(TOLD) - 1);
	}
	free(log);
	return found;
}

/* The payload of HELLO; no boot_id: reading it creates it, and all clones would share it. */
size_t setup_hello(char *text, size_t size)
{
	struct utsname uts;
	int length;

	uname(&uts);
	length = snprintf(text, size,
			  "abi=%d\nrelease=%s\nversion=%s\nmodules=%s\nswap=%s\ntimer=%s\n"
			  "watchdog=%s\nboottime_ns=%llu\n",
			  ABI, uts.release, uts.version, modules_state, swap_state,
			  timer_given_up() ? "given up" : "ok",
			  watchdog_is_fed() ? "ok" : "not fed",
			  (unsigned long long)clock_ns(CLOCK_BOOTTIME));
	return length < (int)size ? (size_t)length : size;
}
