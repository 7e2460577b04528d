// SPDX-License-Identifier: GPL-2.0-only
/* A subscriber leaves: which ends may it lose?  The open groups must forget it. */
#include "pairing.h"

#include <linux/bitops.h>

/* A subscriber is about to leave: ends that it still waits for are lost, legally or not. */
void nh_pairing_leaving(struct nh_subscriber *sub)
{
	unsigned int bucket, i, depth;
	u64 bit;

	if (sub->member < 0)
		return;
	bit = BIT_ULL(sub->member);
	for (bucket = 0; bucket < NH_BUCKETS; bucket++) {
		raw_spin_lock(&nh_buckets[bucket].lock);
		for (i = 0; i < NH_BUCKET_TASKS; i++) {
			const struct nh_task *task = &nh_buckets[bucket].tasks[i];

			for (depth = 0; depth < task->depth; depth++) {
				if (!(nh_waiting(&task->groups[depth]) & bit))
					continue;
				if (nh_may_be_inside(task))
					atomic64_inc(&nh_aborted);
				else
					nh_violations_of(bit, task, &task->groups[depth],
							 NH_BROKEN_LOST_END);
			}
		}
		raw_spin_unlock(&nh_buckets[bucket].lock);
	}
	atomic64_or(bit, &nh_leaving);
	/* Pairs with nh_push(). */
	smp_mb__after_atomic();
	atomic64_andnot(bit, &nh_registered);
	atomic64_andnot(bit, &nh_present);
}

static void nh_forget(struct nh_group *group, unsigned int member)
{
	const u64 others = ~BIT_ULL(member);
	unsigned int i;

	group->expected &= others;
	group->present &= others;
	group->leaving &= others;
	group->started &= others;
	group->ending &= others;
	group->ended &= others;
	for (i = 0; i < group->starts; i++) {
		if (group->order[i] == member)
			group->order[i] = NH_MEMBERS;
	}
}

/* The subscriber left: it is not called any more, and its number becomes free. */
void nh_pairing_left(struct nh_subscriber *sub)
{
	unsigned int bucket, i, depth;

	if (sub->member < 0)
		return;
	atomic64_andnot(BIT_ULL(sub->member), &nh_leaving);
	for (bucket = 0; bucket < NH_BUCKETS; bucket++) {
		raw_spin_lock(&nh_buckets[bucket].lock);
		for (i = 0; i < NH_BUCKET_TASKS; i++) {
			for (depth = 0; depth < NH_NESTING; depth++)
				nh_forget(&nh_buckets[bucket].tasks[i].groups[depth], sub->member);
		}
		raw_spin_unlock(&nh_buckets[bucket].lock);
	}
	nh_member_free(sub);
}
