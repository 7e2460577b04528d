// SPDX-License-Identifier: GPL-2.0-only
/* The kernel log, and the clocks. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

uint64_t clock_ns(int clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

/* A line in the kernel log: the only place to complain before the host listens. */
void say(const char *format, ...)
{
	char line[256] = "<4>harness-init: ";
	size_t used = strlen(line);
	va_list args;
	int fd;

	va_start(args, format);
	vsnprintf(line + used, sizeof(line) - used, format, args);
	va_end(args);
	fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, line, strlen(line)) < 0)
		line[0] = 0;	/* nobody is left to be told */
	close(fd);
}
