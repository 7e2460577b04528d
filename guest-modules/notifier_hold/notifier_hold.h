/* SPDX-License-Identifier: GPL-2.0-only */
/* What the files of the module tell each other. */
#ifndef _NOTIFIER_HOLD_H
#define _NOTIFIER_HOLD_H

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/mmu_notifier.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/spinlock.h>

#include "compat.h"
#include "notifier_hold_uapi.h"

struct nh_group;
struct nh_mirror;
struct pt_regs;

/* Lives from open() to the close of the file, or until free_notifier if it was got. */
struct nh_subscriber {
	struct mmu_notifier notifier;
	struct mmu_notifier_ops ops;	/* own copy: mmu_notifier_get() tells subscribers by it */
	struct mmu_interval_notifier interval;
	struct mmu_notifier tlb;	/* beside the interval, if has_tlb */
	u32 number;
	int member;			/* of the pairing; -1: not followed */
	u64 asked;			/* nh_moves when it began to register */
	u64 joined;			/* and when it was registered */

	/* Written before registration, then only read. */
	unsigned long addr;
	unsigned long len;
	struct mm_struct *mm;		/* valid while subscribed, by the notifier's reference */
	bool has_end;
	bool is_got;
	bool is_interval;
	bool has_tlb;			/* its mirror is a TLB of the CPU's own page table */
	bool accessed;			/* what the young callbacks answer for its pages */
	u32 end_ms;			/* its ends wait for a mirror, for so long at most */

	/* Written by NH_SET_POLICY, read by callbacks without a lock. */
	u32 policy;
	int error;
	u32 when;
	u32 wait_ms;

	struct mutex lock;		/* guards the next seven; never taken in a callback */
	bool subscribed;
	unsigned long read;		/* what mmu_interval_read_begin() returned last, or 0 */
	bool reading;			/* a kernel thread is in mmu_interval_read_begin() */
	enum nh_how how;
	unsigned long held;		/* pages[0..held) carry a reference of ours */
	unsigned long capacity;
	struct page **pages;

	spinlock_t sequence;		/* an interval's user lock: around mmu_interval_set_seq() */
	struct nh_mirror *mirror;	/* NULL: it is none; set before registration */

	struct mutex object;		/* of the modelled driver; guards nothing of ours */
	struct task_struct *owner;	/* of the object; written under it, compared without */
	struct completion fence;	/* of the modelled driver; done unless it builds */
	atomic_t timeouts;		/* since the last build began */

	struct nh_event unregister;	/* scratch for unregister_event */
	struct nh_event *unregister_event;	/* from nh_close() to nh_free_notifier() */

	atomic64_t starts;
	atomic64_t ends;
	atomic64_t own;
	atomic64_t mayfail;
	atomic64_t direct;
	atomic64_t refused;
	atomic64_t waits;
	atomic64_t timed_out;
};

/* record.c */
extern bool nh_quench;
u64 nh_stamp(void);
struct nh_event *nh_log_open(struct nh_event *scratch, u64 seq, enum nh_kind kind,
			     const struct nh_subscriber *sub, u32 policy,
			     const struct mmu_notifier_range *range);
void nh_log_close(struct nh_event *event, int result);
void nh_log_get(void);
void nh_log_put(void);
int nh_log_lock_idle(void);
void nh_log_unlock(void);
int nh_record_init(void);
void nh_record_exit(void);

/* log.c */
int nh_log_init(void);
void nh_log_exit(void);

/* subscriber.c */
u32 nh_subscribers(void);
u32 nh_subscribers_leaving(void);
int nh_subscriber_init(void);
void nh_subscriber_exit(void);

/* callback.c */
extern const struct mmu_interval_notifier_ops nh_interval_ops;
int nh_set_policy(struct nh_subscriber *sub, const struct nh_set_policy *arg);
void nh_range_end(struct mmu_notifier *notifier, const struct mmu_notifier_range *range);
void nh_release(struct mmu_notifier *notifier, struct mm_struct *mm);

/* young.c */
void nh_young_ops(struct mmu_notifier_ops *ops, bool asked);

/* object.c */
int nh_may_hold(const struct nh_subscriber *sub, u32 how);
long nh_take_pages(struct nh_subscriber *sub, unsigned long count);
int nh_hold_pages(struct nh_subscriber *sub, struct nh_hold *arg);
unsigned long nh_put_pages(struct nh_subscriber *sub);
int nh_device_write(struct nh_subscriber *sub, struct nh_device *arg);
int nh_device_check(struct nh_subscriber *sub, struct nh_device *arg);
int nh_get_pages(struct nh_subscriber *sub, struct nh_pages *arg);
int nh_get_same(struct nh_subscriber *sub, struct nh_same *arg);

