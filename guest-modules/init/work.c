// SPDX-License-Identifier: GPL-2.0-only
/* What the child of a job does: it runs a command, reads a file, or writes one. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

#define ARGS 256

/* Splits NUL-separated words in place. */
static int split(char *text, size_t len, char **argv)
{
	int argc = 0;

	text[len] = 0;
	for (char *word = text; word < text + len && argc < ARGS - 1; word += strlen(word) + 1)
		argv[argc++] = word;
	argv[argc] = NULL;
	return argc;
}

static void child_exec(char *payload, size_t len)
{
	static char *argv[ARGS];

	if (!split(payload, len, argv)) {
		fprintf(stderr, "agent: no command\n");
		_exit(127);
	}
	execvp(argv[0], argv);
	fprintf(stderr, "agent: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Copies a file to standard output; exits with errno. */
static void child_read(const char *path)
{
	static uint8_t data[PAYLOAD_MAX];
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		_exit(errno);
	while ((got = read(fd, data, sizeof(data))) != 0) {
		if (got < 0)
			_exit(errno);
		for (ssize_t done = 0; done < got;) {
			ssize_t put = write(STDOUT_FILENO, data + done, got - done);

			if (put < 0)
				_exit(errno);
			done += put;
		}
	}
	_exit(0);
}

/* The payload goes out in one write(2), as files in /proc, /sys and cgroups require. */
static void child_write(const char *path, const uint8_t *data, size_t len)
{
	struct stat info;
	bool regular = stat(path, &info) < 0 || (S_ISREG(info.st_mode) && info.st_size);
	int fd = open(path, O_WRONLY | O_CLOEXEC | (regular ? O_CREAT | O_TRUNC : 0), 0644);

	if (fd < 0)
		_exit(errno);
	if (len && write(fd, data, len) < 0)
		_exit(errno);
	_exit(close(fd) < 0 ? errno : 0);
}

/* Does not return. */
void work(const struct frame *head, uint8_t *payload, const int pipes[3][2])
{
	signal(SIGPIPE, SIG_DFL);
	ports_forget();
	dup2(pipes[0][0], 0);
	dup2(pipes[1][1], 1);
	dup2(pipes[2][1], 2);
	if (chdir("/root") < 0)
		_exit(errno);
	if (head->type == EXEC)
		child_exec((char *)payload, head->len);
	payload[head->len] = 0;
	if (head->type == READ) {
		child_read((char *)payload);
	} else {
		size_t name = strlen((char *)payload) + 1;

		child_write((char *)payload, payload + name,
			    name < head->len ? head->len - name : 0);
	}
}
