// SPDX-License-Identifier: GPL-2.0-only
/*
 * notifier_hold - mmu notifier subscribers that hold page references as a DMA device does
 *
 * Each open file of /dev/notifier_hold is a subscriber to the mm of its opener:
 * it covers one buffer, takes references on the pages (FOLL_GET or FOLL_PIN),
 * writes and reads them through a kernel mapping as the "device", and answers
 * invalidate_range_start by a policy that user space chooses.  Each policy is a
 * function of its own, so that the kernel's "%pS callback failed with" names it.
 *
 * Every callback is recorded in a log that is allocated when the module loads;
 * nothing on the way of a callback allocates or takes a lock.  A full log counts
 * what it loses.  The layout is in notifier_hold_uapi.h; read the log from
 * /dev/notifier_hold_log.
 *
 * Waits in a callback are bounded, on purpose: a driver that deadlocks is to be
 * reported, not reproduced to the letter.
 *
 * Locks, outermost first:
 *   subscriber.lock     what the subscriber holds; never taken in a callback
 *   nh_get_lock         nh_candidate, around mmu_notifier_get()
 *   subscriber.object   the mutex of the modelled driver; guards nothing of ours
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/highmem.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/lockdep.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/vmstat.h>

#include "notifier_hold_uapi.h"

/*
 * All differences between kernels.
 *
 * MMU_NOTIFIER_RANGE_MAYFAIL is not in any release: it comes with the patch
 * "mm/mmu_notifier: Mark up direct reclaim paths with MAYFAIL" (Chris Wilson,
 * 2020, 20200624080248.3701-1-chris@chris-wilson.co.uk).  Without the patch no
 * range may fail, and every policy stays what it says.
 */
#ifdef MMU_NOTIFIER_RANGE_MAYFAIL
#define nh_range_mayfail(range) mmu_notifier_range_mayfail(range)
#else
#define nh_range_mayfail(range) ((void)(range), false)
#endif

static unsigned int log_records = 131072;
module_param(log_records, uint, 0444);
MODULE_PARM_DESC(log_records, "records that the log has room for, 112 bytes each, default 131072");

static bool quench;
module_param(quench, bool, 0644);
MODULE_PARM_DESC(quench, "make every policy accept at once and every loop end, default 0");

/* The log.  Slots are handed out by one atomic add and written by whoever got one. */
static struct {
	struct nh_event *events;
	u64 capacity;
	atomic64_t next;	/* slots handed out; more than capacity when it overflowed */
	atomic64_t lost;
	atomic64_t sequence;	/* last order stamp given out */
} nh_log;

static atomic_t nh_numbers;	/* subscriber numbers given out */
static atomic_t nh_alive;	/* subscribers that can still be called */

/* Life: from open() to the close of the file, or until free_notifier if it was got. */
struct nh_subscriber {
	struct mmu_notifier notifier;
	struct mmu_notifier_ops ops;	/* own copy: mmu_notifier_get() tells subscribers by it */
	u32 number;

	/* Written before registration, then only read. */
	unsigned long addr;
	unsigned long len;
	struct mm_struct *mm;		/* valid while subscribed, by the notifier's reference */
	bool has_end;
	bool is_got;

	/* Written by NH_SET_POLICY, read by callbacks without a lock. */
	u32 policy;
	int error;
	u32 when;
	u32 wait_ms;

	struct mutex lock;		/* guards the next five */
	bool subscribed;
	enum nh_how how;
	unsigned long held;		/* pages[0..held) carry a reference of ours */
	unsigned long capacity;
	struct page **pages;

	struct mutex object;		/* of the modelled driver; see nh_build() */
	struct task_struct *owner;	/* of the object; written under it, compared without */
	struct completion fence;	/* of the modelled driver; done unless it builds */
	atomic_t timeouts;		/* since the last build began */

	struct nh_event unregister;	/* scratch for unregister_event */
	struct nh_event *unregister_event;	/* from nh_unsubscribe() to nh_free_notifier() */

	atomic64_t starts;
	atomic64_t ends;
	atomic64_t own;
	atomic64_t mayfail;
	atomic64_t direct;
	atomic64_t refused;
	atomic64_t waits;
	atomic64_t timed_out;
};

static bool nh_in_reclaim(void)
{
	return current->flags & PF_MEMALLOC;
}

/*
 * Direct reclaim, global or memcg: mm/vmscan.c sets PF_MEMALLOC together with
 * reclaim_state there and in kswapd; MADV_PAGEOUT and DAMON set only the flag.
 */
static bool nh_in_direct_reclaim(void)
{
	return nh_in_reclaim() && !(current->flags & PF_KSWAPD) && current->reclaim_state;
}

