// SPDX-License-Identifier: GPL-2.0-only
/* Allocations that make the kernel reclaim, in the task that asks for them. */
#include "notifier_hold.h"

#include <linux/gfp.h>
#include <linux/jiffies.h>
#include <linux/list.h>
#include <linux/sched/signal.h>
#include <linux/vmstat.h>

/* Pages that were allocated for pressure, in the order in which they will be freed. */
struct nh_ballast {
	struct list_head bulk;		/* of NH_BULK_ORDER */
	struct list_head single;
};

/* 2 MiB: most of the memory is taken in such blocks, without reclaim, to save time. */
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

/* Each failure was a full round of reclaim that found nothing: more rounds would not help. */
#define NH_FAILURES_MAX 16

/* At least one stop was asked for, and every stop that was asked for is reached. */
static bool nh_kalloc_is_enough(const struct nh_kalloc *arg, u64 callbacks, u64 stalls_before)
{
	if (!arg->stop_callbacks && !arg->stop_allocstall)
		return false;
	if (callbacks < arg->stop_callbacks)
		return false;
	if (!arg->stop_allocstall)
		return true;
	/* Summing up all CPUs for each page would cost too much. */
	return arg->allocated % 32 == 0 && nh_allocstall() - stalls_before >= arg->stop_allocstall;
}

int nh_kalloc(struct nh_subscriber *sub, struct nh_kalloc *arg)
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
		if (READ_ONCE(nh_quench) || fatal_signal_pending(current) ||
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

static atomic_t nh_builders = ATOMIC_INIT(0);

/* Bounded: the other builder may not get this far. */
static void nh_gather(int together)
{
	const unsigned long deadline = jiffies + msecs_to_jiffies(NH_WAIT_MS_MAX);

	atomic_inc(&nh_builders);
	while (atomic_read(&nh_builders) < together && time_before(jiffies, deadline) &&
	       !fatal_signal_pending(current) && !READ_ONCE(nh_quench))
		schedule_timeout_killable(1);
}

int nh_build(struct nh_subscriber *sub, struct nh_build *arg)
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
	nh_gather(arg->together);
	ret = 0;
	while (sub->held < sub->capacity) {
		if (fatal_signal_pending(current) || READ_ONCE(nh_quench)) {
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
	atomic_dec(&nh_builders);
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
