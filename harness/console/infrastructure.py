# SPDX-License-Identifier: GPL-2.0-only
"""Functions that are on many stacks and do not tell one bug from another, by kind.

The kinds that are skipped, and the function that a report is named after, are as
in syzkaller's titles, so that a bug has the name by which syzbot knows it. A
pattern adds words of its own where its kind of report needs them.

A word is a function's name without its leading underscores and without the
compiler's suffixes; `*` stands for any further letters, and a word between two
of them is found anywhere in a name.
"""

from __future__ import annotations

import re
from functools import lru_cache

# How a report gets onto the console: exceptions, and the code that dumps and panics.
_REPORTING = """
*_console_sem *_trap arch_trigger_* arm64_notify_die asm_exc_* async_page_fault bad_area* bad_page_fault brk_handler
bug_at_* bug_brk_handler bug_handler call_break_hook call_el1_break_hook call_undef_hook check_bytes_and_report
check_slab check_stack_object dabt_svc data_access_* debug_exception_enter df_debug die die_body die_kernel_fault
divide_error do_alignment* do_bad_area do_DataAbort do_debug_exception do_divide_error do_double_fault *do_error*
do_exit_bad do_general_protection do_int3* do_kern_addr_fault do_kernel_fault do_mem_abort do_page_fault do_pgm_check
do_PrefetchAbort do_sea do_sp_pc_abort do_stack_segment do_tag_check_fault do_translation_fault do_trap* do_undefinstr
do_user_addr_fault double_fault *dump_backtrace* *dump_stack* el0_sync* el1_* el1h_64_* el1t_64_* end_report
error_code error_entry exc_* fixup_bug fortify_report general_protection get_taint handle_bug handle_exception
handle_page_fault handle_sysrq handle_unaligned* int3 *invalid_op* is_valid_bugaddr kernelmode_fixup_or_oops
nmi_cpu_backtrace* nmi_trigger_* no_context object_err oops_begin oops_end oops_enter oops_exit pabt_svc page_fault
page_fault_oops *panic* pgm_check_handler print_* program_check_* report_bug* show_regs* *show_stack* show_trace*
spurious_kernel_fault* stack_chk_fail stack_segment trigger_*_backtrace* und_svc* unwind_backtrace usercopy_abort
usercopy_warn *walk_stack* warn warn_alloc* warn_bogus* *warn_slowpath* write_sysrq_trigger
"""

# Sanitizers and debugging aids: they notice, they are not the cause.
_CHECKERS = """
*_irq_enable_debug arch_stack_walk asan_* check_heap_object *check_memory_region* check_object* debug_check_no_obj*
*debug_object* *hwasan* *kasan* kcov_* kcsan_* *kmsan* memory_is_poisoned* *might_fault* *might_resched* *might_sleep*
msan_* *perf_trace* read_once_*nocheck read_word_at_a_time *ref_tracker* sanitizer_* *seqprop_assert* should_fail*
stack_trace_consume_entry stack_trace_save* timer_is_static_object trace_hardirq* trace_softirq* tsan_* ubsan_*
work_is_static_object write_comp_data write_once_*nocheck
"""

# Taking and releasing locks.
_LOCKS = """
*bh_disable* *bh_enable* down *down_read* *down_trylock* *down_write* folio_unlock *imbalance_bug* *lock_acquire*
*lock_class* lock_page* *lock_release* *lockdep* mark_held_locks *mark_lock* mutex_* *osq_lock* *osq_unlock*
*owner_on_cpu* *raw_spin_rq* *read_lock* *read_trylock* *read_unlock* rt_mutex_* *spin_lock*
*spin_trylock* *spin_unlock* unlock_page* *up_read* *up_write* *write_lock* *write_trylock* *write_unlock*
"""

# Lockdep's own, on the stack of what it reports.
_LOCKDEP = """
add_chain_* check_chain_key check_deadlock* check_irq_usage check_noncircular check_prev* check_usage*
check_wait_context mark_irqflags mark_usage reacquire_held_locks valid_state validate_chain
"""

