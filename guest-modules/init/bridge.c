// SPDX-License-Identifier: GPL-2.0-only
/*
 * The ssh channel: bytes of a virtio-serial port to and from `dropbear -i` on
 * a socket pair, so that SSH works in a guest without any network.
 *
 * A session begins when the host connects and ends with dropbear or with the
 * host leaving. The port is closed and opened again in between: that drops
 * what was queued for the old session, and QEMU tells the host with the event
 * VSERPORT_CHANGE. If a host leaves and comes back within one turn of the loop,
 * its leaving is not seen; the host gets no greeting, and tries again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "init.h"

struct buffer {
	size_t at, len;
	uint8_t data[16384];
};

static struct port port = { .name = "harness.ssh", .fd = -1 };
static int server = -1;
static pid_t server_pid = -1;
static struct buffer to_server, to_host;

static void end_session(void)
{
	if (server_pid > 0)
		kill(-server_pid, SIGKILL);
	if (server >= 0)
		close(server);
	server = -1;
	server_pid = -1;
	to_server.len = 0;
	to_host.len = 0;
	port_close(&port);
}

static bool start_session(void)
{
	int pair[2], log;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return false;
	server_pid = fork_child();
	if (!server_pid) {
		dup2(pair[1], 0);
		dup2(pair[1], 1);
		/* dropbear's complaints must not get into the kernel's console log. */
		log = open("/run/dropbear.log", O_WRONLY | O_CREAT | O_APPEND, 0600);
		if (log >= 0)
			dup2(log, 2);
		/* -i: serve standard input; -s -j -k: keys only, and nothing is forwarded. */
		execl("/bin/dropbear", "dropbear", "-i", "-s", "-j", "-k",
		      "-r", "/etc/dropbear/host_key", (char *)NULL);
		_exit(127);
	}
	close(pair[1]);
	server = pair[0];
	fcntl(server, F_SETFL, O_NONBLOCK);
	if (server_pid < 0)
		end_session();
	return server >= 0;
}

/* Moves bytes once from one end to the other; false when `from` has ended. */
static bool move(int from, int to, struct buffer *buffer, bool readable)
{
	ssize_t n;

	if (!buffer->len && readable) {
		n = read(from, buffer->data, sizeof(buffer->data));
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		buffer->at = 0;
		buffer->len = n > 0 ? (size_t)n : 0;
	}
	while (buffer->len) {
		n = write(to, buffer->data + buffer->at, buffer->len);
		if (n <= 0)
			return n == 0 || errno == EAGAIN || errno == EINTR;
		buffer->at += n;
		buffer->len -= n;
	}
	return true;
}

bool bridge_reaped(pid_t pid)
{
	if (pid != server_pid)
		return false;
	/* Its last output is still in the socket: the session ends when that is read. */
	server_pid = -1;
	return true;
}

void bridge_want(struct pollset *set)
{
	if (!port_open(&port))
		return;
	if (!port_host_present(&port)) {
		if (port.connected)
			end_session();
		return;
	}
	if (!port.connected)
		port.connected = start_session();
	pollset_add(set, port.fd, (to_server.len ? 0 : POLLIN) | (to_host.len ? POLLOUT : 0));
	pollset_add(set, server, (to_host.len ? 0 : POLLIN) | (to_server.len ? POLLOUT : 0));
}

void bridge_turn(const struct pollset *set)
{
	bool from_host = pollset_seen(set, port.fd) & POLLIN;
	bool from_server = pollset_seen(set, server) & (POLLIN | POLLHUP);

	if (!port.connected)
		return;
	if (!move(port.fd, server, &to_server, from_host) ||
	    !move(server, port.fd, &to_host, from_server))
		end_session();
}
