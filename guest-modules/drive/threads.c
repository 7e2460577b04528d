// SPDX-License-Identifier: GPL-2.0-only
/*
 * Commands in the background: "&NAME verb ..." runs in a thread of its own and is
 * answered at once, "wait NAME" answers with what it said at its end.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "drive.h"

struct thread {
	char name[NAME_BYTES];	/* empty: the entry is free */
	pthread_t id;
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

/* On any CPU, whatever the main thread is bound to. */
static void *run_thread(void *argument)
{
	struct thread *thread = argument;
	cpu_set_t set;

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
	strcpy(thread->name, name);
	error = pthread_create(&thread->id, NULL, run_thread, thread);
	if (error) {
		drop(thread);
		fail(error, "pthread_create: %s", strerror(error));
	}
	begin_answer("background");
	answer_text(", \"thread\": \"%s\"", name);
}

/* Its command's own answer, good or bad. */
static void run_wait(void)
{
	const char *name = find_argument("name");
	struct thread *thread = find_thread(name);
	int error;

	if (!*name || !thread)
		fail(ENOENT, "no thread is named \"%s\"", name);
	error = pthread_join(thread->id, NULL);
	if (error)
		fail(error, "pthread_join: %s", strerror(error));
	relay("thread", name, thread->command->answer);
	drop(thread);
}

/* In a child process, where they do not exist. */
void forget_threads(void)
{
	memset(threads, 0, sizeof(threads));
}

const struct verb thread_verbs[] = {
	{ "wait", run_wait, "name!" },
	{ NULL, NULL, NULL }
};
