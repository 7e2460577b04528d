// SPDX-License-Identifier: GPL-2.0-only
/*
 * PID 1 of a guest: sets the machine up, then serves the host over two
 * virtio-serial ports until the machine ends.
 *
 * It must answer while the kernel under it is starved of memory or hangs in
 * one task: all buffers are static and locked, it runs SCHED_FIFO, the OOM
 * killer spares PID 1 anyway, and whatever may block (files in /proc and
 * /sys, commands, dropbear, the shell) happens in a child.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

#define BEAT_NS NSEC_PER_SEC
/* How long PID 1 ignores a port that the host left; SIGIO usually comes first. */
#define RETRY_MS 50

static pid_t shell_pid = -1;

/* The interactive shell: a session of its own on hvc0, so that job control and Ctrl-C work. */
static void start_shell(void)
{
	int tty;

	shell_pid = fork_child();
	if (shell_pid)
		return;
	tty = open("/dev/hvc0", O_RDWR);
	if (tty < 0)
		_exit(1);
	ioctl(tty, TIOCSCTTY, 1);
	dup2(tty, 0);
	dup2(tty, 1);
	dup2(tty, 2);
	if (tty > 2)
		close(tty);
	if (chdir("/root") < 0)
		_exit(1);
	execl("/bin/sh", "-sh", (char *)NULL);
	_exit(127);
}

static void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == shell_pid)
			shell_pid = -1;
		else if (!bridge_reaped(pid))
			job_reaped(pid, status);
	}
}

static int watch_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGIO);		/* a host connected to a port, or left it */
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

static void drain(int fd)
{
	struct signalfd_siginfo seen[8];

	while (read(fd, seen, sizeof(seen)) > 0)
		;
}

static void serve(void)
{
	static struct pollset set;
	uint64_t next_beat = clock_ns(CLOCK_BOOTTIME);
	bool has_shell = access("/dev/hvc0", F_OK) == 0;
	int signals = watch_signals();

	for (;;) {
		uint64_t now = clock_ns(CLOCK_BOOTTIME);

		if (now >= next_beat) {
			/* After a snapshot the clock has jumped: one beat, not all missed beats. */
			next_beat = now + BEAT_NS;
			agent_beat();
			watchdog_feed();
			if (has_shell && shell_pid < 0)
				start_shell();
		}
		set.count = 0;
		pollset_add(&set, signals, POLLIN);
		agent_want(&set);
		bridge_want(&set);
		if (poll(set.fds, set.count, RETRY_MS) < 0 && errno != EINTR)
			say("poll: %s", strerror(errno));
		drain(signals);
		reap();
		agent_turn(&set);
		bridge_turn(&set);
	}
}

/*
 * Keeps the only CPU of a recorded guest from going to sleep: QEMU 7.2 reports a
 * finished disk request to a sleeping CPU only when the CPU's next timer is due.
 * Any task that has something to do preempts this one.
 */
static int spin(void)
{
	struct sched_param none = { 0 };

	if (sched_setscheduler(0, SCHED_IDLE, &none) < 0)
		return 1;
	for (;;)
		;
}

int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "calibrate"))
		return calibrate();
	if (argc > 1 && !strcmp(argv[1], "tsc"))
		return measure_tsc();
	if (argc > 1 && !strcmp(argv[1], "spin"))
		return spin();
	if (getpid() != 1) {
		fprintf(stderr, "usage: %s calibrate|tsc|spin (or run as PID 1)\n", argv[0]);
		return 2;
	}
	setup_mounts();
	setup_self();
	setup_swap();
	setup_modules();
	watchdog_open();
	serve();
}
