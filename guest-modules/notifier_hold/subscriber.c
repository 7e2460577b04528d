// SPDX-License-Identifier: GPL-2.0-only
/* A subscriber: an open file of /dev/notifier_hold, from registration to its end. */
#include "notifier_hold.h"

#include <linux/err.h>
#include <linux/lockdep.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

static atomic_t nh_numbers;	/* subscriber numbers given out */
static atomic_t nh_leaving;	/* subscribers between nh_close() and nh_free_notifier() */

/* After these, the last mmu_notifier_put() was, or should have been, long ago. */
#define GRACE_PERIODS 20

/* The subscriber that mmu_notifier_get() is to register, and what guards it. */
static struct nh_subscriber *nh_candidate;
static DEFINE_MUTEX(nh_get_lock);

static struct mmu_notifier *nh_alloc_notifier(struct mm_struct *mm)
{
	/* Without a candidate the subscriber is registered, and should have been found. */
	return nh_candidate ? &nh_candidate->notifier : ERR_PTR(-EEXIST);
}

static void nh_free_subscriber(struct nh_subscriber *sub)
{
	kvfree(sub->mirror);
	kvfree(sub->pages);
	kfree(sub);
}

static void nh_free_notifier(struct mmu_notifier *notifier)
{
	struct nh_subscriber *sub = container_of(notifier, struct nh_subscriber, notifier);

	/* mmu_notifier_get() failed: the file still owns the subscriber. */
	if (!sub->unregister_event)
		return;
	nh_pairing_left(sub);
	nh_log_close(sub->unregister_event, 0);
	nh_free_subscriber(sub);
	atomic_dec(&nh_leaving);
	nh_log_put();
}

/*
 * Get a subscriber, then get it again for another user of the same ops, which gets the
 * same subscriber and puts it at once.  That put is not the last: the subscriber stays.
 */
static int nh_get_twice(struct nh_subscriber *sub)
{
	struct mmu_notifier *first, *second;

	lockdep_assert_held(&nh_get_lock);
	nh_candidate = sub;
	first = mmu_notifier_get(&sub->ops, sub->mm);
	nh_candidate = NULL;
	if (IS_ERR(first))
		return PTR_ERR(first);
	second = mmu_notifier_get(&sub->ops, sub->mm);
	if (!IS_ERR(second))
		mmu_notifier_put(second);
	if (first == &sub->notifier && second == first)
		return 0;
	mmu_notifier_put(first);
	mmu_notifier_synchronize();
	return IS_ERR(second) ? PTR_ERR(second) : -EEXIST;
}

static int nh_register(struct nh_subscriber *sub)
{
	int ret;

	if (sub->is_interval) {
		ret = mmu_interval_notifier_insert(&sub->interval, sub->mm, sub->addr,
						   sub->len, &nh_interval_ops);
		if (ret || !sub->has_tlb)
			return ret;
		ret = nh_tlb_register(sub);
		if (ret)
			mmu_interval_notifier_remove(&sub->interval);
		return ret;
	}
	if (!sub->is_got)
		return mmu_notifier_register(&sub->notifier, sub->mm);

	mutex_lock(&nh_get_lock);
	ret = nh_get_twice(sub);
	mutex_unlock(&nh_get_lock);
	return ret;
}

static bool nh_flags_are_known(u32 flags)
{
	if (flags & ~(NH_SUB_END | NH_SUB_GET | NH_SUB_INTERVAL | NH_SUB_MIRROR |
		      NH_SUB_YOUNG | NH_SUB_ACCESSED | NH_SUB_TLB))
		return false;
	if (flags & NH_SUB_YOUNG ? flags & NH_SUB_INTERVAL : flags & NH_SUB_ACCESSED)
		return false;
	if (flags & NH_SUB_MIRROR && !(flags & NH_SUB_INTERVAL))
		return false;
	if (flags & NH_SUB_TLB && !(flags & NH_SUB_MIRROR))
		return false;
	return (flags & (NH_SUB_GET | NH_SUB_INTERVAL)) != (NH_SUB_GET | NH_SUB_INTERVAL);
}

