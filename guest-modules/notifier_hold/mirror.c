// SPDX-License-Identifier: GPL-2.0-only
/*
 * A mirror: the page table of a device, which must never disagree with the CPU's.
 *
 * It holds a page frame and a permission to write for each address, taken by
 * hmm_range_fault() under the rules of Documentation/mm/hmm.rst, and gives up exactly
 * what a range tells it to.  What it still holds is compared with the page table: a
 * page that is not mapped there any more, or not writable, was taken away without a word.
 *
 * A page table is read without its lock first, when an entry may be empty for a moment
 * (MADV_COLD).  What looks wrong is looked at again under the lock.
 */
#include "notifier_hold.h"

#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/pgtable.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>

#ifdef CONFIG_HMM_MIRROR

#include <linux/hmm.h>

/* Pages that are looked at together, and how often until nothing meets them meanwhile. */
#define BATCH 512UL
#define TRIES 1000U

/* How long an entry that seems to have changed too early is looked at, until one has been. */
#define PATIENCE_NS (500 * NSEC_PER_MSEC)

#define PERMISSIONS (HMM_PFN_VALID | HMM_PFN_WRITE)

/* The page is the device's alone; of what hmm_range_fault() says, no mirror keeps this bit. */
#define EXCLUSIVE HMM_PFN_ERROR

struct nh_mirror {
	/* Guarded by subscriber.lock: what hmm_range_fault() says, what the mirror held then. */
	unsigned long seen[BATCH];
	unsigned long held[BATCH];
	/* Guarded by subscriber.sequence, as are the entries: an entry had changed too early. */
	bool changed_early;
	/* A frame with PERMISSIONS and EXCLUSIVE, or 0. */
	unsigned long entries[];
};

/* How often a mirror has taken its page table over, and who waits for that. */
static atomic64_t nh_taken = ATOMIC64_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(nh_taken_wait);

/* The last run of pages that are stale in the same way. */
struct nh_stale {
	unsigned long start;
	unsigned long end;		/* == start: there is no run */
	enum nh_broken broken;
	u64 pages;			/* in all runs */
};

/* At MMU_NOTIFY_PROTECTION_VMA the new protection may be none at all. */
static bool nh_only_writing_ends(const struct mmu_notifier_range *range)
{
	return range->event == MMU_NOTIFY_PROTECTION_PAGE || range->event == MMU_NOTIFY_SOFT_DIRTY;
}

/* How a mirror's entry differs from an entry of the page table; 0 if it does not. */
static enum nh_broken nh_differs(unsigned long held, unsigned long seen)
{
	if (held & EXCLUSIVE)
		return seen & HMM_PFN_VALID ? NH_BROKEN_SHARED : 0;
	if (!(seen & HMM_PFN_VALID))
		return NH_BROKEN_GONE;
	if ((seen ^ held) & ~HMM_PFN_FLAGS)
		return NH_BROKEN_MOVED;
	/* A permission that the mirror lacks is its own loss. */
	return held & ~seen & HMM_PFN_WRITE ? NH_BROKEN_READ_ONLY : 0;
}

static void nh_stale_end(struct nh_subscriber *sub, struct nh_stale *stale)
{
	if (stale->end != stale->start)
		nh_violation_at(sub->number, sub->mm, stale->start, stale->end, stale->broken);
	stale->start = 0;
	stale->end = 0;
}

static void nh_stale_add(struct nh_subscriber *sub, struct nh_stale *stale, unsigned long page,
			 enum nh_broken broken)
{
	unsigned long address = sub->addr + (page << PAGE_SHIFT);

	stale->pages++;
	if (stale->end != address || stale->broken != broken) {
		nh_stale_end(sub, stale);
		stale->start = address;
		stale->broken = broken;
	}
	stale->end = address + PAGE_SIZE;
}

/*
 * What an address maps now, in the words of hmm_range_fault(), and without a lock: as in
 * get_user_pages_fast(), page tables stay while interrupts are off.  What it does not
 * know is answered with `held`.
 */
