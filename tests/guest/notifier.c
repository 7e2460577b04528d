// SPDX-License-Identifier: GPL-2.0-only
/* The requests of the module, for test_notifier.py: CASE [NUMBER], then key=value lines. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../guest-modules/notifier_hold/notifier_hold_uapi.h"

#define PAGES 16
#define BYTES (PAGES * 4096UL)

static char *buffer;

static void must(bool good, const char *what)
{
	if (!good) {
		perror(what);
		exit(1);
	}
}

static void must_ioctl(int fd, unsigned long request, void *argument, const char *what)
{
	must(!ioctl(fd, request, argument), what);
}

static int subscribe(uint32_t flags, uint32_t policy)
{
	struct nh_subscribe argument = {
		.addr = (uintptr_t)buffer,
		.len = BYTES,
		.policy = policy,
		.wait_ms = NH_WAIT_MS_MAX,
		.flags = flags,
	};
	int fd = open("/dev/notifier_hold", O_RDWR | O_CLOEXEC);

	must(fd >= 0, "open");
	must_ioctl(fd, NH_SUBSCRIBE, &argument, "subscribe");
	return fd;
}

static struct nh_stats stats(int fd)
{
	struct nh_stats argument = {};

	must_ioctl(fd, NH_GET_STATS, &argument, "stats");
	return argument;
}

/* Each turn causes two starts and two ends, because both calls change something. */
static void invalidate(unsigned long times)
{
	while (times--) {
		must(!mprotect(buffer, BYTES, PROT_READ), "mprotect");
		must(!mprotect(buffer, BYTES, PROT_READ | PROT_WRITE), "mprotect");
	}
}

/* Holds mmap_lock for reading only, so that the other threads can take page faults. */
static void *discard(void *unused)
{
	must(!madvise(buffer, BYTES, MADV_DONTNEED), "madvise");
	must(!madvise(buffer, BYTES, MADV_DONTNEED), "madvise");
	return unused;
}

static volatile int to_close = -1;
static pid_t closer;

/* Created before anything waits: creating a thread takes mmap_lock for writing. */
static void *close_later(void *unused)
{
	closer = gettid();
	while (to_close < 0)
		usleep(1000);
	close(to_close);
	return unused;
}

/* When it is off the list, it waits for the callbacks that run. */
static bool closer_waits(void)
{
	char path[64], text[64] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", closer);
	fd = open(path, O_RDONLY);
	must(fd >= 0 && read(fd, text, sizeof(text) - 1) > 0, path);
	close(fd);
	return strstr(text, ") D ");
}

static uint64_t released(void)
{
	int log = open("/dev/notifier_hold_log", O_RDONLY);
	struct nh_log_header header;
	struct nh_event event;
	uint64_t count = 0;

	must(read(log, &header, sizeof(header)) == sizeof(header), "log");
	while (read(log, &event, sizeof(event)) == sizeof(event))
		count += event.kind == NH_RELEASE && event.seq_exit;
	close(log);
	return count;
}

/* Leave by put or unregister while the start of another subscriber waits. */
static void leave(bool put)
{
	int waits = subscribe(NH_SUB_END, NH_WAIT_FENCE);
	/* Registered last, it is called first: its start is over when the other start waits. */
	int leaver = subscribe(NH_SUB_END | (put ? NH_SUB_GET : 0), NH_ACCEPT);
	pthread_t discards, closes;
	uint32_t done = 0;

	must(!pthread_create(&closes, NULL, close_later, NULL), "thread");
	must_ioctl(waits, NH_SET_FENCE, &done, "fence");
	must(!pthread_create(&discards, NULL, discard, NULL), "thread");
	while (!stats(waits).waits)
		usleep(1000);
	to_close = leaver;
	if (put)
		pthread_join(closes, NULL);
	while (!put && !(released() && closer_waits()))
		usleep(1000);
	done = 1;
	must_ioctl(waits, NH_SET_FENCE, &done, "fence");
	pthread_join(discards, NULL);
	if (!put)
		pthread_join(closes, NULL);
	printf("own=%llu\n", stats(waits).own);
	close(waits);
}