/* Register for [addr, addr + len) of an mm that is alive, with a policy that is set. */
static int nh_join(struct nh_subscriber *sub, struct mm_struct *mm, u32 flags)
{
	struct nh_event scratch;
	struct nh_event *event;
	u64 seq;
	int ret;

	if (!sub->number)
		sub->number = atomic_inc_return(&nh_numbers);
	sub->mm = mm;
	sub->is_got = flags & NH_SUB_GET;
	sub->is_interval = flags & NH_SUB_INTERVAL;
	sub->has_tlb = flags & NH_SUB_TLB;
	sub->has_end = flags & NH_SUB_END && !sub->is_interval;
	sub->ops.invalidate_range_end = sub->has_end ? nh_range_end : NULL;
	sub->accessed = flags & NH_SUB_ACCESSED;
	nh_young_ops(&sub->ops, flags & NH_SUB_YOUNG);
	sub->ops.release = nh_release;
	sub->ops.alloc_notifier = nh_alloc_notifier;
	sub->ops.free_notifier = nh_free_notifier;
	sub->notifier.ops = &sub->ops;

	kvfree(sub->pages);	/* of an earlier attempt that failed */
	sub->pages = kvcalloc(sub->capacity, sizeof(*sub->pages), GFP_KERNEL);
	if (!sub->pages)
		return -ENOMEM;
	kvfree(sub->mirror);
	sub->mirror = NULL;
	if (flags & NH_SUB_MIRROR) {
		ret = nh_mirror_make(sub);
		if (ret)
			return ret;
	}

	nh_log_get();
	nh_pairing_join(sub);
	seq = nh_stamp();
	event = nh_log_open(&scratch, seq, NH_REGISTER, sub, sub->policy, NULL);
	event->flags = flags;
	ret = nh_register(sub);
	nh_log_close(event, ret);
	if (ret) {
		nh_pairing_leaving(sub);
		nh_pairing_left(sub);
		nh_log_put();
		return ret;
	}
	nh_pairing_joined(sub);
	sub->subscribed = true;
	return 0;
}

static int nh_subscribe(struct nh_subscriber *sub, struct nh_subscribe *arg)
{
	const struct nh_set_policy policy = {
		.policy = arg->policy,
		.error = arg->error,
		.when = arg->when,
		.wait_ms = arg->wait_ms,
	};
	int ret;

	if (sub->subscribed)
		return -EBUSY;
	if (!arg->len || !PAGE_ALIGNED(arg->addr | arg->len) || arg->len > NH_BUFFER_MAX ||
	    arg->addr > TASK_SIZE - arg->len || !nh_flags_are_known(arg->flags) || arg->reserved)
		return -EINVAL;
	if (arg->end_ms > NH_WAIT_MS_MAX)
		return -ERANGE;
	if (arg->end_ms && (arg->flags & (NH_SUB_END | NH_SUB_INTERVAL)) != NH_SUB_END)
		return -EINVAL;
	ret = nh_set_policy(sub, &policy);
	if (ret)
		return ret;
	sub->addr = arg->addr;
	sub->len = arg->len;
	sub->capacity = arg->len >> PAGE_SHIFT;
	sub->end_ms = arg->end_ms;
	ret = nh_join(sub, current->mm, arg->flags);
	arg->subscriber = sub->number;
	return ret;
}

/* The mm of the process with this pid, with a reference; NULL when the mm is gone. */
static struct mm_struct *nh_mm_of(u32 number)
{
	struct pid *pid = find_get_pid(number);
	struct task_struct *task = get_pid_task(pid, PIDTYPE_PID);
	struct mm_struct *mm = NULL;

	put_pid(pid);
	if (task) {
		mm = get_task_mm(task);
		put_task_struct(task);
	}
	return mm;
}

