// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who takes part in the pairing, and what was found.
 *
 * A member that a callback finds in a mask stays for as long as the callback
 * runs: a subscriber is only forgotten after the SRCU grace period of its
 * unregistration, and callbacks are its readers.
 */
#include "pairing.h"

#include <linux/bitops.h>
#include <linux/moduleparam.h>

/* Guards the next two, except for an entry that becomes free. */
static DEFINE_MUTEX(nh_members_lock);
static struct nh_subscriber *nh_members[NH_MEMBERS];
static struct {
	const struct mm_struct *mm;
	u32 number;
} nh_member_names[NH_MEMBERS];	/* for readers that may not look at a member: it may be freed */
static unsigned int nh_member_last;

atomic64_t nh_present;
atomic64_t nh_registered;
atomic64_t nh_leaving;
atomic64_t nh_saturated;
static atomic64_t nh_moves;	/* the order in which subscribers begin and end to register */
atomic64_t nh_aborted;
static atomic64_t nh_violations;
static atomic64_t nh_broken[NH_BROKENS];	/* the same, by kind */

static bool pairing = true;
module_param(pairing, bool, 0644);
MODULE_PARM_DESC(pairing, "check pairing while it runs, for new subscribers, default 1");

/* Members of an mm.  Call with a bucket's lock held: nh_pairing_left() takes each of them. */
u64 nh_members_of(u64 members, const struct mm_struct *mm)
{
	u64 found = 0;

	for (; members; members &= members - 1) {
		if (nh_members[__ffs64(members)]->mm == mm)
			found |= members & -members;
	}
	return found;
}

/*
 * Can a subscriber that is registering be behind all of these on the list, though
 * they were registered before it?  It can if they registered at the same time: the
 * first of the list is the one that took the lock last, not the one that returned last.
 */
bool nh_may_follow(const struct nh_subscriber *sub, u64 members)
{
	for (; members; members &= members - 1) {
		if (nh_members[__ffs64(members)]->joined < sub->asked)
			return false;
	}
	return true;
}

/* The number of a subscriber that is registered with an mm, or 0; from any context. */
u32 nh_member_of(const struct mm_struct *mm)
{
	u64 registered = atomic64_read(&nh_registered);

	for (; registered; registered &= registered - 1) {
		unsigned long member = __ffs64(registered);

		if (READ_ONCE(nh_member_names[member].mm) == mm)
			return READ_ONCE(nh_member_names[member].number);
	}
	return 0;
}

static void nh_violation_count(enum nh_broken broken)
{
	atomic64_inc(&nh_violations);
	atomic64_inc(&nh_broken[broken]);
}

void nh_violation(struct nh_subscriber *sub, const struct mmu_notifier_range *range,
		  enum nh_broken broken)
{
	struct nh_event scratch;
	struct nh_event *event = nh_log_open(&scratch, nh_stamp(), NH_VIOLATION, sub,
					     READ_ONCE(sub->policy), range);

	nh_violation_count(broken);
	nh_log_close(event, broken);
}

/* The same, for pages and not for a callback; from any context. */
void nh_violation_at(u32 subscriber, const struct mm_struct *mm, unsigned long start,
		     unsigned long end, enum nh_broken broken)
{
	struct nh_event scratch;
	struct nh_event *event = nh_log_open(&scratch, nh_stamp(), NH_VIOLATION, NULL, 0, NULL);

	event->subscriber = subscriber;
	event->mm = (unsigned long)mm;
	event->start = start;
	event->end = end;
	nh_violation_count(broken);
	nh_log_close(event, broken);
}

/* The same, for members and an earlier start, maybe of another task. */
void nh_violations_of(u64 members, const struct nh_task *task, const struct nh_group *group,
		      enum nh_broken broken)
{
	for (; members; members &= members - 1) {
		struct nh_subscriber *sub = nh_members[__ffs64(members)];
		struct nh_event scratch;
		struct nh_event *event;

		event = nh_log_open(&scratch, nh_stamp(), NH_VIOLATION, sub,
				    READ_ONCE(sub->policy), &group->range);
		event->range = group->address;
		event->task = (unsigned long)task->task;
		event->pid = task->pid;
		nh_violation_count(broken);
		nh_log_close(event, broken);
	}
}

/* A subscriber is about to be registered: from now on it can be called. */
void nh_pairing_join(struct nh_subscriber *sub)
{
	unsigned int i;

	sub->member = -1;
	if (!READ_ONCE(pairing) || sub->is_interval)
		return;
	mutex_lock(&nh_members_lock);
	for (i = 0; i < NH_MEMBERS; i++) {
		nh_member_last = (nh_member_last + 1) % NH_MEMBERS;
		/* Pairs with nh_member_free() of the subscriber that had the entry. */
		if (!smp_load_acquire(&nh_members[nh_member_last]))
			break;
	}
	if (i < NH_MEMBERS) {
		sub->member = nh_member_last;
		sub->asked = atomic64_inc_return(&nh_moves);
		nh_members[sub->member] = sub;
		WRITE_ONCE(nh_member_names[sub->member].mm, sub->mm);
		WRITE_ONCE(nh_member_names[sub->member].number, sub->number);
		atomic64_or(BIT_ULL(sub->member), &nh_present);
	} else {
		atomic64_inc(&nh_saturated);
	}
	mutex_unlock(&nh_members_lock);
}

/* The subscriber is registered: each start of its mm is for it, too. */
void nh_pairing_joined(struct nh_subscriber *sub)
{
	if (sub->member < 0)
		return;
	sub->joined = atomic64_inc_return(&nh_moves);
	atomic64_or(BIT_ULL(sub->member), &nh_registered);
}

/* The subscriber left: its number among the members becomes free. */
void nh_member_free(struct nh_subscriber *sub)
{
	/* Without the mutex: mmu_notifier_put() ends in an SRCU callback, which may not sleep. */
	smp_store_release(&nh_members[sub->member], NULL);
	sub->member = -1;
}

void nh_pairing_count(struct nh_counters *counters)
{
	unsigned int broken;

	counters->violations = atomic64_read(&nh_violations);
	for (broken = 0; broken < NH_BROKENS; broken++)
		counters->broken[broken] = atomic64_read(&nh_broken[broken]);
	counters->saturated = atomic64_read(&nh_saturated);
	counters->aborted = atomic64_read(&nh_aborted);
}