static volatile bool churns = true;

static void *discard_on(void *unused)
{
	while (churns)
		discard(NULL);
	return unused;
}

/* Subscribers leave one by one, each behind a newer one, while another thread has both called. */
static void churn(unsigned long times)
{
	int older = subscribe(NH_SUB_END, NH_ACCEPT);
	unsigned long long own = 0;
	pthread_t discards;

	must(!pthread_create(&discards, NULL, discard_on, NULL), "thread");
	while (times--) {
		int newer = subscribe(NH_SUB_END, NH_ACCEPT);

		own += stats(older).own;
		close(older);
		older = newer;
	}
	churns = false;
	pthread_join(discards, NULL);
	printf("own=%llu\n", own + stats(older).own);
	close(older);
}

#define CROWD 96
#define REFUSED 8

static unsigned char *other_page;

static void *discard_other(void *unused)
{
	while (churns) {
		must(!madvise(other_page, 4096, MADV_DONTNEED), "madvise");
		usleep(10000);
	}
	return unused;
}

/*
 * The kernel's complaint about a refused start takes long, before the next subscriber
 * has its start. Meanwhile other threads begin starts, so many that some share the bucket.
 */
static void refused_in_a_crowd(void)
{
	int last = subscribe(NH_SUB_END, NH_ACCEPT);
	int refuser = subscribe(0, NH_EAGAIN_ALWAYS);
	pthread_t threads[CROWD + REFUSED];
	unsigned int i;

	other_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(other_page != MAP_FAILED, "mmap");
	for (i = 0; i < CROWD + REFUSED; i++)
		must(!pthread_create(&threads[i], NULL, i < CROWD ? discard_other : discard, NULL),
		     "thread");
	while (i-- > CROWD)
		pthread_join(threads[i], NULL);
	churns = false;
	do
		pthread_join(threads[i], NULL);
	while (i-- > 0);
	printf("refused=%llu\n", stats(refuser).refused);
	close(refuser);
	close(last);
}

static void *page_out(void *unused)
{
	must(!madvise(buffer, 4096, MADV_PAGEOUT), "madvise");
	return unused;
}

/* madvise() drains only its own CPU's LRU caches: a page in another CPU's is not paged out. */
static void stay_on_one_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	must(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
}

/* Reclaim of a page waits for an interval, before the list: another page there is swapped out. */
static void replaced(void)
{
	int list = subscribe(NH_SUB_END, NH_ACCEPT);
	int waits = subscribe(NH_SUB_INTERVAL, NH_WAIT_FENCE);
	struct nh_set_policy accept = { .policy = NH_ACCEPT };
	uint32_t done = 0;
	pthread_t thread;

	stay_on_one_cpu();
	memset(buffer, 1, BYTES);
	must_ioctl(waits, NH_SET_FENCE, &done, "fence");
	must(!pthread_create(&thread, NULL, page_out, NULL), "thread");
	while (!stats(waits).waits)
		usleep(1000);
	must_ioctl(waits, NH_SET_POLICY, &accept, "policy");
	must(!madvise(buffer, 4096, MADV_DONTNEED), "madvise");
	memset(buffer, 2, 4096);
	page_out(NULL);
	done = 1;
	must_ioctl(waits, NH_SET_FENCE, &done, "fence");
	pthread_join(thread, NULL);
	printf("own=%llu\nmayfail=%llu\n", stats(list).own, stats(list).mayfail);
	close(waits);
	close(list);
}

static unsigned long rushes;

static void *come_and_go(void *unused)
{
	unsigned long times = rushes;

	while (times--)
		close(subscribe(0, NH_ACCEPT));
	return unused;
}

