// SPDX-License-Identifier: GPL-2.0-only
/* Subscribers that mirror the page table of their buffer. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "drive.h"

static const struct name_value accesses[] = {
	{ "present", NH_MIRROR_PRESENT },
	{ "read", NH_MIRROR_READ },
	{ "write", NH_MIRROR_WRITE },
	{ "exclusive", NH_MIRROR_EXCLUSIVE },
	{ NULL, 0 }
};

/*
 * access=write: as a device that is about to write; present: what is not mapped stays
 * out; exclusive: as a device that is about to do an atomic operation.
 */
static void run_mirror(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_mirror_fill argument = {
		.access = (uint32_t)choice_argument("access", accesses, "write"),
		.step = (uint32_t)command->step,
	};

	must_ioctl(subscriber, NH_MIRROR_FILL, &argument);
	reply("pages", argument.pages);
	reply("writable", argument.writable);
	reply("stale", argument.stale);
	reply("busy", argument.busy);
}

static void run_compare(void)
{
	struct nh_mirror_compare argument = { .step = (uint32_t)command->step };

	must_ioctl(subscriber_argument(), NH_MIRROR_COMPARE, &argument);
	reply("held", argument.held);
	reply("stale", argument.stale);
	reply("busy", argument.busy);
}

/* After a step: compare every mirror of this process.  The answer tells only what is stale. */
void compare_mirrors(void)
{
	struct nh_mirror_compare argument = { .step = (uint32_t)command->step };
	const struct subscriber *subscriber;
	uint64_t stale = 0;
	size_t i = 0;

	while ((subscriber = next_mirror(&i))) {
		if (ioctl(subscriber->fd, NH_MIRROR_COMPARE, &argument))
			fail(errno, "compare: %s: %s", subscriber->name, strerror(errno));
		stale += argument.stale;
	}
	if (stale)
		reply("stale", stale);
}

const struct verb mirror_verbs[] = {
	{ "mirror", run_mirror, "name! access" },
	{ "compare", run_compare, "name!" },
	{ NULL, NULL, NULL }
};
