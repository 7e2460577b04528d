// SPDX-License-Identifier: GPL-2.0-only
/*
 * reached - how often the kernel came by some of its instructions
 *
 * places.h lists the instructions.  Each gets a probe, which counts while the
 * parameter `on` is set, and is taken away when it has counted enough: what is
 * reached a million times costs no more than what is reached a thousand times.
 * /proc/reached has a line for each: a count, or the errno of a probe that the
 * kernel refused.
 */
#include <linux/atomic.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>
#include <linux/workqueue.h>

#include "places.h"

#define REACHED_ENOUGH 1000
#define REACHED_LOOK (HZ / 50)

struct reached_place {
	struct kprobe probe;
	atomic_t count;
	int refused;
	bool enough;
};

static struct reached_place reached_places[ARRAY_SIZE(reached_at)];
static bool on;
module_param(on, bool, 0644);

static int reached_here(struct kprobe *probe, struct pt_regs *regs)
{
	struct reached_place *place = container_of(probe, struct reached_place, probe);

	if (READ_ONCE(on))
		atomic_inc(&place->count);
	return 0;
}

/* A probe cannot take itself away. */
static void reached_look(struct work_struct *work)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(reached_places); i++) {
		struct reached_place *place = &reached_places[i];

		if (!place->enough && atomic_read(&place->count) >= REACHED_ENOUGH) {
			disable_kprobe(&place->probe);
			place->enough = true;
		}
	}
	schedule_delayed_work(to_delayed_work(work), REACHED_LOOK);
}

static DECLARE_DELAYED_WORK(reached_work, reached_look);

static int reached_show(struct seq_file *file, void *unused)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(reached_places); i++) {
		struct reached_place *place = &reached_places[i];

		seq_printf(file, "%d\n", place->refused ?: atomic_read(&place->count));
	}
	return 0;
}

static int __init reached_init(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(reached_places); i++) {
		struct reached_place *place = &reached_places[i];

		place->probe.symbol_name = "_text";
		place->probe.offset = reached_at[i];
		place->probe.pre_handler = reached_here;
		place->refused = register_kprobe(&place->probe);
	}
	if (!proc_create_single("reached", 0400, NULL, reached_show))
		pr_warn("reached: no file in /proc\n");
	schedule_delayed_work(&reached_work, REACHED_LOOK);
	return 0;
}
module_init(reached_init);

static void __exit reached_exit(void)
{
	unsigned int i;

	cancel_delayed_work_sync(&reached_work);
	remove_proc_entry("reached", NULL);
	for (i = 0; i < ARRAY_SIZE(reached_places); i++) {
		if (!reached_places[i].refused)
			unregister_kprobe(&reached_places[i].probe);
	}
}
module_exit(reached_exit);

MODULE_DESCRIPTION("How often the kernel came by some of its instructions");
MODULE_LICENSE("GPL");
