// SPDX-License-Identifier: GPL-2.0-only
/* Processes for work that may block. */
#define _GNU_SOURCE
#include <signal.h>
#include <unistd.h>

#include "init.h"

/*
 * fork(2) for work on the host's behalf: the child is an ordinary process
 * again, killable and with the signals of a fresh program.
 * SCHED_RESET_ON_FORK resets the priority, and fork(2) itself unlocks the memory.
 */
pid_t fork_child(void)
{
	pid_t pid = fork();
	sigset_t none;

	if (pid)
		return pid;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setsid();
	return 0;
}
