/* SPDX-License-Identifier: GPL-2.0-only */
/* drive: what its files share. */
#ifndef _DRIVE_H
#define _DRIVE_H

#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include "../notifier_hold/notifier_hold_uapi.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))
#define PAGE_BYTES 4096UL
#define TABLE_BYTES (512 * PAGE_BYTES)	/* what one page table maps */
#define PAGE_WORDS (PAGE_BYTES / sizeof(uint64_t))
#define NAME_BYTES 32
#define ARGUMENTS_MAX 16
#define BUFFERS_MAX 32
#define SUBSCRIBERS_MAX 32
#define TASKS_MAX 32		/* threads, and child processes */
#define AWAIT_LIMIT_MS 60000
#define AWAIT_PAUSE_NS 5000000
#define FILE_BYTES 16384	/* files of /proc, /sys and cgroupfs that are read whole */

struct verb {
	const char *name;
	void (*run)(void);
	const char *keys;	/* in the order of values without a key; '!': needed */
};

struct argument {
	const char *key;
	const char *value;
};

/* A command that runs, and its answer so far. */
struct command {
	unsigned long step;
	const struct verb *verb;
	char line[4096];
	char keys[ARGUMENTS_MAX][NAME_BYTES];
	struct argument arguments[ARGUMENTS_MAX];
	size_t argument_count;
	jmp_buf failed;
	int failed_errno;
	char failed_text[512];
	char answer[16384];
	size_t answer_length;
	bool quiet;		/* it runs in the background: no progress is printed */
	bool relayed;		/* the answer comes from another task */
	bool enough;		/* a repeated command stops after this repetition */
	volatile sig_atomic_t signals;	/* number of interruptions */
	double start_s;
	double last_output_s;
};

extern __thread struct command *command;

/* drive.c */
void obey(struct command *one, const char *line);
int serve(FILE *input);

/* answer.c */
void begin_answer(const char *verb);
void relay(const char *kind, const char *name, const char *text);
void answer_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
void answer_string(const char *text);
void reply(const char *key, uint64_t value);
void reply_signed(const char *key, int64_t value);
void reply_bool(const char *key, bool value);
void fail(int error, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));
void fail_errno(const char *what) __attribute__((noreturn));
double now_s(void);
void progress(size_t done, size_t total);

/* arguments.c */
struct name_value {
	const char *name;
	long value;
};

void parse_arguments(char *rest);
char *next_word(char **rest);
const char *find_argument(const char *key);
bool parse_size(const char *text, uint64_t *value);
uint64_t number_argument(const char *key, uint64_t absent, uint64_t min, uint64_t max);
long choice_argument(const char *key, const struct name_value *choices, const char *absent);
int errno_argument(const char *key);
size_t size_argument(const char *key);

/* The end of the program's data in memory, end(3). */
extern char end[];

/* files.c */
int write_file(const char *path, const char *text);
void must_write(const char *path, const char *text);
bool read_file(const char *path, char *text, size_t size);
uint64_t sum_lines(const char *text, const char *prefix, bool whole_key);

/* names.c */
const char *new_name(void);
size_t claim(char *names, size_t stride, size_t count);

/* buffers.c */
struct buffer {
	char name[NAME_BYTES];	/* empty: the entry is free */
	char *addr;
	size_t size;
};

struct faults {
	long minor;
	long major;
};

struct buffer *find_buffer(const char *name);
struct buffer *buffer_argument(const char *key);
struct buffer part_argument(const struct buffer *buffer);
struct buffer range_argument(void);
size_t stride_argument(void);
struct buffer *new_buffer(const char *name, void *addr, size_t size);
void *reserve(size_t size);
void *map_apart(size_t size, int prot, int flags, int fd);
struct faults read_faults(void);
void reply_faults(struct faults before);

/* pagemap.c: Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT 0x8000000000000000ULL
#define PAGEMAP_SWAPPED 0x4000000000000000ULL
#define PAGEMAP_SOFT_DIRTY 0x0080000000000000ULL

void reply_pagemap(const char *addr, size_t size);

/* subscribers.c */
struct subscriber {
	char name[NAME_BYTES];	/* empty: the entry is free */
	int fd;
	char *addr;
	size_t size;
	bool mirror;
};

struct subscriber *find_subscriber(const char *name);
struct subscriber *subscriber_argument(void);
struct nh_set_policy policy_argument(void);
uint32_t interface_argument(void);
void must_ioctl(const struct subscriber *subscriber, unsigned long request, void *argument);
void forget_subscribers(void);
const struct subscriber *next_mirror(size_t *i);

/* mirrors.c */
void compare_mirrors(void);

/* threads.c, processes.c */
void run_in_background(const char *name, const char *line);
void forget_threads(void);
void expect_interruptions(void);
void run_in_process(const char *name, const char *line);

extern const struct verb buffer_verbs[];
extern const struct verb content_verbs[];
extern const struct verb mapping_verbs[];
extern const struct verb idle_verbs[];
extern const struct verb subscriber_verbs[];
extern const struct verb device_verbs[];
extern const struct verb mirror_verbs[];
extern const struct verb pressure_verbs[];
extern const struct verb cgroup_verbs[];
extern const struct verb machine_verbs[];
extern const struct verb log_verbs[];
extern const struct verb thread_verbs[];
extern const struct verb process_verbs[];
extern const struct verb userfault_verbs[];
extern const struct verb selftest_verbs[];

#endif /* _DRIVE_H */
