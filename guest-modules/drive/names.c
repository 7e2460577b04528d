// SPDX-License-Identifier: GPL-2.0-only
/* The names of buffers, subscribers, threads and processes. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "drive.h"

/* The name= of the command, which nothing may have yet. */
const char *new_name(void)
{
	const char *name = find_argument("name");

	if (!*name || strlen(name) >= NAME_BYTES)
		fail(EINVAL, "a name has 1 to %d characters", NAME_BYTES - 1);
	if (find_buffer(name) || find_subscriber(name))
		fail(EEXIST, "\"%s\" exists", name);
	return name;
}

/*
 * Take the first entry without a name of a table whose names lie `stride` bytes
 * apart; returns its number, or `count` if there is none.  No lock, because a
 * process may be forked at any time.
 */
size_t claim(char *names, size_t stride, size_t count)
{
	size_t i;

	for (i = 0; i < count; i++) {
		char free = '\0';

		if (__atomic_compare_exchange_n(names + i * stride, &free, '?', false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			break;
	}
	return i;
}
