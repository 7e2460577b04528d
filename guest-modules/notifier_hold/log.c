// SPDX-License-Identifier: GPL-2.0-only
/* The device that the records are read from, and the module's counters. */
#include "record.h"

#include <linux/miscdevice.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

/* A reader sees the log as it was when the reader began at its start. */
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
	u64 count;

	mutex_lock(&nh_log_lock);
	if (*position == 0) {
		header->magic = NH_LOG_MAGIC;
		header->format = NH_LOG_FORMAT;
		header->record_size = sizeof(struct nh_event);
		header->subscribers = nh_subscribers();
		header->count = min_t(u64, atomic64_read(&nh_log.next), nh_log.capacity);
		header->lost = atomic64_read(&nh_log.lost);
		header->capacity = nh_log.capacity;
	}
	if (offset < 0) {
		ret = simple_read_from_buffer(user, size, position, header, sizeof(*header));
	} else {
		/* It may have been made smaller since. */
		count = min(header->count, nh_log.capacity);
		ret = simple_read_from_buffer(user, size, &offset, nh_log.events,
					      count * sizeof(struct nh_event));
		if (ret > 0)
			*position += ret;
	}
	mutex_unlock(&nh_log_lock);
	return ret;
}

static void nh_log_mark(u64 number)
{
	struct nh_event scratch;
	struct nh_event *event;

	mutex_lock(&nh_log_lock);
	event = nh_log_open(&scratch, nh_stamp(), NH_MARK, NULL, 0, NULL);
	event->start = number;
	nh_log_close(event, 0);
	mutex_unlock(&nh_log_lock);
}

static long nh_log_ioctl(struct file *file, unsigned int cmd, unsigned long address)
{
	void __user *user = (void __user *)address;
	struct nh_counters counters = {};
	u64 number;

	switch (cmd) {
	case NH_LOG_MARK:
		if (copy_from_user(&number, user, sizeof(number)))
			return -EFAULT;
		nh_log_mark(number);
		return 0;
	case NH_LOG_COUNTERS:
		nh_pairing_count(&counters);
		nh_observer_count(&counters);
		counters.leaving = nh_subscribers_leaving();
		return copy_to_user(user, &counters, sizeof(counters)) ? -EFAULT : 0;
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

int nh_log_init(void)
{
	return misc_register(&nh_log_device);
}

void nh_log_exit(void)
{
	misc_deregister(&nh_log_device);
}
