/* SPDX-License-Identifier: GPL-2.0-only */
/* The open groups, for pairing.c and leaving.c, and the members, by member.c. */
#ifndef _NOTIFIER_HOLD_PAIRING_H
#define _NOTIFIER_HOLD_PAIRING_H

#include <linux/bits.h>

#include "notifier_hold.h"

#define NH_BUCKET_BITS 6
#define NH_BUCKETS BIT(NH_BUCKET_BITS)
#define NH_BUCKET_TASKS 8
#define NH_NESTING 4
#define NH_GROUP_STARTS 16
#define NH_MEMBERS 64

/* The masks hold members of the range's mm. */
struct nh_group {
	struct mmu_notifier_range range;	/* as it was at the first start */
	unsigned long address;		/* of the caller's range */
	u64 expected;			/* were registered before the first start */
	u64 present;			/* had begun to register by then */
	u64 leaving;			/* had begun to leave by then, and were still called */
	u64 started;
	u64 ending;			/* those of started that have an invalidate_range_end */
	u64 ended;			/* in this round of ends */
	u8 order[NH_GROUP_STARTS];	/* of starts; NH_MEMBERS: the member is gone */
	u8 starts;			/* in order */
	u8 next;			/* index into order: whose end is due */
	u8 rounds;			/* complete rounds of ends */
	bool failed;			/* a start failed, and that was not tolerated */
	bool starting;			/* a callback of a start runs */
};

struct nh_task {
	struct task_struct *task;	/* only compared; NULL: never used */
	u64 born;			/* tells a task from the next at its address */
	pid_t pid;
	unsigned int depth;
	struct nh_group groups[NH_NESTING];
};

struct nh_bucket {
	/* Guards the tasks; failed and starting are written without it, by the task itself. */
	raw_spinlock_t lock;
	struct nh_task tasks[NH_BUCKET_TASKS];
};

/* pairing.c */
extern struct nh_bucket *nh_buckets;
u64 nh_waiting(const struct nh_group *group);
bool nh_may_be_inside(const struct nh_task *task);

/* member.c */
extern atomic64_t nh_present;		/* from before registration until it begins to leave */
extern atomic64_t nh_registered;	/* the same, from after registration */
extern atomic64_t nh_leaving;		/* from then on, until it is not called any more */
extern atomic64_t nh_saturated;
extern atomic64_t nh_aborted;		/* ends that a leaving subscriber lost, legally */
u64 nh_members_of(u64 members, const struct mm_struct *mm);
bool nh_may_follow(const struct nh_subscriber *sub, u64 members);
void nh_member_free(struct nh_subscriber *sub);
void nh_violation(struct nh_subscriber *sub, const struct mmu_notifier_range *range,
		  enum nh_broken broken);
void nh_violations_of(u64 members, const struct nh_task *task, const struct nh_group *group,
		      enum nh_broken broken);

#endif /* _NOTIFIER_HOLD_PAIRING_H */
