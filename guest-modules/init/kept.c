// SPDX-License-Identifier: GPL-2.0-only
/* Files that PID 1 opened in advance: a write needs no new process, and almost no memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define KEPT 16
#define KEPT_PATH 128

static struct kept {
	char path[KEPT_PATH];
	int fd;
} kept[KEPT];

int keep(const uint8_t *payload, size_t len)
{
	for (struct kept *file = kept; file < kept + KEPT; file++) {
		if (file->path[0])
			continue;
		if (!len || len >= KEPT_PATH)
			return ENAMETOOLONG;
		memcpy(file->path, payload, len);
		file->path[len] = 0;
		file->fd = open(file->path, O_WRONLY | O_CLOEXEC);
		if (file->fd >= 0)
			return 0;
		file->path[0] = 0;
		return errno;
	}
	return ENFILE;
}

/* A WRITE to a kept file, done by PID 1 itself; returns whether it was one. */
bool write_kept(const struct frame *head, uint8_t *payload)
{
	size_t name = strnlen((char *)payload, head->len);

	for (struct kept *file = kept; name < head->len && file < kept + KEPT; file++) {
		size_t len = head->len - name - 1;
		int error = 0;

		if (!file->path[0] || strcmp(file->path, (char *)payload))
			continue;
		if (pwrite(file->fd, payload + name + 1, len, 0) < 0)
			error = errno;
		send_number(head->id, DONE, error);
		return true;
	}
	return false;
}
