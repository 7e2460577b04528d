// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel is at, by probes, whatever its flags and the callback say.
 *
 * A task is below a function between the probe on its entry and the one on its
 * return.  Only the task itself looks and writes there, so a slot that it claims
 * by one compare-and-exchange needs no lock.
 */
#include "notifier_hold.h"

#include <linux/bits.h>
#include <linux/hash.h>
#include <linux/kprobes.h>
#include <linux/moduleparam.h>

static bool observe = true;	/* as asked for */

#ifdef CONFIG_KRETPROBES

enum nh_place {
	NH_UNMAP_ONE,
	NH_GLOBAL,
	NH_MEMCG,
	NH_PLACES,
};

#define NH_BELOW_BITS 8
#define NH_BELOW_SIZE BIT(NH_BELOW_BITS)
#define NH_BELOW_WINDOW 8U

/* Tasks that are below something now; the window after a task's hash is where it may be. */
static struct nh_below {
	struct task_struct *task;
	u8 depth[NH_PLACES];
	struct nh_unmapping unmapping;
} nh_below[NH_BELOW_SIZE];

static atomic_long_t nh_crowded;	/* calls for which the window was full */
static unsigned long nh_missed_before;	/* what nh_missed() was when the log was reset */
static bool nh_observing;
static bool nh_unmap_one_is_whole;	/* no argument of it was optimized away */

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

static struct nh_below *nh_below_claim(void)
{
	struct nh_below *below = nh_below_find(current);

	if (below)
		return below;
	while ((below = nh_below_find(NULL))) {
		if (!cmpxchg(&below->task, NULL, current))
			return below;
	}
	return NULL;
}

static int nh_enter(enum nh_place place, struct pt_regs *regs)
{
	struct nh_below *below = nh_below_claim();

	if (!below) {
		atomic_long_inc(&nh_crowded);
		return 1;	/* then there is no probe on the return */
	}
	if (!below->depth[place]++ && place == NH_UNMAP_ONE && nh_unmap_one_is_whole)
		nh_unmapping_enter(&below->unmapping, regs);
	return 0;
}

static int nh_leave(enum nh_place place)
{
	struct nh_below *below = nh_below_find(current);

	if (WARN_ON_ONCE(!below))
		return 0;
	if (!--below->depth[place] && place == NH_UNMAP_ONE)
		nh_unmapping_leave(&below->unmapping);
	if (!below->depth[NH_UNMAP_ONE] && !below->depth[NH_GLOBAL] && !below->depth[NH_MEMCG]) {
		/* Pairs with the claim of another task. */
		smp_store_release(&below->task, NULL);
	}
	return 0;
}

/* How a handler finds its probe differs between kernels; six that know it do not. */
#define NH_ENTER(name, place)								\
static int nh_enter_##name(struct kretprobe_instance *instance, struct pt_regs *regs)	\
{											\
	return nh_enter(place, regs);							\
}

#define NH_LEAVE(name, place)								\
static int nh_leave_##name(struct kretprobe_instance *instance, struct pt_regs *regs)	\
{											\
	return nh_leave(place);								\
}

NH_ENTER(unmap_one, NH_UNMAP_ONE)
NH_ENTER(global, NH_GLOBAL)
NH_ENTER(memcg, NH_MEMCG)
NH_LEAVE(unmap_one, NH_UNMAP_ONE)
NH_LEAVE(global, NH_GLOBAL)
NH_LEAVE(memcg, NH_MEMCG)

/* As many at once as there are slots for tasks: none of them is entered twice. */
static struct kretprobe nh_probes[NH_PLACES] = {
	[NH_UNMAP_ONE] = {
		.entry_handler = nh_enter_unmap_one,
		.handler = nh_leave_unmap_one,
		.maxactive = NH_BELOW_SIZE,
	},
	[NH_GLOBAL] = {
		.kp.symbol_name = "try_to_free_pages",
		.entry_handler = nh_enter_global,
		.handler = nh_leave_global,
		.maxactive = NH_BELOW_SIZE,
	},
	[NH_MEMCG] = {
		.kp.symbol_name = "try_to_free_mem_cgroup_pages",
		.entry_handler = nh_enter_memcg,
		.handler = nh_leave_memcg,
		.maxactive = NH_BELOW_SIZE,
	},
};

/* It is static, and a compiler that derives another function from it names it so. */
static const char *const nh_unmap_one_names[] = {
	"try_to_unmap_one",
	"try_to_unmap_one.isra.0",
	"try_to_unmap_one.constprop.0",
	"try_to_unmap_one.part.0",
};