static u64 nh_stamp(void)
{
	return atomic64_inc_return(&nh_log.sequence);
}

/*
 * Take a slot and fill in what is known on entry.  When the log is full, the
 * record goes to the caller's scratch, and is counted as lost.
 */
static struct nh_event *nh_log_open(struct nh_event *scratch, u64 seq, enum nh_kind kind,
				    const struct nh_subscriber *sub, u32 policy,
				    const struct mmu_notifier_range *range)
{
	u64 slot = atomic64_fetch_inc(&nh_log.next);
	struct nh_event *event = scratch;

	if (slot < nh_log.capacity)
		event = &nh_log.events[slot];
	else
		atomic64_inc(&nh_log.lost);

	event->seq_exit = 0;
	event->time_ns = ktime_get_ns();
	event->duration_ns = 0;
	event->task = (unsigned long)current;
	event->current_mm = (unsigned long)current->mm;
	event->pf_flags = current->flags;
	event->result = 0;
	event->pid = task_pid_nr(current);
	event->tgid = task_tgid_nr(current);
	event->kind = kind;
	event->policy = policy;
	event->cpu = raw_smp_processor_id();
	event->context = current->reclaim_state ? NH_CTX_RECLAIM_STATE : 0;
	if (READ_ONCE(quench))
		event->context |= NH_CTX_QUENCHED;
	event->mm = 0;
	event->start = 0;
	event->end = 0;
	event->subscriber = 0;
	if (sub) {
		event->mm = (unsigned long)sub->mm;
		event->start = sub->addr;
		event->end = sub->addr + sub->len;
		event->subscriber = sub->number;
		if (sub->has_end)
			event->context |= NH_CTX_HAS_END;
	}
	event->range = (unsigned long)range;
	event->flags = 0;
	event->event = 0;
	if (range) {
		event->mm = (unsigned long)range->mm;
		event->start = range->start;
		event->end = range->end;
		event->flags = range->flags;
		event->event = range->event;
		if (range->start < sub->addr + sub->len && range->end > sub->addr)
			event->context |= NH_CTX_OWN_BUFFER;
	}
	/* Pairs with the reader in user space: a record with a seq is filled in. */
	smp_store_release(&event->seq, seq);
	return event;
}

static void nh_log_close(struct nh_event *event, int result)
{
	event->duration_ns = ktime_get_ns() - event->time_ns;
	event->result = result;
	/* Likewise: a record with a seq_exit is complete. */
	smp_store_release(&event->seq_exit, nh_stamp());
}

/* One policy: what to return for a range that meets the buffer; `start` is the record so far. */
typedef int (*nh_decision)(struct nh_subscriber *sub, const struct mmu_notifier_range *range,
			   struct nh_event *start);

static int nh_range_start(struct mmu_notifier *notifier, const struct mmu_notifier_range *range,
			  enum nh_policy policy, nh_decision decide)
{
	u64 seq = nh_stamp();
	struct nh_subscriber *sub = container_of(notifier, struct nh_subscriber, notifier);
	struct nh_event scratch;
	struct nh_event *event = nh_log_open(&scratch, seq, NH_START, sub, policy, range);
	int ret = 0;

	atomic64_inc(&sub->starts);
	if (event->context & NH_CTX_OWN_BUFFER) {
		atomic64_inc(&sub->own);
		if (nh_range_mayfail(range))
			atomic64_inc(&sub->mayfail);
		if (nh_in_direct_reclaim())
			atomic64_inc(&sub->direct);
		if (!(event->context & NH_CTX_QUENCHED))
			ret = decide(sub, range, event);
		if (ret)
			atomic64_inc(&sub->refused);
	}
	nh_log_close(event, ret);
	return ret;
}

static void nh_range_end(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	u64 seq = nh_stamp();
	struct nh_subscriber *sub = container_of(notifier, struct nh_subscriber, notifier);
	struct nh_event scratch;
	struct nh_event *event;

	event = nh_log_open(&scratch, seq, NH_END, sub, READ_ONCE(sub->policy), range);
	atomic64_inc(&sub->ends);
	nh_log_close(event, 0);
}

/*
 * Held pages outlive this: a device may still be at them.  They are dropped when
 * the file is closed, which in a dying process comes after its mm is gone.
 */
static void nh_release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	u64 seq = nh_stamp();
	struct nh_subscriber *sub = container_of(notifier, struct nh_subscriber, notifier);
	struct nh_event scratch;

	nh_log_close(nh_log_open(&scratch, seq, NH_RELEASE, sub, READ_ONCE(sub->policy), NULL), 0);
}

