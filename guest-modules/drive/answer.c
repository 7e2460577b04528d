// SPDX-License-Identifier: GPL-2.0-only
/* The answer to a command: one line of JSON. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include "drive.h"

__thread struct command *command;

void answer_text(const char *format, ...)
{
	size_t room = sizeof(command->answer) - command->answer_length;
	va_list list;
	int length;

	va_start(list, format);
	length = vsnprintf(command->answer + command->answer_length, room, format, list);
	va_end(list);
	if (length > 0)
		command->answer_length += (size_t)length;
	if (command->answer_length >= sizeof(command->answer))
		command->answer_length = sizeof(command->answer) - 1;
}

/* Begin the answer to the current command, which succeeded. */
void begin_answer(const char *verb)
{
	command->answer_length = 0;
	answer_text("{\"step\": %lu, \"verb\": \"%s\", \"ok\": true", command->step, verb);
}

/* Answer with another task's answer, under our step number and the other's name. */
void relay(const char *kind, const char *name, const char *text)
{
	const char *tail = strchr(text, ',');
	const char *end = strrchr(text, '}');

	if (!tail || !end)
		fail(EPROTO, "%s %s said \"%.80s\"", kind, name, text);
	command->answer_length = 0;
	command->relayed = true;
	answer_text("{\"step\": %lu, \"%s\": \"%s\"%.*s", command->step, kind, name,
		    (int)(end - tail), tail);
}

void answer_string(const char *text)
{
	answer_text("\"");
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			answer_text("\\%c", *text);
		else if ((unsigned char)*text < 0x20)
			answer_text("\\u%04x", *text);
		else
			answer_text("%c", *text);
	}
	answer_text("\"");
}

void reply(const char *key, uint64_t value)
{
	answer_text(", \"%s\": %llu", key, (unsigned long long)value);
}

void reply_signed(const char *key, int64_t value)
{
	answer_text(", \"%s\": %lld", key, (long long)value);
}

void reply_bool(const char *key, bool value)
{
	answer_text(", \"%s\": %s", key, value ? "true" : "false");
}

/* End the command with an error; a handler that calls this holds nothing open. */
void fail(int error, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(command->failed_text, sizeof(command->failed_text), format, list);
	va_end(list);
	command->failed_errno = error;
	longjmp(command->failed, 1);
}

void fail_errno(const char *what)
{
	int error = errno;

	fail(error, "%s: %s", what, strerror(error));
}

double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void progress(size_t done, size_t total)
{
	double now;

	if (command->quiet || done % 64)
		return;
	now = now_s();
	if (now - command->last_output_s < 1)
		return;
	command->last_output_s = now;
	printf("{\"progress\": {\"step\": %lu, \"done\": %zu, \"total\": %zu}}\n",
	       command->step, done, total);
	fflush(stdout);
}
