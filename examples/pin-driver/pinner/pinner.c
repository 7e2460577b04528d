// SPDX-License-Identifier: GPL-2.0-only
/*
 * pinner - a driver that watches the memory of whoever opens /dev/pinner
 *
 * It counts the ranges that the kernel invalidates there, and refuses none.
 * A read tells how many began and how many ended.
 */
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>

struct pinner {
	struct mmu_notifier notifier;
	atomic_t starts, ends;
};

static int pinner_start(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	atomic_inc(&container_of(notifier, struct pinner, notifier)->starts);
	return 0;
}

static void pinner_end(struct mmu_notifier *notifier, const struct mmu_notifier_range *range)
{
	atomic_inc(&container_of(notifier, struct pinner, notifier)->ends);
}

static const struct mmu_notifier_ops pinner_ops = {
	.invalidate_range_start = pinner_start,
	.invalidate_range_end = pinner_end,
};

static int pinner_open(struct inode *inode, struct file *file)
{
	struct pinner *pinner = kzalloc(sizeof(*pinner), GFP_KERNEL);
	int error;

	if (!pinner)
		return -ENOMEM;
	pinner->notifier.ops = &pinner_ops;
	error = mmu_notifier_register(&pinner->notifier, current->mm);
	if (error) {
		kfree(pinner);
		return error;
	}
	file->private_data = pinner;
	return 0;
}

static ssize_t pinner_read(struct file *file, char __user *to, size_t size, loff_t *offset)
{
	struct pinner *pinner = file->private_data;
	char text[32];
	int length;

	length = scnprintf(text, sizeof(text), "%d %d\n", atomic_read(&pinner->starts),
			   atomic_read(&pinner->ends));
	return simple_read_from_buffer(to, size, offset, text, length);
}

static int pinner_release(struct inode *inode, struct file *file)
{
	struct pinner *pinner = file->private_data;

	mmu_notifier_unregister(&pinner->notifier, pinner->notifier.mm);
	kfree(pinner);
	return 0;
}

static const struct file_operations pinner_files = {
	.owner = THIS_MODULE,
	.open = pinner_open,
	.read = pinner_read,
	.release = pinner_release,
};

static struct miscdevice pinner_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pinner",
	.fops = &pinner_files,
};
module_misc_device(pinner_device);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Counts what an mmu notifier is told about its owner's memory");