static bool nh_object_is_free(struct nh_subscriber *sub)
{
	if (!mutex_trylock(&sub->object))
		return false;
	mutex_unlock(&sub->object);
	return true;
}

static bool nh_fence_is_done(struct nh_subscriber *sub)
{
	return completion_done(&sub->fence);
}

/*
 * Wait as a driver would that cannot do without, but not for ever: when the time
 * is over, go on as if it had come.  After NH_TIMEOUTS_MAX of them the point is
 * made, and each further wait would only cost time.
 */
static int nh_wait_bounded(struct nh_subscriber *sub, const struct mmu_notifier_range *range,
			   struct nh_event *start, bool (*ready)(struct nh_subscriber *sub))
{
	struct nh_event scratch;
	struct nh_event *event;
	unsigned long deadline;
	int ret = -ETIMEDOUT;
	u64 seq;

	if (ready(sub))
		return 0;
	if (!mmu_notifier_range_blockable(range))
		return -EAGAIN;
	if (READ_ONCE(sub->owner) == current)
		start->context |= NH_CTX_OWNER_IS_CURRENT;
	if (atomic_read(&sub->timeouts) >= NH_TIMEOUTS_MAX)
		return 0;

	seq = nh_stamp();
	event = nh_log_open(&scratch, seq, NH_WAIT, sub, start->policy, range);
	event->context |= start->context & NH_CTX_OWNER_IS_CURRENT;
	atomic64_inc(&sub->waits);
	deadline = jiffies + msecs_to_jiffies(READ_ONCE(sub->wait_ms));
	do {
		schedule_timeout_uninterruptible(1);
		if (ready(sub)) {
			ret = 0;
			break;
		}
	} while (time_before(jiffies, deadline) && !READ_ONCE(quench));
	if (ret) {
		atomic_inc(&sub->timeouts);
		atomic64_inc(&sub->timed_out);
	}
	nh_log_close(event, ret);
	return 0;
}

static int nh_decide_accept(struct nh_subscriber *sub, const struct mmu_notifier_range *range,
			    struct nh_event *start)
{
	return 0;
}

static int nh_decide_eagain_mayfail(struct nh_subscriber *sub,
				    const struct mmu_notifier_range *range, struct nh_event *start)
{
	return nh_range_mayfail(range) ? -EAGAIN : 0;
}

static int nh_decide_eagain_reclaim(struct nh_subscriber *sub,
				    const struct mmu_notifier_range *range, struct nh_event *start)
{
	return nh_in_reclaim() ? -EAGAIN : 0;
}

static int nh_decide_eagain_always(struct nh_subscriber *sub,
				   const struct mmu_notifier_range *range, struct nh_event *start)
{
	return -EAGAIN;
}

static int nh_decide_errno(struct nh_subscriber *sub, const struct mmu_notifier_range *range,
			   struct nh_event *start)
{
	switch (READ_ONCE(sub->when)) {
	case NH_WHEN_MAYFAIL:
		return nh_range_mayfail(range) ? READ_ONCE(sub->error) : 0;
	case NH_WHEN_RECLAIM:
		return nh_in_reclaim() ? READ_ONCE(sub->error) : 0;
	default:
		return READ_ONCE(sub->error);
	}
}

static int nh_decide_wait_fence(struct nh_subscriber *sub, const struct mmu_notifier_range *range,
				struct nh_event *start)
{
	return nh_wait_bounded(sub, range, start, nh_fence_is_done);
}

static int nh_decide_wait_mutex(struct nh_subscriber *sub, const struct mmu_notifier_range *range,
				struct nh_event *start)
{
	/* A trylock is nothing to lockdep; the driver that we model would block. */
	if (mmu_notifier_range_blockable(range))
		might_lock(&sub->object);
	return nh_wait_bounded(sub, range, start, nh_object_is_free);
}

static int nh_decide_mayfail_trylock(struct nh_subscriber *sub,
				     const struct mmu_notifier_range *range, struct nh_event *start)
{
	if (!nh_range_mayfail(range))
		return nh_decide_wait_mutex(sub, range, start);
	if (nh_object_is_free(sub))
		return 0;
	if (READ_ONCE(sub->owner) == current)
		start->context |= NH_CTX_OWNER_IS_CURRENT;
	return -EAGAIN;
}