/* mirror.c */
int nh_mirror_make(struct nh_subscriber *sub);
void nh_mirror_told(struct nh_subscriber *sub, const struct mmu_notifier_range *range);
void nh_mirror_flushed(struct nh_subscriber *sub, unsigned long start, unsigned long end);
int nh_mirror_fill(struct nh_subscriber *sub, struct nh_mirror_fill *arg);
bool nh_mirror_await(unsigned long timeout);
int nh_mirror_compare(struct nh_subscriber *sub, struct nh_mirror_compare *arg);
int nh_mirror_own(struct nh_subscriber *sub, unsigned long index, struct page *page,
		  unsigned long sequence);

/* exclusive.c */
int nh_mirror_exclusive(struct nh_subscriber *sub, struct nh_mirror_fill *arg);

/* migrate.c */
int nh_device_move(struct nh_subscriber *sub, struct nh_move *arg);

/* tlb.c */
int nh_tlb_register(struct nh_subscriber *sub);
void nh_tlb_unregister(struct nh_subscriber *sub);

/* pressure.c */
int nh_kalloc(struct nh_subscriber *sub, struct nh_kalloc *arg);
int nh_build(struct nh_subscriber *sub, struct nh_build *arg);

/* member.c */
void nh_pairing_join(struct nh_subscriber *sub);
void nh_pairing_joined(struct nh_subscriber *sub);
void nh_pairing_count(struct nh_counters *counters);
u32 nh_member_of(const struct mm_struct *mm);
void nh_violation_at(u32 subscriber, const struct mm_struct *mm, unsigned long start,
		     unsigned long end, enum nh_broken broken);

/* pairing.c */
struct nh_group *nh_pairing_start(struct nh_subscriber *sub,
				  const struct mmu_notifier_range *range);
void nh_pairing_started(struct nh_group *group, int result);
void nh_pairing_end(struct nh_subscriber *sub, const struct mmu_notifier_range *range);
int nh_pairing_init(void);
void nh_pairing_exit(void);

/* leaving.c */
void nh_pairing_leaving(struct nh_subscriber *sub);
void nh_pairing_left(struct nh_subscriber *sub);

/* below.c */
u8 nh_observe(void);
struct nh_unmapping *nh_observed_unmapping(void);

/* observer.c */
void nh_observer_count(struct nh_counters *counters);
void nh_observer_init(void);
void nh_observer_exit(void);

/* unmapping.c: zeroed while its task is not in try_to_unmap_one(). */
struct nh_unmapping {
	struct mm_struct *mm;
	struct folio *folio;	/* NULL: not watched */
	unsigned long address;
	unsigned long vm_start;
	unsigned long vm_end;
	bool started;		/* for a range that contains the address */
	bool mapped_at_end;
};

void nh_unmapping_enter(struct nh_unmapping *unmapping, struct pt_regs *regs);
void nh_unmapping_start(const struct mmu_notifier_range *range);
void nh_unmapping_end(void);
void nh_unmapping_leave(struct nh_unmapping *unmapping);

/* reader.c */
int nh_read_begin(struct nh_subscriber *sub, struct file *file, struct nh_read_begin *arg,
		  bool locked);

/* fault.c: each is a fault in the module that an oracle must see. */
enum nh_fault {
	NH_FAULT_NONE,
	NH_FAULT_DROP_END,	/* an end is not recorded */
	NH_FAULT_BLIND_END,	/* the pairing is not told of an end */
	NH_FAULT_LEAK_REF,	/* a page's reference is not put */
	NH_FAULT_WRONG_PAGE,	/* the device writes the page beside the right page */
	NH_FAULT_EAGAIN,	/* -EAGAIN to a range that may not fail */
	NH_FAULT_CLAIM_MAYFAIL,	/* the records of any range say that it may fail */
	NH_FAULT_REFUSE,	/* -EAGAIN to a range that may fail, whatever the policy */
	NH_FAULT_DEAF,		/* a range that meets the buffer is taken for one that does not */
	NH_FAULT_LATE,		/* by its record a callback takes one hour more */
	NH_FAULT_COMPLAIN,	/* a WARN in a callback */
	NH_FAULT_TAINT,		/* the kernel becomes tainted without a message */
};

bool nh_fault(enum nh_fault kind);
bool nh_fault_at(enum nh_fault kind, unsigned long value);

#endif /* _NOTIFIER_HOLD_H */
