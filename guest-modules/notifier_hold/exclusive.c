// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pages that a mirror has for itself, as for an atomic operation of its device: the CPU's
 * entry gives way to one that faults, and that fault gives the page back, and tells the
 * mirror.  "Exclusive access memory" in Documentation/mm/hmm.rst.
 */
#include "notifier_hold.h"

#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/sched/signal.h>

/* How often until the page is not locked by others, and nothing meets it meanwhile. */
#define TRIES 100U

/* -EBUSY: not now. */
static int nh_try_exclusive(struct nh_subscriber *sub, unsigned long index)
{
	unsigned long address = sub->addr + (index << PAGE_SHIFT);
	unsigned long sequence;
	struct page *page;
	int ret;

	/* A fault behind read_begin() would be told, and the page be had in vain each time. */
	if (get_user_pages_fast(address, 1, FOLL_WRITE, &page) != 1)
		return -EFAULT;
	put_page(page);
	sequence = mmu_interval_read_begin(&sub->interval);
	/* The device stops using the page before it asks for it, whatever comes of that. */
	ret = nh_mirror_own(sub, index, NULL, sequence);
	if (ret)
		return ret;
	if (mmap_read_lock_killable(sub->mm))
		return -EINTR;
	page = nh_make_exclusive(sub->mm, address, sub);
	mmap_read_unlock(sub->mm);
	if (IS_ERR(page))
		return PTR_ERR(page);
	/* A fault of the CPU waits for the page's lock before it takes the page back. */
	ret = nh_mirror_own(sub, index, page, sequence);
	unlock_page(page);
	put_page(page);
	return ret;
}

static int nh_take_exclusive(struct nh_subscriber *sub, unsigned long index)
{
	unsigned int tries = 0;
	int ret;

	do {
		ret = nh_try_exclusive(sub, index);
		cond_resched();
	} while (ret == -EBUSY && ++tries < TRIES && !fatal_signal_pending(current) &&
		 !READ_ONCE(nh_quench));
	return ret;
}

/* Every page of the buffer, which must be anonymous memory that is not in huge pages. */
int nh_mirror_exclusive(struct nh_subscriber *sub, struct nh_mirror_fill *arg)
{
	struct nh_event scratch;
	struct nh_event *event;
	u64 seq = nh_stamp();
	unsigned long index;
	int ret = 0;

	if (!sub->mirror || sub->has_tlb)
		return -EINVAL;
	if (current->mm != sub->mm)
		return -EPERM;
	arg->pages = 0;
	arg->stale = 0;
	arg->busy = 0;
	event = nh_log_open(&scratch, seq, NH_MIRROR, sub, READ_ONCE(sub->policy), NULL);
	event->flags = arg->step;
	for (index = 0; index < sub->capacity; index++) {
		ret = nh_take_exclusive(sub, index);
		if (ret && ret != -EBUSY)
			break;
		if (ret)
			arg->busy++;
		else
			arg->pages++;
		ret = 0;
	}
	arg->writable = arg->pages;
	nh_log_close(event, ret ?: arg->pages);
	return ret;
}