static int nh_watch(struct nh_subscriber *sub, struct nh_watch *arg)
{
	const struct nh_set_policy policy = {
		.policy = arg->policy,
		.error = arg->error,
		.when = arg->when,
		.wait_ms = arg->wait_ms,
	};
	struct mm_struct *mm;
	int ret;

	if (sub->subscribed)
		return -EBUSY;
	if (arg->reserved || !nh_flags_are_known(arg->flags) || arg->flags & NH_SUB_MIRROR)
		return -EINVAL;
	ret = nh_set_policy(sub, &policy);
	if (ret)
		return ret;
	mm = nh_mm_of(arg->pid);
	if (!mm)
		return -ESRCH;
	sub->addr = 0;
	sub->len = TASK_SIZE;
	sub->capacity = 0;
	ret = nh_join(sub, mm, arg->flags);
	mmput(mm);
	arg->subscriber = sub->number;
	return ret;
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
	arg->mm_refs = atomic_read(&sub->mm->mm_count);
	return 0;
}

static int nh_set_fence(struct nh_subscriber *sub, u32 done)
{
	if (done) {
		complete_all(&sub->fence);
		return 0;
	}
	reinit_completion(&sub->fence);
	atomic_set(&sub->timeouts, 0);
	return 0;
}

union nh_argument {
	struct nh_subscribe subscribe;
	struct nh_watch watch;
	struct nh_set_policy policy;
	struct nh_hold hold;
	struct nh_device device;
	struct nh_pages pages;
	struct nh_same same;
	struct nh_kalloc kalloc;
	struct nh_build build;
	struct nh_stats stats;
	struct nh_read_begin read_begin;
	struct nh_mirror_fill fill;
	struct nh_mirror_compare compare;
	struct nh_move move;
	u32 fence;
};

static int nh_request(struct file *file, unsigned int cmd, union nh_argument *arg)
{
	struct nh_subscriber *sub = file->private_data;

	if (cmd == NH_SUBSCRIBE)
		return nh_subscribe(sub, &arg->subscribe);
	if (cmd == NH_WATCH)
		return nh_watch(sub, &arg->watch);
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
	case NH_READ_BEGIN:
		return nh_read_begin(sub, file, &arg->read_begin, false);
	case NH_READ_BEGIN_LOCKED:
		return nh_read_begin(sub, file, &arg->read_begin, true);
	case NH_SET_FENCE:
		return nh_set_fence(sub, arg->fence);
	case NH_MIRROR_FILL:
		if (arg->fill.access == NH_MIRROR_EXCLUSIVE)
			return nh_mirror_exclusive(sub, &arg->fill);
		return nh_mirror_fill(sub, &arg->fill);
	case NH_MIRROR_COMPARE:
		return nh_mirror_compare(sub, &arg->compare);
	case NH_DEVICE_MOVE:
		return nh_device_move(sub, &arg->move);
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
	ret = nh_request(file, cmd, &arg);
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
	spin_lock_init(&sub->sequence);
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
	atomic_inc(&nh_leaving);
	seq = nh_stamp();
	sub->unregister_event = nh_log_open(&sub->unregister, seq, NH_UNREGISTER, sub,
					    sub->policy, NULL);
	nh_pairing_leaving(sub);
	if (sub->is_got) {
		mmu_notifier_put(&sub->notifier);
		return 0;
	}
	if (sub->has_tlb)
		nh_tlb_unregister(sub);
	if (sub->is_interval)
		mmu_interval_notifier_remove(&sub->interval);
	else
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

/* How many subscribers are leaving, and are not freed. */
u32 nh_subscribers_leaving(void)
{
	int left = GRACE_PERIODS;

	/* One grace period ends the callbacks of this CPU, not those that another has queued. */
	while (atomic_read(&nh_leaving) && left--)
		mmu_notifier_synchronize();
	return atomic_read(&nh_leaving);
}

/* Numbers given out so far. */
u32 nh_subscribers(void)
{
	return atomic_read(&nh_numbers);
}

int nh_subscriber_init(void)
{
	return misc_register(&nh_device);
}

void nh_subscriber_exit(void)
{
	misc_deregister(&nh_device);
}
