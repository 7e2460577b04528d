// SPDX-License-Identifier: GPL-2.0-only
/*
 * The binary channel: frames from the host become jobs, what the jobs say
 * becomes frames to the host.
 *
 * Every request that can block is a job in a child. The host sends the next
 * STDIN of a job only after DONE for the one before, so one frame of buffer a
 * job is enough; output is read from a job only while there is room for it in
 * the ring, so a host that does not read stalls the jobs, not PID 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "init.h"

#define MAGIC 0x4e484147u
#define PAYLOAD_MAX 65536u
#define CHUNK 32768u		/* what virtio_console takes in one write */
#define RING (4u * PAYLOAD_MAX)
#define RESERVE 8192u		/* of the ring, kept for answers */
#define JOBS 16
#define ARGS 256
#define KEPT 16
#define KEPT_PATH 128

enum frame_type {
	EXEC = 1, STDIN, SIGNAL, READ, WRITE, CLOCK, ENTROPY, POWEROFF, PING, KEEP,
	HELLO = 16, STDOUT, STDERR, EXIT, DATA, DONE, BEAT,
};

struct frame {
	uint32_t magic, id, type, len;
};

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

/* Files that PID 1 opened in good time: a write needs no new process, and next to no memory. */
static struct kept {
	char path[KEPT_PATH];
	int fd;
} kept[KEPT];

static struct port port = { .name = "harness.agent", .fd = -1 };
static struct job jobs[JOBS];
/* One whole frame, and a NUL behind its payload. */
static uint8_t inbox[sizeof(struct frame) + PAYLOAD_MAX + 1];
static size_t inbox_len;
static uint8_t ring[RING];
static size_t ring_head, ring_len;

