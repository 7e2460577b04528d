// SPDX-License-Identifier: GPL-2.0-only
/*
 * A mirror that models the TLB of a device which walks the CPU's own page table, as an
 * IOMMU does: it gives up what arch_invalidate_secondary_tlbs() tells, and no more.
 *
 * x86 calls it with each flush of a TLB, which may come when the range is over
 * (tlb_finish_mmu()): such a mirror is compared while nothing else goes on.
 */
#include "notifier_hold.h"

#ifdef NH_HAVE_TLB

/* In any context, with locks of page tables held. */
static void nh_tlb_invalidate(struct mmu_notifier *notifier, struct mm_struct *mm,
			      unsigned long start, unsigned long end)
{
	u64 seq = nh_stamp();
	struct nh_subscriber *sub = container_of(notifier, struct nh_subscriber, tlb);
	struct nh_event scratch;
	struct nh_event *event;

	if (start >= sub->addr + sub->len || end <= sub->addr)
		return;
	event = nh_log_open(&scratch, seq, NH_FLUSH, sub, READ_ONCE(sub->policy), NULL);
	event->start = start;
	event->end = end;
	event->context |= NH_CTX_OWN_BUFFER;
	nh_mirror_flushed(sub, start, end);
	nh_log_close(event, 0);
}

static const struct mmu_notifier_ops nh_tlb_ops = {
	.arch_invalidate_secondary_tlbs = nh_tlb_invalidate,
};

int nh_tlb_register(struct nh_subscriber *sub)
{
	sub->tlb.ops = &nh_tlb_ops;
	return mmu_notifier_register(&sub->tlb, sub->mm);
}

void nh_tlb_unregister(struct nh_subscriber *sub)
{
	mmu_notifier_unregister(&sub->tlb, sub->mm);
}

#else /* NH_HAVE_TLB */

int nh_tlb_register(struct nh_subscriber *sub)
{
	return -EOPNOTSUPP;
}

void nh_tlb_unregister(struct nh_subscriber *sub)
{
}

#endif /* NH_HAVE_TLB */
