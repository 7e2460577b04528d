// SPDX-License-Identifier: GPL-2.0-only
/* Files of proc, sysfs and cgroupfs. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drive.h"

/* Returns 0, or errno after a failure. */
int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int error = 0;

	if (fd < 0)
		return errno;
	if (write(fd, text, strlen(text)) < 0)
		error = errno;
	close(fd);
	return error;
}

void must_write(const char *path, const char *text)
{
	int error = write_file(path, text);

	if (error)
		fail(error, "writing \"%s\" to %s: %s", text, path, strerror(error));
}

/* Read a whole small file; false if there is none. */
bool read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t length = 0;
	ssize_t got;

	if (fd < 0)
		return false;
	while (length < size - 1 && (got = read(fd, text + length, size - 1 - length)) > 0)
		length += (size_t)got;
	close(fd);
	text[length] = '\0';
	return true;
}

/* The sum of the values of all "key value" lines whose key begins with `prefix`. */
uint64_t sum_lines(const char *text, const char *prefix, bool whole_key)
{
	size_t length = strlen(prefix);
	uint64_t sum = 0;

	while (text && *text) {
		const char *space = strchr(text, ' ');

		if (!space)
			break;
		if (!strncmp(text, prefix, length) &&
		    (!whole_key || (size_t)(space - text) == length))
			sum += strtoull(space, NULL, 10);
		text = strchr(space, '\n');
		if (text)
			text++;
	}
	return sum;
}
