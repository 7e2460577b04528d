// SPDX-License-Identifier: GPL-2.0-only
/*
 * parcel - keeps one parcel, for a test that finds what is wrong with it
 *
 * PARCEL_DROP forgets to forget: the next PARCEL_WEIGH looks at freed memory.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>

#include "parcel.h"

struct parcel {
	int grams;
};

static DEFINE_MUTEX(lock);
static struct parcel *parcel;	/* protected by the above */

static noinline long parcel_weigh(void)
{
	return parcel ? READ_ONCE(parcel->grams) : -ENOENT;
}

static long parcel_send(long grams)
{
	struct parcel *sent = kzalloc(sizeof(*sent), GFP_KERNEL);

	if (!sent)
		return -ENOMEM;
	sent->grams = grams;
	kfree(parcel);
	parcel = sent;
	return 0;
}

static long parcel_drop(void)
{
	kfree(parcel);
	return 0;
}

static long parcel_ioctl(struct file *file, unsigned int command, unsigned long argument)
{
	long result = -ENOTTY;

	mutex_lock(&lock);
	switch (command) {
	case PARCEL_SEND:
		result = argument > 20000 ? -E2BIG : parcel_send(argument);
		break;
	case PARCEL_WEIGH:
		result = parcel_weigh();
		break;
	case PARCEL_DROP:
		result = parcel_drop();
		break;
	}
	mutex_unlock(&lock);
	return result;
}

static const struct file_operations parcel_files = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = parcel_ioctl,
};

static struct miscdevice parcel_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "parcel",
	.fops = &parcel_files,
};
module_misc_device(parcel_device);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("A misc device with a use after free");
