// SPDX-License-Identifier: GPL-2.0-only
/*
 * Does each invalidate_range_start have its end?  Checked while it runs.
 *
 * A group is one call of mmu_notifier_invalidate_range_start(): one task, one
 * struct mmu_notifier_range, every subscriber of the mm in the order of its
 * list.  A task's groups nest, and the kernel's function that owns a range
 * returns after it called the end, so the groups are a stack.  The range itself
 * lies on the task's stack: a range that begins at or above the address of an open
 * range shows that the function of the open range has returned.
 *
 * Every subscriber with an end gets it once, in the order of the starts, after
 * all of them, with the same range.  After a failure that is not tolerated
 * a blockable range gets the ends twice: once from
 * mn_hlist_invalidate_range_start() and once from its caller, which does not
 * know; Linux commit c2655835fd8c ("mm/mmu_notifiers: ensure range_end() is
 * paired with range_start()") (in v5.12).  A range that is not blockable gets them
 * once since that commit, and not at all before: both are accepted.
 *
 * A subscriber that leaves in between loses its end, and that is legal.
 */
#include "pairing.h"

#include <linux/hash.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/rcupdate.h>
#include <linux/sched/task_stack.h>
#include <linux/vmalloc.h>

struct nh_bucket *nh_buckets;

static struct nh_bucket *nh_bucket_of(const struct task_struct *task)
{
	return &nh_buckets[hash_ptr(task, NH_BUCKET_BITS)];
}

static struct nh_group *nh_top(struct nh_task *task)
{
	return task->depth ? &task->groups[task->depth - 1] : NULL;
}

/* Members that this round of ends lacks. */
static u64 nh_lacking(const struct nh_group *group)
{
	return group->ending & ~group->ended & atomic64_read(&nh_present);
}

/* Members whose end must still come. */
u64 nh_waiting(const struct nh_group *group)
{
	if (group->failed && !mmu_notifier_range_blockable(&group->range))
		return 0;
	return nh_lacking(group);
}

/* A failure was not tolerated: the caller ends it again if the kernel ended it itself first. */
static bool nh_may_repeat(const struct nh_group *group)
{
	return group->failed && group->rounds == 1 &&
	       mmu_notifier_range_blockable(&group->range) &&
	       group->ending & atomic64_read(&nh_present);
}

/* The starts of a group are over: which subscriber was there all the time and had none? */
static void nh_check_starts(const struct nh_task *task, const struct nh_group *group)
{
	u64 missing = group->expected & ~group->started & atomic64_read(&nh_registered);

	if (missing)
		nh_violations_of(missing, task, group, NH_BROKEN_MISSING_START);
}

/* The innermost group is over: report what it lacks, and forget it. */
static void nh_pop(struct nh_task *task, enum nh_broken broken)
{
	const struct nh_group *group = nh_top(task);
	u64 waiting = nh_waiting(group);

	if (!group->ended && !group->rounds)
		nh_check_starts(task, group);
	if (waiting)
		nh_violations_of(waiting, task, group, broken);
	task->depth--;
}

/* Has the function that owns an open range returned, as a start with this range shows? */
static bool nh_is_over(const struct nh_group *group, const struct mmu_notifier_range *range)
{
	if (group->starting)
		return false;
	if (!nh_waiting(group) && !nh_may_repeat(group))
		return true;
	return (unsigned long)range >= group->address && object_is_on_stack(range) &&
	       object_is_on_stack((const void *)group->address);
}

static bool nh_is_same(const struct mmu_notifier_range *a, const struct mmu_notifier_range *b)
{
	return a->mm == b->mm && a->start == b->start && a->end == b->end &&
	       a->flags == b->flags && a->event == b->event;
}

/*
 * Can this be one more start of an open group?  Not of a subscriber that came later:
 * the group's caller holds locks that registering takes.  Nor, after others, of a
 * subscriber that was registering: the newest is the first of the list.  A subscriber
 * that leaves is called at its place in the list until it is off the list.
 */
static bool nh_may_join(const struct nh_group *group, const struct nh_subscriber *sub,
			const struct mmu_notifier_range *range)
{
	const u64 bit = BIT_ULL(sub->member);

	if (group->address != (unsigned long)range || group->range.mm != range->mm ||
	    group->ended || group->rounds ||
	    !((group->present | group->leaving) & ~group->started & bit))
		return false;
	return (group->expected | group->leaving) & bit ||
	       (nh_may_follow(sub, group->started & group->expected) &&
		nh_is_same(&group->range, range));
}

/*
 * Is it one?  A group without ends looks open after its range is over.  The start of a
 * subscriber that is registering may be the last of this group or the first of the next:
 * nothing tells, unless others still wait for their start or their end.
 */
