// SPDX-License-Identifier: GPL-2.0-only
/* virtio-serial ports: found by name in sysfs, opened so that the loop never blocks on them. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "init.h"

#define PORTS "/sys/class/virtio-ports"
#define PORTS_MAX 4

/* All ports that were ever opened. */
static struct port *known[PORTS_MAX];

/* The device node of the port with this name; false until the kernel has found the port. */
static bool find(const char *name, char *path, size_t size)
{
	DIR *folder = opendir(PORTS);
	struct dirent *entry;
	bool found = false;

	if (!folder)
		return false;
	while (!found && (entry = readdir(folder))) {
		char text[64];
		ssize_t got;
		int fd;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, size, PORTS "/%s/name", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		got = read(fd, text, sizeof(text) - 1);
		close(fd);
		if (got <= 0)
			continue;
		text[got] = 0;
		text[strcspn(text, "\n")] = 0;
		found = !strcmp(text, name);
		if (found)
			snprintf(path, size, "/dev/%s", entry->d_name);
	}
	closedir(folder);
	return found;
}

static void remember(struct port *port)
{
	for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
		if (!known[i] || known[i] == port) {
			known[i] = port;
			return;
		}
	}
}

bool port_open(struct port *port)
{
	char path[512];

	if (port->fd >= 0)
		return true;
	if (!find(port->name, path, sizeof(path)))
		return false;
	port->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (port->fd < 0)
		return false;
	remember(port);
	/* SIGIO comes when the host connects or leaves; poll(2) alone cannot wait for that. */
	fcntl(port->fd, F_SETOWN, getpid());
	fcntl(port->fd, F_SETFL, O_RDWR | O_NONBLOCK | O_ASYNC);
	return true;
}

/* Closing discards the data that is queued in both directions, and informs QEMU. */
void port_close(struct port *port)
{
	if (port->fd >= 0)
		close(port->fd);
	port->fd = -1;
	port->connected = false;
}

bool port_host_present(const struct port *port)
{
	struct pollfd look = { .fd = port->fd, .events = POLLIN };

	if (port->fd < 0)
		return false;
	if (poll(&look, 1, 0) < 0)
		return false;
	return !(look.revents & POLLHUP);
}

/* In a child: a process that holds a port keeps it from being opened again. */
void ports_forget(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(known) && known[i]; i++) {
		if (known[i]->fd >= 0)
			close(known[i]->fd);
		known[i]->fd = -1;
	}
}
