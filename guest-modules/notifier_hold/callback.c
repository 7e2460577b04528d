// SPDX-License-Identifier: GPL-2.0-only
/*
 * The callbacks and their policies.
 *
 * Each policy of invalidate_range_start is a function of its own, so that the
 * kernel's "%pS callback failed with" names it.
 */
#include "notifier_hold.h"

#include <linux/jiffies.h>
#include <linux/lockdep.h>
#include <linux/mmap_lock.h>

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

/* One policy: what to return for a range that meets the buffer; `start` is the record so far. */
typedef int (*nh_decision)(struct nh_subscriber *sub, const struct mmu_notifier_range *range,
			   struct nh_event *start);

/* Count a start and decide on it. */
static int nh_answer(struct nh_subscriber *sub, const struct mmu_notifier_range *range,
		     struct nh_event *event, nh_decision decide)
{
	int ret = 0;

	atomic64_inc(&sub->starts);
	if (nh_fault(NH_FAULT_DEAF))
		event->context &= ~NH_CTX_OWN_BUFFER;
	if (!(event->context & NH_CTX_OWN_BUFFER))
		return 0;
	atomic64_inc(&sub->own);
	if (nh_range_mayfail(range))
		atomic64_inc(&sub->mayfail);
	if (nh_in_direct_reclaim())
		atomic64_inc(&sub->direct);
	if (!(event->context & NH_CTX_QUENCHED))
		ret = decide(sub, range, event);
	if (!nh_range_mayfail(range) && nh_fault(NH_FAULT_EAGAIN))
		ret = -EAGAIN;
	if (nh_range_mayfail(range) && nh_fault(NH_FAULT_REFUSE))
		ret = -EAGAIN;
	WARN_ON_ONCE(nh_fault(NH_FAULT_COMPLAIN));
	if (nh_fault(NH_FAULT_TAINT))
		add_taint(TAINT_WARN, LOCKDEP_STILL_OK);
	if (ret)
		atomic64_inc(&sub->refused);
	return ret;
}

static int nh_range_start(struct mmu_notifier *notifier, const struct mmu_notifier_range *range,
			  enum nh_policy policy, nh_decision decide)
{
	u64 seq = nh_stamp();
	struct nh_subscriber *sub = container_of(notifier, struct nh_subscriber, notifier);
	struct nh_event scratch;
	struct nh_event *event = nh_log_open(&scratch, seq, NH_START, sub, policy, range);
	struct nh_group *group = nh_pairing_start(sub, range);
	int ret;

	nh_unmapping_start(range);
	ret = nh_answer(sub, range, event, decide);
	nh_pairing_started(group, ret);
	nh_log_close(event, ret);
	return ret;
}

/*
 * Intervals have their end before subscribers to the whole mm: a mirror is free to take
 * the page table over by now, and what may still change behind the end, the mirror gets.
 * It needs the mmap_lock: in a range below the write lock, the wait would be in vain.
 * After NH_TIMEOUTS_MAX waits in vain there is nobody to wait for.
 */
static bool nh_linger(struct nh_subscriber *sub, const struct mmu_notifier_range *range)
{
	if (!sub->end_ms || range->end <= sub->addr || range->start >= sub->addr + sub->len ||
	    !mmu_notifier_range_blockable(range) ||
	    atomic_read(&sub->timeouts) >= NH_TIMEOUTS_MAX || !mmap_read_trylock(sub->mm))
		return false;
	mmap_read_unlock(sub->mm);
	if (nh_mirror_await(msecs_to_jiffies(sub->end_ms)))
		return true;
	atomic_inc(&sub->timeouts);
	return false;
}

void nh_range_end(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	u64 seq = nh_stamp();
	struct nh_subscriber *sub = container_of(notifier, struct nh_subscriber, notifier);
	struct nh_event scratch;
	struct nh_event *event = NULL;
	bool waited;

	if (!nh_fault(NH_FAULT_DROP_END))
		event = nh_log_open(&scratch, seq, NH_END, sub, READ_ONCE(sub->policy), range);
	atomic64_inc(&sub->ends);
	nh_unmapping_end();
	if (!nh_fault(NH_FAULT_BLIND_END))
		nh_pairing_end(sub, range);
	waited = nh_linger(sub, range);
	if (event)
		nh_log_close(event, waited);
}

/*
 * Held pages outlive release(): a device may still use them.  They are dropped when
 * the file is closed, which in a dying process happens after its mm is gone.
 */
