/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All differences between kernels, v5.10 to mainline, each with its commit.
 *
 * A name that is newer than the kernel is defined here; the rest of the module is
 * written for mainline.
 */
#ifndef _NOTIFIER_HOLD_COMPAT_H
#define _NOTIFIER_HOLD_COMPAT_H

#include <linux/err.h>
#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <linux/swap.h>
#include <linux/version.h>

#include "notifier_hold_uapi.h"

/*
 * MMU_NOTIFIER_RANGE_MAYFAIL is not in any release: it comes with the patch
 * "mm/mmu_notifier: Mark up direct reclaim paths with MAYFAIL" (Chris Wilson,
 * 2020, 20200624080248.3701-1-chris@chris-wilson.co.uk).  Without the patch no
 * range may fail, and every policy keeps its meaning.  The Makefile looks for
 * the names.
 */
#ifdef NH_HAVE_MAYFAIL
#define NH_MAYFAIL_BIT MMU_NOTIFIER_RANGE_MAYFAIL
#ifdef NH_HAVE_MAYFAIL_HELPER
#define nh_range_mayfail(range) mmu_notifier_range_mayfail(range)
#else
#define nh_range_mayfail(range) (!!((range)->flags & NH_MAYFAIL_BIT))
#endif
#else
#define nh_range_mayfail(range) ((void)(range), false)
#define NH_MAYFAIL_BIT NH_RANGE_MAYFAIL
#endif

/* By the flag, not by the helper, which drivers call and a patch can get wrong. */
static inline u32 nh_range_flags(const struct mmu_notifier_range *range)
{
	u32 flags = range->flags & ~(NH_MAYFAIL_BIT | NH_RANGE_MAYFAIL);

	return range->flags & NH_MAYFAIL_BIT ? flags | NH_RANGE_MAYFAIL : flags;
}

/* Linux commit f3ba3c710ac5 ("mm/highmem: Provide kmap_local*") (in v5.11) */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
#define kmap_local_page(page) kmap_atomic(page)
#define kunmap_local(address) kunmap_atomic(address)
#endif

/* Linux commit 2f064a59a11f ("sched: Change task_struct::state") (in v5.14) */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 14, 0)
#define nh_task_state(task) READ_ONCE((task)->state)
#else
#define nh_task_state(task) READ_ONCE((task)->__state)
#endif

/* Linux commit 7b230db3b8d3 ("mm: Introduce struct folio") and those after it (in v5.16) */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 16, 0)
struct folio {
	struct page page;
};

static inline struct folio *page_folio(struct page *page)
{
	return (struct folio *)compound_head(page);
}

#define folio_ref_count(folio) page_ref_count(&(folio)->page)
#define folio_mapped(folio) page_mapped(&(folio)->page)
#define folio_test_swapcache(folio) PageSwapCache(&(folio)->page)
#define folio_test_dirty(folio) PageDirty(&(folio)->page)
#define folio_test_writeback(folio) PageWriteback(&(folio)->page)
#define folio_test_lru(folio) PageLRU(&(folio)->page)
#define folio_test_active(folio) PageActive(&(folio)->page)
#define folio_test_anon(folio) PageAnon(&(folio)->page)
#define folio_test_hugetlb(folio) PageHuge(&(folio)->page)
#define folio_size(folio) page_size(&(folio)->page)
#endif

/*
 * Linux commit d74943a2f3cd ("mm/gup: reintroduce FOLL_NUMA as FOLL_HONOR_NUMA_FAULT")
 * (in v6.6): before, every lookup did.
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
#define NH_FOLL_HONOR_NUMA_FAULT 0
#else
#define NH_FOLL_HONOR_NUMA_FAULT FOLL_HONOR_NUMA_FAULT
#endif

/*
 * The page at an address, which is looked up under the page table's lock, and is not
 * faulted in; the caller holds the mmap_lock.
 * Linux commits 55b8fe703bc5 ("gup: Introduce FOLL_NOFAULT flag to disable page faults")
 * (in v5.16) and ca5e863233e8 ("mm/gup: remove vmas parameter from
 * get_user_pages_remote()") (in v6.5).
 */
