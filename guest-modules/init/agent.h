/* SPDX-License-Identifier: GPL-2.0-only */
/* The binary channel, whose other end is harness/guest/agent.py: its frames and its parts. */
#ifndef HARNESS_AGENT_H
#define HARNESS_AGENT_H

#include "init.h"

#define MAGIC 0x4e484147u
#define PAYLOAD_MAX 65536u
#define CHUNK 32768u		/* what virtio_console takes in one write */
#define RESERVE 8192u		/* of the ring, kept for answers */

enum frame_type {
	EXEC = 1, STDIN, SIGNAL, READ, WRITE, CLOCK, ENTROPY, POWEROFF, PING, KEEP,
	HELLO = 16, STDOUT, STDERR, EXIT, DATA, DONE, BEAT,
};

struct frame {
	uint32_t magic, id, type, len;
};

/* ring.c: frames on their way to the host. */
size_t ring_room(void);
bool ring_is_empty(void);
void ring_clear(void);
void ring_flush(int fd);
void send_frame(uint32_t id, enum frame_type type, const void *data, uint32_t len);
void send_number(uint32_t id, enum frame_type type, int32_t number);

/* kept.c */
int keep(const uint8_t *payload, size_t len);
bool write_kept(const struct frame *head, uint8_t *payload);

/* work.c */
void work(const struct frame *head, uint8_t *payload, const int pipes[3][2]);

/* job.c */
int job_start(const struct frame *head, uint8_t *payload);
void job_stdin(const struct frame *head, const uint8_t *payload);
void job_signal(const struct frame *head, const uint8_t *payload);
void job_want(struct pollset *set);
void job_turn(const struct pollset *set);

#endif
