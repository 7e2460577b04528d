// SPDX-License-Identifier: GPL-2.0-only
/* Frames for the host, in a ring, so that no sender has to wait. */
#define _GNU_SOURCE
#include <string.h>
#include <unistd.h>

#include "agent.h"

#define RING (4u * PAYLOAD_MAX)

static uint8_t ring[RING];
static size_t ring_head, ring_len;

size_t ring_room(void)
{
	return RING - ring_len;
}

bool ring_is_empty(void)
{
	return !ring_len;
}

void ring_clear(void)
{
	ring_head = 0;
	ring_len = 0;
}

static void ring_put(const void *data, size_t len)
{
	const uint8_t *bytes = data;

	for (size_t done = 0; done < len;) {
		size_t at = (ring_head + ring_len) % RING;
		size_t part = len - done < RING - at ? len - done : RING - at;

		memcpy(ring + at, bytes + done, part);
		ring_len += part;
		done += part;
	}
}

void send_frame(uint32_t id, enum frame_type type, const void *data, uint32_t len)
{
	struct frame head = { .magic = MAGIC, .id = id, .type = type, .len = len };

	if (ring_room() < sizeof(head) + len)
		return;		/* never: whoever sends has checked, answers have RESERVE */
	ring_put(&head, sizeof(head));
	ring_put(data, len);
}

void send_number(uint32_t id, enum frame_type type, int32_t number)
{
	send_frame(id, type, &number, sizeof(number));
}

void ring_flush(int fd)
{
	while (ring_len) {
		size_t part = ring_len < RING - ring_head ? ring_len : RING - ring_head;
		ssize_t put = write(fd, ring + ring_head, part < CHUNK ? part : CHUNK);

		if (put <= 0)
			return;
		ring_head = (ring_head + put) % RING;
		ring_len -= put;
	}
}