static inline long nh_get_page_nofault(struct mm_struct *mm, unsigned long address,
				       unsigned int flags, struct page **page)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 16, 0)
	return get_user_pages_fast_only(address, 1, flags, page);
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 5, 0)
	return get_user_pages_remote(mm, address, 1, flags | FOLL_NOFAULT, page, NULL, NULL);
#else
	return get_user_pages_remote(mm, address, 1, flags | FOLL_NOFAULT, page, NULL);
#endif
}

/*
 * A page of anonymous memory for a device alone, locked and with a reference; the caller
 * holds the mmap_lock.  -EBUSY: not now.
 * Linux commits b756a3b5e7ea ("mm: device exclusive memory access") (in v5.14) and
 * 599b684a7854 ("mm/rmap: convert make_device_exclusive_range() to
 * make_device_exclusive()") (in v6.15).
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 14, 0) || !defined(CONFIG_DEVICE_PRIVATE)
static inline struct page *nh_make_exclusive(struct mm_struct *mm, unsigned long address,
					     void *owner)
{
	return ERR_PTR(-EOPNOTSUPP);
}
#elif LINUX_VERSION_CODE < KERNEL_VERSION(6, 15, 0)
static inline struct page *nh_make_exclusive(struct mm_struct *mm, unsigned long address,
					     void *owner)
{
	struct page *page = NULL;
	int ret = make_device_exclusive_range(mm, address, address + PAGE_SIZE, &page, owner);

	if (ret < 0)
		return ERR_PTR(ret);
	return page ?: ERR_PTR(-EBUSY);
}
#else
static inline struct page *nh_make_exclusive(struct mm_struct *mm, unsigned long address,
					     void *owner)
{
	struct folio *folio;

	return make_device_exclusive(mm, address, owner, &folio);
}
#endif

/*
 * Is this the range of a split by which try_to_unmap_one() begins?  Linux commit "mm/rmap:
 * integrate PMD-mapped folio splitting into pagewalk loop" (in v6.11) has one range for both.
 */
static inline bool nh_splits_before_it_unmaps(const struct mmu_notifier_range *range,
					      unsigned long address)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
	return range->start == (address & PMD_MASK) && range->end - range->start == PMD_SIZE;
#else
	return false;
#endif
}

/*
 * Is this the range with which nh_make_exclusive() tells others what `owner` gets?  The
 * first loses more of a large folio than the page that was asked for, and says so.
 */
static inline bool nh_makes_exclusive(const struct mmu_notifier_range *range, const void *owner)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 14, 0)
	return false;
#else
	return range->event == MMU_NOTIFY_EXCLUSIVE && range->owner == owner &&
	       range->end - range->start == PAGE_SIZE;
#endif
}

/*
 * Linux commit ca3574bd653a ("exit: Rename module_put_and_exit to
 * module_put_and_kthread_exit") (in v5.17), and in 5.10.y and 5.15.y since
 */
#ifndef module_put_and_kthread_exit
#define module_put_and_kthread_exit(code) module_put_and_exit(code)
#endif

/*
 * Linux commit 0b90ddae1344 ("mm: Turn page_maybe_dma_pinned() into
 * folio_maybe_dma_pinned()") (in v5.18)
 */
#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 18, 0)
#define folio_maybe_dma_pinned(folio) page_maybe_dma_pinned(&(folio)->page)
#endif

/* "mm: introduce leaf entry type and use to simplify leaf entry logic" (seen in v7.2) */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
#include <linux/swapops.h>
#define softleaf_from_pte(pte) pte_to_swp_entry(pte)
#define softleaf_is_hwpoison(entry) is_hwpoison_entry(entry)
#else
#include <linux/leafops.h>
#endif

/*
 * Linux commit 1af5a8109904 ("mmu_notifiers: rename invalidate_range notifier") (in v6.6);
 * invalidate_range() was called with the end of each range, too.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
#define NH_HAVE_TLB
#endif

/* What the young callbacks return: an int, and in v7.2 a bool. */
#define nh_young_t typeof(((struct mmu_notifier_ops *)NULL)->test_young(NULL, NULL, 0))

#endif /* _NOTIFIER_HOLD_COMPAT_H */
