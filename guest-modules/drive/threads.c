// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commands in the background: "&NAME verb ..." runs in a thread of its own and is
 * answered at once; "wait NAME" answers with the command's own answer.  In between,
 * "asleep NAME" waits until the thread sleeps, and "interrupt NAME" interrupts it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "drive.h"

struct thread {
	char name[NAME_BYTES];	/* empty: the entry is free */
	pthread_t id;
	pid_t tid;	/* 0: it has not begun */
	struct command *command;
	char *line;	/* verb and arguments */
};

static struct thread threads[TASKS_MAX];

static struct thread *find_thread(const char *name)
{
	size_t i;

	for (i = 0; i < TASKS_MAX; i++) {
		if (!strcmp(threads[i].name, name))
			return &threads[i];
	}
	return NULL;
}

/* Runs on any CPU, whatever the main thread is bound to. */
static void *run_thread(void *argument)
{
	struct thread *thread = argument;
	cpu_set_t set;

	__atomic_store_n(&thread->tid, (pid_t)syscall(SYS_gettid), __ATOMIC_RELEASE);
	memset(&set, 0xff, sizeof(set));
	sched_setaffinity(0, sizeof(set), &set);
	obey(thread->command, thread->line);
	return NULL;
}

static void drop(struct thread *thread)
{
	free(thread->command);
	free(thread->line);
	thread->name[0] = '\0';
}

void run_in_background(const char *name, const char *line)
{
	struct thread *thread;
	size_t i;
	int error;

	if (!*name || strlen(name) >= NAME_BYTES)
		fail(EINVAL, "a thread's name has 1 to %d characters", NAME_BYTES - 1);
	if (find_thread(name))
		fail(EEXIST, "a thread is named \"%s\"", name);
	i = claim(threads[0].name, sizeof(threads[0]), TASKS_MAX);
	if (i == TASKS_MAX)
		fail(ENOSPC, "there are %d threads", TASKS_MAX);
	thread = &threads[i];
	thread->command = calloc(1, sizeof(*thread->command));
	thread->line = strdup(line);
	if (!thread->command || !thread->line) {
		drop(thread);
		fail(ENOMEM, "no memory for a thread");
	}
	thread->command->step = command->step;
	thread->command->quiet = true;
	thread->tid = 0;
	strcpy(thread->name, name);
	error = pthread_create(&thread->id, NULL, run_thread, thread);
	if (error) {
		drop(thread);
		fail(error, "pthread_create: %s", strerror(error));
	}
	begin_answer("background");
	answer_text(", \"thread\": \"%s\"", name);
}

static struct thread *thread_argument(void)
{
	const char *name = find_argument("name");
	struct thread *thread = find_thread(name);

	if (!*name || !thread)
		fail(ENOENT, "no thread is named \"%s\"", name);
	return thread;
}

/*
 * R, S, D, ... from /proc/TID/stat; 0 before the thread has begun, and when it is gone.
 * This uses little stack: the thread may hold the mmap_lock that our page fault would need.
 */
static char thread_state(struct thread *thread)
{
	pid_t tid = __atomic_load_n(&thread->tid, __ATOMIC_ACQUIRE);
	char path[64], text[512];
	const char *found;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	if (!tid || !read_file(path, text, sizeof(text)))
		return 0;
	found = strrchr(text, ')');
	return found && found[1] ? found[2] : 0;
}

/* Wait until the thread itself waits for something. */
static void run_asleep(void)
{
	struct thread *thread = thread_argument();
	double end_s = now_s() + AWAIT_LIMIT_MS / 1000.0;
	bool begun = false;
	char state;

	while ((state = thread_state(thread)) != 'S' && state != 'D') {
		if (!state && begun)
			fail(ESRCH, "thread %s ended, and was not seen to sleep", thread->name);
		if (now_s() > end_s)
			fail(ETIMEDOUT, "thread %s does not sleep after %d ms", thread->name,
			     AWAIT_LIMIT_MS);
		begun = __atomic_load_n(&thread->tid, __ATOMIC_ACQUIRE);
		nanosleep(&(struct timespec){ .tv_nsec = AWAIT_PAUSE_NS }, NULL);
	}
	reply_bool("uninterruptible", state == 'D');
}

static void notice(int number)
{
	(void)number;
	if (command)
		command->signals++;
}

/* Without SA_RESTART.  Called early, since its code may not be in memory when all else waits. */
void expect_interruptions(void)
{
	struct sigaction action = { .sa_handler = notice };

	sigaction(SIGUSR1, &action, NULL);
}

/*
 * Send a signal that is handled: it interrupts system calls that can be interrupted.
 * With `noticed`, repeat until the thread has handled that many signals.
 */
static void run_interrupt(void)
{
	struct thread *thread = thread_argument();
	uint64_t noticed = number_argument("noticed", 0, 0, 1000000);
	double end_s = now_s() + AWAIT_LIMIT_MS / 1000.0;
	int before = thread->command->signals;

	for (;;) {
		pid_t tid = __atomic_load_n(&thread->tid, __ATOMIC_ACQUIRE);

		if (tid && syscall(SYS_tgkill, getpid(), tid, SIGUSR1))
			fail(ESRCH, "thread %s is gone", thread->name);
		if (tid && (uint64_t)(thread->command->signals - before) >= noticed)
			break;
		if (now_s() > end_s)
			fail(ETIMEDOUT, "thread %s noticed %d signals in %d ms", thread->name,
			     thread->command->signals - before, AWAIT_LIMIT_MS);
		sched_yield();
	}
}

/* Answer with the thread's own answer, good or bad. */
static void run_wait(void)
{
	struct thread *thread = thread_argument();
	int error;

	__atomic_store_n(&thread->command->enough, true, __ATOMIC_RELAXED);
	error = pthread_join(thread->id, NULL);
	if (error)
		fail(error, "pthread_join: %s", strerror(error));
	relay("thread", thread->name, thread->command->answer);
	drop(thread);
}

/* In a child process, where the threads do not exist. */
void forget_threads(void)
{
	memset(threads, 0, sizeof(threads));
}

const struct verb thread_verbs[] = {
	{ "wait", run_wait, "name!" },
	{ "asleep", run_asleep, "name!" },
	{ "interrupt", run_interrupt, "name! noticed" },
	{ NULL, NULL, NULL }
};