static unsigned long nh_mapped_now(struct mm_struct *mm, unsigned long address, unsigned long held)
{
	pgd_t *pgd = pgd_offset(mm, address);
	p4d_t *p4d;
	pud_t pud;
	pmd_t pmd;
	pte_t pte;

	if (pgd_none(*pgd) || pgd_bad(*pgd))
		return 0;
	p4d = p4d_offset(pgd, address);
	if (p4d_none(*p4d) || p4d_bad(*p4d))
		return 0;
	pud = READ_ONCE(*pud_offset(p4d, address));
	if (pud_none(pud))
		return 0;
	if (pud_leaf(pud) || pud_bad(pud))
		return held;
	pmd = READ_ONCE(*pmd_offset(&pud, address));
	if (!pmd_present(pmd))
		return 0;
	if (pmd_leaf(pmd))
		return (pmd_pfn(pmd) + pte_index(address)) | HMM_PFN_VALID |
		       (pmd_write(pmd) ? HMM_PFN_WRITE : 0);
	if (pmd_bad(pmd))
		return held;
	pte = READ_ONCE(*pte_offset_kernel(&pmd, address));
	if (!pte_present(pte))
		return 0;
	return pte_pfn(pte) | HMM_PFN_VALID | (pte_write(pte) ? HMM_PFN_WRITE : 0);
}

/*
 * A range begins: has the page table changed before anybody was told?  What the mirror
 * holds, no range has told it to give up.  Another task may have an entry empty for a
 * moment (clear_soft_dirty() in a range of its own, MADV_COLD in v6.1), which is long when
 * the host takes its CPU away: what looks changed is looked at again.
 */
static enum nh_broken nh_changed_already(struct nh_subscriber *sub, unsigned long address,
					 unsigned long held)
{
	struct nh_mirror *mirror = sub->mirror;
	enum nh_broken broken;
	unsigned long flags;
	u64 began = 0;

	lockdep_assert_held(&sub->sequence);
	for (;;) {
		local_irq_save(flags);
		broken = nh_differs(held, nh_mapped_now(sub->mm, address, held));
		local_irq_restore(flags);
		if (!broken)
			return 0;
		if (mirror->changed_early)
			break;
		if (!began)
			began = ktime_get_ns();
		else if (ktime_get_ns() - began > PATIENCE_NS)
			break;
		cpu_relax();
	}
	mirror->changed_early = true;
	return NH_BROKEN_BEGUN;
}

/* Give up the entries of a range, or a part of each.  With the sequence's lock held. */
static void nh_give_up(struct nh_subscriber *sub, unsigned long start, unsigned long end,
		       unsigned long keep)
{
	unsigned long address;

	lockdep_assert_held(&sub->sequence);
	start = max(start, sub->addr);
	end = min(end, sub->addr + sub->len);
	for (address = start; address < end; address += PAGE_SIZE) {
		unsigned long *entry = &sub->mirror->entries[(address - sub->addr) >> PAGE_SHIFT];

		/* A page that the CPU may read is nobody's alone any more. */
		*entry &= *entry & EXCLUSIVE ? 0 : keep;
	}
}

/* A range takes something away.  For callbacks, with the sequence's lock held. */
void nh_mirror_told(struct nh_subscriber *sub, const struct mmu_notifier_range *range)
{
	const unsigned long start = max(range->start, sub->addr);
	const unsigned long end = min(range->end, sub->addr + sub->len);
	struct nh_stale stale = {};
	unsigned long address;

	lockdep_assert_held(&sub->sequence);
	for (address = start; address < end; address += PAGE_SIZE) {
		unsigned long page = (address - sub->addr) >> PAGE_SHIFT;
		unsigned long *entry = &sub->mirror->entries[page];
		enum nh_broken broken = *entry ? nh_changed_already(sub, address, *entry) : 0;

		if (broken) {
			nh_stale_add(sub, &stale, page, broken);
			*entry = 0;
		}
	}
	nh_stale_end(sub, &stale);
	nh_give_up(sub, start, end, nh_only_writing_ends(range) ? ~HMM_PFN_WRITE : 0);
}

