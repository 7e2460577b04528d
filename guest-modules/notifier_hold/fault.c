// SPDX-License-Identifier: GPL-2.0-only
/* Faults of the module itself: they prove that an oracle would see such a fault. */
#include "notifier_hold.h"

#include <linux/moduleparam.h>
#include <linux/string.h>

static const char *const nh_faults[] = {
	[NH_FAULT_NONE] = "none",
	[NH_FAULT_DROP_END] = "drop-end",
	[NH_FAULT_BLIND_END] = "blind-end",
	[NH_FAULT_LEAK_REF] = "leak-ref",
	[NH_FAULT_WRONG_PAGE] = "wrong-page",
	[NH_FAULT_EAGAIN] = "eagain",
	[NH_FAULT_CLAIM_MAYFAIL] = "claim-mayfail",
	[NH_FAULT_REFUSE] = "refuse",
	[NH_FAULT_DEAF] = "deaf",
	[NH_FAULT_LATE] = "late",
	[NH_FAULT_COMPLAIN] = "complain",
	[NH_FAULT_TAINT] = "taint",
};

static int nh_planted;
static atomic_t nh_chances;

static int nh_fault_set(const char *text, const struct kernel_param *parameter)
{
	int kind = sysfs_match_string(nh_faults, text);

	if (kind < 0)
		return kind;
	atomic_set(&nh_chances, 0);
	WRITE_ONCE(nh_planted, kind);
	return 0;
}

static int nh_fault_get(char *text, const struct kernel_param *parameter)
{
	return scnprintf(text, PAGE_SIZE, "%s\n", nh_faults[READ_ONCE(nh_planted)]);
}

static const struct kernel_param_ops nh_fault_ops = {
	.set = nh_fault_set,
	.get = nh_fault_get,
};

module_param_cb(fault, &nh_fault_ops, NULL, 0644);
MODULE_PARM_DESC(fault, "what the module does wrong: none, drop-end, blind-end, leak-ref, wrong-page, eagain, claim-mayfail, refuse, deaf, late, complain, taint; default none");

static unsigned int fault_every = 1;
module_param(fault_every, uint, 0644);
MODULE_PARM_DESC(fault_every, "the fault happens at every Nth chance; default 1: at every chance");

/* Does the fault happen at this chance? */
bool nh_fault(enum nh_fault kind)
{
	if (likely(READ_ONCE(nh_planted) != kind))
		return false;
	return !((unsigned int)atomic_inc_return(&nh_chances) % max(1U, READ_ONCE(fault_every)));
}

/* The same where start and end must agree: at each value that is a multiple. */
bool nh_fault_at(enum nh_fault kind, unsigned long value)
{
	return READ_ONCE(nh_planted) == kind && !(value % max(1U, READ_ONCE(fault_every)));
}
