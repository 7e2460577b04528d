// SPDX-License-Identifier: GPL-2.0-only
/*
 * A record of every callback.
 *
 * One atomic add hands out a slot, and the task that got it writes it.  A record
 * that gets no slot is counted: a log with losses says so.
 */
#include "record.h"

#include <linux/gfp.h>
#include <linux/ktime.h>
#include <linux/moduleparam.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

/* 1.8 GiB of records; a guest has less memory. */
#define NH_CAPACITY_MAX 16777216U

struct nh_log nh_log;

/* Guards what may only change while there is no subscriber: events, capacity, the probes. */
DEFINE_MUTEX(nh_log_lock);

static bool record = true;
module_param(record, bool, 0644);
MODULE_PARM_DESC(record, "keep a record of each callback, default 1; records that are not kept are counted as lost");

bool nh_quench;
module_param_named(quench, nh_quench, bool, 0644);
MODULE_PARM_DESC(quench, "make every policy accept at once and every loop end, default 0");

/* The next number of the global order; 0 while nothing is recorded. */
u64 nh_stamp(void)
{
	return READ_ONCE(record) ? atomic64_inc_return(&nh_log.sequence) : 0;
}

/*
 * Take a slot and fill in what is known on entry.  Without a slot the record goes
 * to the caller's scratch, and is counted as lost.
 */
struct nh_event *nh_log_open(struct nh_event *scratch, u64 seq, enum nh_kind kind,
			     const struct nh_subscriber *sub, u32 policy,
			     const struct mmu_notifier_range *range)
{
	struct nh_event *event = scratch;

	event->seq_exit = 0;
	event->time_ns = 0;
	if (seq) {
		u64 slot = atomic64_fetch_inc(&nh_log.next);

		if (slot < nh_log.capacity)
			event = &nh_log.events[slot];
		event->seq_exit = 0;
		event->time_ns = ktime_get_ns();
	}
	if (event == scratch)
		atomic64_inc(&nh_log.lost);

	event->duration_ns = 0;
	event->task = (unsigned long)current;
	event->current_mm = (unsigned long)current->mm;
	event->pf_flags = current->flags;
	event->result = 0;
	event->pid = task_pid_nr(current);
	event->tgid = task_tgid_nr(current);
	event->kind = kind;
	event->policy = policy;
	event->cpu = raw_smp_processor_id();
	event->context = nh_observe();
	if (current->reclaim_state)
		event->context |= NH_CTX_RECLAIM_STATE;
	if (READ_ONCE(nh_quench))
		event->context |= NH_CTX_QUENCHED;
	event->mm = 0;
	event->start = 0;
	event->end = 0;
	event->subscriber = 0;
	if (sub) {
		event->mm = (unsigned long)sub->mm;
		event->start = sub->addr;
		event->end = sub->addr + sub->len;
		event->subscriber = sub->number;
		if (sub->has_end)
			event->context |= NH_CTX_HAS_END;
	}
	event->range = (unsigned long)range;
	event->flags = 0;
	event->event = 0;
	if (range) {
		event->mm = (unsigned long)range->mm;
		event->start = range->start;
		event->end = range->end;
		event->flags = nh_range_flags(range);
		if (nh_fault_at(NH_FAULT_CLAIM_MAYFAIL, range->start >> PAGE_SHIFT))
			event->flags |= NH_RANGE_MAYFAIL;
		event->event = range->event;
		if (range->start < sub->addr + sub->len && range->end > sub->addr)
			event->context |= NH_CTX_OWN_BUFFER;
	}
	/* Pairs with the reader in user space: a record with a seq is filled in. */
	smp_store_release(&event->seq, seq);
	return event;
}

void nh_log_close(struct nh_event *event, int result)
{
	event->result = result;
	/* Opened while nothing was recorded: there is no time to measure from. */
	if (!event->seq)
		return;
	event->duration_ns = ktime_get_ns() - event->time_ns;
	if (nh_fault(NH_FAULT_LATE))
		event->duration_ns += 3600ULL * NSEC_PER_SEC;
	/* Pairs with the reader in user space: a record with a seq_exit is complete. */
	smp_store_release(&event->seq_exit, atomic64_inc_return(&nh_log.sequence));
}

/* Call this before a subscriber can be called. */
void nh_log_get(void)
{
	mutex_lock(&nh_log_lock);
	atomic_inc(&nh_log.users);
	mutex_unlock(&nh_log_lock);
}

/* Call this when it can never be called again; from any context. */
void nh_log_put(void)
{
	atomic_dec(&nh_log.users);
}

/* Lock out every subscriber; -EBUSY, not locked, while there is one. */
int nh_log_lock_idle(void)
{
	mutex_lock(&nh_log_lock);
	/* A subscriber that was got may still be leaving. */
	if (atomic_read(&nh_log.users))
		mmu_notifier_synchronize();
	if (!atomic_read(&nh_log.users))
		return 0;
	mutex_unlock(&nh_log_lock);
	return -EBUSY;
}

void nh_log_unlock(void)
{
	mutex_unlock(&nh_log_lock);
}

static int nh_log_resize(unsigned int capacity)
{
	struct nh_event *events = vzalloc(array_size(capacity, sizeof(*events)));
	int ret;

	if (!events)
		return -ENOMEM;
	ret = nh_log_lock_idle();
	if (ret) {
		vfree(events);
		return ret;
	}
	swap(nh_log.events, events);
	nh_log.capacity = capacity;
	atomic64_set(&nh_log.next, 0);
	atomic64_set(&nh_log.lost, 0);
	nh_log_unlock();
	vfree(events);
	return 0;
}

static unsigned int capacity = 131072;

/* When the module loads, the value is only noted: nh_record_init() acts on it. */
static int nh_capacity_set(const char *text, const struct kernel_param *parameter)
{
	unsigned int wanted;
	int ret = kstrtouint(text, 0, &wanted);

	if (!ret && (!wanted || wanted > NH_CAPACITY_MAX)) {
		pr_err("capacity=%u is not within 1..%u\n", wanted, NH_CAPACITY_MAX);
		ret = -ERANGE;
	}
	if (!ret && nh_log.events)
		ret = nh_log_resize(wanted);
	if (!ret)
		capacity = wanted;
	return ret;
}

static const struct kernel_param_ops nh_capacity_ops = {
	.set = nh_capacity_set,
	.get = param_get_uint,
};

module_param_cb(capacity, &nh_capacity_ops, &capacity, 0644);
MODULE_PARM_DESC(capacity, "records that the log has room for, 112 bytes each, default 131072; a change empties the log, and is possible only while there is no subscriber");

int nh_record_init(void)
{
	BUILD_BUG_ON(sizeof(struct nh_event) != 112);
	return nh_log_resize(capacity);
}

/* All files are closed, so every subscriber is unregistered. */
void nh_record_exit(void)
{
	/*
	 * Wait for free_notifier of the subscribers that were got.  One grace period
	 * ends the callbacks of this CPU, not those that another CPU has queued.
	 */
	while (atomic_read(&nh_log.users))
		mmu_notifier_synchronize();
	mmu_notifier_synchronize();
	vfree(nh_log.events);
}