/* A TLB forgets what it knew.  For callbacks, in any context. */
void nh_mirror_flushed(struct nh_subscriber *sub, unsigned long start, unsigned long end)
{
	spin_lock(&sub->sequence);
	nh_give_up(sub, start, end, 0);
	spin_unlock(&sub->sequence);
}

/*
 * Read a part of the page table into seen[], after faults if the flags ask for them.
 * -EBUSY: a range met the subscriber meanwhile.  `sequence` tells whether one does later.
 */
static int nh_look(struct nh_subscriber *sub, unsigned long first, unsigned long count,
		   unsigned long flags, unsigned long *sequence)
{
	struct hmm_range range = {
		.notifier = &sub->interval,
		.start = sub->addr + (first << PAGE_SHIFT),
		.end = sub->addr + ((first + count) << PAGE_SHIFT),
		.hmm_pfns = sub->mirror->seen,
		.default_flags = flags,
	};
	int ret;

	memset(sub->mirror->seen, 0, sizeof(sub->mirror->seen));
	range.notifier_seq = mmu_interval_read_begin(&sub->interval);
	*sequence = range.notifier_seq;
	if (mmap_read_lock_killable(sub->mm))
		return -EINTR;
	ret = hmm_range_fault(&range);
	mmap_read_unlock(sub->mm);
	return ret;
}

static bool nh_may_try_again(unsigned int tries)
{
	cond_resched();
	return tries < TRIES && !fatal_signal_pending(current) && !READ_ONCE(nh_quench);
}

/*
 * hmm_range_fault() reads an entry of hugetlbfs under its lock, and get_user_pages() knew
 * no FOLL_NOFAULT there until Linux commit 4849807114b8 ("mm/gup: retire
 * follow_hugetlb_page()") (in v6.6).
 */
static unsigned long nh_look_at_hugetlb(struct nh_subscriber *sub, unsigned long address,
					unsigned long sequence)
{
	unsigned long seen = 0;
	struct hmm_range range = {
		.notifier = &sub->interval,
		.notifier_seq = sequence,
		.start = address,
		.end = address + PAGE_SIZE,
		.hmm_pfns = &seen,
	};

	return hmm_range_fault(&range) ? 0 : seen;
}

/*
 * The page table's entry under its lock, without a fault.  An entry from which NUMA
 * balancing took access away is none, as hmm_range_fault() has it.
 */
static unsigned long nh_look_closely(struct nh_subscriber *sub, unsigned long address,
				     bool writing, unsigned long sequence)
{
	struct mm_struct *mm = sub->mm;
	struct vm_area_struct *vma;
	unsigned long seen = 0;
	struct page *page;

	if (mmap_read_lock_killable(mm))
		return 0;
	vma = find_vma(mm, address);
	if (vma && vma->vm_start <= address && is_vm_hugetlb_page(vma)) {
		seen = nh_look_at_hugetlb(sub, address, sequence);
	} else if (nh_get_page_nofault(mm, address, NH_FOLL_HONOR_NUMA_FAULT, &page) == 1) {
		seen = page_to_pfn(page) | HMM_PFN_VALID;
		put_page(page);
		if (writing && nh_get_page_nofault(mm, address, FOLL_WRITE, &page) == 1) {
			seen |= HMM_PFN_WRITE;
			put_page(page);
		}
	}
	mmap_read_unlock(mm);
	return seen;
}

/*
 * Is an entry that looked stale, when the sequence was read, stale indeed?  The mirror
 * held it before the page table's lock was taken and holds it afterwards, and nothing was
 * told in between.  Then it is given up, so that each loss is told only once.
 * -EBUSY: something was told.
 */
static int nh_confirm(struct nh_subscriber *sub, unsigned long page, unsigned long held,
		      unsigned long sequence)
{
	unsigned long *entry = &sub->mirror->entries[page];
	unsigned long seen = nh_look_closely(sub, sub->addr + (page << PAGE_SHIFT),
					     held & HMM_PFN_WRITE, sequence);
	int ret = nh_differs(held, seen);

	if (fatal_signal_pending(current))
		return -EINTR;
	spin_lock(&sub->sequence);
	if (mmu_interval_read_retry(&sub->interval, sequence))
		ret = -EBUSY;
	else if (ret)
		*entry = 0;
	spin_unlock(&sub->sequence);
	return ret;
}