static bool nh_joins(const struct nh_group *group, const struct nh_subscriber *sub,
		     const struct mmu_notifier_range *range)
{
	const u64 sure = group->expected | group->leaving;

	return nh_may_join(group, sub, range) &&
	       (sure & BIT_ULL(sub->member) || !(group->started & group->expected) ||
		group->expected & ~group->started & atomic64_read(&nh_registered) ||
		nh_waiting(group));
}

static bool nh_is_current(const struct nh_task *task)
{
	return task->task == current && task->born == current->start_boottime;
}

/*
 * May a task still be between the start and the end of its open ranges?  Not when it
 * is the current task, is gone, or sleeps interruptibly: between start and end there
 * is no such sleep.
 */
bool nh_may_be_inside(const struct nh_task *task)
{
	struct task_struct *found;
	bool inside;

	if (nh_is_current(task))
		return false;
	rcu_read_lock();
	found = pid_task(find_pid_ns(task->pid, &init_pid_ns), PIDTYPE_PID);
	inside = found == task->task && found->start_boottime == task->born &&
		 !(nh_task_state(found) & TASK_INTERRUPTIBLE);
	rcu_read_unlock();
	return inside;
}

/* Callbacks of a group that may come or not: other starts, ends that a failure may omit. */
static u64 nh_possible(const struct nh_group *group)
{
	u64 members = nh_lacking(group);

	if (!group->ended && !group->rounds)
		members |= (group->present | group->leaving) & ~group->started &
			   (atomic64_read(&nh_present) | atomic64_read(&nh_leaving));
	return members;
}

/* No more callbacks can come for a task's open groups: no end is due or may be due again. */
static bool nh_is_idle(const struct nh_task *task)
{
	unsigned int i;

	for (i = 0; i < task->depth; i++) {
		const struct nh_group *group = &task->groups[i];

		/* Pairs with nh_pairing_started() of its task. */
		if (smp_load_acquire(&group->starting))
			return false;
		if (nh_waiting(group) || nh_may_repeat(group))
			return false;
		if (nh_possible(group) && nh_may_be_inside(task))
			return false;
	}
	return true;
}

/*
 * The slot of the current task, or, with `claim`, an idle slot: a group without
 * ends stays open until its task starts another, which may be never.
 */
static struct nh_task *nh_task_find(struct nh_bucket *bucket, bool claim)
{
	struct nh_task *idle = NULL;
	unsigned int i;

	for (i = 0; i < NH_BUCKET_TASKS; i++) {
		if (nh_is_current(&bucket->tasks[i]))
			return &bucket->tasks[i];
	}
	for (i = 0; claim && !idle && i < NH_BUCKET_TASKS; i++) {
		if (nh_is_idle(&bucket->tasks[i]))
			idle = &bucket->tasks[i];
	}
	if (!idle)
		return NULL;
	while (idle->depth)
		nh_pop(idle, NH_BROKEN_LOST_END);
	idle->task = current;
	idle->born = current->start_boottime;
	idle->pid = task_pid_nr(current);
	/* For nh_was_last(). */
	idle->groups[0].address = 0;
	return idle;
}

static struct nh_group *nh_push(struct nh_task *task, struct nh_subscriber *sub,
				const struct mmu_notifier_range *range)
{
	struct nh_group *outer = nh_top(task);
	struct nh_group *group = &task->groups[task->depth];

	if (outer && outer->starting)
		nh_violation(sub, range, NH_BROKEN_REENTERED);
	if (task->depth == NH_NESTING)
		return NULL;
	*group = (struct nh_group){
		.range = *range,
		.address = (unsigned long)range,
		.expected = nh_members_of(atomic64_read(&nh_registered), range->mm),
		.present = nh_members_of(atomic64_read(&nh_present), range->mm),
	};
	/* Pairs with nh_pairing_leaving(): a member that is missing above is in nh_leaving. */
	smp_rmb();
	group->leaving = nh_members_of(atomic64_read(&nh_leaving), range->mm);
	if (++task->depth < NH_NESTING)
		task->groups[task->depth].address = 0;
	return group;
}

/* A start begins.  When it returns, pass the returned group to nh_pairing_started(). */
struct nh_group *nh_pairing_start(struct nh_subscriber *sub, const struct mmu_notifier_range *range)
{
	struct nh_bucket *bucket = nh_bucket_of(current);
	struct nh_group *group = NULL;
	struct nh_task *task;
	u64 maybe = 0;		/* had their start already, if the popped group is this group */

