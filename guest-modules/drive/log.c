// SPDX-License-Identifier: GPL-2.0-only
/* The module's event log. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "drive.h"

/* More than the largest record of /dev/kmsg (CONSOLE_EXT_LOG_MAX). */
#define KMSG_BYTES 8192
/* Records that are counted at most; a flood ends a scenario long before. */
#define KMSG_RECORDS 200000

static int log_fd = -1;
/* Positioned at the record after the last one that was counted. */
static int kmsg_fd = -1;

static void open_log(void)
{
	if (log_fd < 0)
		log_fd = open("/dev/notifier_hold_log", O_RDONLY | O_CLOEXEC);
	if (log_fd < 0)
		fail_errno("/dev/notifier_hold_log");
}

static void open_kmsg(void)
{
	if (kmsg_fd >= 0)
		return;
	kmsg_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg_fd < 0 || lseek(kmsg_fd, 0, SEEK_END) < 0)
		fail_errno("/dev/kmsg");
}

/* Lost records since the first mark: gaps in the numbers; the size of a first gap is unknown. */
static uint64_t count_lost_records(void)
{
	char text[KMSG_BYTES];
	uint64_t next = 0, lost = 0;
	int i;

	for (i = 0; kmsg_fd >= 0 && i < KMSG_RECORDS; i++) {
		ssize_t got = read(kmsg_fd, text, sizeof(text) - 1);
		unsigned long long number;

		/* EPIPE: the next record is gone, and this reader is now at the oldest record. */
		if (got < 0 && errno == EPIPE) {
			lost += !next;
			continue;
		}
		if (got <= 0)
			break;
		text[got] = '\0';
		if (sscanf(text, "%*u,%llu,", &number) != 1)
			continue;
		if (next && number > next)
			lost += number - next - 1;
		next = number + 1;
	}
	return lost;
}

static void run_log(void)
{
	struct nh_counters counters = {};
	struct nh_log_header header;
	unsigned int kind;
	char key[32];

	open_log();
	if (pread(log_fd, &header, sizeof(header), 0) != sizeof(header))
		fail(EIO, "/dev/notifier_hold_log: short read");
	if (ioctl(log_fd, NH_LOG_COUNTERS, &counters))
		fail_errno("log");
	reply("format", header.format);
	reply("subscribers", header.subscribers);
	reply("count", header.count);
	reply("lost", header.lost);
	reply("capacity", header.capacity);
	reply("violations", counters.violations);
	for (kind = 1; kind < NH_BROKENS; kind++) {
		snprintf(key, sizeof(key), "broken_%u", kind);
		if (counters.broken[kind])
			reply(key, counters.broken[kind]);
	}
	reply("saturated", counters.saturated);
	reply("aborted", counters.aborted);
	reply("leaving", counters.leaving);
	reply("kmsg_lost", count_lost_records());
}

/* Mark the same point in the event log, by the number of this step, and in the kernel log. */
static void run_mark(void)
{
	uint64_t number = command->step;
	char line[256];

	open_log();
	open_kmsg();
	if (ioctl(log_fd, NH_LOG_MARK, &number))
		fail_errno("mark");
	snprintf(line, sizeof(line), "<6>drive: mark %lu %s\n", command->step,
		 find_argument("text"));
	must_write("/dev/kmsg", line);
}

const struct verb log_verbs[] = {
	{ "log", run_log, "" },
	{ "mark", run_mark, "text!" },
	{ NULL, NULL, NULL }
};