/* What the mirror holds, as of a sequence; -EBUSY: something was told since. */
static int nh_hold_on(struct nh_subscriber *sub, unsigned long first, unsigned long count,
		      unsigned long sequence)
{
	struct nh_mirror *mirror = sub->mirror;
	int ret = 0;

	spin_lock(&sub->sequence);
	if (mmu_interval_read_retry(&sub->interval, sequence))
		ret = -EBUSY;
	else
		memcpy(mirror->held, &mirror->entries[first], count * sizeof(mirror->held[0]));
	spin_unlock(&sub->sequence);
	return ret;
}

/* Compare held[] with seen[]; returns the number of entries that were held. */
static int nh_compare_seen(struct nh_subscriber *sub, unsigned long first, unsigned long count,
			   unsigned long sequence, struct nh_stale *stale)
{
	const struct nh_mirror *mirror = sub->mirror;
	int held = 0;
	unsigned long i;

	for (i = 0; i < count; i++) {
		int ret;

		held += !!mirror->held[i];
		if (!mirror->held[i] || !nh_differs(mirror->held[i], mirror->seen[i]))
			continue;
		ret = nh_confirm(sub, first + i, mirror->held[i], sequence);
		if (ret < 0)
			return ret;
		if (ret)
			nh_stale_add(sub, stale, first + i, ret);
	}
	return held;
}

/* Take over seen[], unless something was told since. */
static int nh_take_over(struct nh_subscriber *sub, unsigned long first, unsigned long count,
			unsigned long sequence, struct nh_mirror_fill *arg)
{
	const unsigned long *seen = sub->mirror->seen;
	unsigned long *entries = &sub->mirror->entries[first];
	unsigned long i;
	int ret = 0;

	spin_lock(&sub->sequence);
	if (mmu_interval_read_retry(&sub->interval, sequence)) {
		ret = -EBUSY;
		goto out;
	}
	for (i = 0; i < count; i++) {
		entries[i] = 0;
		if (!(seen[i] & HMM_PFN_VALID))
			continue;
		entries[i] = seen[i] & (~HMM_PFN_FLAGS | PERMISSIONS);
		arg->pages++;
		arg->writable += !!(seen[i] & HMM_PFN_WRITE);
	}
out:
	spin_unlock(&sub->sequence);
	return ret;
}

/*
 * Compare a part of the mirror; returns the number of entries that were held.  With
 * `fill` it takes the page table over as well, after the comparison: nobody told of the
 * difference.  -EBUSY when ranges never stopped coming.
 */
static int nh_walk_part(struct nh_subscriber *sub, unsigned long first, unsigned long count,
			unsigned long flags, struct nh_stale *stale, struct nh_mirror_fill *fill)
{
	unsigned int tries = 0;
	unsigned long sequence;
	int ret, held;

	do {
		ret = nh_look(sub, first, count, flags, &sequence);
		if (!ret)
			ret = nh_hold_on(sub, first, count, sequence);
		if (!ret)
			ret = nh_compare_seen(sub, first, count, sequence, stale);
		held = ret;
		if (ret >= 0 && fill)
			ret = nh_take_over(sub, first, count, sequence, fill);
	} while (ret == -EBUSY && nh_may_try_again(++tries));
	return ret < 0 ? ret : held;
}

/* The same for all of the mirror, with a record of it. */
static int nh_walk(struct nh_subscriber *sub, enum nh_kind kind, unsigned long flags,
		   struct nh_mirror_compare *arg, struct nh_mirror_fill *fill)
{
	struct nh_stale stale = {};
	struct nh_event scratch;
	struct nh_event *event;
	unsigned long first, count;
	u64 seq = nh_stamp();
	int ret = 0;

