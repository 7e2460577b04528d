// SPDX-License-Identifier: GPL-2.0-only
/*
 * Jobs: requests of the host that can block, each in a child.
 *
 * The host sends the next STDIN of a job only after DONE for the one before, so
 * one frame of buffer for each job is enough; output is read from a job only while
 * the ring has room for it, so a host that does not read stalls the jobs, not PID 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define JOBS 16

enum stream { OUT, ERR, STREAMS };

struct job {
	enum frame_type kind;	/* EXEC, READ or WRITE; 0: the slot is free */
	uint32_t id;
	pid_t pid;
	int in, out[STREAMS];
	bool ended;
	int status;
	size_t left[STREAMS];	/* after the end: bytes that are still in the pipe */
	size_t in_at, in_len;
	bool in_busy, in_close;
	uint8_t in_data[PAYLOAD_MAX];
};

static struct job jobs[JOBS];

static struct job *job_find(uint32_t id)
{
	for (int i = 0; i < JOBS; i++)
		if (jobs[i].kind && jobs[i].id == id)
			return &jobs[i];
	return NULL;
}

static void close_end(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static struct job *job_new(enum frame_type kind, uint32_t id)
{
	if (job_find(id))
		return NULL;
	for (int i = 0; i < JOBS; i++) {
		struct job *job = &jobs[i];

		if (job->kind)
			continue;
		memset(job, 0, offsetof(struct job, in_data));
		job->kind = kind;
		job->id = id;
		job->in = -1;
		job->out[OUT] = -1;
		job->out[ERR] = -1;
		return job;
	}
	return NULL;
}

static void job_free(struct job *job)
{
	close_end(&job->in);
	close_end(&job->out[OUT]);
	close_end(&job->out[ERR]);
	job->kind = 0;
}

int job_start(const struct frame *head, uint8_t *payload)
{
	int pipes[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	struct job *job = job_new(head->type, head->id);
	int error = 0;

	if (!job)
		return EBUSY;
	for (int i = 0; i < 3; i++)
		if (pipe2(pipes[i], O_CLOEXEC) < 0)
			error = errno;
	if (!error) {
		job->pid = fork_child();
		if (!job->pid)
			work(head, payload, pipes);
		if (job->pid < 0)
			error = errno;
	}
	close_end(&pipes[0][0]);
	close_end(&pipes[1][1]);
	close_end(&pipes[2][1]);
	job->in = pipes[0][1];
	job->out[OUT] = pipes[1][0];
	job->out[ERR] = pipes[2][0];
	if (error || head->type != EXEC)
		close_end(&job->in);
	if (error) {
		job_free(job);
		return error;
	}
	/* Our three ends must not block us; the child's stay as programs expect them. */
	fcntl(job->in, F_SETFL, O_NONBLOCK);
	fcntl(job->out[OUT], F_SETFL, O_NONBLOCK);
	fcntl(job->out[ERR], F_SETFL, O_NONBLOCK);
	return 0;
}

static void feed(struct job *job)
{
	while (job->in_at < job->in_len) {
		ssize_t put = write(job->in, job->in_data + job->in_at, job->in_len - job->in_at);

		if (put < 0 && errno == EAGAIN)
			return;
		if (put <= 0) {		/* the job does not read it any more */
			job->in_close = true;
			break;
		}
		job->in_at += put;
	}
	job->in_busy = false;
	if (job->in_close)
		close_end(&job->in);
	send_number(job->id, DONE, job->in < 0 && job->in_at < job->in_len ? EPIPE : 0);
	job->in_at = 0;
	job->in_len = 0;
}

void job_stdin(const struct frame *head, const uint8_t *payload)
{
	struct job *job = job_find(head->id);

	if (!job || job->in < 0) {
		send_number(head->id, DONE, EPIPE);
		return;
	}
	if (job->in_busy) {
		send_number(head->id, DONE, EBUSY);
		return;
	}
	memcpy(job->in_data, payload, head->len);
	job->in_at = 0;
	job->in_len = head->len;
	job->in_close = !head->len;
	job->in_busy = true;
	feed(job);
}

void job_signal(const struct frame *head, const uint8_t *payload)
{
	struct job *job = job_find(head->id);
	uint32_t number;

	if (!job || job->ended || head->len != sizeof(number))
		return;
	memcpy(&number, payload, sizeof(number));
	/* The process group exists once the child has called setsid(2). */
	if (kill(-job->pid, (int)number) < 0)
		kill(job->pid, (int)number);
}

/* Moves a job's output to the ring. After its end, only what was in the pipe then counts. */
static void pump(struct job *job, enum stream stream)
{
	static uint8_t data[CHUNK];
	uint32_t type = job->kind == EXEC ? (stream == OUT ? STDOUT : STDERR) : DATA;

	while (job->out[stream] >= 0 && ring_room() >= sizeof(struct frame) + CHUNK + RESERVE) {
		size_t want = job->ended && job->left[stream] < CHUNK ? job->left[stream] : CHUNK;
		ssize_t got = want ? read(job->out[stream], data, want) : 0;

		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			close_end(&job->out[stream]);
			return;
		}
		if (job->ended)
			job->left[stream] -= got;
		if (type != DATA || stream == OUT)
			send_frame(job->id, type, data, got);
	}
}

static void finish(struct job *job)
{
	int32_t result = WEXITSTATUS(job->status);

	if (!WIFEXITED(job->status))
		result = 256 + WTERMSIG(job->status);
	if (!job->ended || job->out[OUT] >= 0 || job->out[ERR] >= 0 || ring_room() < RESERVE / 2)
		return;
	if (job->in_busy) {
		send_number(job->id, DONE, EPIPE);
		job->in_busy = false;
	}
	if (job->kind != EXEC && !WIFEXITED(job->status))
		result = EINTR;
	send_number(job->id, job->kind == EXEC ? EXIT : DONE, result);
	job_free(job);
}

void job_reaped(pid_t pid, int status)
{
	for (int i = 0; i < JOBS; i++) {
		struct job *job = &jobs[i];

		if (!job->kind || job->pid != pid || job->ended)
			continue;
		job->ended = true;
		job->status = status;
		/* A grandchild may hold the pipes for ever; all of the job's output is in them. */
		for (int s = 0; s < STREAMS; s++) {
			int bytes = 0;

			if (job->out[s] >= 0 && !ioctl(job->out[s], FIONREAD, &bytes))
				job->left[s] = (size_t)bytes;
		}
		return;
	}
}

void job_want(struct pollset *set)
{
	for (int i = 0; i < JOBS; i++) {
		struct job *job = &jobs[i];

		if (!job->kind)
			continue;
		if (job->in_busy)
			pollset_add(set, job->in, POLLOUT);
		if (ring_room() < sizeof(struct frame) + CHUNK + RESERVE)
			continue;
		for (int s = 0; s < STREAMS; s++)
			pollset_add(set, job->out[s], POLLIN);
	}
}

void job_turn(const struct pollset *set)
{
	for (int i = 0; i < JOBS; i++) {
		struct job *job = &jobs[i];

		if (!job->kind)
			continue;
		if (job->in_busy && pollset_seen(set, job->in))
			feed(job);
		for (int s = 0; s < STREAMS; s++)
			if (job->ended || pollset_seen(set, job->out[s]))
				pump(job, s);
		finish(job);
	}
}