void nh_release(struct mmu_notifier *notifier, struct mm_struct *mm)
{
	u64 seq = nh_stamp();
	struct nh_subscriber *sub = container_of(notifier, struct nh_subscriber, notifier);
	struct nh_event scratch;

	/* It leaves the list next, even if a task is between a start and an end. */
	nh_pairing_leaving(sub);
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
 * Wait as a driver that cannot do without the object would, but not for ever: when
 * the time is over, go on as if the object were ready.  After NH_TIMEOUTS_MAX
 * timeouts the point is made, and each further wait would only cost time.
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
	} while (time_before(jiffies, deadline) && !READ_ONCE(nh_quench));
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
	/* lockdep does not see a trylock; the modelled driver would block. */
	if (mmu_notifier_range_blockable(range))
		might_lock(&sub->object);
	return nh_wait_bounded(sub, range, start, nh_object_is_free);
}

static int nh_decide_block_mutex(struct nh_subscriber *sub, const struct mmu_notifier_range *range,
				 struct nh_event *start)
{
	if (!mmu_notifier_range_blockable(range))
		return -EAGAIN;
	if (READ_ONCE(sub->owner) == current)
		start->context |= NH_CTX_OWNER_IS_CURRENT;
	mutex_lock(&sub->object);
	mutex_unlock(&sub->object);
	return 0;
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

static int nh_decide_mayfail_fence(struct nh_subscriber *sub,
				   const struct mmu_notifier_range *range, struct nh_event *start)
{
	if (!nh_range_mayfail(range))
		return nh_decide_wait_fence(sub, range, start);
	return nh_fence_is_done(sub) ? 0 : -EAGAIN;
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
NH_CALLBACK(mayfail_fence, NH_MAYFAIL_FENCE)
NH_CALLBACK(block_mutex, NH_BLOCK_MUTEX)

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
	[NH_MAYFAIL_FENCE] = nh_mayfail_fence,
	[NH_BLOCK_MUTEX] = nh_block_mutex,
};

/* The same for intervals, whose callbacks the kernel does not name. */
static const nh_decision nh_decisions[NH_POLICIES] = {
	[NH_ACCEPT] = nh_decide_accept,
	[NH_EAGAIN_MAYFAIL] = nh_decide_eagain_mayfail,
	[NH_EAGAIN_RECLAIM] = nh_decide_eagain_reclaim,
	[NH_EAGAIN_ALWAYS] = nh_decide_eagain_always,
	[NH_ERRNO] = nh_decide_errno,
	[NH_WAIT_FENCE] = nh_decide_wait_fence,
	[NH_WAIT_MUTEX] = nh_decide_wait_mutex,
	[NH_MAYFAIL_TRYLOCK] = nh_decide_mayfail_trylock,
	[NH_MAYFAIL_FENCE] = nh_decide_mayfail_fence,
	[NH_BLOCK_MUTEX] = nh_decide_block_mutex,
};

/*
 * False corresponds to a start's errno: only a range that is not blockable may get
 * it, and MAYFAIL does not change that.  The end of the mm applies no policy.  A range
 * by which a mirror itself gets pages is no news to it (Documentation/mm/hmm.rst).
 */
static bool nh_invalidate(struct mmu_interval_notifier *interval,
			  const struct mmu_notifier_range *range, unsigned long sequence)
{
	u64 seq = nh_stamp();
	struct nh_subscriber *sub = container_of(interval, struct nh_subscriber, interval);
	u32 policy = READ_ONCE(sub->policy);
	struct nh_event scratch;
	struct nh_event *event = nh_log_open(&scratch, seq, NH_INVALIDATE, sub, policy, range);
	nh_decision decide = nh_decisions[policy];
	int ret;

	if (range->event == MMU_NOTIFY_RELEASE)
		decide = nh_decide_accept;
	ret = nh_answer(sub, range, event, decide);
	if (!ret && !(sub->mirror && nh_makes_exclusive(range, sub))) {
		spin_lock(&sub->sequence);
		mmu_interval_set_seq(interval, sequence);
		if (sub->mirror && !sub->has_tlb && event->context & NH_CTX_OWN_BUFFER)
			nh_mirror_told(sub, range);
		spin_unlock(&sub->sequence);
	}
	nh_log_close(event, ret);
	return !ret;
}

const struct mmu_interval_notifier_ops nh_interval_ops = {
	.invalidate = nh_invalidate,
};

int nh_set_policy(struct nh_subscriber *sub, const struct nh_set_policy *arg)
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
	 * suits every subscriber: a call that races with this runs the old or
	 * the new callback.
	 */
	WRITE_ONCE(sub->ops.invalidate_range_start, nh_callbacks[arg->policy]);
	return 0;
}