/* The symbols that the kernel prints when a callback fails. */
#define NH_CALLBACK(name, policy)							\
static int nh_##name(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)	\
{											\
	return nh_range_start(notifier, range, policy, nh_decide_##name);			\
}

NH_CALLBACK(accept, NH_ACCEPT)
NH_CALLBACK(eagain_mayfail, NH_EAGAIN_MAYFAIL)
NH_CALLBACK(eagain_reclaim, NH_EAGAIN_RECLAIM)
NH_CALLBACK(eagain_always, NH_EAGAIN_ALWAYS)
NH_CALLBACK(errno, NH_ERRNO)
NH_CALLBACK(wait_fence, NH_WAIT_FENCE)
NH_CALLBACK(wait_mutex, NH_WAIT_MUTEX)
NH_CALLBACK(mayfail_trylock, NH_MAYFAIL_TRYLOCK)

static int (*const nh_callbacks[NH_POLICIES])(struct mmu_notifier *notifier,
					      const struct mmu_notifier_range *range) = {
	[NH_ACCEPT] = nh_accept,
	[NH_EAGAIN_MAYFAIL] = nh_eagain_mayfail,
	[NH_EAGAIN_RECLAIM] = nh_eagain_reclaim,
	[NH_EAGAIN_ALWAYS] = nh_eagain_always,
	[NH_ERRNO] = nh_errno,
	[NH_WAIT_FENCE] = nh_wait_fence,
	[NH_WAIT_MUTEX] = nh_wait_mutex,
	[NH_MAYFAIL_TRYLOCK] = nh_mayfail_trylock,
};

/* The subscriber that mmu_notifier_get() is to register, and what guards it. */
static struct nh_subscriber *nh_candidate;
static DEFINE_MUTEX(nh_get_lock);

static struct mmu_notifier *nh_alloc_notifier(struct mm_struct *mm)
{
	return &nh_candidate->notifier;
}

static void nh_free_subscriber(struct nh_subscriber *sub)
{
	kvfree(sub->pages);
	kfree(sub);
}

static void nh_free_notifier(struct mmu_notifier *notifier)
{
	struct nh_subscriber *sub = container_of(notifier, struct nh_subscriber, notifier);

	/* mmu_notifier_get() failed: the file still owns the subscriber. */
	if (!sub->unregister_event)
		return;
	nh_log_close(sub->unregister_event, 0);
	nh_free_subscriber(sub);
	atomic_dec(&nh_alive);
}

static int nh_set_policy(struct nh_subscriber *sub, const struct nh_set_policy *arg)
{
	if (arg->policy < NH_ACCEPT || arg->policy >= NH_POLICIES || arg->when >= NH_WHENS)
		return -EINVAL;
	if (arg->wait_ms > NH_WAIT_MS_MAX)
		return -ERANGE;
	if (arg->policy == NH_ERRNO &&
	    (!arg->error || arg->error < -MAX_ERRNO || arg->error > MAX_ERRNO))
		return -ERANGE;
	WRITE_ONCE(sub->error, arg->error);
	WRITE_ONCE(sub->when, arg->when);
	WRITE_ONCE(sub->wait_ms, arg->wait_ms);
	WRITE_ONCE(sub->policy, arg->policy);
	/*
	 * The kernel calls through our own copy of the ops, and every callback
	 * suits every subscriber: a call that races with this gets the old or
	 * the new one.
	 */
	WRITE_ONCE(sub->ops.invalidate_range_start, nh_callbacks[arg->policy]);
	return 0;
}

static int nh_register(struct nh_subscriber *sub)
{
	struct mmu_notifier *notifier;

	if (!sub->is_got)
		return mmu_notifier_register(&sub->notifier, current->mm);

	mutex_lock(&nh_get_lock);
	nh_candidate = sub;
	notifier = mmu_notifier_get(&sub->ops, current->mm);
	nh_candidate = NULL;
	mutex_unlock(&nh_get_lock);
	return PTR_ERR_OR_ZERO(notifier);
}

static int nh_subscribe(struct nh_subscriber *sub, struct nh_subscribe *arg)
{
	const struct nh_set_policy policy = {
		.policy = arg->policy,
		.error = arg->error,
		.when = arg->when,
		.wait_ms = arg->wait_ms,
	};
	struct nh_event scratch;
	struct nh_event *event;
	u64 seq;
	int ret;

	if (sub->subscribed)
		return -EBUSY;
	if (!arg->len || !PAGE_ALIGNED(arg->addr | arg->len) || arg->len > NH_BUFFER_MAX ||
	    arg->addr > TASK_SIZE - arg->len || arg->flags & ~(NH_SUB_END | NH_SUB_GET))
		return -EINVAL;
	ret = nh_set_policy(sub, &policy);
	if (ret)
		return ret;

	if (!sub->number)
		sub->number = atomic_inc_return(&nh_numbers);
	sub->addr = arg->addr;
	sub->len = arg->len;
	sub->mm = current->mm;
	sub->has_end = arg->flags & NH_SUB_END;
	sub->is_got = arg->flags & NH_SUB_GET;
	sub->ops.invalidate_range_end = sub->has_end ? nh_range_end : NULL;
	sub->ops.release = nh_release;
	sub->ops.alloc_notifier = nh_alloc_notifier;
	sub->ops.free_notifier = nh_free_notifier;
	sub->notifier.ops = &sub->ops;

	kvfree(sub->pages);	/* of an attempt before that failed */
	sub->capacity = arg->len >> PAGE_SHIFT;
	sub->pages = kvcalloc(sub->capacity, sizeof(*sub->pages), GFP_KERNEL);
	if (!sub->pages)
		return -ENOMEM;

	atomic_inc(&nh_alive);
	seq = nh_stamp();
	event = nh_log_open(&scratch, seq, NH_REGISTER, sub, sub->policy, NULL);
	ret = nh_register(sub);
	nh_log_close(event, ret);
	if (ret) {
		atomic_dec(&nh_alive);
		return ret;
	}
	sub->subscribed = true;
	arg->subscriber = sub->number;
	return 0;
}

static void nh_put_one(const struct nh_subscriber *sub, struct page *page)
{
	if (sub->how == NH_HOW_PIN)
		unpin_user_page(page);
	else
		put_page(page);
}

static unsigned long nh_put_pages(struct nh_subscriber *sub)
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
static long nh_take_pages(struct nh_subscriber *sub, unsigned long count)
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
static int nh_may_hold(const struct nh_subscriber *sub, u32 how)
{
	if (how >= NH_HOWS)
		return -EINVAL;
	if (sub->held)
		return -EBUSY;
	return current->mm == sub->mm ? 0 : -EPERM;
}

static int nh_hold_pages(struct nh_subscriber *sub, struct nh_hold *arg)
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
	nh_log_close(event, ret > 0 ? sub->held : ret);
	if (ret < 0) {
		nh_put_pages(sub);
		return ret;
	}
	arg->pages = sub->held;
	return 0;
}

