// SPDX-License-Identifier: GPL-2.0-only
/* What the device does with the pages that it holds. */
#define _GNU_SOURCE
#include <errno.h>
#include <time.h>

#include "drive.h"

static const struct name_value hows[] = {
	{ "get", NH_HOW_GET },
	{ "pin", NH_HOW_PIN },
	{ NULL, 0 }
};

static void run_hold(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_hold argument = { .how = (uint32_t)choice_argument("how", hows, "get") };

	must_ioctl(subscriber, NH_HOLD_PAGES, &argument);
	reply("pages", argument.pages);
}

static void run_release(void)
{
	struct nh_hold argument = {};

	must_ioctl(subscriber_argument(), NH_PUT_PAGES, &argument);
	reply("pages", argument.pages);
}

static void run_device_write(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_device argument = { .seed = number_argument("seed", 1, 0, UINT32_MAX) };

	must_ioctl(subscriber, NH_DEVICE_WRITE, &argument);
	reply("pages", argument.pages);
}

static void run_device_check(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_device argument = { .seed = number_argument("seed", 1, 0, UINT32_MAX) };

	must_ioctl(subscriber, NH_DEVICE_CHECK, &argument);
	reply("pages", argument.pages);
	reply("bad", argument.bad);
}

/* Of a buffer what the page table says, of a subscriber also what struct page says. */
static void run_pages(void)
{
	const struct buffer *buffer = find_buffer(find_argument("name"));
	const struct subscriber *subscriber;
	struct nh_pages argument = {};

	if (buffer) {
		reply_pagemap(buffer->addr, buffer->size);
		return;
	}
	subscriber = subscriber_argument();
	reply_pagemap(subscriber->addr, subscriber->size);
	must_ioctl(subscriber, NH_GET_PAGES, &argument);
	reply("held", argument.held);
	reply("mapped", argument.mapped);
	reply("swapcache", argument.swapcache);
	reply("dirty", argument.dirty);
	reply("writeback", argument.writeback);
	reply("pinned", argument.pinned);
	reply("lru", argument.lru);
	reply("active", argument.active);
	reply("buddy", argument.buddy);
	reply("refs_min", argument.refs_min);
	reply("refs_max", argument.refs_max);
}

static void run_same(void)
{
	struct nh_same argument = {};

	must_ioctl(subscriber_argument(), NH_GET_SAME, &argument);
	reply("same", argument.same);
	reply("differ", argument.differ);
	reply("absent", argument.absent);
}

static void run_stats(void)
{
	struct nh_stats argument = {};

	must_ioctl(subscriber_argument(), NH_GET_STATS, &argument);
	reply("starts", argument.starts);
	reply("ends", argument.ends);
	reply("own", argument.own);
	reply("mayfail", argument.mayfail);
	reply("direct", argument.direct);
	reply("refused", argument.refused);
	reply("waits", argument.waits);
	reply("timeouts", argument.timeouts);
}

#define AWAIT_LIMIT_MS 60000
#define AWAIT_PAUSE_NS 5000000

/* Until it saw so many callbacks for its buffer that may fail, in whichever task. */
static void run_await_mayfail(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	uint64_t min = number_argument("min", 1, 1, UINT64_MAX);
	double end_s = now_s() + AWAIT_LIMIT_MS / 1000.0;
	struct nh_stats argument = {};

	for (;;) {
		must_ioctl(subscriber, NH_GET_STATS, &argument);
		if (argument.mayfail >= min)
			break;
		if (now_s() > end_s)
			fail(ETIMEDOUT, "%llu callbacks may fail after %d ms, %llu wanted",
			     (unsigned long long)argument.mayfail, AWAIT_LIMIT_MS,
			     (unsigned long long)min);
		nanosleep(&(struct timespec){ .tv_nsec = AWAIT_PAUSE_NS }, NULL);
	}
	reply("mayfail", argument.mayfail);
}

static void run_build(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_build argument = {
		.how = (uint32_t)choice_argument("how", hows, "get"),
		.alloc = (uint32_t)number_argument("alloc", 1, 0, 64),
	};

	must_ioctl(subscriber, NH_BUILD, &argument);
	reply("pages", argument.pages);
	reply("allocated", argument.allocated);
	reply("failed", argument.failed);
	reply("callbacks", argument.callbacks);
	reply("timeouts", argument.timeouts);
	reply_signed("result", argument.result);
}

const struct verb device_verbs[] = {
	{ "hold", run_hold, "name! how" },
	{ "release", run_release, "name!" },
	{ "device-write", run_device_write, "name! seed" },
	{ "device-check", run_device_check, "name! seed" },
	{ "pages", run_pages, "name!" },
	{ "same", run_same, "name!" },
	{ "stats", run_stats, "name!" },
	{ "await-mayfail", run_await_mayfail, "name! min" },
	{ "build", run_build, "name! how alloc" },
	{ NULL, NULL, NULL }
};
