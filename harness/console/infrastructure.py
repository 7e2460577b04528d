# SPDX-License-Identifier: GPL-2.0-only
"""Functions that stand on many stacks and tell no bug from another.

A word is a function's name without its leading underscores and without the
compiler's suffixes; `*` stands for any further letters.
"""

from __future__ import annotations

import re
from functools import lru_cache

# How a report gets onto the console: exceptions, and the code that dumps and panics.
_REPORTING = """
dump_stack* dump_backtrace* show_stack show_trace* show_regs* unwind_backtrace walk_stackframe printk vprintk* console_*
print_* slab_err slab_bug slab_pad_check object_err check_bytes_and_report check_object check_slab
warn warn_slowpath* warn_alloc report_bug* fixup_bug handle_bug is_valid_bugaddr bug_handler bug_brk_handler brk_handler
call_break_hook call_el1_break_hook call_undef_hook debug_exception_enter panic vpanic nmi_panic check_panic_on_warn end_report
oops_begin oops_end oops_enter oops_exit die die_body die_kernel_fault no_context kernelmode_fixup_or_oops page_fault_oops
do_error_trap do_trap do_invalid_op do_general_protection do_page_fault do_user_addr_fault do_kern_addr_fault do_kernel_fault
do_double_fault do_int3* do_divide_error do_stack_segment do_bad_area do_sea do_mem_abort do_translation_fault do_undefinstr
do_alignment* do_debug_exception do_DataAbort do_PrefetchAbort do_sp_pc_abort do_tag_check_fault bad_area* arm64_notify_die
handle_page_fault spurious_kernel_fault* exc_* asm_exc_* invalid_op general_protection page_fault double_fault divide_error
int3 async_page_fault stack_segment error_code error_entry df_debug dabt_svc pabt_svc und_svc* bug_at_*
el1_* el1h_64_* el1t_64_* el0_sync* handle_exception program_check_* bad_page_fault data_access_* do_pgm_check pgm_check_handler
handle_unaligned* stack_chk_fail fortify_panic fortify_report usercopy_abort usercopy_warn check_object_size
check_heap_object check_stack_object nmi_cpu_backtrace* nmi_trigger_* arch_trigger_* trigger_*_backtrace*
sysrq_* handle_sysrq write_sysrq_trigger
"""

# Sanitizers, lock debugging, tracing: they notice, they are not the cause.
_CHECKERS = """
kasan_* asan_* hwasan_* kmsan_* msan_* tsan_* kcsan_* kfence_* ubsan_* sanitizer_* check_memory_region* check_region_inline
kcov_* write_comp_data save_stack* stack_trace_* stack_depot_* arch_stack_walk unwind_* unwind_start orc_* *kernel_text_address
is_bpf_text_address set_track* memory_is_poisoned*
lock_acquire* lock_release* lock_is_held* lock_acquired lock_contended lock_downgrade lockdep_* validate_chain mark_lock*
mark_held_locks register_lock_class look_up_lock_class is_dynamic_key check_noncircular check_prev* check_deadlock
check_flags check_wait_context check_usage* check_irq_usage check_preemption_disabled this_cpu_preempt_check
debug_check_* debug_object_* debug_print_object debug_lock* debug_mutex* debug_rt_mutex* debug_timer* debug_hrtimer*
debug_work* debug_rcu* debug_deactivate debug_activate debug_smp_processor_id trace_hardirqs_* trace_softirqs_* rcu_lockdep*
rcu_read_lock* rcu_read_unlock* rcu_lock_acquire rcu_lock_release might_sleep might_fault might_resched might_alloc
cant_sleep cant_migrate spin_dump spin_bug rwlock_bug do_raw_* smp_processor_id should_fail* should_failslab fail_dump
perf_trace_* perf_tp_event perf_swevent* bpf_trace_run* traceiter_* ftrace_*
"""