# Called from everywhere: what matters is who called.
_PRIMITIVES = """
*__phys_addr* *_indirect_thunk_* *asprintf* assertfail *atomic64_* *atomic_add* *atomic_and* *atomic_cmpxchg*
*atomic_dec* *atomic_fetch* *atomic_inc* *atomic_or* *atomic_read* *atomic_set* *atomic_sub* *atomic_try*
*atomic_xchg* *change_bit* *clear_bit* *copy_folio_to_iter* *copy_from_iter* *copy_from_user* *copy_page_from_iter*
*copy_page_to_iter* *copy_to_iter* *copy_to_user* copyin copyout crc16* crc32* crc64* crc7* crc8* crc_* dev_alert
dev_crit dev_emerg dev_err dev_info dev_notice dev_warn *dput* drop_nlink *extract_iter_to_sg* *extract_user_to_sg*
*find_lock_entries* get_taint *get_user* hex_dump_to_buffer ida_free ihold iput iput_final klist_* kref_* *list_add*
*list_del* *list_move* *list_replace* *list_splice* *logic_in* *logic_out* *memchr* *memcmp* *memcpy* *memdup*
*memmove* *memset* *nprintf* *pointer* *printk* put_device *put_user* raw_readb raw_readl raw_readq raw_readw
raw_writeb raw_writel raw_writeq raw_writew rb_* readb readl readq readw refcount_* *rhashtable_lookup* *set_bit*
*strchr* *strcmp* *strcpy* *strdup* *string* *strlcpy* *strlen* *strncmp* *strncpy* *strndup* *strnlen* *strnstr*
*strscpy* *strstr* *test_bit* *truncate_inode_pages_range* va_format writeb writel writeq writew *xas_find* *xas_load*
*xas_start*
"""

# Deferring work, waking up, and cancelling work.
_DEFERRAL = """
*__mod_timer* *__wake_up* cancel_work_sync cancel_work_timer cleanup_srcu_struct complete *del_timer*
destroy_workqueue drain_workqueue finish_wait flush_work* insert_work kthread_stop *lock_timer_base*
queue_delayed_work* *queue_work* sk_stop_timer_sync *timer_delete_sync* try_to_grab_pending wait_for_completion*
"""

# Allocating and freeing: the fault is in what was asked for, or in a user that is left.
_ALLOCATION = """
*alloc_frozen_pages* *alloc_page* *allocate_slab* *calloc* *do_read_cache_folio* *filemap_get_folio*
*find_or_create_page* *folio_alloc* *grab_cache_page_write_begin* kfree *kfree_skb* *kmem_cache* *krealloc* kvfree
*_kmalloc kmalloc kmalloc_array* kmalloc_cache* kmalloc_large kmalloc_large_node* kmalloc_node* kmalloc_order*
kmalloc_reserve kmalloc_slab kmalloc_trace kmalloc_track_caller* kmalloc_type kvmalloc* vmalloc vmalloc_32*
vmalloc_huge* vmalloc_node* vmalloc_user* *pagecache_get_page* *read_cache_page* *slab_* *zalloc*
"""

# The device model and the USB core: they query and notify every driver.
_BUSES = """
add_uevent_var *device_add* *device_del* *device_destroy* *device_for_each_child* *device_release*
*device_remove_file* *device_unregister* devres_release_all dummy_urb_enqueue get_device_parent hwrng_unregister
i2c_del_adapter *kobject_* *rollback_registered* *sysfs_remove* tty_unregister_device *unregister_client*
*unregister_netdev* usb_control_msg* usb_hcd_submit_urb usb_internal_control_msg usb_kill_anchored_urbs usb_kill_urb
usb_submit_urb
"""

# Waiting, and switching away: in the report of a hung task, every stack begins with these.
_WAITING = """
*_lock* *_slowlock* *cancel_delayed_work* *completion* *context_switch* *down* *kthread* *rcu_barrier* *rwsem* *sched*
*switch_to* *synchronize* *wait*
"""

# From the CPU's vector to the function that was interrupted, and what runs in that interrupt to find a stall.
_INTERRUPT = """
apic_timer_interrupt* arch_timer_handler_* asm_common_interrupt asm_exc_nmi asm_sysvec_* call_function*_interrupt
call_irq_handler call_on_irq_stack call_on_stack check_cpu_stall common_interrupt* decrementer_common* default_do_nmi
do_ext_interrupt do_ext_irq do_handle_IPI do_interrupt_handler do_IRQ do_irq do_nmi dump_cpu_task el0_interrupt
el0_irq* el1_interrupt el1_irq el1h_64_irq* end_repeat_nmi exc_nmi ext_int_handler generic_handle_* gic_handle_irq
handle_domain_irq handle_IPI handle_IRQ handle_percpu_devid_irq hardware_interrupt_common* hrtimer_interrupt
hrtimer_run_queues interrupt_entry io_int_handler ipi_cpu_backtrace irq_svc irq_usr irq_work_interrupt kaiser*
local_apic_timer_interrupt nmi nmi_handle perf_event_nmi_handler print_cpu_stall* print_other_cpu_stall*
rcu_check_callbacks rcu_dump_cpu_stacks rcu_pending rcu_sched_clock_irq reboot_interrupt *reschedule_interrupt
ret_from_intr retint_kernel retint_user riscv_intc_irq riscv_timer_interrupt run_hrtimer sched_show_task sched_tick
scheduler_tick smp_*_interrupt smp_apic_timer_interrupt* smp_reboot_interrupt smp_trace_* sysvec_* tick_handle_*
tick_nohz_* tick_periodic tick_sched_* timer_interrupt update_process_times watchdog_timer_fn xen_*upcall*
"""

