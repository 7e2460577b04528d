// SPDX-License-Identifier: GPL-2.0-only
/* The probes on functions of the kernel's reclaim, if the kernel supports probes. */
#include "below.h"

#include <linux/moduleparam.h>

static bool observe = true;	/* as asked for */

#ifdef CONFIG_KRETPROBES

static bool nh_unmap_one_is_whole;	/* none of its arguments was optimized away */

static int nh_enter(enum nh_place place, struct pt_regs *regs)
{
	struct nh_below *below = nh_below_claim();

	if (!below)
		return 1;	/* the return is not probed then */
	if (!below->depth[place]++ && place == NH_UNMAP_ONE && nh_unmap_one_is_whole)
		nh_unmapping_enter(&below->unmapping, regs);
	return 0;
}

static int nh_leave(enum nh_place place)
{
	struct nh_below *below = nh_below_mine();

	if (WARN_ON_ONCE(!below))
		return 0;
	if (!--below->depth[place] && place == NH_UNMAP_ONE)
		nh_unmapping_leave(&below->unmapping);
	if (!below->depth[NH_UNMAP_ONE] && !below->depth[NH_GLOBAL] && !below->depth[NH_MEMCG])
		nh_below_release(below);
	return 0;
}

/* How a handler finds its probe differs between kernels; each of these six knows its probe. */
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

struct nh_target {
	const char *name;
	kretprobe_handler_t enter, leave;
};

/* The name of try_to_unmap_one() is found when the probe is registered. */
static const struct nh_target nh_targets[NH_PLACES] = {
	[NH_UNMAP_ONE] = { NULL, nh_enter_unmap_one, nh_leave_unmap_one },
	[NH_GLOBAL] = { "try_to_free_pages", nh_enter_global, nh_leave_global },
	[NH_MEMCG] = { "try_to_free_mem_cgroup_pages", nh_enter_memcg, nh_leave_memcg },
};

/* It is static: a compiler may derive another function from it, with one of these names. */
static const char *const nh_unmap_one_names[] = {
	"try_to_unmap_one",
	"try_to_unmap_one.isra.0",
	"try_to_unmap_one.constprop.0",
	"try_to_unmap_one.part.0",
};

static int nh_probe_on(enum nh_place place, const char *name)
{
	/* As many at once as there are slots for tasks: no task enters a function twice. */
	nh_probes[place] = (struct kretprobe){
		.kp.symbol_name = name,
		.entry_handler = nh_targets[place].enter,
		.handler = nh_targets[place].leave,
		.maxactive = NH_BELOW_SIZE,
	};
	return register_kretprobe(&nh_probes[place]);
}

static int nh_probe(enum nh_place place)
{
	unsigned int i;
	int ret;

	if (place != NH_UNMAP_ONE)
		return nh_probe_on(place, nh_targets[place].name);
	for (i = 0; i < ARRAY_SIZE(nh_unmap_one_names); i++) {
		nh_unmap_one_is_whole = !i;
		ret = nh_probe_on(place, nh_unmap_one_names[i]);
		if (!ret)
			return 0;
	}
	return ret;
}

static int nh_observer_start(void)
{
	unsigned int place;
	int ret;

	nh_below_clear();
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
	nh_below_start();
	return 0;
}

static void nh_observer_stop(void)
{
	unsigned int place;

	nh_below_stop();
	for (place = 0; place < NH_PLACES; place++)
		unregister_kretprobe(&nh_probes[place]);
}

static bool nh_is_observing(void)
{
	return nh_below_is_kept();
}

void nh_observer_count(struct nh_counters *counters)
{
	counters->missed = nh_below_missed();
	counters->observing = nh_below_is_kept();
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

void nh_observer_count(struct nh_counters *counters)
{
}

#endif /* CONFIG_KRETPROBES */

static bool nh_observer_loaded;

/* When the module loads, the value is only noted: nh_observer_init() acts on it. */
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
MODULE_PARM_DESC(observe, "probe the kernel's reclaim, default 1; can change only while there is no subscriber");

/* A kernel that cannot be probed can still be tested. */
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
