/* SPDX-License-Identifier: GPL-2.0-only */
/* Where the records are, for record.c, which writes them, and log.c, which hands them out. */
#ifndef _NOTIFIER_HOLD_RECORD_H
#define _NOTIFIER_HOLD_RECORD_H

#include "notifier_hold.h"

struct nh_log {
	struct nh_event *events;
	u64 capacity;
	atomic64_t next;	/* slots handed out; more than capacity when it overflowed */
	atomic64_t lost;
	atomic64_t sequence;	/* last order stamp given out */
	atomic_t users;		/* subscribers that can still be called */
};

extern struct nh_log nh_log;

/* Guards what may only change while there is no subscriber: events, capacity, the probes. */
extern struct mutex nh_log_lock;

#endif /* _NOTIFIER_HOLD_RECORD_H */