	if (!sub->mirror)
		return -EINVAL;
	if (current->mm != sub->mm)
		return -EPERM;
	arg->held = 0;
	arg->busy = 0;
	event = nh_log_open(&scratch, seq, kind, sub, READ_ONCE(sub->policy), NULL);
	event->flags = arg->step;
	for (first = 0; first < sub->capacity; first += count) {
		count = min(BATCH, sub->capacity - first);
		ret = nh_walk_part(sub, first, count, flags, &stale, fill);
		if (ret < 0 && ret != -EBUSY)
			break;
		if (ret < 0)
			arg->busy += count;
		else
			arg->held += ret;
		ret = 0;
	}
	nh_stale_end(sub, &stale);
	arg->stale = stale.pages;
	nh_log_close(event, ret ?: fill ? fill->pages : arg->held);
	return ret;
}

int nh_mirror_fill(struct nh_subscriber *sub, struct nh_mirror_fill *arg)
{
	static const unsigned long flags[NH_MIRROR_ACCESSES] = {
		[NH_MIRROR_PRESENT] = 0,
		[NH_MIRROR_READ] = HMM_PFN_REQ_FAULT,
		[NH_MIRROR_WRITE] = HMM_PFN_REQ_FAULT | HMM_PFN_REQ_WRITE,
	};
	struct nh_mirror_compare compare = { .step = arg->step };
	int ret;

	if (arg->access >= NH_MIRROR_ACCESSES)
		return -EINVAL;
	arg->pages = 0;
	arg->writable = 0;
	ret = nh_walk(sub, NH_MIRROR, flags[arg->access], &compare, arg);
	arg->stale = compare.stale;
	arg->busy = compare.busy;
	if (!ret && !arg->busy) {
		atomic64_inc(&nh_taken);
		wake_up_all(&nh_taken_wait);
	}
	return ret;
}

/*
 * Wait until a mirror has taken over what is mapped now; false if none did in time.  The
 * first that ends may have begun before.
 */
bool nh_mirror_await(unsigned long timeout)
{
	s64 enough = atomic64_read(&nh_taken) + 2;

	wait_event_timeout(nh_taken_wait, atomic64_read(&nh_taken) >= enough ||
			   READ_ONCE(nh_quench), timeout);
	return atomic64_read(&nh_taken) >= enough;
}

int nh_mirror_compare(struct nh_subscriber *sub, struct nh_mirror_compare *arg)
{
	if (arg->reserved)
		return -EINVAL;
	return nh_walk(sub, NH_COMPARE, 0, arg, NULL);
}

/*
 * Have a page for the device alone, or give its entry up (NULL), as of a sequence.
 * -EBUSY: something was told since.
 */
int nh_mirror_own(struct nh_subscriber *sub, unsigned long index, struct page *page,
		  unsigned long sequence)
{
	unsigned long entry = page ? page_to_pfn(page) | PERMISSIONS | EXCLUSIVE : 0;
	int ret = 0;

	spin_lock(&sub->sequence);
	if (mmu_interval_read_retry(&sub->interval, sequence))
		ret = -EBUSY;
	else
		sub->mirror->entries[index] = entry;
	spin_unlock(&sub->sequence);
	return ret;
}

int nh_mirror_make(struct nh_subscriber *sub)
{
	struct nh_mirror *mirror;

	mirror = kvzalloc(struct_size(mirror, entries, sub->capacity), GFP_KERNEL);
	if (!mirror)
		return -ENOMEM;
	sub->mirror = mirror;
	return 0;
}

#else /* CONFIG_HMM_MIRROR */

void nh_mirror_told(struct nh_subscriber *sub, const struct mmu_notifier_range *range)
{
}

void nh_mirror_flushed(struct nh_subscriber *sub, unsigned long start, unsigned long end)
{
}

int nh_mirror_fill(struct nh_subscriber *sub, struct nh_mirror_fill *arg)
{
	return -EINVAL;
}

bool nh_mirror_await(unsigned long timeout)
{
	return false;
}

int nh_mirror_compare(struct nh_subscriber *sub, struct nh_mirror_compare *arg)
{
	return -EINVAL;
}

int nh_mirror_own(struct nh_subscriber *sub, unsigned long index, struct page *page,
		  unsigned long sequence)
{
	return -EOPNOTSUPP;
}

int nh_mirror_make(struct nh_subscriber *sub)
{
	return -EOPNOTSUPP;
}

#endif /* CONFIG_HMM_MIRROR */