# Called from everywhere: what matters is who called.
_PRIMITIVES = """
memcpy* memset* memmove* memcmp memscan memchr* memzero* memory_is_* bcmp strcmp strncmp strlen strnlen strcpy strncpy strcat
strstr strnstr strchr strrchr strcasecmp strncasecmp strlcpy strlcat strscpy* strsep kstrdup* kmemdup* read_word_at_a_time
sprintf snprintf scnprintf vsprintf vsnprintf vscnprintf kasprintf kvasprintf* string string_nocheck number pointer format_decode
*copy_to_user* *copy_from_user* *copy_in_user copy_to_iter* copy_from_iter* copy_user_* copy_page* get_user* put_user* clear_user
arch_copy_* arch_clear_user instrument_* csum_* raw_copy_*
raw_spin_* raw_read_* raw_write_* spin_lock* spin_unlock* spin_trylock* read_lock* read_unlock* write_lock* write_unlock*
queued_spin_* queued_read_* queued_write_* native_queued_* pv_queued_* arch_spin_* bit_spin_* osq_lock
mutex_lock* mutex_unlock* mutex_trylock* mutex_remove_waiter mutex_spin_* ww_mutex_* rt_mutex_* rtlock_* rwbase_* rwsem_*
down down_read* down_write* down_trylock down_killable down_interruptible down_timeout down_common* up up_read up_write
percpu_down_* percpu_up_* percpu_rwsem_* percpu_ref_* percpu_counter_* refcount_* kref_* list_add* list_del* list_move* list_replace*
list_splice* hlist_add* hlist_del* plist_* atomic_* atomic64_* atomic_long_* arch_atomic* raw_atomic* xchg cmpxchg* test_bit
set_bit clear_bit test_and_* constant_test_bit arch_test_bit arch_set_bit arch_clear_bit arch_static_branch variable_test_bit
local_bh_* local_irq_* arch_local_* raw_local_* find_*_bit* bitmap_* read_seq* write_seq* seqcount_* rb_erase* rb_insert* rb_next
rb_prev rb_first xas_* xa_* radix_tree_* idr_* ida_* mas_* kobject_add* kobject_get* kobject_put* kobject_del* kobject_init* kobject_uevent* kobject_cleanup kobject_release add_uevent_var klist_* device_add
device_del device_register device_unregister device_create* device_destroy get_device_parent logic_in* logic_out* get_device put_device device_release devres_* dev_uevent uevent_*
lock_sock* release_sock task_rq_lock rq_lock* double_rq_lock insert_work queue_work* queue_delayed_work* mod_delayed_work*
delayed_work_timer_fn mod_timer* del_timer* timer_delete* add_timer* timer_fixup* x86_indirect_thunk_* simple_copy_to_iter
raw_readb raw_readw raw_readl raw_readq raw_writeb raw_writew raw_writel raw_writeq readb readw readl writeb writew writel
crc16 crc32* crc_* crc_itu_t* folio_unlock folio_lock unlock_page find_lock_entries truncate_inode_pages* truncate_pagecache find_get_* iput *_panic xxh*
rollback_registered* unregister_netdevice_many* unregister_netdevice_queue* kernel_fpu_begin* rcu_barrier* do_read_cache_*
memdup_user* vmemdup_user* rcu_dereference* rhashtable_*
read_once_size* write_once_size* native_save_fl native_restore_fl get_current asm_* irq_work_queue irqentry_*
skb_over_panic skb_put* skb_push* skb_pull* skb_under_panic skb_panic assertfail
"""

# Allocating and freeing: what is wrong is what was asked for, or who still uses it.
_ALLOCATION = """
kmalloc* kzalloc* kcalloc* krealloc* kvmalloc* kvzalloc* kvcalloc* kvrealloc* kfree* kvfree* kmem_cache_* do_kmalloc* do_krealloc*
slab_* slub_* cache_alloc* cache_free* cache_grow* cache_flusharray allocate_slab new_slab* discard_slab alloc_slab* free_slab*
alloc_page alloc_pages* alloc_frozen_pages* alloc_single_page alloc_contig* get_free_page* get_zeroed_page free_page free_pages*
free_pages_prepare free_pages_ok free_unref_* free_one_page free_frozen_pages* free_to_* free_large_kmalloc free_compound_page
get_page_from_freelist prep_new_page post_alloc_hook vmalloc* vzalloc* vfree* get_vm_area* alloc_vmap_area alloc_percpu*
pcpu_* mempool_* create_object kmemleak_* qlist_* quarantine_* do_slab_free vunmap* call_rcu* poison_* unpoison_* memcg_slab* put_page put_pages
folio_put page_frag_* devm_kmalloc* alloc_skb* build_skb* napi_alloc_* netdev_alloc_* pskb_expand_head skb_release_* kfree_skb* skb_free_*
skb_clone skb_copy* sock_alloc_send_* sock_wmalloc dma_pool_* alloc_workqueue* call_rcu_* kvfree_call_rcu
"""

# Waiting, and switching away.
_WAITING = """
schedule schedule_* io_schedule* context_switch switch_to* preempt_schedule* cond_resched wait_for_common* wait_for_completion*
do_wait_for_common wait_on_bit* out_of_line_wait* bit_wait* prepare_to_* finish_wait wait_woken wait_event* folio_wait*
wait_on_page* folio_lock* lock_page* do_sched_yield msleep* usleep_range* hrtimer_nanosleep do_nanosleep
flush_work* flush_workqueue start_flush_work drain_workqueue cancel_work* cancel_delayed_work* kthread_stop kthread_park
wait_rcu_gp exp_funnel_lock rcu_exp_* swait_* swake_* try_to_wake_up wake_up_common* default_wake_function
autoremove_wake_function complete* synchronize_rcu_expedited_wait* sync_rcu_* futex_wait_queue*
"""

