// SPDX-License-Identifier: GPL-2.0-only
/* What the device does with the pages that it holds. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
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

/* The device moves the pages of its buffer, as to memory of its own. */
static void run_device_move(void)
{
	struct nh_move argument = {};

	must_ioctl(subscriber_argument(), NH_DEVICE_MOVE, &argument);
	reply("pages", argument.pages);
}

/* For a buffer the page table's view, for a subscriber also struct page's view. */
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
	reply("mm_refs", argument.mm_refs);
}

static const struct name_value counters[] = {
	{ "starts", offsetof(struct nh_stats, starts) },
	{ "ends", offsetof(struct nh_stats, ends) },
	{ "own", offsetof(struct nh_stats, own) },
	{ "mayfail", offsetof(struct nh_stats, mayfail) },
	{ "direct", offsetof(struct nh_stats, direct) },
	{ "refused", offsetof(struct nh_stats, refused) },
	{ "waits", offsetof(struct nh_stats, waits) },
	{ "timeouts", offsetof(struct nh_stats, timeouts) },
	{ NULL, 0 }
};

/* Wait until a counter of the subscriber is at least `min`, whichever task counts. */
static void run_until(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	long offset = choice_argument("counter", counters, "");
	uint64_t min = number_argument("min", 1, 1, UINT64_MAX);
	double end_s = now_s() + AWAIT_LIMIT_MS / 1000.0;
	struct nh_stats argument = {};
	uint64_t value;

	for (;;) {
		must_ioctl(subscriber, NH_GET_STATS, &argument);
		memcpy(&value, (char *)&argument + offset, sizeof(value));
		if (value >= min)
			break;
		if (now_s() > end_s)
			fail(ETIMEDOUT, "%s: %llu after %d ms, %llu wanted",
			     find_argument("counter"), (unsigned long long)value,
			     AWAIT_LIMIT_MS, (unsigned long long)min);
		nanosleep(&(struct timespec){ .tv_nsec = AWAIT_PAUSE_NS }, NULL);
	}
	reply("value", value);
}

/*
 * Would a driver that relies on an interval make progress?  -ETIMEDOUT: an end was
 * lost.  With locked=1 it holds its object's mutex meanwhile, which no driver may do.
 */
static void run_read_begin(void)
{
	struct nh_read_begin argument = {
		.limit_ms = (uint32_t)number_argument("limit_ms", 1000, 1, NH_WAIT_MS_MAX),
	};

	must_ioctl(subscriber_argument(),
		   number_argument("locked", 0, 0, 1) ? NH_READ_BEGIN_LOCKED : NH_READ_BEGIN,
		   &argument);
	reply_signed("result", argument.result);
	reply("sequence", argument.sequence);
	reply("retry", argument.retry);
}

/* closed: callbacks with policy=wait wait from now on; open: they stop.  Also mayfail-fence. */
static void run_fence(void)
{
	static const struct name_value states[] = { { "closed", 0 }, { "open", 1 }, { NULL, 0 } };
	uint32_t value = (uint32_t)choice_argument("state", states, "");

	must_ioctl(subscriber_argument(), NH_SET_FENCE, &value);
}

static void run_build(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_build argument = {
		.how = (uint32_t)choice_argument("how", hows, "get"),
		.alloc = (uint32_t)number_argument("alloc", 1, 0, 64),
		.together = (uint32_t)number_argument("together", 1, 1, TASKS_MAX),
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
	{ "device-move", run_device_move, "name!" },
	{ "pages", run_pages, "name!" },
	{ "same", run_same, "name!" },
	{ "stats", run_stats, "name!" },
	{ "until", run_until, "name! counter! min" },
	{ "read-begin", run_read_begin, "name! limit_ms locked" },
	{ "fence", run_fence, "name! state!" },
	{ "build", run_build, "name! how alloc together" },
	{ NULL, NULL, NULL }
};
