// SPDX-License-Identifier: GPL-2.0-only
/* The pages that a subscriber holds, and the device that reads and writes them. */
#include "notifier_hold.h"

#include <linux/sched/signal.h>

static void nh_put_one(const struct nh_subscriber *sub, struct page *page)
{
	if (nh_fault(NH_FAULT_LEAK_REF))
		return;
	if (sub->how == NH_HOW_PIN)
		unpin_user_page(page);
	else
		put_page(page);
}

unsigned long nh_put_pages(struct nh_subscriber *sub)
{
	struct nh_event scratch;
	struct nh_event *event;
	unsigned long dropped;
	u64 seq = nh_stamp();

	if (!sub->held)
		return 0;
	event = nh_log_open(&scratch, seq, NH_PUT, sub, READ_ONCE(sub->policy), NULL);
	for (dropped = 0; dropped < sub->held; dropped++)
		nh_put_one(sub, sub->pages[dropped]);
	sub->held = 0;
	nh_log_close(event, dropped);
	return dropped;
}

/* Take references on up to `count` more pages; returns how many, or -errno if none. */
long nh_take_pages(struct nh_subscriber *sub, unsigned long count)
{
	unsigned long addr = sub->addr + (sub->held << PAGE_SHIFT);
	struct page **pages = sub->pages + sub->held;
	long taken;

	if (sub->how == NH_HOW_PIN)
		taken = pin_user_pages_fast(addr, count, FOLL_WRITE, pages);
	else
		taken = get_user_pages_fast(addr, count, FOLL_WRITE, pages);
	if (!taken)
		return -EFAULT;
	if (taken > 0)
		sub->held += taken;
	return taken;
}

/* May the caller take references now?  Only the process that subscribed can. */
int nh_may_hold(const struct nh_subscriber *sub, u32 how)
{
	if (how >= NH_HOWS)
		return -EINVAL;
	if (sub->held)
		return -EBUSY;
	return current->mm == sub->mm ? 0 : -EPERM;
}

int nh_hold_pages(struct nh_subscriber *sub, struct nh_hold *arg)
{
	struct nh_event scratch;
	struct nh_event *event;
	u64 seq = nh_stamp();
	long ret;

	if (arg->reserved)
		return -EINVAL;
	ret = nh_may_hold(sub, arg->how);
	if (ret)
		return ret;
	sub->how = arg->how;
	event = nh_log_open(&scratch, seq, NH_HOLD, sub, READ_ONCE(sub->policy), NULL);
	do {
		ret = nh_take_pages(sub, sub->capacity - sub->held);
	} while (ret > 0 && sub->held < sub->capacity && !fatal_signal_pending(current));
	if (ret > 0 && sub->held < sub->capacity)
		ret = -EINTR;
	/* After a failure, too, count the pages that were taken: they are put below. */
	nh_log_close(event, sub->held ?: ret);
	if (ret < 0) {
		nh_put_pages(sub);
		return ret;
	}
	arg->pages = sub->held;
	return 0;
}

int nh_device_write(struct nh_subscriber *sub, struct nh_device *arg)
{
	unsigned long i, word;

	for (i = 0; i < sub->held; i++) {
		unsigned long target = nh_fault(NH_FAULT_WRONG_PAGE) ? (i + 1) % sub->held : i;
		u64 *words = kmap_local_page(sub->pages[target]);

		for (word = 0; word < PAGE_SIZE / sizeof(*words); word++)
			WRITE_ONCE(words[word], nh_pattern(arg->seed, i, word));
		kunmap_local(words);
		/* Here, not in a callback, where reclaim holds the page lock. */
		set_page_dirty_lock(sub->pages[target]);
		cond_resched();
	}
	arg->pages = i;
	arg->bad = 0;
	return 0;
}

int nh_device_check(struct nh_subscriber *sub, struct nh_device *arg)
{
	unsigned long i, word;

	arg->bad = 0;
	for (i = 0; i < sub->held; i++) {
		const u64 *words = kmap_local_page(sub->pages[i]);

		for (word = 0; word < PAGE_SIZE / sizeof(*words); word++) {
			if (READ_ONCE(words[word]) != nh_pattern(arg->seed, i, word)) {
				arg->bad++;
				break;
			}
		}
		kunmap_local(words);
		cond_resched();
	}
	arg->pages = i;
	return 0;
}

int nh_get_pages(struct nh_subscriber *sub, struct nh_pages *arg)
{
	unsigned long i;

	for (i = 0; i < sub->held; i++) {
		struct folio *folio = page_folio(sub->pages[i]);
		u32 refs = folio_ref_count(folio);

		arg->mapped += folio_mapped(folio);
		arg->swapcache += folio_test_swapcache(folio);
		arg->dirty += folio_test_dirty(folio);
		arg->writeback += folio_test_writeback(folio);
		arg->pinned += folio_maybe_dma_pinned(folio);
		arg->lru += folio_test_lru(folio);
		arg->active += folio_test_active(folio);
		arg->buddy += PageBuddy(sub->pages[i]);
		arg->refs_min = i ? min(arg->refs_min, refs) : refs;
		arg->refs_max = max(arg->refs_max, refs);
	}
	arg->held = sub->held;
	return 0;
}

int nh_get_same(struct nh_subscriber *sub, struct nh_same *arg)
{
	unsigned long i;

	if (current->mm != sub->mm)
		return -EPERM;
	for (i = 0; i < sub->held; i++) {
		struct page *page;

		/* "fast only" never faults, so that looking changes nothing. */
		if (get_user_pages_fast_only(sub->addr + (i << PAGE_SHIFT), 1, 0, &page) != 1) {
			arg->absent++;
			continue;
		}
		if (page == sub->pages[i])
			arg->same++;
		else
			arg->differ++;
		put_page(page);
	}
	return 0;
}