static int nh_device_write(struct nh_subscriber *sub, struct nh_device *arg)
{
	unsigned long i, word;

	for (i = 0; i < sub->held; i++) {
		u64 *words = kmap_local_page(sub->pages[i]);

		for (word = 0; word < PAGE_SIZE / sizeof(*words); word++)
			WRITE_ONCE(words[word], nh_pattern(arg->seed, i, word));
		kunmap_local(words);
		/* Here, not in a callback: reclaim holds the page lock there. */
		set_page_dirty_lock(sub->pages[i]);
		cond_resched();
	}
	arg->pages = i;
	arg->bad = 0;
	return 0;
}

static int nh_device_check(struct nh_subscriber *sub, struct nh_device *arg)
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

static int nh_get_pages(struct nh_subscriber *sub, struct nh_pages *arg)
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

static int nh_get_same(struct nh_subscriber *sub, struct nh_same *arg)
{
	unsigned long i;

	if (current->mm != sub->mm)
		return -EPERM;
	for (i = 0; i < sub->held; i++) {
		struct page *page;

		/* "fast only" looks and never faults, so that looking changes nothing. */
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

/* Pages that were allocated for pressure, in the order in which they will be freed. */
struct nh_ballast {
	struct list_head bulk;		/* of NH_BULK_ORDER */
	struct list_head single;
};

/* 2 MiB: most of the memory is taken so, without reclaim, which saves the time. */
#define NH_BULK_ORDER 9

static void nh_ballast_free(struct nh_ballast *ballast)
{
	struct page *page, *next;

	list_for_each_entry_safe(page, next, &ballast->bulk, lru) {
		list_del(&page->lru);
		__free_pages(page, NH_BULK_ORDER);
	}
	list_for_each_entry_safe(page, next, &ballast->single, lru) {
		list_del(&page->lru);
		__free_page(page);
		cond_resched();
	}
}

static noinline u64 nh_allocstall(void)
{
	unsigned long events[NR_VM_EVENT_ITEMS];
	u64 sum = 0;
	int zone;

	all_vm_events(events);
	for (zone = 0; zone < MAX_NR_ZONES; zone++)
		sum += events[ALLOCSTALL_NORMAL - ZONE_NORMAL + zone];
	return sum;
}

/* Never a wake-up of kswapd, which would race us to the pages, and never an OOM kill. */
static gfp_t nh_gfp(u32 gfp)
{
	if (gfp == NH_GFP_ACCOUNT)
		return GFP_KERNEL_ACCOUNT | __GFP_NORETRY | __GFP_NOWARN;
	return (GFP_HIGHUSER_MOVABLE & ~__GFP_KSWAPD_RECLAIM) | __GFP_NORETRY | __GFP_NOWARN;
}

/* Each failure was a full round of reclaim that found nothing: more of them change nothing. */
#define NH_FAILURES_MAX 16

/* Every stop that was asked for is reached, and at least one was asked for. */
static bool nh_kalloc_is_enough(const struct nh_kalloc *arg, u64 callbacks, u64 stalls_before)
{
	if (!arg->stop_callbacks && !arg->stop_allocstall)
		return false;
	if (callbacks < arg->stop_callbacks)
		return false;
	if (!arg->stop_allocstall)
		return true;
	/* Summing up all CPUs is not for each page. */
	return arg->allocated % 32 == 0 && nh_allocstall() - stalls_before >= arg->stop_allocstall;
}

static int nh_kalloc(struct nh_subscriber *sub, struct nh_kalloc *arg)
{
	struct nh_ballast ballast = {
		.bulk = LIST_HEAD_INIT(ballast.bulk),
		.single = LIST_HEAD_INIT(ballast.single),
	};
	const u64 stalls = nh_allocstall();
	const u64 callbacks = atomic64_read(&sub->direct);
	unsigned long deadline;
	struct page *page;

	if (arg->gfp >= NH_GFPS)
		return -EINVAL;
	arg->allocated = 0;
	arg->failed = 0;
	deadline = jiffies + msecs_to_jiffies(arg->limit_ms);

	while (arg->gfp == NH_GFP_MOVABLE && arg->allocated + (1 << NH_BULK_ORDER) <= arg->pages) {
		/* Not from the reserves: below half of them direct reclaim waits for kswapd. */
		page = alloc_pages((nh_gfp(arg->gfp) & ~__GFP_RECLAIM) | __GFP_NOMEMALLOC,
				   NH_BULK_ORDER);
		if (!page)
			break;
		list_add(&page->lru, &ballast.bulk);
		arg->allocated += 1 << NH_BULK_ORDER;
	}
	while (arg->allocated < arg->pages && arg->failed < NH_FAILURES_MAX) {
		page = alloc_page(nh_gfp(arg->gfp));
		if (page) {
			list_add(&page->lru, &ballast.single);
			arg->allocated++;
		} else {
			arg->failed++;
		}
		if (READ_ONCE(quench) || fatal_signal_pending(current) ||
		    time_after(jiffies, deadline))
			break;
		if (nh_kalloc_is_enough(arg, atomic64_read(&sub->direct) - callbacks, stalls))
			break;
		cond_resched();
	}
	arg->allocstall = nh_allocstall() - stalls;
	arg->callbacks = atomic64_read(&sub->direct) - callbacks;
	nh_ballast_free(&ballast);
	return 0;
}

static int nh_build(struct nh_subscriber *sub, struct nh_build *arg)
{
	struct nh_ballast ballast = {
		.bulk = LIST_HEAD_INIT(ballast.bulk),
		.single = LIST_HEAD_INIT(ballast.single),
	};
	const u64 callbacks = atomic64_read(&sub->direct);
	struct nh_event scratch;
	struct nh_event *event;
	u64 seq = nh_stamp();
	struct page *page;
	long ret;
	u32 i;

	ret = nh_may_hold(sub, arg->how);
	if (ret)
		return ret;
	sub->how = arg->how;
	arg->allocated = 0;
	arg->failed = 0;

	event = nh_log_open(&scratch, seq, NH_HOLD, sub, READ_ONCE(sub->policy), NULL);
	mutex_lock(&sub->object);
	WRITE_ONCE(sub->owner, current);
	reinit_completion(&sub->fence);
	atomic_set(&sub->timeouts, 0);
	ret = 0;
	while (sub->held < sub->capacity) {
		if (fatal_signal_pending(current) || READ_ONCE(quench)) {
			ret = -EINTR;
			break;
		}
		if (atomic_read(&sub->timeouts) >= NH_TIMEOUTS_MAX) {
			ret = -EDEADLK;
			break;
		}
		ret = nh_take_pages(sub, 1);
		if (ret < 0)
			break;
		for (i = 0; i < arg->alloc; i++) {
			page = alloc_page(nh_gfp(NH_GFP_ACCOUNT));
			if (page) {
				list_add(&page->lru, &ballast.single);
				arg->allocated++;
			} else {
				arg->failed++;
			}
		}
		cond_resched();
	}
	arg->timeouts = atomic_read(&sub->timeouts);
	complete_all(&sub->fence);
	WRITE_ONCE(sub->owner, NULL);
	mutex_unlock(&sub->object);
	nh_log_close(event, sub->held);

	arg->pages = sub->held;
	arg->callbacks = atomic64_read(&sub->direct) - callbacks;
	arg->result = ret < 0 ? ret : 0;
	nh_ballast_free(&ballast);
	return 0;
}

static int nh_get_stats(struct nh_subscriber *sub, struct nh_stats *arg)
{
	arg->starts = atomic64_read(&sub->starts);
	arg->ends = atomic64_read(&sub->ends);
	arg->own = atomic64_read(&sub->own);
	arg->mayfail = atomic64_read(&sub->mayfail);
	arg->direct = atomic64_read(&sub->direct);
	arg->refused = atomic64_read(&sub->refused);
	arg->waits = atomic64_read(&sub->waits);
	arg->timeouts = atomic64_read(&sub->timed_out);
	return 0;
}

union nh_argument {
	struct nh_subscribe subscribe;
	struct nh_set_policy policy;
	struct nh_hold hold;
	struct nh_device device;
	struct nh_pages pages;
	struct nh_same same;
	struct nh_kalloc kalloc;
	struct nh_build build;
	struct nh_stats stats;
};

static int nh_request(struct nh_subscriber *sub, unsigned int cmd, union nh_argument *arg)
{
	if (cmd == NH_SUBSCRIBE)
		return nh_subscribe(sub, &arg->subscribe);
	if (!sub->subscribed)
		return -ENXIO;
	switch (cmd) {
	case NH_SET_POLICY:
		return nh_set_policy(sub, &arg->policy);
	case NH_HOLD_PAGES:
		return nh_hold_pages(sub, &arg->hold);
	case NH_PUT_PAGES:
		arg->hold.pages = nh_put_pages(sub);
		return 0;
	case NH_DEVICE_WRITE:
		return nh_device_write(sub, &arg->device);
	case NH_DEVICE_CHECK:
		return nh_device_check(sub, &arg->device);
	case NH_GET_PAGES:
		return nh_get_pages(sub, &arg->pages);
	case NH_GET_SAME:
		return nh_get_same(sub, &arg->same);
	case NH_KALLOC:
		return nh_kalloc(sub, &arg->kalloc);
	case NH_BUILD:
		return nh_build(sub, &arg->build);
	case NH_GET_STATS:
		return nh_get_stats(sub, &arg->stats);
	default:
		return -ENOTTY;
	}
}

static long nh_ioctl(struct file *file, unsigned int cmd, unsigned long address)
{
	struct nh_subscriber *sub = file->private_data;
	void __user *user = (void __user *)address;
	union nh_argument arg = {};
	int ret;

	if (_IOC_SIZE(cmd) > sizeof(arg))
		return -ENOTTY;
	if (_IOC_DIR(cmd) & _IOC_WRITE && copy_from_user(&arg, user, _IOC_SIZE(cmd)))
		return -EFAULT;
	mutex_lock(&sub->lock);
	ret = nh_request(sub, cmd, &arg);
	mutex_unlock(&sub->lock);
	if (ret)
		return ret;
	if (_IOC_DIR(cmd) & _IOC_READ && copy_to_user(user, &arg, _IOC_SIZE(cmd)))
		return -EFAULT;
	return 0;
}

static int nh_open(struct inode *inode, struct file *file)
{
	struct nh_subscriber *sub = kzalloc(sizeof(*sub), GFP_KERNEL);

	if (!sub)
		return -ENOMEM;
	mutex_init(&sub->lock);
	mutex_init(&sub->object);
	init_completion(&sub->fence);
	complete_all(&sub->fence);
	file->private_data = sub;
	return 0;
}

/*
 * The last user of the file is gone: no request runs.  The pages go first, then
 * the subscription, as mmu_notifier_unregister() asks.  In a process that was
 * killed the mm went before its files, and release() was called from there.
 */
static int nh_close(struct inode *inode, struct file *file)
{
	struct nh_subscriber *sub = file->private_data;
	u64 seq;

	nh_put_pages(sub);
	if (!sub->subscribed) {
		nh_free_subscriber(sub);
		return 0;
	}
	seq = nh_stamp();
	sub->unregister_event = nh_log_open(&sub->unregister, seq, NH_UNREGISTER, sub,
					    sub->policy, NULL);
	if (sub->is_got) {
		mmu_notifier_put(&sub->notifier);
		return 0;
	}
	mmu_notifier_unregister(&sub->notifier, sub->mm);
	nh_free_notifier(&sub->notifier);
	return 0;
}

static const struct file_operations nh_fops = {
	.owner = THIS_MODULE,
	.open = nh_open,
	.release = nh_close,
	.unlocked_ioctl = nh_ioctl,
};

static struct miscdevice nh_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "notifier_hold",
	.fops = &nh_fops,
	.mode = 0600,
};

/* A reader sees the log as it was when it read from the beginning. */
static int nh_log_file_open(struct inode *inode, struct file *file)
{
	struct nh_log_header *header = kzalloc(sizeof(*header), GFP_KERNEL);

	if (!header)
		return -ENOMEM;
	file->private_data = header;
	return 0;
}

static int nh_log_file_close(struct inode *inode, struct file *file)
{
	kfree(file->private_data);
	return 0;
}

static ssize_t nh_log_read(struct file *file, char __user *user, size_t size, loff_t *position)
{
	struct nh_log_header *header = file->private_data;
	loff_t offset = *position - sizeof(*header);
	ssize_t ret;

	if (*position == 0) {
		header->magic = NH_LOG_MAGIC;
		header->abi = NH_ABI;
		header->record_size = sizeof(struct nh_event);
		header->subscribers = atomic_read(&nh_numbers);
		header->count = min_t(u64, atomic64_read(&nh_log.next), nh_log.capacity);
		header->lost = atomic64_read(&nh_log.lost);
		header->capacity = nh_log.capacity;
	}
	if (offset < 0)
		return simple_read_from_buffer(user, size, position, header, sizeof(*header));
	ret = simple_read_from_buffer(user, size, &offset, nh_log.events,
				      header->count * sizeof(struct nh_event));
	if (ret > 0)
		*position += ret;
	return ret;
}

/* With no subscriber there is no callback that could be writing. */
static int nh_log_reset(void)
{
	/* A subscriber that was got may be on its way out. */
	if (atomic_read(&nh_alive))
		mmu_notifier_synchronize();
	if (atomic_read(&nh_alive))
		return -EBUSY;
	memset(nh_log.events, 0, nh_log.capacity * sizeof(struct nh_event));
	atomic64_set(&nh_log.lost, 0);
	atomic64_set(&nh_log.next, 0);
	return 0;
}

static void nh_log_mark(u64 number)
{
	struct nh_event scratch;
	struct nh_event *event;
	u64 seq = nh_stamp();

	event = nh_log_open(&scratch, seq, NH_MARK, NULL, 0, NULL);
	event->start = number;
	nh_log_close(event, 0);
}

static long nh_log_ioctl(struct file *file, unsigned int cmd, unsigned long address)
{
	void __user *user = (void __user *)address;
	u64 number;
	u32 flag;

	switch (cmd) {
	case NH_LOG_RESET:
		return nh_log_reset();
	case NH_LOG_QUENCH:
		if (copy_from_user(&flag, user, sizeof(flag)))
			return -EFAULT;
		WRITE_ONCE(quench, flag != 0);
		return 0;
	case NH_LOG_MARK:
		if (copy_from_user(&number, user, sizeof(number)))
			return -EFAULT;
		nh_log_mark(number);
		return 0;
	default:
		return -ENOTTY;
	}
}

static const struct file_operations nh_log_fops = {
	.owner = THIS_MODULE,
	.open = nh_log_file_open,
	.release = nh_log_file_close,
	.read = nh_log_read,
	.unlocked_ioctl = nh_log_ioctl,
	.llseek = default_llseek,
};

static struct miscdevice nh_log_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "notifier_hold_log",
	.fops = &nh_log_fops,
	.mode = 0600,
};