/* Subscribers register at the same time, while one stays and other threads have them called. */
static void rush(unsigned long times)
{
	int last = subscribe(NH_SUB_END, NH_ACCEPT);
	pthread_t threads[4], discards[2];
	unsigned int i;

	rushes = times;
	for (i = 0; i < 2; i++)
		must(!pthread_create(&discards[i], NULL, discard_on, NULL), "thread");
	for (i = 0; i < 4; i++)
		must(!pthread_create(&threads[i], NULL, come_and_go, NULL), "thread");
	for (i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	churns = false;
	for (i = 0; i < 2; i++)
		pthread_join(discards[i], NULL);
	printf("own=%llu\n", stats(last).own);
	close(last);
}

static void read_begin(unsigned long times)
{
	int fd = subscribe(NH_SUB_INTERVAL, NH_ACCEPT);
	int list = subscribe(NH_SUB_END, NH_ACCEPT);
	struct nh_read_begin argument = { .limit_ms = NH_WAIT_MS_MAX };

	invalidate(times);
	must_ioctl(fd, NH_READ_BEGIN, &argument, "read_begin");
	printf("result=%d\nsequence=%llu\nstarts=%llu\n", argument.result, argument.sequence,
	       stats(fd).starts);
	must(ioctl(list, NH_READ_BEGIN, &argument), "read_begin of a list's subscriber");
	close(list);
	close(fd);
}

/* read_begin does not return before an end comes; here the end comes late. */
static void stuck(void)
{
	int fd = subscribe(NH_SUB_INTERVAL, NH_ACCEPT);
	int waits = subscribe(NH_SUB_END, NH_WAIT_FENCE);
	struct nh_read_begin argument = { .limit_ms = 100 };
	uint32_t done = 0;
	pthread_t discards;

	must_ioctl(waits, NH_SET_FENCE, &done, "fence");
	must(!pthread_create(&discards, NULL, discard, NULL), "thread");
	while (!stats(waits).waits)
		usleep(1000);
	must_ioctl(fd, NH_READ_BEGIN, &argument, "read_begin, stuck");
	printf("stuck=%d\n", argument.result);
	printf("busy=%d\n", ioctl(fd, NH_READ_BEGIN, &argument) && errno == EBUSY);
	done = 1;
	must_ioctl(waits, NH_SET_FENCE, &done, "fence");
	pthread_join(discards, NULL);
	argument.limit_ms = NH_WAIT_MS_MAX;
	while (ioctl(fd, NH_READ_BEGIN, &argument))
		must(errno == EBUSY, "read_begin, free");
	printf("free=%d\n", argument.result);
	close(waits);
	close(fd);
}

static void protect(unsigned long times, unsigned long count)
{
	int fd = -1;

	while (count--)
		fd = subscribe(NH_SUB_END, NH_ACCEPT);
	invalidate(times);
	printf("starts=%llu\nends=%llu\n", stats(fd).starts, stats(fd).ends);
}

static void wait_for_input(void)
{
	subscribe(NH_SUB_END, NH_ACCEPT);
	puts("ready");
	fflush(stdout);
	getchar();
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	unsigned long number = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;

	buffer = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	must(buffer != MAP_FAILED, "mmap");
	if (!strcmp(name, "protect"))
		protect(number, 1);
	else if (!strcmp(name, "crowd"))
		protect(1, number);
	else if (!strcmp(name, "put") || !strcmp(name, "unregister"))
		leave(name[0] == 'p');
	else if (!strcmp(name, "churn"))
		churn(number);
	else if (!strcmp(name, "refused-in-a-crowd"))
		refused_in_a_crowd();
	else if (!strcmp(name, "replaced"))
		replaced();
	else if (!strcmp(name, "rush"))
		rush(number);
	else if (!strcmp(name, "read-begin"))
		read_begin(number);
	else if (!strcmp(name, "stuck"))
		stuck();
	else if (!strcmp(name, "wait"))
		wait_for_input();
	else
		return 2;
	return 0;
}
