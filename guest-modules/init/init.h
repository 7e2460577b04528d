/* SPDX-License-Identifier: GPL-2.0-only */
/* What the parts of PID 1 share: the poll set, virtio-serial ports, children. */
#ifndef HARNESS_INIT_H
#define HARNESS_INIT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Everything that one turn of the main loop waits for. */
struct pollset {
	struct pollfd fds[128];
	nfds_t count;
};

void pollset_add(struct pollset *set, int fd, short events);
short pollset_seen(const struct pollset *set, int fd);

/* A virtio-serial port, found by the name that QEMU gave it. */
struct port {
	const char *name;
	int fd;			/* -1 while the port is not there */
	bool connected;		/* the host holds the other end */
};

bool port_open(struct port *port);
void port_close(struct port *port);
bool port_host_present(const struct port *port);
void ports_forget(void);

/* say.c */
#define NSEC_PER_SEC 1000000000ULL
uint64_t clock_ns(int clock);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* child.c */
pid_t fork_child(void);

/* setup.c: everything that happens once, before PID 1 serves the host. */
void setup_mounts(void);
void setup_self(void);
void setup_swap(void);
void setup_modules(void);
size_t setup_hello(char *text, size_t size);

/* agent.c: the binary channel. */
void agent_want(struct pollset *set);
void agent_turn(const struct pollset *set);
void agent_beat(void);

/* job.c: the commands and files of the host. */
void job_reaped(pid_t pid, int status);

/* bridge.c: the ssh channel. */
void bridge_want(struct pollset *set);
void bridge_turn(const struct pollset *set);
bool bridge_reaped(pid_t pid);

/* watchdog.c */
void watchdog_open(void);
bool watchdog_is_fed(void);
void watchdog_feed(void);

/* calibrate.c */
int calibrate(void);
int measure_tsc(void);

#endif
