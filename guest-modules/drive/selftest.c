// SPDX-License-Identifier: GPL-2.0-only
/*
 * The kernel's own tests as load: a test program runs to its end, with a subscriber
 * on the mm of each of its processes.
 *
 * ptrace stops a process after its exec, and a child before its first instruction, so
 * that nothing that happens to their memory goes unseen.  Threads are not traced: the mm
 * of their process is watched already.  A process that a thread forks is therefore not
 * watched.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drive.h"

#define FOLDER "/tmp/selftests"	/* where the host puts programs and modules */
#define WATCHED_MAX 64		/* as many as the module's pairing follows */
#define WORDS_MAX 32

struct watch {
	pid_t pid;	/* 0: the entry is free */
	int fd;
};

static __thread struct {
	struct nh_watch as;	/* all but the pid */
	struct watch watches[WATCHED_MAX];
	uint64_t processes;	/* seen so far */
	uint64_t unwatched;	/* of those: had no subscriber, though they were not gone */
} tracing;

static struct watch *find_watch(pid_t pid)
{
	size_t i;

	for (i = 0; i < WATCHED_MAX; i++) {
		if (tracing.watches[i].pid == pid)
			return &tracing.watches[i];
	}
	return NULL;
}

/* Watch a new process, which is stopped and has the mm that it will run with. */
static void watch(pid_t pid)
{
	struct watch *place = find_watch(0);
	struct nh_watch argument = tracing.as;
	int fd;

	tracing.processes++;
	fd = place ? open("/dev/notifier_hold", O_RDWR | O_CLOEXEC) : -1;
	argument.pid = (uint32_t)pid;
	if (fd >= 0 && !ioctl(fd, NH_WATCH, &argument)) {
		place->pid = pid;
		place->fd = fd;
		return;
	}
	if (fd < 0 || errno != ESRCH)	/* ESRCH: killed while stopped, so its mm is gone */
		tracing.unwatched++;
	if (fd >= 0)
		close(fd);
}

static void unwatch(pid_t pid)
{
	struct watch *place = find_watch(pid);

	if (!place)
		return;
	close(place->fd);
	place->pid = 0;
}

static bool is_group_stop(int signal)
{
	return signal == SIGSTOP || signal == SIGTSTP || signal == SIGTTIN || signal == SIGTTOU;
}

/* Handle a process's stop, and let it go on as if it were not traced. */
static void attend(pid_t pid, int status)
{
	int signal = WSTOPSIG(status), event = status >> 16;

	if (event == PTRACE_EVENT_EXEC) {
		unwatch(pid);
		watch(pid);
	} else if (event == PTRACE_EVENT_STOP && !find_watch(pid)) {
		watch(pid);
	} else if (event == PTRACE_EVENT_STOP && is_group_stop(signal)) {
		ptrace(PTRACE_LISTEN, pid, NULL, NULL);
		return;
	}
	ptrace(PTRACE_CONT, pid, NULL, event ? 0L : (long)signal);
}

/* Attend to every process until the first has ended; returns the first one's wait status. */
static int trace(pid_t first)
{
	int status = 0;
	pid_t pid;

	do {
		pid = waitpid(-1, &status, __WALL | __WNOTHREAD);
		if (pid < 0 && errno != EINTR)
			fail_errno("waitpid");
		if (pid <= 0)
			continue;
		if (WIFSTOPPED(status))
			attend(pid, status);
		else
			unwatch(pid);
	} while (pid != first || WIFSTOPPED(status));
	return status;
}

/* End the processes that the first process left behind. */
static void end_the_rest(void)
{
	size_t i;

	for (i = 0; i < WATCHED_MAX; i++) {
		pid_t pid = tracing.watches[i].pid;

		if (!pid)
			continue;
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
			;
		unwatch(pid);
	}
}

static void be_program(char *const argv[], const char *output, int go) __attribute__((noreturn));
static void be_program(char *const argv[], const char *output, int go)
{
	int in = open("/dev/null", O_RDONLY);
	int out = open(output, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0644);
	cpu_set_t all;
	char byte;

	memset(&all, 0xff, sizeof(all));
	sched_setaffinity(0, sizeof(all), &all);
	signal(SIGPIPE, SIG_DFL);
	if (in < 0 || out < 0 || chdir("/tmp"))
		_exit(126);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	/* Wait until this process is traced. */
	if (read(go, &byte, 1))
		_exit(126);
	execv(argv[0], argv);
	_exit(127);
}

static pid_t start(char *const argv[], const char *output)
{
	const long options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC |
			     PTRACE_O_EXITKILL;
	int go[2];
	pid_t pid;

	if (pipe2(go, O_CLOEXEC))
		fail_errno("pipe2");
	pid = fork();
	if (!pid) {
		close(go[1]);
		be_program(argv, output, go[0]);
	}
	close(go[0]);
	if (pid > 0 && ptrace(PTRACE_SEIZE, pid, NULL, options)) {
		int error = errno;

		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		errno = error;
		pid = -1;
	}
	if (pid < 0) {
		int error = errno;

		close(go[1]);
		fail(error, "%s: %s", argv[0], strerror(error));
	}
	close(go[1]);
	return pid;
}

/*
 * Run FOLDER/NAME with words as its arguments; its output is in FOLDER/NAME.out.  Each
 * subscriber has the policy.  A program that fails is no error of the command.
 */
static void run_selftest(void)
{
	const struct nh_set_policy policy = policy_argument();
	const char *name = find_argument("name"), *words = find_argument("args");
	char path[128], output[136], text[512] = "", *rest = text, *argv[WORDS_MAX] = { path };
	size_t count = 1;
	int status;

	if (snprintf(path, sizeof(path), FOLDER "/%s", name) >= (int)sizeof(path) ||
	    (words && strlen(words) >= sizeof(text)))
		fail(E2BIG, "%s: too long", name);
	snprintf(output, sizeof(output), "%s.out", path);
	if (access(path, X_OK))
		fail_errno(path);
	strcpy(text, words ? words : "");
	while (count < WORDS_MAX - 1 && (argv[count] = next_word(&rest)))
		count++;
	memset(&tracing, 0, sizeof(tracing));
	tracing.as.policy = policy.policy;
	tracing.as.error = policy.error;
	tracing.as.when = policy.when;
	tracing.as.wait_ms = policy.wait_ms;
	tracing.as.flags = interface_argument();

	status = trace(start(argv, output));
	end_the_rest();
	answer_text(", \"program\": ");
	answer_string(name);
	if (WIFSIGNALED(status))
		reply("signal", (uint64_t)WTERMSIG(status));
	else
		reply("status", (uint64_t)WEXITSTATUS(status));
	reply("processes", tracing.processes);
	reply("unwatched", tracing.unwatched);
}

/* Load the module FOLDER/NAME. */
static void run_insmod(void)
{
	char path[128];
	int fd, error = 0;

	if (snprintf(path, sizeof(path), FOLDER "/%s", find_argument("name")) >= (int)sizeof(path))
		fail(E2BIG, "%s: too long", find_argument("name"));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		fail_errno(path);
	if (syscall(SYS_finit_module, fd, "", 0))
		error = errno;
	close(fd);
	if (error)
		fail(error, "%s: %s", path, strerror(error));
}

const struct verb selftest_verbs[] = {
	{ "selftest", run_selftest, "name! policy! args errno when wait_ms interface end" },
	{ "insmod", run_insmod, "name!" },
	{ NULL, NULL, NULL }
};