static unsigned long nh_missed(void)
{
	unsigned long missed = atomic_long_read(&nh_crowded);
	unsigned int i;

	for (i = 0; i < NH_PLACES; i++)
		missed += READ_ONCE(nh_probes[i].nmissed) + READ_ONCE(nh_probes[i].kp.nmissed);
	return missed;
}

/* What the probes say of the current task: NH_CTX_OBSERVED and what goes with it, or 0. */
u8 nh_observe(void)
{
	const struct nh_below *below;
	u8 context = NH_CTX_OBSERVED;

	/* A missed call was counted before any callback below it. */
	if (!READ_ONCE(nh_observing) || nh_missed() != READ_ONCE(nh_missed_before))
		return 0;
	below = nh_below_find(current);
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
	struct nh_below *below = READ_ONCE(nh_observing) ? nh_below_find(current) : NULL;

	return below && below->depth[NH_UNMAP_ONE] ? &below->unmapping : NULL;
}

static int nh_probe(enum nh_place place)
{
	struct kretprobe *probe = &nh_probes[place];
	unsigned int i;
	int ret;

	probe->kp.addr = NULL;
	if (place != NH_UNMAP_ONE)
		return register_kretprobe(probe);
	for (i = 0; i < ARRAY_SIZE(nh_unmap_one_names); i++) {
		probe->kp.symbol_name = nh_unmap_one_names[i];
		probe->kp.addr = NULL;
		nh_unmap_one_is_whole = !i;
		ret = register_kretprobe(probe);
		if (!ret)
			return 0;
	}
	return ret;
}

static int nh_observer_start(void)
{
	unsigned int place;
	int ret;

	memset(nh_below, 0, sizeof(nh_below));
	for (place = 0; place < NH_PLACES; place++) {
		ret = nh_probe(place);
		if (ret) {
			pr_info("not observing: no probe on %s (%d)\n",
				nh_probes[place].kp.symbol_name, ret);
			while (place-- > 0)
				unregister_kretprobe(&nh_probes[place]);
			return ret;
		}
	}
	nh_observer_reset();
	WRITE_ONCE(nh_observing, true);
	return 0;
}

static void nh_observer_stop(void)
{
	unsigned int place;

	WRITE_ONCE(nh_observing, false);
	for (place = 0; place < NH_PLACES; place++)
		unregister_kretprobe(&nh_probes[place]);
}

static bool nh_is_observing(void)
{
	return nh_observing;
}

void nh_observer_reset(void)
{
	WRITE_ONCE(nh_missed_before, nh_missed());
}

void nh_observer_count(struct nh_counters *counters)
{
	counters->missed = nh_missed() - nh_missed_before;
	counters->observing = nh_observing;
}

#else /* !CONFIG_KRETPROBES */

static int nh_observer_start(void)
{
	return -EOPNOTSUPP;
}

static void nh_observer_stop(void)
{
}

static bool nh_is_observing(void)
{
	return false;
}

u8 nh_observe(void)
{
	return 0;
}

struct nh_unmapping *nh_observed_unmapping(void)
{
	return NULL;
}

void nh_observer_reset(void)
{
}

void nh_observer_count(struct nh_counters *counters)
{
}

#endif /* CONFIG_KRETPROBES */

static bool nh_observer_loaded;

/* On the command line of the module it is only noted: nh_observer_init() does it. */
static int nh_observe_set(const char *text, const struct kernel_param *parameter)
{
	bool wanted;
	int ret = kstrtobool(text, &wanted);

	if (ret)
		return ret;
	if (nh_observer_loaded && wanted != nh_is_observing()) {
		ret = nh_log_lock_idle();
		if (ret)
			return ret;
		if (wanted)
			ret = nh_observer_start();
		else
			nh_observer_stop();
		nh_log_unlock();
	}
	if (!ret)
		observe = wanted;
	return ret;
}

static const struct kernel_param_ops nh_observe_ops = {
	.set = nh_observe_set,
	.get = param_get_bool,
};

module_param_cb(observe, &nh_observe_ops, &observe, 0644);
MODULE_PARM_DESC(observe, "probe the kernel's reclaim, default 1; a change needs that there is no subscriber");

/* A kernel that cannot be probed can be tested all the same. */
void nh_observer_init(void)
{
	if (observe && nh_observer_start())
		observe = false;
	nh_observer_loaded = true;
}

void nh_observer_exit(void)
{
	nh_observer_loaded = false;
	if (nh_is_observing())
		nh_observer_stop();
}
