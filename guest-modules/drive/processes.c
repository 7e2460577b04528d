// SPDX-License-Identifier: GPL-2.0-only
/*
 * Child processes, each a driver with a copy of our memory and an mm of its own:
 * "fork NAME" makes a process, "@NAME verb ..." has it run a command.  It ends by
 * itself ("end NAME"), killed ("kill NAME"), or with its memory reaped ("mrelease NAME").
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drive.h"

/* From asm-generic/unistd.h of v5.3 and v5.15; some C libraries are older. */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448
#endif

struct process {
	char name[NAME_BYTES];	/* empty: the entry is free */
	pid_t pid;
	FILE *to;
	FILE *from;
	pthread_mutex_t talk;	/* one command at a time */
};

static struct process processes[TASKS_MAX];

static struct process *find_process(const char *name)
{
	size_t i;

	for (i = 0; i < TASKS_MAX && *name; i++) {
		if (!strcmp(processes[i].name, name))
			return &processes[i];
	}
	fail(ENOENT, "no process is named \"%s\"", name);
}

static void drop(struct process *process)
{
	if (process->to)
		fclose(process->to);
	fclose(process->from);
	process->name[0] = '\0';
}

/*
 * After fork() every first write to a page faults, and a fault waits for the mmap_lock,
 * which a command in the background can hold for as long as a callback waits: the driver
 * would not see that command sleep.  So the driver's own memory is written here.  The
 * scenario decides when the buffers are copied.
 */
static void own_memory(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], write;
	uintptr_t at, stop;

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx r%c", &at, &stop, &write) != 3 || write != 'w')
			continue;
		if (at >= (uintptr_t)end && !strstr(line, "[heap]") && !strstr(line, "[stack]"))
			continue;
		for (; at < stop; at += PAGE_BYTES) {
			char *byte = (char *)at;
			char value = *byte;

			/* Other threads write there, too. */
			__atomic_compare_exchange_n(byte, &value, value, false, __ATOMIC_RELAXED,
						    __ATOMIC_RELAXED);
		}
	}
	if (maps)
		fclose(maps);
}

static void be_child(int in, int out) __attribute__((noreturn));
static void be_child(int in, int out)
{
	size_t i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	forget_threads();
	forget_subscribers();
	/* A pipe held open here would keep a sibling from seeing its end. */
	for (i = 0; i < TASKS_MAX; i++) {
		if (processes[i].name[0]) {
			close(fileno(processes[i].to));
			close(fileno(processes[i].from));
		}
		processes[i].name[0] = '\0';
	}
	own_memory();
	__fpurge(stdout);
	dup2(out, STDOUT_FILENO);
	_exit(serve(fdopen(in, "r")));
}

static void run_fork(void)
{
	const char *name = new_name();
	int to[2], from[2];
	struct process *process;
	size_t i;
	pid_t pid;

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		fail_errno("pipe2");
	pid = fork();
	if (!pid) {
		close(to[1]);
		close(from[0]);
		be_child(to[0], from[1]);
	}
	close(to[0]);
	close(from[1]);
	i = pid < 0 ? TASKS_MAX : claim(processes[0].name, sizeof(processes[0]), TASKS_MAX);
	if (i == TASKS_MAX) {
		close(to[1]);
		close(from[0]);
		fail(pid < 0 ? EAGAIN : ENOSPC, "fork: no more processes");
	}
	process = &processes[i];
	process->pid = pid;
	process->to = fdopen(to[1], "w");
	process->from = fdopen(from[0], "r");
	pthread_mutex_init(&process->talk, NULL);
	strcpy(process->name, name);
	own_memory();
	reply("pid", (uint64_t)pid);
}

/* Pass on a line, and return the answer, if the process lives that long. */
void run_in_process(const char *name, const char *line)
{
	struct process *process = find_process(name);
	char text[sizeof(command->answer)];
	bool answered = false;

	line += strspn(line, " \t");
	if (!*line || *line == '#')
		fail(EINVAL, "a command needs a verb");	/* it would not be answered */
	pthread_mutex_lock(&process->talk);
	fprintf(process->to, "%s\n", line);
	if (!fflush(process->to)) {
		do {
			answered = fgets(text, sizeof(text), process->from);
		} while (answered && !strncmp(text, "{\"progress\"", 11));
	}
	pthread_mutex_unlock(&process->talk);
	if (!answered)
		fail(ESRCH, "process %s ended before it answered", name);
	relay("process", name, text);
}

static void reap(struct process *process)
{
	int status = 0;

	while (waitpid(process->pid, &status, 0) < 0 && errno == EINTR)
		;
	drop(process);
	if (WIFSIGNALED(status))
		reply("signal", (uint64_t)WTERMSIG(status));
	else
		reply("status", (uint64_t)WEXITSTATUS(status));
}

/* Close its input: it leaves its loop and exits with everything that it still holds. */
static void run_end(void)
{
	struct process *process = find_process(find_argument("name"));

	fclose(process->to);
	process->to = NULL;
	reap(process);
}

static void run_kill(void)
{
	struct process *process = find_process(find_argument("name"));

	if (kill(process->pid, SIGKILL))
		fail_errno("kill");
	reap(process);
}

/*
 * Kill it and reap its memory before it can exit, as an OOM handler in user space
 * does: mm/oom_kill.c invalidates without permission to sleep.  The process runs on
 * our CPU only, where it does not run before a SCHED_FIFO task is done.
 */
static void run_mrelease(void)
{
	struct process *process = find_process(find_argument("name"));
	struct sched_param first = { .sched_priority = 1 }, usual = {};
	cpu_set_t here, before;
	long result;
	int error, fd;

	fd = (int)syscall(SYS_pidfd_open, process->pid, 0);
	if (fd < 0)
		fail_errno("pidfd_open");
	sched_getaffinity(0, sizeof(before), &before);
	CPU_ZERO(&here);
	CPU_SET((size_t)sched_getcpu(), &here);
	sched_setaffinity(0, sizeof(here), &here);
	sched_setaffinity(process->pid, sizeof(here), &here);
	sched_setscheduler(0, SCHED_FIFO, &first);
	kill(process->pid, SIGKILL);
	result = syscall(SYS_process_mrelease, fd, 0);
	error = errno;
	sched_setscheduler(0, SCHED_OTHER, &usual);
	sched_setaffinity(0, sizeof(before), &before);
	close(fd);
	reap(process);
	reply_signed("result", result ? -error : 0);
}

const struct verb process_verbs[] = {
	{ "fork", run_fork, "name!" },
	{ "end", run_end, "name!" },
	{ "kill", run_kill, "name!" },
	{ "mrelease", run_mrelease, "name!" },
	{ NULL, NULL, NULL }
};