# From the CPU's vector to the function that was interrupted, and what runs in that interrupt to find a stall.
_INTERRUPT = """
sysvec_* asm_sysvec_* common_interrupt* asm_common_interrupt apic_timer_interrupt* smp_apic_timer_interrupt*
*reschedule_interrupt reboot_interrupt smp_reboot_interrupt smp_*_interrupt call_function*_interrupt ret_from_intr
irq_work_interrupt do_IRQ call_on_stack call_on_irq_stack call_irq_handler do_interrupt_handler el1_irq el1_interrupt
el1h_64_irq* el0_irq* el0_interrupt gic_handle_irq irq_svc irq_usr handle_IRQ generic_handle_* handle_domain_irq
handle_percpu_devid_irq do_irq timer_interrupt decrementer_common* hardware_interrupt_common* do_ext_irq do_ext_interrupt
ext_int_handler io_int_handler interrupt_entry xen_*upcall* riscv_timer_interrupt riscv_intc_irq arch_timer_handler_*
hrtimer_interrupt local_apic_timer_interrupt hrtimer_run_queues run_hrtimer tick_* update_process_times rcu_sched_clock_irq
rcu_check_callbacks sched_tick scheduler_tick check_cpu_stall print_cpu_stall* print_other_cpu_stall* rcu_dump_cpu_stacks
dump_cpu_task rcu_pending sched_show_task watchdog_timer_fn nmi end_repeat_nmi asm_exc_nmi exc_nmi default_do_nmi do_nmi
nmi_handle perf_event_nmi_handler ipi_cpu_backtrace do_handle_IPI handle_IPI kaiser* smp_trace_*
"""

# Reading a stalled stack from its outer end: these pass a request on; what they call says what it was.
_DISPATCH = """
entry_* do_syscall_* syscall_* do_int80_syscall* do_fast_syscall* do_SYSENTER* x64_sys_call ia32_sys_call ret_from_*
ret_fast_syscall int_ret_from_sys_call el0* invoke_syscall do_el0_svc system_call* sysenter_* cstar_dispatch exit_to_*
prepare_exit* do_signal get_signal arch_do_signal* do_notify_resume task_work_run fput
sys_ioctl sys_write sys_writev sys_pwrite* sys_read sys_readv sys_pread* sys_sendmsg sys_sendmmsg sys_sendto sys_setsockopt
sys_getsockopt sys_splice sys_sendfile* sys_exit sys_exit_group sys_close sys_socketcall sys_connect sys_io_uring_enter
ksys_write ksys_read ksys_ioctl ksys_pwrite64 ksys_pread64 vfs_ioctl vfs_write vfs_read vfs_writev vfs_readv do_vfs_ioctl
vfs_iter_* do_iter_* do_readv* do_writev* do_loop_readv* new_sync_write new_sync_read call_write_iter call_read_iter
blkdev_ioctl block_ioctl compat_blkdev_ioctl blkdev_driver_ioctl lo_compat_ioctl compat_sys_* do_exit do_group_exit
sock_sendmsg* sock_ioctl sock_do_ioctl sock_common_setsockopt sock_write_iter sock_close sock_release do_sock_setsockopt
do_sock_getsockopt kernel_sendmsg netlink_sendmsg netlink_unicast* netlink_rcv_skb rtnetlink_rcv* nfnetlink_rcv* genl_rcv*
genl_family_rcv* sock_diag_rcv* xfrm_netlink_rcv xfrm_user_rcv_msg
kthread worker_thread process_one_work process_scheduled_works smpboot_thread_fn run_ksoftirqd irq_thread* kthread_worker_fn
rcu_gp_* rcu_core* rcu_do_batch rcu_cpu_kthread rcu_process_callbacks rcu_nocb* rcu_tasks_* start_kernel start_secondary
rest_init secondary_startup* cpu_startup_entry do_idle cpu_idle* x86_64_start* kernel_init* do_one_initcall do_initcalls
do_softirq* handle_softirqs irq_exit* invoke_softirq run_timer_* call_timer_fn expire_timers run_timers tasklet_action*
net_rx_action napi_poll process_backlog netif_receive_skb* net_tx_action hrtimer_run_softirq
"""

_SOFTIRQ = "do_softirq do_softirq_own_stack handle_softirqs run_timer_softirq"

# A CPU that has nothing to do, in a dump of all of them.
_IDLE = """
default_idle* native_safe_halt pv_native_safe_halt acpi_safe_halt acpi_idle_* cpuidle_* intel_idle* arch_cpu_idle mwait_idle*
cpu_do_idle wait_for_interrupt
"""


# In the backtrace of a leaked object: every allocator, whatever subsystem it belongs to.
_LEAK = "*alloc* *_dup"


class Table:
    """A set of function names."""

    def __init__(self, *texts: str) -> None:
        names = [re.escape(word).replace(r"\*", r"\w*") for text in texts for word in text.split()]
        self._pattern = re.compile("|".join(names))

    def __contains__(self, function: str) -> bool:
        return self._pattern.fullmatch(function.lstrip("_")[:80]) is not None


INTERRUPT = Table(_INTERRUPT)
ALLOCATOR = Table(_LEAK)
DISPATCH = Table(_DISPATCH, _WAITING)
SOFTIRQ = Table(_SOFTIRQ)
IDLE = Table(_IDLE)
_SKIPPED = Table(_REPORTING, _CHECKERS, _PRIMITIVES, _ALLOCATION, _WAITING, _INTERRUPT)


@lru_cache(maxsize=4096)
def relevant(function: str) -> bool:
    """A function that tells this report from others."""
    return function not in _SKIPPED
