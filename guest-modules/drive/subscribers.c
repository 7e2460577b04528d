// SPDX-License-Identifier: GPL-2.0-only
/* Subscribers: open files of the module. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "drive.h"

static const struct name_value policies[] = {
	{ "accept", NH_ACCEPT },
	{ "eagain-mayfail", NH_EAGAIN_MAYFAIL },
	{ "eagain-reclaim", NH_EAGAIN_RECLAIM },
	{ "eagain-always", NH_EAGAIN_ALWAYS },
	{ "errno", NH_ERRNO },
	{ "wait", NH_WAIT_FENCE },
	{ "mutex", NH_WAIT_MUTEX },
	{ "mayfail-trylock", NH_MAYFAIL_TRYLOCK },
	{ "mayfail-fence", NH_MAYFAIL_FENCE },
	{ "block-mutex", NH_BLOCK_MUTEX },
	{ NULL, 0 }
};

static const struct name_value whens[] = {
	{ "mayfail", NH_WHEN_MAYFAIL },
	{ "reclaim", NH_WHEN_RECLAIM },
	{ "always", NH_WHEN_ALWAYS },
	{ NULL, 0 }
};

static const struct name_value interfaces[] = {
	{ "register", 0 },
	{ "get", NH_SUB_GET },
	{ "interval", NH_SUB_INTERVAL },
	{ "mirror", NH_SUB_INTERVAL | NH_SUB_MIRROR },
	{ "tlb", NH_SUB_INTERVAL | NH_SUB_MIRROR | NH_SUB_TLB },
	{ NULL, 0 }
};

#define INTERRUPTIONS_MAX 1000

static struct subscriber subscribers[SUBSCRIBERS_MAX];

struct subscriber *find_subscriber(const char *name)
{
	size_t i;

	for (i = 0; i < SUBSCRIBERS_MAX; i++) {
		if (subscribers[i].name[0] && !strcmp(subscribers[i].name, name))
			return &subscribers[i];
	}
	return NULL;
}

struct subscriber *subscriber_argument(void)
{
	const char *name = find_argument("name");
	struct subscriber *subscriber = find_subscriber(name);

	if (!subscriber)
		fail(ENOENT, "no subscriber is named \"%s\"", name);
	return subscriber;
}

void must_ioctl(const struct subscriber *subscriber, unsigned long request, void *argument)
{
	if (ioctl(subscriber->fd, request, argument))
		fail_errno(command->verb->name);
}

/* From the keys policy, errno, when and wait_ms. */
struct nh_set_policy policy_argument(void)
{
	return (struct nh_set_policy){
		.policy = (uint32_t)choice_argument("policy", policies, ""),
		.error = errno_argument("errno"),
		.when = (uint32_t)choice_argument("when", whens, "mayfail"),
		.wait_ms = (uint32_t)number_argument("wait_ms", 500, 0, NH_WAIT_MS_MAX),
	};
}

static const struct name_value accesses[] = {
	{ "unasked", 0 },
	{ "no", NH_SUB_YOUNG },
	{ "yes", NH_SUB_YOUNG | NH_SUB_ACCESSED },
	{ NULL, 0 }
};

/* NH_SUB_*, from the keys interface and end. */
uint32_t interface_argument(void)
{
	uint32_t flags = (uint32_t)choice_argument("interface", interfaces, "register");

	return flags | (number_argument("end", 1, 0, 1) ? NH_SUB_END : 0);
}

/* A signal interrupts mmu_notifier_register() (mm_take_all_locks()): try again then. */
static void run_subscribe(void)
{
	const char *name = new_name();
	const struct buffer part = part_argument(buffer_argument("buffer"));
	const struct nh_set_policy policy = policy_argument();
	struct nh_subscribe argument = {
		.addr = (uintptr_t)part.addr,
		.len = part.size,
		.policy = policy.policy,
		.error = policy.error,
		.when = policy.when,
		.wait_ms = policy.wait_ms,
		.flags = interface_argument() |
			 (uint32_t)choice_argument("accessed", accesses, "unasked"),
		.end_ms = (uint32_t)number_argument("end_ms", 0, 0, NH_WAIT_MS_MAX),
	};
	uint64_t interrupted = 0;
	size_t i;
	int fd;

	fd = open("/dev/notifier_hold", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fail_errno("/dev/notifier_hold");
	while (ioctl(fd, NH_SUBSCRIBE, &argument)) {
		int error = errno;

		if (error == EINTR && interrupted++ < INTERRUPTIONS_MAX)
			continue;
		close(fd);
		fail(error, "subscribe: %s", strerror(error));
	}
	i = claim(subscribers[0].name, sizeof(subscribers[0]), SUBSCRIBERS_MAX);
	if (i == SUBSCRIBERS_MAX) {
		close(fd);
		fail(ENOSPC, "there are %d subscribers", SUBSCRIBERS_MAX);
	}
	strcpy(subscribers[i].name, name);
	subscribers[i].fd = fd;
	subscribers[i].addr = part.addr;
	subscribers[i].size = part.size;
	subscribers[i].mirror = argument.flags & NH_SUB_MIRROR;
	reply("subscriber", argument.subscriber);
	reply("interrupted", interrupted);
}

static void run_policy(void)
{
	const struct subscriber *subscriber = subscriber_argument();
	struct nh_set_policy argument = policy_argument();

	must_ioctl(subscriber, NH_SET_POLICY, &argument);
}

static void run_unsubscribe(void)
{
	struct subscriber *subscriber = subscriber_argument();

	close(subscriber->fd);
	subscriber->name[0] = '\0';
}

/* In a child process: they belong to its parent, and must not outlive the parent's files. */
void forget_subscribers(void)
{
	size_t i;

	for (i = 0; i < SUBSCRIBERS_MAX; i++) {
		if (subscribers[i].name[0])
			close(subscribers[i].fd);
		subscribers[i].name[0] = '\0';
	}
}

/* The next mirror from entry `i` on, which is moved behind the mirror; NULL: no more. */
const struct subscriber *next_mirror(size_t *i)
{
	while (*i < SUBSCRIBERS_MAX) {
		const struct subscriber *one = &subscribers[(*i)++];

		if (one->name[0] && one->mirror)
			return one;
	}
	return NULL;
}

const struct verb subscriber_verbs[] = {
	{ "subscribe", run_subscribe,
	  "name! buffer! offset policy! errno when wait_ms end end_ms interface accessed" },
	{ "policy", run_policy, "name! policy! errno when wait_ms" },
	{ "unsubscribe", run_unsubscribe, "name!" },
	{ NULL, NULL, NULL }
};