static int __init nh_init(void)
{
	int ret;

	BUILD_BUG_ON(sizeof(struct nh_event) != 112);
	if (!log_records || log_records > 1U << 24) {
		pr_err("log_records=%u is not within 1..%u\n", log_records, 1U << 24);
		return -EINVAL;
	}
	nh_log.capacity = log_records;
	nh_log.events = vzalloc(array_size(log_records, sizeof(struct nh_event)));
	if (!nh_log.events)
		return -ENOMEM;
	ret = misc_register(&nh_log_device);
	if (ret)
		goto err_free;
	ret = misc_register(&nh_device);
	if (ret)
		goto err_log_device;
	return 0;

err_log_device:
	misc_deregister(&nh_log_device);
err_free:
	vfree(nh_log.events);
	return ret;
}

static void __exit nh_exit(void)
{
	misc_deregister(&nh_device);
	misc_deregister(&nh_log_device);
	/*
	 * The files are gone; wait for the free_notifier of those that were got.
	 * One grace period ends the callbacks of this CPU, not those that another
	 * CPU has queued.
	 */
	while (atomic_read(&nh_alive))
		mmu_notifier_synchronize();
	mmu_notifier_synchronize();
	vfree(nh_log.events);
}

module_init(nh_init);
module_exit(nh_exit);

MODULE_DESCRIPTION("mmu notifier subscribers that hold page references, with a log of every callback");
MODULE_LICENSE("GPL");