	if (sub->member < 0)
		return NULL;
	raw_spin_lock(&bucket->lock);
	task = nh_task_find(bucket, true);
	if (task) {
		while (task->depth && !nh_joins(nh_top(task), sub, range) &&
		       nh_is_over(nh_top(task), range)) {
			maybe = nh_may_join(nh_top(task), sub, range) ? nh_top(task)->started : 0;
			nh_pop(task, NH_BROKEN_LOST_END);
		}
		group = nh_top(task);
		if (!group || !nh_joins(group, sub, range))
			group = nh_push(task, sub, range);
		if (group && !group->started)
			group->expected &= ~maybe;
	}
	if (!group || group->starts == NH_GROUP_STARTS) {
		atomic64_inc(&nh_saturated);
		/* The subscriber had its start, but the group has no room for it. */
		if (group)
			group->expected &= ~BIT_ULL(sub->member);
		group = NULL;
	} else {
		if (!nh_is_same(&group->range, range))
			nh_violation(sub, range, NH_BROKEN_RANGE);
		group->order[group->starts++] = sub->member;
		group->started |= BIT_ULL(sub->member);
		if (sub->has_end)
			group->ending |= BIT_ULL(sub->member);
		group->starting = true;
	}
	raw_spin_unlock(&bucket->lock);
	return group;
}

/* The start returns `result`.  The group is still on the stack of the current task. */
void nh_pairing_started(struct nh_group *group, int result)
{
	if (!group)
		return;
	if (result && !(result == -EAGAIN && nh_range_mayfail(&group->range)))
		group->failed = true;
	/* Pairs with nh_is_idle() of another task. */
	smp_store_release(&group->starting, false);
}

/* Did the group that was closed last at this depth start this subscriber? */
static bool nh_was_last(const struct nh_task *task, const struct nh_subscriber *sub,
			const struct mmu_notifier_range *range)
{
	const struct nh_group *last = &task->groups[task->depth];

	return task->depth < NH_NESTING && last->address == (unsigned long)range &&
	       last->started & BIT_ULL(sub->member);
}

/* Make the group of a range the innermost, and return it. */
static struct nh_group *nh_unwind(struct nh_task *task, const struct mmu_notifier_range *range)
{
	unsigned int depth = task->depth;

	while (depth && task->groups[depth - 1].address != (unsigned long)range)
		depth--;
	if (!depth)
		return NULL;
	while (task->depth > depth)
		nh_pop(task, NH_BROKEN_NESTING);
	return nh_top(task);
}

/* Mark a member's end; returns what broke, or 0. */
static int nh_end(struct nh_task *task, struct nh_group *group, const struct nh_subscriber *sub)
{
	const u64 bit = BIT_ULL(sub->member);
	unsigned int at;

	if (!group->ended && !group->rounds)
		nh_check_starts(task, group);
	/* The last of the first round has left before its end. */
	if (group->failed && group->ended && !group->rounds && !nh_lacking(group) &&
	    mmu_notifier_range_blockable(&group->range))
		group->rounds = 1;
	if (group->ended & bit && !nh_lacking(group) && group->rounds) {
		group->ended = 0;
		group->next = 0;
	}
	if (group->ended & bit)
		return NH_BROKEN_EXTRA_END;
	group->ended |= bit;
	for (at = group->next; at < group->starts && group->order[at] != sub->member; at++)
		;
	if (at == group->starts)
		return NH_BROKEN_ORDER;
	group->next = at + 1;
	return 0;
}

/* An end comes. */
void nh_pairing_end(struct nh_subscriber *sub, const struct mmu_notifier_range *range)
{
	struct nh_bucket *bucket = nh_bucket_of(current);
	struct nh_group *group;
	struct nh_task *task;
	int broken = 0;

	/* A subscriber that is leaving may get its end or lose it: neither proves anything. */
	if (sub->member < 0 || !(atomic64_read(&nh_present) & BIT_ULL(sub->member)))
		return;
	raw_spin_lock(&bucket->lock);
	task = nh_task_find(bucket, false);
	group = task ? nh_unwind(task, range) : NULL;
	if (!group || !(group->started & BIT_ULL(sub->member))) {
		broken = task && nh_was_last(task, sub, range) ? NH_BROKEN_EXTRA_END :
								 NH_BROKEN_ORPHAN_END;
		/* There may have been no room for its start. */
		if (atomic64_read(&nh_saturated)) {
			atomic64_inc(&nh_saturated);
			broken = 0;
		}
	} else {
		if (!nh_is_same(&group->range, range))
			nh_violation(sub, range, NH_BROKEN_RANGE);
		broken = nh_end(task, group, sub);
		if (!nh_lacking(group)) {
			group->rounds++;
			if (!nh_may_repeat(group))
				nh_pop(task, NH_BROKEN_LOST_END);
		}
	}
	if (broken)
		nh_violation(sub, range, broken);
	raw_spin_unlock(&bucket->lock);
}

int nh_pairing_init(void)
{
	unsigned int bucket;

	nh_buckets = vzalloc(array_size(NH_BUCKETS, sizeof(*nh_buckets)));
	if (!nh_buckets)
		return -ENOMEM;
	for (bucket = 0; bucket < NH_BUCKETS; bucket++)
		raw_spin_lock_init(&nh_buckets[bucket].lock);
	return 0;
}

void nh_pairing_exit(void)
{
	vfree(nh_buckets);
}
