// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel is doing, whatever its flags and the callback say.
 *
 * A task is below a function between the probe on the function's entry and the
 * probe on its return.  Only the task itself reads and writes its slot, so a slot
 * that is claimed by one compare-and-exchange needs no lock.
 */
#include "below.h"

#include <linux/hash.h>
#include <linux/string.h>

#ifdef CONFIG_KRETPROBES

#define NH_BELOW_WINDOW 8U

/* Tasks that are below a probed function now; a task's slot is in the window after its hash. */
static struct nh_below nh_below[NH_BELOW_SIZE];

static atomic_long_t nh_crowded;	/* calls for which the window was full */
static unsigned long nh_forgiven;	/* nh_missed() when the probes were registered */
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

/* The slot of the current task; NULL if the task is below no probed function. */
struct nh_below *nh_below_mine(void)
{
	return nh_below_find(current);
}

/* The same slot, or a free slot; without a free slot the call is counted as missed. */
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

/* Calls that the probes have missed since they were registered. */
unsigned long nh_below_missed(void)
{
	return nh_missed() - READ_ONCE(nh_forgiven);
}

/* No probe is registered: a task that was below a function would stay so for ever. */
void nh_below_clear(void)
{
	memset(nh_below, 0, sizeof(nh_below));
}

/* The probes are registered. */
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

/* The unmapping that the current task does; NULL if it is not below try_to_unmap_one(). */
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
