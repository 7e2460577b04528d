// SPDX-License-Identifier: GPL-2.0-only
/*
 * types - what the structures of this kernel look like, for a debugger
 *
 * Never loaded, not even linked.  The debug info of a whole kernel costs 100 MB
 * and minutes; that of this one file costs a second and holds every structure
 * that a post-mortem reads, with the layout that this kernel's configuration
 * and compiler gave it.  Addresses come from System.map.
 */
#include <linux/cgroup.h>
#include <linux/completion.h>
#include <linux/kernfs.h>
#include <linux/kprobes.h>
#include <linux/memcontrol.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/mmzone.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/pid_namespace.h>
#include <linux/rwsem.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/semaphore.h>
#include <linux/swait.h>
#include <linux/swap.h>
#include <asm/current.h>
#include <asm/switch_to.h>

/* Each member is a global variable of the kernel, with its name and type. */
struct harness_globals {
	typeof(init_task) init_task;
	typeof(init_pid_ns) init_pid_ns;
	typeof(__per_cpu_offset) __per_cpu_offset;
	typeof(__cpu_online_mask) __cpu_online_mask;
#ifndef nr_cpu_ids	/* a constant if there is only one CPU */
	typeof(nr_cpu_ids) nr_cpu_ids;
#endif
	struct list_head modules;	/* kernel/module/internal.h */
	/*
	 * Per CPU.  From v6.2 to v6.14 (Linux commits e57ef2ed97c1 and a1e4cc0155ad)
	 * it begins a struct pcpu_hot; before and after it is a variable of its own.
	 */
	struct task_struct *pcpu_hot;
	struct task_struct *current_task;
#ifdef CONFIG_NUMA
	typeof(node_data) node_data;
#else
	typeof(contig_page_data) contig_page_data;
#endif
#ifdef CONFIG_MEMCG
	struct mem_cgroup *root_mem_cgroup;
#endif
#ifdef CONFIG_SWAP
	typeof(nr_swap_pages) nr_swap_pages;
	typeof(total_swap_pages) total_swap_pages;
#endif
};

/* How the waiters of mutexes, rwsems and semaphores begin; they are private to kernel/locking. */
struct harness_waiter {
	struct list_head list;
	struct task_struct *task;
};

/* struct mmu_notifier_subscriptions of mm/mmu_notifier.c, the same since v5.5. */
struct harness_subscriptions {
	struct hlist_head list;
	bool has_itree;
	spinlock_t lock;	/* not read */
	unsigned long invalidate_seq;
	unsigned long active_invalidate_ranges;
	struct rb_root_cached itree;
};

static struct {
	struct harness_globals globals;
	struct harness_waiter waiter;
	struct harness_subscriptions subscriptions;
} *harness_types __used;

MODULE_DESCRIPTION("Debug info of a kernel's structures");
MODULE_LICENSE("GPL");
