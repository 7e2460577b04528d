// SPDX-License-Identifier: GPL-2.0-only
/*
 * mmu_interval_read_begin(), in a thread of its own.
 *
 * The function waits while a range is being invalidated, without a limit and deaf to
 * signals.  After a range whose mmu_notifier_invalidate_range_end() was not called, it
 * waits for ever once another range has met the interval: no other behaviour of
 * the kernel shows a lost end as plainly.
 */
#include "notifier_hold.h"

#include <linux/err.h>
#include <linux/file.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/refcount.h>
#include <linux/slab.h>

struct nh_reader {
	refcount_t users;		/* the thread and the task that waits for it */
	struct nh_subscriber *sub;
	struct file *file;		/* keeps the subscriber, whose removal would wait, too */
	struct completion done;
	bool locked;			/* the thread holds the object's mutex meanwhile */
	unsigned long sequence;
};

static void nh_reader_put(struct nh_reader *reader)
{
	if (refcount_dec_and_test(&reader->users))
		kfree(reader);
}

static int nh_reader_run(void *data)
{
	struct nh_reader *reader = data;
	struct file *file = reader->file;

	if (reader->locked)
		mutex_lock(&reader->sub->object);
	reader->sequence = mmu_interval_read_begin(&reader->sub->interval);
	if (reader->locked)
		mutex_unlock(&reader->sub->object);
	WRITE_ONCE(reader->sub->reading, false);
	complete(&reader->done);
	nh_reader_put(reader);
	fput(file);
	/* The file's reference to the module may be gone: this thread's may be the last. */
	module_put_and_kthread_exit(0);
	return 0;
}

/* Would a driver that began to read then have to begin again? */
static bool nh_must_retry(struct nh_subscriber *sub)
{
	bool retry;

	if (!sub->read)
		return false;
	spin_lock(&sub->sequence);
	retry = mmu_interval_read_retry(&sub->interval, sub->read);
	spin_unlock(&sub->sequence);
	return retry;
}

int nh_read_begin(struct nh_subscriber *sub, struct file *file, struct nh_read_begin *arg,
		  bool locked)
{
	struct task_struct *thread;
	struct nh_reader *reader;
	long left;

	if (!sub->is_interval)
		return -EINVAL;
	if (arg->limit_ms > NH_WAIT_MS_MAX)
		return -ERANGE;
	if (READ_ONCE(sub->reading))
		return -EBUSY;
	arg->retry = nh_must_retry(sub);
	reader = kzalloc(sizeof(*reader), GFP_KERNEL);
	if (!reader)
		return -ENOMEM;
	refcount_set(&reader->users, 2);
	reader->sub = sub;
	reader->locked = locked;
	reader->file = get_file(file);
	init_completion(&reader->done);
	__module_get(THIS_MODULE);
	sub->reading = true;
	thread = kthread_run(nh_reader_run, reader, "nh_read_begin");
	if (IS_ERR(thread)) {
		sub->reading = false;
		module_put(THIS_MODULE);
		fput(file);
		kfree(reader);
		return PTR_ERR(thread);
	}

	left = wait_for_completion_killable_timeout(&reader->done, msecs_to_jiffies(arg->limit_ms));
	arg->result = left ? 0 : -ETIMEDOUT;
	arg->sequence = left > 0 ? reader->sequence : 0;
	sub->read = arg->sequence;
	nh_reader_put(reader);
	return left < 0 ? left : 0;
}