static size_t ring_room(void)
{
	return RING - ring_len;
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

static void send_frame(uint32_t id, enum frame_type type, const void *data, uint32_t len)
{
	struct frame head = { .magic = MAGIC, .id = id, .type = type, .len = len };

	if (ring_room() < sizeof(head) + len)
		return;		/* callers look first; only a beat gets here without */
	ring_put(&head, sizeof(head));
	ring_put(data, len);
}

static void send_number(uint32_t id, enum frame_type type, int32_t number)
{
	send_frame(id, type, &number, sizeof(number));
}

static void ring_flush(void)
{
	while (ring_len) {
		size_t part = ring_len < RING - ring_head ? ring_len : RING - ring_head;
		ssize_t put = write(port.fd, ring + ring_head, part < CHUNK ? part : CHUNK);

		if (put <= 0)
			return;
		ring_head = (ring_head + put) % RING;
		ring_len -= put;
	}
}

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

/* Splits NUL-separated words in place. */
static int split(char *text, size_t len, char **argv)
{
	int argc = 0;

	text[len] = 0;
	for (char *word = text; word < text + len && argc < ARGS - 1; word += strlen(word) + 1)
		argv[argc++] = word;
	argv[argc] = NULL;
	return argc;
}

static void child_exec(char *payload, size_t len)
{
	static char *argv[ARGS];

	if (!split(payload, len, argv)) {
		fprintf(stderr, "agent: no command\n");
		_exit(127);
	}
	execvp(argv[0], argv);
	fprintf(stderr, "agent: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Copies a file to standard output; exits with errno. */
static void child_read(const char *path)
{
	static uint8_t data[PAYLOAD_MAX];
	ssize_t got;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		_exit(errno);
	while ((got = read(fd, data, sizeof(data))) != 0) {
		if (got < 0)
			_exit(errno);
		for (ssize_t done = 0; done < got;) {
			ssize_t put = write(STDOUT_FILENO, data + done, got - done);

			if (put < 0)
				_exit(errno);
			done += put;
		}
	}
	_exit(0);
}

static int keep(const uint8_t *payload, size_t len)
{
	for (struct kept *file = kept; file < kept + KEPT; file++) {
		if (file->path[0])
			continue;
		if (!len || len >= KEPT_PATH)
			return ENAMETOOLONG;
		memcpy(file->path, payload, len);
		file->path[len] = 0;
		file->fd = open(file->path, O_WRONLY | O_CLOEXEC);
		if (file->fd >= 0)
			return 0;
		file->path[0] = 0;
		return errno;
	}
	return ENFILE;
}

/* A WRITE to a kept file, done by PID 1 itself; returns whether it was one. */
static bool write_kept(const struct frame *head, uint8_t *payload)
{
	size_t name = strnlen((char *)payload, head->len);

	for (struct kept *file = kept; name < head->len && file < kept + KEPT; file++) {
		size_t len = head->len - name - 1;
		int error = 0;

		if (!file->path[0] || strcmp(file->path, (char *)payload))
			continue;
		if (pwrite(file->fd, payload + name + 1, len, 0) < 0)
			error = errno;
		send_number(head->id, DONE, error);
		return true;
	}
	return false;
}

/* The payload goes out in one write(2): that is how files in /proc, /sys and cgroups want it. */
static void child_write(const char *path, const uint8_t *data, size_t len)
{
	struct stat info;
	bool regular = stat(path, &info) < 0 || (S_ISREG(info.st_mode) && info.st_size);
	int fd = open(path, O_WRONLY | O_CLOEXEC | (regular ? O_CREAT | O_TRUNC : 0), 0644);

	if (fd < 0)
		_exit(errno);
	if (len && write(fd, data, len) < 0)
		_exit(errno);
	_exit(close(fd) < 0 ? errno : 0);
}

static void child(const struct frame *head, uint8_t *payload, const int pipes[3][2])
{
	signal(SIGPIPE, SIG_DFL);
	/* Whoever holds a port keeps it from being opened again. */
	agent_forget_ports();
	bridge_forget_ports();
	dup2(pipes[0][0], 0);
	dup2(pipes[1][1], 1);
	dup2(pipes[2][1], 2);
	if (chdir("/root") < 0)
		_exit(errno);
	if (head->type == EXEC)
		child_exec((char *)payload, head->len);
	payload[head->len] = 0;
	if (head->type == READ) {
		child_read((char *)payload);
	} else {
		size_t name = strlen((char *)payload) + 1;

		child_write((char *)payload, payload + name,
			    name < head->len ? head->len - name : 0);
	}
}

static int job_start(const struct frame *head, uint8_t *payload)
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
			child(head, payload, pipes);
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
		if (put <= 0) {		/* nobody reads it any more */
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

static void take_stdin(const struct frame *head, const uint8_t *payload)
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

/* Steps the clock and says what it shows then. */
static int set_clock(uint32_t id, const uint8_t *payload, size_t len)
{
	struct timespec now;
	uint64_t ns;

	if (len != sizeof(ns))
		return EINVAL;
	memcpy(&ns, payload, sizeof(ns));
	now.tv_sec = (time_t)(ns / 1000000000ULL);
	now.tv_nsec = (long)(ns % 1000000000ULL);
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

static void signal_job(const struct frame *head, const uint8_t *payload)
{
	struct job *job = job_find(head->id);
	uint32_t number;

	if (!job || job->ended || head->len != sizeof(number))
		return;
	memcpy(&number, payload, sizeof(number));
	/* The group is there once the child called setsid(2). */
	if (kill(-job->pid, (int)number) < 0)
		kill(job->pid, (int)number);
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
		take_stdin(head, payload);
		break;
	case SIGNAL:
		signal_job(head, payload);
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

/* Takes whole frames out of the inbox, while there is room to answer them. */
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
		/* Handlers may end the payload with a NUL: keep the byte that it falls on. */
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

/* What a job said goes into the ring. After its end only what was in the pipe then counts. */
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

bool agent_reaped(pid_t pid, int status)
{
	for (int i = 0; i < JOBS; i++) {
		struct job *job = &jobs[i];

		if (!job->kind || job->pid != pid || job->ended)
			continue;
		job->ended = true;
		job->status = status;
		/* A grandchild may hold the pipes for ever; what the job said is in them now. */
		for (int s = 0; s < STREAMS; s++) {
			int bytes = 0;

			if (job->out[s] >= 0 && !ioctl(job->out[s], FIONREAD, &bytes))
				job->left[s] = (size_t)bytes;
		}
		return true;
	}
	return false;
}

void agent_beat(void)
{
	uint64_t now = clock_ns(CLOCK_BOOTTIME);

	if (port.connected && ring_room() >= RESERVE)
		send_frame(0, BEAT, &now, sizeof(now));
}

void agent_forget_ports(void)
{
	close_end(&port.fd);
}

/* A host that comes starts afresh: no half frame of an earlier one, and HELLO first. */
static void look_for_host(void)
{
	static char hello[1024];
	bool present = port_open(&port) && port_host_present(&port);

	if (present == port.connected)
		return;
	port.connected = present;
	ring_head = 0;
	ring_len = 0;
	inbox_len = 0;
	if (present)
		send_frame(0, HELLO, hello, (uint32_t)setup_hello(hello, sizeof(hello)));
}

void agent_want(struct pollset *set)
{
	look_for_host();
	if (port.connected) {
		ring_flush();
		pollset_add(set, port.fd,
			    (ring_room() >= RESERVE ? POLLIN : 0) | (ring_len ? POLLOUT : 0));
	}
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

void agent_turn(const struct pollset *set)
{
	if (port.connected && (pollset_seen(set, port.fd) & POLLIN))
		receive();
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
	if (port.connected)
		ring_flush();
}
