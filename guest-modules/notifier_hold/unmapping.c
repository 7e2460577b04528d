// SPDX-License-Identifier: GPL-2.0-only
/*
 * Is a page unmapped between the start and the end of its range, and not beside it?
 *
 * The probes look at the page table on entry to try_to_unmap_one(), in the callbacks
 * below it, and on its return.  Its caller holds a lock of the reverse mapping, which
 * keeps page tables in place, and the folio's lock, without which nobody else replaces
 * a mapping of the folio by a swap entry: a zap leaves an empty entry, and a page that
 * is mapped and unmapped after a zap has a swap entry of its own.
 * So the answer is certain for anonymous pages, and other pages are not judged.
 */
#include "notifier_hold.h"

#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/ptrace.h>
#include <linux/rcupdate.h>
#include <linux/swap.h>

enum nh_entry {
	NH_ENTRY_OTHER,
	NH_ENTRY_MAPPED,	/* it maps the folio */
	NH_ENTRY_SWAPPED,	/* it says where the page went */
};

static enum nh_entry nh_entry_of(const struct nh_unmapping *unmapping, struct page *page)
{
	return page_folio(page) == unmapping->folio ? NH_ENTRY_MAPPED : NH_ENTRY_OTHER;
}

/* The head of a large folio has its first swap entry; the others follow. */
static enum nh_entry nh_entry_of_swap(const struct nh_unmapping *unmapping, swp_entry_t entry)
{
	struct folio *folio = unmapping->folio;

	if (softleaf_is_hwpoison(entry))
		return NH_ENTRY_SWAPPED;
	if (folio_test_swapcache(folio) &&
	    entry.val - page_private(&folio->page) < folio_size(folio) >> PAGE_SHIFT)
		return NH_ENTRY_SWAPPED;
	return NH_ENTRY_OTHER;
}

/* Takes no lock: it uses each level as it was read, whatever becomes of it. */
static enum nh_entry nh_look(const struct nh_unmapping *unmapping)
{
	unsigned long address = unmapping->address;
	pgd_t *pgd = pgd_offset(unmapping->mm, address);
	p4d_t *p4d;
	pud_t *pud;
	pmd_t pmd;
	pte_t pte;

	if (pgd_none(*pgd) || pgd_bad(*pgd))
		return NH_ENTRY_OTHER;
	p4d = p4d_offset(pgd, address);
	if (p4d_none(*p4d) || p4d_bad(*p4d))
		return NH_ENTRY_OTHER;
	pud = pud_offset(p4d, address);
	if (pud_none(*pud) || pud_bad(*pud))
		return NH_ENTRY_OTHER;
	pmd = READ_ONCE(*pmd_offset(pud, address));
	if (!pmd_present(pmd))
		return NH_ENTRY_OTHER;
	if (pmd_leaf(pmd))
		return nh_entry_of(unmapping, pmd_page(pmd));
	if (pmd_bad(pmd))
		return NH_ENTRY_OTHER;
	pte = READ_ONCE(*pte_offset_kernel(&pmd, address));
	if (pte_none(pte))
		return NH_ENTRY_OTHER;
	if (!pte_present(pte))
		return nh_entry_of_swap(unmapping, softleaf_from_pte(pte));
	return pfn_valid(pte_pfn(pte)) ? nh_entry_of(unmapping, pte_page(pte)) : NH_ENTRY_OTHER;
}

static enum nh_entry nh_look_now(const struct nh_unmapping *unmapping)
{
	enum nh_entry entry;

	/* Page tables of files are freed after a grace period (retract_page_tables()). */
	rcu_read_lock();
	entry = nh_look(unmapping);
	rcu_read_unlock();
	return entry;
}

/* try_to_unmap_one(folio, vma, address, arg) begins; before v5.17 it takes a page. */
void nh_unmapping_enter(struct nh_unmapping *unmapping, struct pt_regs *regs)
{
	struct page *page = (struct page *)regs_get_kernel_argument(regs, 0);
	struct vm_area_struct *vma = (struct vm_area_struct *)regs_get_kernel_argument(regs, 1);

	*unmapping = (struct nh_unmapping){
		.mm = vma->vm_mm,
		.folio = page_folio(page),
		.address = regs_get_kernel_argument(regs, 2),
		.vm_start = vma->vm_start,
		.vm_end = vma->vm_end,
	};
	if (!mm_has_notifiers(unmapping->mm) || !folio_test_anon(unmapping->folio) ||
	    folio_test_hugetlb(unmapping->folio) || nh_look_now(unmapping) != NH_ENTRY_MAPPED)
		unmapping->folio = NULL;
}

static void nh_broken_at(struct nh_unmapping *unmapping, enum nh_broken broken)
{
	nh_violation_at(nh_member_of(unmapping->mm), unmapping->mm, unmapping->address,
			unmapping->address + PAGE_SIZE, broken);
	unmapping->folio = NULL;
}

/* A subscriber's start, maybe for another range: reclaim can happen within a callback. */
void nh_unmapping_start(const struct mmu_notifier_range *range)
{
	struct nh_unmapping *unmapping = nh_observed_unmapping();
	bool beyond;

	if (!unmapping || !unmapping->folio || unmapping->started || range->mm != unmapping->mm ||
	    unmapping->address < range->start || unmapping->address >= range->end)
		return;
	beyond = range->start < unmapping->vm_start || range->end > unmapping->vm_end;
	/* Of all that a huge page maps; what is unmapped is told of next. */
	if (beyond && nh_splits_before_it_unmaps(range, unmapping->address))
		return;
	unmapping->started = true;
	if (nh_look_now(unmapping) == NH_ENTRY_SWAPPED)
		nh_broken_at(unmapping, NH_BROKEN_EARLY);
	else if (beyond || range->end - range->start > folio_size(unmapping->folio))
		nh_broken_at(unmapping, NH_BROKEN_WIDE);
}

/* A subscriber's end. */
void nh_unmapping_end(void)
{
	struct nh_unmapping *unmapping = nh_observed_unmapping();

	if (unmapping && unmapping->folio)
		unmapping->mapped_at_end = nh_look_now(unmapping) == NH_ENTRY_MAPPED;
}

/* try_to_unmap_one() returns. */
void nh_unmapping_leave(struct nh_unmapping *unmapping)
{
	if (!unmapping->folio || nh_look_now(unmapping) != NH_ENTRY_SWAPPED)
		return;
	if (unmapping->mapped_at_end)
		nh_broken_at(unmapping, NH_BROKEN_LATE);
	/* A registered subscriber was registered all the time: registering takes the lock. */
	else if (!unmapping->started && nh_member_of(unmapping->mm))
		nh_broken_at(unmapping, NH_BROKEN_UNTOLD);
}
