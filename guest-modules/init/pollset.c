// SPDX-License-Identifier: GPL-2.0-only
/* Everything one turn of the main loop waits for. */
#define _GNU_SOURCE
#include "init.h"

void pollset_add(struct pollset *set, int fd, short events)
{
	if (fd < 0 || set->count == ARRAY_SIZE(set->fds))
		return;
	set->fds[set->count++] = (struct pollfd){ .fd = fd, .events = events };
}

short pollset_seen(const struct pollset *set, int fd)
{
	for (nfds_t i = 0; fd >= 0 && i < set->count; i++)
		if (set->fds[i].fd == fd)
			return set->fds[i].revents;
	return 0;
}
