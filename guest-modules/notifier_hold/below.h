/* SPDX-License-Identifier: GPL-2.0-only */
/* The table of tasks that are below a probed function: kept by below.c, written by observer.c. */
#ifndef _NOTIFIER_HOLD_BELOW_H
#define _NOTIFIER_HOLD_BELOW_H

#include "notifier_hold.h"

#include <linux/bits.h>
#include <linux/kprobes.h>

enum nh_place {
	NH_UNMAP_ONE,
	NH_GLOBAL,
	NH_MEMCG,
	NH_PLACES,
};

#ifdef CONFIG_KRETPROBES

#define NH_BELOW_BITS 8
#define NH_BELOW_SIZE BIT(NH_BELOW_BITS)

/* Only the task itself reads and writes its slot, from its claim to its release. */
struct nh_below {
	struct task_struct *task;
	u8 depth[NH_PLACES];
	struct nh_unmapping unmapping;
};

/* Registered by observer.c; below.c reads how many calls each of them missed. */
extern struct kretprobe nh_probes[NH_PLACES];

struct nh_below *nh_below_mine(void);
struct nh_below *nh_below_claim(void);
void nh_below_release(struct nh_below *below);
void nh_below_clear(void);
void nh_below_start(void);
void nh_below_stop(void);
bool nh_below_is_kept(void);
unsigned long nh_below_missed(void);

#endif /* CONFIG_KRETPROBES */

#endif /* _NOTIFIER_HOLD_BELOW_H */
