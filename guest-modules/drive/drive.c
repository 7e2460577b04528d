// SPDX-License-Identifier: GPL-2.0-only
/*
 * drive - acts in the guest as the process whose memory a device holds
 *
 * Reads commands from standard input, one a line:
 *
 *	[@PROCESS] [&THREAD [+]] verb [value ...] [key=value ...]
 *
 * A value without a key belongs to the verb's next key in the order of the tables
 * of verbs, where a key with '!' must be given.  Sizes take K, M or G, double
 * quotes keep spaces together, '#' starts a comment.  "&name" runs the command in
 * the background (see threads.c), with "+" again and again until it is waited for;
 * "@name" runs the command in a child process (see processes.c).
 * Each command is answered by one line of JSON, in order:
 *
 *	{"step": 1, "verb": "touch", "ok": true, "pages": 4096, "minflt": 4096, ..., "ms": 9}
 *	{"step": 2, "verb": "hold", "ok": false, "errno": 2, "error": "no subscriber is ..."}
 *
 * Before the answer to a long command, at most once a second:
 *
 *	{"progress": {"step": 3, "done": 1200, "total": 24576}}
 *
 * Usage: drive [cpu=N|any]   (default 0: madvise drains the LRU caches only of its own CPU)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "drive.h"

static void run_quit(void)
{
}

static const struct verb quit_verbs[] = {
	{ "quit", run_quit, "" },
	{ NULL, NULL, NULL }
};

static const struct verb *const tables[] = {
	buffer_verbs, content_verbs, mapping_verbs, idle_verbs, userfault_verbs, subscriber_verbs,
	device_verbs, mirror_verbs, pressure_verbs, cgroup_verbs, machine_verbs, log_verbs,
	thread_verbs, process_verbs, selftest_verbs, quit_verbs,
};

static const struct verb *find_verb(const char *name)
{
	char known[1024] = "";
	const struct verb *verb;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(tables); i++) {
		for (verb = tables[i]; verb->name; verb++) {
			if (!strcmp(verb->name, name))
				return verb;
			strncat(known, " ", sizeof(known) - strlen(known) - 1);
			strncat(known, verb->name, sizeof(known) - strlen(known) - 1);
		}
	}
	fail(EINVAL, "no verb \"%s\"; the verbs:%s", name, known);
}

/* Repeat until it fails or is not wanted any more; the last repetition gives the answer. */
static void run_again(char *rest)
{
	const char *word = next_word(&rest);
	uint64_t times = 0;

	if (!word || !command->quiet)
		fail(EINVAL, "give a verb in the background, as in \"&busy + charge size=1M\"");
	command->verb = find_verb(word);
	parse_arguments(rest);
	do {
		begin_answer(command->verb->name);
		command->verb->run();
		times++;
	} while (!__atomic_load_n(&command->enough, __ATOMIC_RELAXED));
	reply("times", times);
}

static void run(char *rest)
{
	const char *word = next_word(&rest);

	if (!word)
		fail(EINVAL, "a command needs a verb");
	if (*word == '@') {
		run_in_process(word + 1, rest);
	} else if (*word == '&') {
		run_in_background(word + 1, rest);
	} else if (!strcmp(word, "+")) {
		run_again(rest);
	} else {
		command->verb = find_verb(word);
		parse_arguments(rest);
		begin_answer(command->verb->name);
		command->verb->run();
	}
}

/* Run one line, and leave its answer in one->answer.  The caller sets one->step, one->quiet. */
void obey(struct command *one, const char *line)
{
	static const struct verb unknown = { "?", run_quit, "" };

	command = one;
	one->verb = &unknown;
	one->argument_count = 0;
	one->answer_length = 0;
	one->relayed = false;
	one->signals = 0;
	one->start_s = now_s();
	one->last_output_s = one->start_s;
	if (setjmp(one->failed)) {
		one->answer_length = 0;
		answer_text("{\"step\": %lu, \"verb\": \"%s\", \"ok\": false, ", one->step,
			    one->verb->name);
		answer_text("\"errno\": %d, \"error\": ", one->failed_errno);
		answer_string(one->failed_text);
	} else {
		if (strlen(line) >= sizeof(one->line))
			fail(E2BIG, "a line has fewer than %zu characters", sizeof(one->line));
		strcpy(one->line, line);
		run(one->line);
		/* The point of rest after a step; a thread's steps end at any moment. */
		if (!one->quiet)
			compare_mirrors();
		if (one->signals)
			reply("signals", (uint64_t)one->signals);
		if (!one->relayed)
			reply("ms", (uint64_t)((now_s() - one->start_s) * 1000));
	}
	answer_text("}");
}

/* Obey line after line until quit or the end; returns the status to exit with. */
int serve(FILE *input)
{
	static struct command one;
	char *line = NULL;
	size_t size = 0;
	ssize_t length;

	while ((length = getline(&line, &size, input)) > 0) {
		if (line[length - 1] == '\n')
			line[length - 1] = '\0';
		if (!line[strspn(line, " \t")] || line[strspn(line, " \t")] == '#')
			continue;	/* an empty line or a comment is no step */
		one.step++;
		obey(&one, line);
		puts(one.answer);
		fflush(stdout);
		if (one.verb->run == run_quit && one.verb->name[0] != '?')
			break;
	}
	return 0;
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
	/*
	 * The driver's present memory is locked: a page of the driver that was swapped out
	 * is charged to the cgroup that it came from.  A task that faults on the page
	 * reclaims there, wherever the task has moved, and meets callbacks that wait for
	 * its next step.
	 */
	if (mlockall(MCL_CURRENT)) {
		fprintf(stderr, "drive: mlockall: %s\n", strerror(errno));
		return 2;
	}
	/* A write to a child process that ended must give an answer, not kill the driver. */
	signal(SIGPIPE, SIG_IGN);
	expect_interruptions();
	return serve(stdin);
}
