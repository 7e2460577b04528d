// SPDX-License-Identifier: GPL-2.0-only
/*
 * planted - one fault of each class that a kernel can report
 *
 * A task that writes a fault's name to /dev/planted commits the fault.  The module
 * proves that each fault is heard; only the machines of the tests have it.  A fault
 * that spins or sleeps does so for longer than any test listens.
 */
#include <linux/atomic.h>
#include <linux/bug.h>
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/irqflags.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/panic.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#define SECONDS 600ULL

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static DEFINE_SPINLOCK(spin);

static void planted_warning(void)
{
	WARN(1, "planted");
}

static void planted_bug(void)
{
	BUG();
}

/* Reads an address where nothing is mapped, which the compiler cannot know. */
static void planted_read(unsigned long address)
{
	OPTIMIZER_HIDE_VAR(address);
	READ_ONCE(*(unsigned long *)address);
}

static void planted_null(void)
{
	planted_read(8);
}

static void planted_paging(void)
{
	/* There is a guard hole between user and kernel addresses. */
	planted_read(0xffff800000001000UL);
}

static void planted_gpf(void)
{
	planted_read(0xdead000000000100UL);
}

/* In assembly, because a compiler that sees a division by zero leaves it out. */
static void planted_divide(void)
{
	asm volatile("xorl %%ecx, %%ecx; divl %%ecx" : : : "eax", "ecx", "edx");
}

static int planted_thread(void *unused)
{
	return 0;
}

/* A thread that nobody has started sleeps uninterruptibly, and has nothing to do with it. */
static void planted_panic(void)
{
	kthread_create(planted_thread, NULL, "planted");
	panic("planted");
}

static int planted_depth(int depth)
{
	char room[256];

	OPTIMIZER_HIDE_VAR(depth);
	memset(room, depth, sizeof(room));
	if (depth)
		room[0] += planted_depth(depth + 1);
	return room[0];
}

static void planted_overflow(void)
{
	planted_depth(1);
}

static void planted_count(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	refcount_inc(&count);
}

static void planted_list(void)
{
	LIST_HEAD(head);
	LIST_HEAD(stray);
	LIST_HEAD(entry);

	list_add(&entry, &head);
	head.next = &stray;
	list_del(&entry);
}

static void planted_page(void)
{
	struct page *page = alloc_page(GFP_KERNEL);

	if (!page)
		return;
	atomic_set(&page->_mapcount, 0);
	__free_page(page);
}

static void planted_freed(void)
{
	unsigned long *object = kmalloc(sizeof(*object), GFP_KERNEL);

	kfree(object);
	planted_read((unsigned long)object);
}

static void planted_beyond(void)
{
	char *object = kmalloc(24, GFP_KERNEL);

	planted_read((unsigned long)object + 24);
	kfree(object);
}

static void planted_circle(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);

	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
}

static void planted_unread(void)
{
	static unsigned long __rcu *pointer;

	rcu_dereference(pointer);
}

static void planted_atomic(void)
{
	spin_lock(&spin);
	mutex_lock(&first);
	mutex_unlock(&first);
	spin_unlock(&spin);
}

static void planted_nap(void)
{
	spin_lock(&spin);
	schedule();
	/* The scheduler complained and forgot the lock; below 0 no fault is handled. */
	if (!preempt_count())
		preempt_disable();
	spin_unlock(&spin);
}

/* Keeps the CPU. Not mdelay(), which takes several times as long where the host is busy. */
static void planted_busy(void)
{
	u64 end = ktime_get_mono_fast_ns() + SECONDS * NSEC_PER_SEC;

	while (ktime_get_mono_fast_ns() < end)
		cpu_relax();
}

static void planted_loop(void)
{
	planted_busy();
}

static void planted_irqs(void)
{
	unsigned long flags;

	local_irq_save(flags);
	planted_busy();
	local_irq_restore(flags);
}

static void planted_sleep(void)
{
	DECLARE_COMPLETION_ONSTACK(never);

	wait_for_completion_timeout(&never, SECONDS * HZ);
}

static void planted_called(struct rcu_head *head)
{
}

/* RCU waits for its readers, and this one does not end. */
static void planted_stall(void)
{
	static struct rcu_head head;

	call_rcu(&head, planted_called);
	rcu_read_lock();
	planted_busy();
	rcu_read_unlock();
}

static void planted_nothing(struct work_struct *work)
{
}

static DECLARE_WORK(waits, planted_nothing);

/* Queues work on this CPU, which never gets to it. */
static void planted_work(void)
{
	schedule_work_on(get_cpu(), &waits);
	planted_busy();
	put_cpu();
}

static const struct {
	const char *name;
	void (*plant)(void);
} faults[] = {
	{ "warning", planted_warning },
	{ "bug", planted_bug },
	{ "null", planted_null },
	{ "paging", planted_paging },
	{ "gpf", planted_gpf },
	{ "divide", planted_divide },
	{ "panic", planted_panic },
	{ "overflow", planted_overflow },
	{ "count", planted_count },
	{ "list", planted_list },
	{ "page", planted_page },
	{ "freed", planted_freed },
	{ "beyond", planted_beyond },
	{ "circle", planted_circle },
	{ "unread", planted_unread },
	{ "atomic", planted_atomic },
	{ "nap", planted_nap },
	{ "loop", planted_loop },
	{ "irqs", planted_irqs },
	{ "sleep", planted_sleep },
	{ "stall", planted_stall },
	{ "work", planted_work },
};

static ssize_t planted_write(struct file *file, const char __user *text, size_t size, loff_t *pos)
{
	char name[16] = "";

	if (size >= sizeof(name))
		return -EINVAL;
	if (copy_from_user(name, text, size))
		return -EFAULT;
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		if (sysfs_streq(name, faults[i].name)) {
			faults[i].plant();
			return size;
		}
	}
	return -EINVAL;
}

static const struct file_operations planted_fops = {
	.owner = THIS_MODULE,
	.write = planted_write,
};

static struct miscdevice planted_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "planted",
	.fops = &planted_fops,
};
module_misc_device(planted_device);

MODULE_DESCRIPTION("One fault of each class that a kernel can report");
MODULE_LICENSE("GPL");