# They pass on a request, a timer or a packet; the function that they call says what it was.
_DISPATCH = """
*blkdev_driver_ioctl* *blkdev_ioctl* *call_mmap* *call_read_iter* *call_timer_fn* *call_write_iter* *compat_ioctl*
compat_sock_ioctl *cpu_startup_entry* cstar_dispatch *do_dentry_open* do_el0_svc *do_fast_syscall* do_fault do_idle
do_int80_syscall* *do_iter_read* *do_iter_write* *do_mmap* *do_page_fault* *do_softirq* *do_syscall* do_SYSENTER*
el0_svc* entry_* *exit_to_user* expire_timers *fput* handle_softirqs *hrtimer_run* ia32_sys_call int_ret_from_sys_call
invoke_softirq invoke_syscall irq_exit* *kernel_accept* *kernel_listen* *kernel_setsockopt* *ksys_ioctl* kthread
*mmap_region* *netif_receive_skb* netlink_dump* *new_sync_read* *new_sync_write* nfnetlink_rcv_msg page_fault
*process_one_work* rest_init ret_fast_syscall ret_from_* rtnetlink_rcv_msg *run_ksoftirqd* *run_timer*
*sk_common_release* *smp_call_function* *smpboot_thread_fn* *sock_common_setsockopt* sock_do_ioctl sock_ioctl
sock_mmap sock_recvmsg* sock_release sock_sendmsg* *start_secondary* stub_* sys_accept* sys_connect* sys_ioctl*
sys_listen sys_setsockopt sys_socketpair syscall_* sysenter_* system_call* *task_work_run* *tasklet_action*
*tasklet_hi_action* tracesys_* *vfs_ioctl* *vfs_iter_read* *vfs_iter_write* *vfs_open* *vfs_read* *vfs_write*
x64_sys_call
"""

# Where the handling of something that came in by itself begins: a timer, a packet.
# The frames further out are those of the interrupted code.
_ARRIVAL = "do_softirq* handle_softirqs run_timer_softirq hrtimer_run_softirq netif_receive_skb* netif_rx*"

# A CPU that has nothing to do, in a dump of all of them.
_IDLE = """
acpi_idle_* acpi_safe_halt arch_cpu_idle cpu_do_idle cpuidle_* default_idle* intel_idle* mwait_idle* native_safe_halt
pv_native_safe_halt wait_for_interrupt
"""

# The thread that waits for the others: in the report of a stall it is the witness.
_WITNESS = "rcu_gp_* rcu_tasks_*"


class Table:
    """A set of function names."""

    def __init__(self, *texts: str) -> None:
        words = [word for text in texts for word in text.split()]
        self._stems = tuple(word[1:-1] for word in words if "*" not in word[1:-1] and word[0] == word[-1] == "*")
        names = [re.escape(word).replace(r"\*", r"\w*") for word in words if word[1:-1] not in self._stems]
        self._pattern = re.compile("|".join(names))

    def __contains__(self, function: str) -> bool:
        # _noprof: the wrapped function of an allocator under CONFIG_MEM_ALLOC_PROFILING.
        name = function[:80].removesuffix("_noprof")
        return any(stem in name for stem in self._stems) or self._pattern.fullmatch(name.lstrip("_")) is not None


INTERRUPT = Table(_INTERRUPT)
DISPATCH = Table(_DISPATCH)
ARRIVAL = Table(_ARRIVAL)
IDLE = Table(_IDLE)
WITNESS = Table(_WITNESS)
WAITING = Table(_WAITING)
_SKIPPED = Table(_REPORTING, _CHECKERS, _LOCKS, _LOCKDEP, _PRIMITIVES, _DEFERRAL, _ALLOCATION, _BUSES)


@lru_cache(maxsize=64)
def table(words: str) -> Table:
    """The set that a pattern's own words make."""
    return Table(words)


@lru_cache(maxsize=4096)
def relevant(function: str, besides: str = "") -> bool:
    """The function tells this report from others. besides: words that tell nothing in a report of this kind."""
    return function not in _SKIPPED and not (besides and function in table(besides))
