// SPDX-License-Identifier: GPL-2.0-only
/*
 * Has the device accessed its pages?  The kernel asks when it ages a page, under the
 * lock of the page table, and adds the answer to the accessed bit of the CPU.
 */
#include "notifier_hold.h"

#include <linux/preempt.h>

static int nh_young(struct mmu_notifier *notifier, unsigned long start, unsigned long end,
		    enum nh_young which)
{
	u64 seq = nh_stamp();
	struct nh_subscriber *sub = container_of(notifier, struct nh_subscriber, notifier);
	bool own = start < sub->addr + sub->len && end > sub->addr;
	struct nh_event scratch;
	struct nh_event *event = nh_log_open(&scratch, seq, NH_YOUNG, sub,
					     READ_ONCE(sub->policy), NULL);

	event->start = start;
	event->end = end;
	event->event = which;
	if (own)
		event->context |= NH_CTX_OWN_BUFFER;
	if (IS_ENABLED(CONFIG_PREEMPT_COUNT))
		event->flags |= NH_YOUNG_COUNTED;
	if (preempt_count())
		event->flags |= NH_YOUNG_ATOMIC;
	nh_log_close(event, own && sub->accessed);
	return own && sub->accessed;
}

static nh_young_t nh_clear_flush_young(struct mmu_notifier *notifier, struct mm_struct *mm,
				       unsigned long start, unsigned long end)
{
	return nh_young(notifier, start, end, NH_YOUNG_CLEAR_FLUSH);
}

static nh_young_t nh_clear_young(struct mmu_notifier *notifier, struct mm_struct *mm,
				 unsigned long start, unsigned long end)
{
	return nh_young(notifier, start, end, NH_YOUNG_CLEAR);
}

static nh_young_t nh_test_young(struct mmu_notifier *notifier, struct mm_struct *mm,
				unsigned long address)
{
	return nh_young(notifier, address, address + PAGE_SIZE, NH_YOUNG_TEST);
}

void nh_young_ops(struct mmu_notifier_ops *ops, bool asked)
{
	ops->clear_flush_young = asked ? nh_clear_flush_young : NULL;
	ops->clear_young = asked ? nh_clear_young : NULL;
	ops->test_young = asked ? nh_test_young : NULL;
}
