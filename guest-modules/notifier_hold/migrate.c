// SPDX-License-Identifier: GPL-2.0-only
/*
 * The device moves pages, as to memory of its own: migrate_vma_setup() unmaps them,
 * migrate_vma_pages() puts others in their place, also where the zero page was or none.
 * The others are ordinary pages here: every range is the same, and nothing must come back.
 */
#include "notifier_hold.h"

#ifdef CONFIG_DEVICE_MIGRATION

#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/migrate.h>
#include <linux/mm.h>
#include <linux/pagemap.h>

#define BATCH 16UL

/*
 * A page for the content of another, locked; 0: there is none, or the other is being
 * written to the swap, and stays: migrate_vma_pages() wants none that is.
 */
static unsigned long nh_copy(struct page *from)
{
	struct page *to;

	if (from && folio_test_writeback(page_folio(from)))
		return 0;
	to = alloc_page(GFP_HIGHUSER_MOVABLE);
	if (!to)
		return 0;
	lock_page(to);
	if (from)
		copy_highpage(to, from);
	else
		clear_highpage(to);
	return migrate_pfn(page_to_pfn(to));
}

/* With the mmap_lock; returns the number of pages that moved. */
static int nh_move_part(struct nh_subscriber *sub, unsigned long start, unsigned long end)
{
	unsigned long from[BATCH] = {};
	unsigned long to[BATCH] = {};
	struct migrate_vma move = {
		.vma = find_vma(sub->mm, start),
		.src = from,
		.dst = to,
		.start = start,
		.end = end,
		.pgmap_owner = sub,
		.flags = MIGRATE_VMA_SELECT_SYSTEM,
	};
	unsigned long i;
	int ret;

	if (!move.vma || move.vma->vm_start > start || move.vma->vm_end < end)
		return -EFAULT;
	if (!vma_is_anonymous(move.vma))
		return -EINVAL;
	ret = migrate_vma_setup(&move);
	if (ret)
		return ret;
	for (i = 0; i < move.npages; i++) {
		if (from[i] & MIGRATE_PFN_MIGRATE)
			to[i] = nh_copy(migrate_pfn_to_page(from[i]));
	}
	migrate_vma_pages(&move);
	for (i = 0; i < move.npages; i++)
		ret += !!(from[i] & MIGRATE_PFN_MIGRATE);
	migrate_vma_finalize(&move);
	return ret;
}

/* The buffer must be anonymous memory that is not in huge pages. */
int nh_device_move(struct nh_subscriber *sub, struct nh_move *arg)
{
	const unsigned long end = sub->addr + sub->len;
	unsigned long address, next;
	int ret;

	if (current->mm != sub->mm)
		return -EPERM;
	arg->pages = 0;
	for (address = sub->addr; address < end; address = next) {
		next = min(end, address + BATCH * PAGE_SIZE);
		if (mmap_read_lock_killable(sub->mm))
			return -EINTR;
		ret = nh_move_part(sub, address, next);
		mmap_read_unlock(sub->mm);
		if (ret < 0)
			return ret;
		arg->pages += ret;
		cond_resched();
	}
	return 0;
}

#else /* CONFIG_DEVICE_MIGRATION */

int nh_device_move(struct nh_subscriber *sub, struct nh_move *arg)
{
	return -EOPNOTSUPP;
}

#endif /* CONFIG_DEVICE_MIGRATION */
