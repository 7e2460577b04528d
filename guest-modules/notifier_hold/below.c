// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel is at, whatever its flags and the callback say.
 *
 * A task is below a function between the probe on its entry and the one on its
 * return.  Only the task itself looks and writes there, so a slot that it claims
 * by one compare-and-exchange needs no lock.
 */
#include "below.h"

#include <linux/hash.h>
#include <linux/string.h>

#ifdef CONFIG_KRETPROBES

#define NH_BELOW_WINDOW 8U

/* Tasks that are below something now; the window after a task's hash is where it may be. */
static struct nh_below nh_below[NH_BELOW_SIZE];

static atomic_long_t nh_crowded;	/* calls for which the window was full */
static unsigned long nh_forgiven;	/* what nh_missed() was when the probes came */
static bool nh_observing;

struct kretprobe nh_probes[NH_PLACES];

static struct nh_below *nh_below_find(const struct task_struct *task)
{
	unsigned int at = hash_ptr(current, NH_BELOW_BITS);
	unsigned int i;

	for (i = 0; i < NH_BELOW_WINDOW; i++) {
		struct nh_below *below = &nh_below[(at + i) % NH_BELOW_SIZE];

		if (READ_ONCE(below->task) == task)
			return below;
	}
	return NULL;
}

/* The slot of the current task; NULL if it is below nothing. */
struct nh_below *nh_below_mine(void)
{
	return nh_below_find(current);
}

/* The same, or a free one; without one the call is counted as missed. */
struct nh_below *nh_below_claim(void)
{
	struct nh_below *below = nh_below_find(current);

	if (below)
		return below;
	while ((below = nh_below_find(NULL))) {
		if (!cmpxchg(&below->task, NULL, current))
			return below;
	}
	atomic_long_inc(&nh_crowded);
	return NULL;
}

void nh_below_release(struct nh_below *below)
{
	/* Pairs with the claim of another task. */
	smp_store_release(&below->task, NULL);
}

static unsigned long nh_missed(void)
{
	unsigned long missed = atomic_long_read(&nh_crowded);
	unsigned int i;

	for (i = 0; i < NH_PLACES; i++)
		missed += READ_ONCE(nh_probes[i].nmissed) + READ_ONCE(nh_probes[i].kp.nmissed);
	return missed;
}

/* Calls that the probes missed since they are there. */
unsigned long nh_below_missed(void)
{
	return nh_missed() - READ_ONCE(nh_forgiven);
}

/* No probe is there: who was below something when the last ones went is so no more. */
void nh_below_clear(void)
{
	memset(nh_below, 0, sizeof(nh_below));
}

/* The probes are there. */
void nh_below_start(void)
{
	WRITE_ONCE(nh_forgiven, nh_missed());
	WRITE_ONCE(nh_observing, true);
}

void nh_below_stop(void)
{
	WRITE_ONCE(nh_observing, false);
}

bool nh_below_is_kept(void)
{
	return READ_ONCE(nh_observing);
}

/* What the probes say of the current task: NH_CTX_OBSERVED and what goes with it, or 0. */
u8 nh_observe(void)
{
	const struct nh_below *below;
	u8 context = NH_CTX_OBSERVED;

	/* A missed call was counted before any callback below it. */
	if (!nh_below_is_kept() || nh_below_missed())
		return 0;
	below = nh_below_mine();
	if (!below)
		return context;
	if (below->depth[NH_UNMAP_ONE])
		context |= NH_CTX_UNMAP_ONE;
	if (below->depth[NH_GLOBAL] || below->depth[NH_MEMCG])
		context |= NH_CTX_DIRECT;
	return context;
}

/* What the current task is in the middle of; NULL if it is not below try_to_unmap_one(). */
struct nh_unmapping *nh_observed_unmapping(void)
{
	struct nh_below *below = nh_below_is_kept() ? nh_below_mine() : NULL;

	return below && below->depth[NH_UNMAP_ONE] ? &below->unmapping : NULL;
}

#else /* !CONFIG_KRETPROBES */

u8 nh_observe(void)
{
	return 0;
}

struct nh_unmapping *nh_observed_unmapping(void)
{
	return NULL;
}

#endif /* CONFIG_KRETPROBES */
