// SPDX-License-Identifier: GPL-2.0-only
/*
 * notifier_hold - mmu notifier subscribers that hold page references as a DMA device does
 *
 * Each open file of /dev/notifier_hold is a subscriber to the mm of its opener:
 * it covers one buffer, takes references on the pages (FOLL_GET or FOLL_PIN),
 * writes and reads them through a kernel mapping as the "device", and answers
 * invalidate_range_start, or an interval's invalidate, by a policy that user
 * space chooses.  Or it watches the whole mm of another process, and holds nothing.
 *
 *	subscriber.c	the file: register, unregister, requests
 *	callback.c	the callbacks and their policies
 *	young.c		has the device accessed its pages?
 *	object.c	the pages that it holds
 *	mirror.c	the page table that it mirrors, compared with the CPU's
 *	exclusive.c	pages that a mirror has for itself
 *	migrate.c	pages that the device moves
 *	tlb.c		a mirror that is told what TLBs are told
 *	pressure.c	allocations that make the kernel reclaim
 *	record.c	a record of every callback
 *	log.c		/dev/notifier_hold_log, from which the records are read
 *	pairing.c	does each start have its end? checked while it runs
 *	member.c	which subscribers the check follows, and what it found
 *	leaving.c	what a subscriber loses when it leaves meanwhile
 *	below.c		what the kernel is doing, whatever the callback says
 *	observer.c	the probes that tell below.c
 *	unmapping.c	is a page unmapped between start and end, and not beside it?
 *	reader.c	does mmu_interval_read_begin() return?
 *	fault.c		faults of the module itself, planted to prove that they are noticed
 *	compat.h	all differences between kernels
 *
 * A file calls only the files below it: subscriber → callback → pairing → member →
 * record → below → fault, and the files beside them.
 *
 * Everything that a callback needs is allocated when the module loads: a callback
 * does not allocate, and takes no lock whose holder may allocate or sleep.  The
 * layout of records and requests is in notifier_hold_uapi.h.
 *
 * Waits in a callback are bounded on purpose: the deadlock of a driver is to be
 * reported, not reproduced to the letter.
 *
 * Locks, outermost first:
 *   subscriber.lock	what the subscriber holds; never taken in a callback
 *   nh_get_lock	nh_candidate, around mmu_notifier_get()
 *   nh_log_lock	what changes only while there is no subscriber; never in a callback
 *   nh_members_lock	which subscriber has which bit in the pairing's masks
 *   subscriber.object	the mutex of the modelled driver; guards nothing of ours
 *   nh_bucket.lock	the open ranges of the tasks that hash there; innermost, in callbacks
 *   subscriber.sequence	an interval's sequence number and a mirror; innermost, in callbacks
 */
#include "notifier_hold.h"

#include <linux/init.h>
#include <linux/module.h>

static int __init nh_init(void)
{
	int ret;

	ret = nh_pairing_init();
	if (ret)
		return ret;
	ret = nh_record_init();
	if (ret)
		goto err_pairing;
	nh_observer_init();
	ret = nh_log_init();
	if (ret)
		goto err_observer;
	ret = nh_subscriber_init();
	if (ret)
		goto err_log;
	return 0;

err_log:
	nh_log_exit();
err_observer:
	nh_observer_exit();
	nh_record_exit();
err_pairing:
	nh_pairing_exit();
	return ret;
}

static void __exit nh_exit(void)
{
	nh_subscriber_exit();
	nh_log_exit();
	nh_observer_exit();
	nh_record_exit();
	nh_pairing_exit();
}

module_init(nh_init);
module_exit(nh_exit);

MODULE_DESCRIPTION("mmu notifier subscribers that hold page references, with a log of every callback");
MODULE_LICENSE("GPL");
