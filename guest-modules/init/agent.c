// SPDX-License-Identifier: GPL-2.0-only
/*
 * The binary channel: frames from the host become jobs (job.c) or are answered at
 * once; the output of the jobs becomes frames to the host (ring.c).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

static struct port port = { .name = "harness.agent", .fd = -1 };
/* One whole frame, and a NUL after its payload. */
static uint8_t inbox[sizeof(struct frame) + PAYLOAD_MAX + 1];
static size_t inbox_len;

/* Steps the clock and answers with the time that it shows then. */
static int set_clock(uint32_t id, const uint8_t *payload, size_t len)
{
	struct timespec now;
	uint64_t ns;

	if (len != sizeof(ns))
		return EINVAL;
	memcpy(&ns, payload, sizeof(ns));
	now.tv_sec = (time_t)(ns / NSEC_PER_SEC);
	now.tv_nsec = (long)(ns % NSEC_PER_SEC);
	if (clock_settime(CLOCK_REALTIME, &now) < 0)
		return errno;
	ns = clock_ns(CLOCK_REALTIME);
	send_frame(id, DATA, &ns, sizeof(ns));
	return 0;
}

/* Credits the host's bytes and makes the generator use them at once: two clones must not agree. */
static int add_entropy(const uint8_t *payload, size_t len)
{
	struct {
		struct rand_pool_info info;
		uint8_t bytes[512];
	} pool;
	int fd = open("/dev/urandom", O_WRONLY | O_CLOEXEC), error = 0;

	if (fd < 0)
		return errno;
	if (len > sizeof(pool.bytes))
		len = sizeof(pool.bytes);
	pool.info.entropy_count = (int)len * 8;
	pool.info.buf_size = (int)len;
	memcpy(pool.bytes, payload, len);
	if (ioctl(fd, RNDADDENTROPY, &pool) < 0 || ioctl(fd, RNDRESEEDCRNG) < 0)
		error = errno;
	close(fd);
	return error;
}

static void handle(const struct frame *head, uint8_t *payload)
{
	int error;

	switch (head->type) {
	case WRITE:
		if (write_kept(head, payload))
			break;
		/* fall through */
	case EXEC:
	case READ:
		error = job_start(head, payload);
		if (error && head->type == EXEC) {
			const char *text = strerror(error);

			send_frame(head->id, STDERR, text, strlen(text));
			send_number(head->id, EXIT, 126);
		} else if (error) {
			send_number(head->id, DONE, error);
		}
		break;
	case STDIN:
		job_stdin(head, payload);
		break;
	case SIGNAL:
		job_signal(head, payload);
		break;
	case CLOCK:
		send_number(head->id, DONE, set_clock(head->id, payload, head->len));
		break;
	case ENTROPY:
		send_number(head->id, DONE, add_entropy(payload, head->len));
		break;
	case KEEP:
		send_number(head->id, DONE, keep(payload, head->len));
		break;
	case PING:
		send_number(head->id, DONE, 0);
		break;
	case POWEROFF:
		/* Without ACPI there is no power switch; QEMU runs with -no-reboot and ends. */
		reboot(RB_AUTOBOOT);
		break;
	default:
		send_number(head->id, DONE, ENOSYS);
	}
}

/* Takes whole frames out of the inbox, while there is room for the answers. */
static void handle_inbox(void)
{
	struct frame head;
	size_t used = 0;

	while (inbox_len - used >= sizeof(head) && ring_room() >= RESERVE) {
		uint8_t *at = inbox + used;
		uint8_t after;

		memcpy(&head, at, sizeof(head));
		if (head.magic != MAGIC || head.len > PAYLOAD_MAX) {
			say("the host sent no frame (magic %08x, length %u)", head.magic, head.len);
			used = inbox_len;
			break;
		}
		if (inbox_len - used < sizeof(head) + head.len)
			break;
		/* Handlers may end the payload with a NUL: keep the byte that it overwrites. */
		after = at[sizeof(head) + head.len];
		handle(&head, at + sizeof(head));
		at[sizeof(head) + head.len] = after;
		used += sizeof(head) + head.len;
	}
	memmove(inbox, inbox + used, inbox_len - used);
	inbox_len -= used;
}

static void receive(void)
{
	ssize_t got;

	while (inbox_len < sizeof(inbox) - 1 && ring_room() >= RESERVE) {
		got = read(port.fd, inbox + inbox_len, sizeof(inbox) - 1 - inbox_len);
		if (got <= 0)
			return;
		inbox_len += got;
		handle_inbox();
	}
}

void agent_beat(void)
{
	uint64_t now = clock_ns(CLOCK_BOOTTIME);

	if (port.connected && ring_room() >= RESERVE)
		send_frame(0, BEAT, &now, sizeof(now));
}

/* A new host starts afresh: no half frame of an earlier host, and HELLO first. */
static void look_for_host(void)
{
	static char hello[1024];
	bool present = port_open(&port) && port_host_present(&port);

	if (present == port.connected)
		return;
	port.connected = present;
	ring_clear();
	inbox_len = 0;
	if (present)
		send_frame(0, HELLO, hello, (uint32_t)setup_hello(hello, sizeof(hello)));
}

void agent_want(struct pollset *set)
{
	look_for_host();
	if (port.connected) {
		ring_flush(port.fd);
		pollset_add(set, port.fd, (ring_room() >= RESERVE ? POLLIN : 0) |
			    (ring_is_empty() ? 0 : POLLOUT));
	}
	job_want(set);
}

void agent_turn(const struct pollset *set)
{
	if (port.connected && (pollset_seen(set, port.fd) & POLLIN))
		receive();
	job_turn(set);
	if (port.connected)
		ring_flush(port.fd);
}
