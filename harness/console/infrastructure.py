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
*_console_sem arch_trigger_* arm64_notify_die asm_exc_* async_page_fault bad_area* bad_page_fault brk_handler
bug_at_* bug_brk_handler bug_handler call_break_hook call_el1_break_hook call_undef_hook check_bytes_and_report
check_heap_object check_object check_object_size check_panic_on_warn check_slab check_stack_object console_*
dabt_svc data_access_* debug_exception_enter df_debug die die_body die_kernel_fault divide_error do_alignment*
do_bad_area do_DataAbort do_debug_exception do_divide_error do_double_fault do_error_trap do_exit_bad
do_general_protection do_int3* do_invalid_op do_kern_addr_fault do_kernel_fault do_mem_abort do_page_fault
do_pgm_check do_PrefetchAbort do_sea do_sp_pc_abort do_stack_segment do_tag_check_fault do_translation_fault do_trap
do_trap_* do_undefinstr do_user_addr_fault double_fault dump_backtrace* dump_stack* el0_sync* el1_* el1h_64_*
el1t_64_* end_report error_code error_entry exc_* fixup_bug fortify_panic fortify_report general_protection
handle_bug handle_exception handle_page_fault handle_sysrq handle_unaligned* int3 invalid_op is_valid_bugaddr
kernelmode_fixup_or_oops nmi_cpu_backtrace* nmi_panic nmi_trigger_* no_context object_err oops_begin oops_end
oops_enter oops_exit pabt_svc page_fault page_fault_oops panic panic_saved_regs pgm_check_handler print_* printk
printk_* program_check_* report_bug* show_regs* show_stack show_trace* slab_bug slab_err slab_pad_check
spurious_kernel_fault* stack_chk_fail stack_segment trigger_*_backtrace* und_svc* unwind_backtrace usercopy_abort
usercopy_warn vpanic vprintk* walk_stackframe warn warn_alloc warn_slowpath* write_sysrq_trigger
"""

# Sanitizers, lock debugging, tracing: they notice, they are not the cause.
_CHECKERS = """
*kernel_text_address arch_stack_walk asan_* bpf_trace_run* cant_migrate cant_sleep check_deadlock check_flags
check_irq_usage check_memory_region* check_noncircular check_preemption_disabled check_prev* check_region_inline
check_usage* check_wait_context debug_activate debug_check_* debug_deactivate debug_hrtimer* debug_lock*
debug_mutex* debug_object_* debug_objects_* debug_print_object debug_rcu* debug_rt_mutex* debug_smp_processor_id
debug_timer* debug_work* deref_stack_reg do_raw_* fail_dump ftrace_* get_stack_info* hwasan_* is_bpf_text_address
is_dynamic_key kasan_* kcov_* kcsan_* kfence_* kmsan_* lock_acquire* lock_contended lock_downgrade lock_is_held*
lock_release* lockdep_* look_up_lock_class mark_held_locks mark_lock* memory_is_poisoned* might_alloc might_fault
might_resched might_sleep msan_* orc_* perf_swevent* perf_tp_event perf_trace_* preempt_count_* rcu_is_watching
rcu_lock_acquire rcu_lock_release rcu_lockdep* rcu_note_context_switch rcu_read_lock* rcu_read_unlock*
reacquire_held_locks ref_tracker_* register_lock_class rwlock_bug sanitizer_* save_stack* set_track* should_fail*
smp_processor_id spin_bug spin_dump stack_depot_* stack_trace_* this_cpu_preempt_check trace_event_*
trace_hardirqs_* trace_raw_* trace_softirqs_* traceiter_* tsan_* ubsan_* unwind_* validate_chain write_comp_data
"""

# Called from everywhere: what matters is who called.
_PRIMITIVES = """
*_notifier_call_chain *_panic *copy_from_user* *copy_in_user *copy_to_user* add_timer* add_uevent_var arch_atomic*
arch_clear_bit arch_clear_user arch_copy_* arch_local_* arch_set_bit arch_spin_* arch_static_branch arch_test_bit
asm_* assertfail atomic64_* atomic_* bcmp bit_spin_* bitmap_* brelse call_netdevice_notifiers* clear_bit clear_user
cmpxchg* constant_test_bit copy_from_iter* copy_page* copy_to_iter* copy_user_* crc16 crc32* crc_* csum_* del_timer*
delayed_work_timer_fn dev_err dev_hold dev_info dev_notice dev_printk* dev_put dev_uevent dev_vprintk* dev_warn
device_add device_create* device_del device_destroy device_register device_release device_unregister devres_*
do_read_cache_* double_rq_lock down down_common* down_interruptible down_killable down_read* down_timeout
down_trylock down_write* dput fast_dput find_*_bit* find_get_* find_lock_entries folio_lock folio_mark_accessed
folio_unlock format_decode get_cred* get_current get_device get_device_parent get_net get_user* hex_dump* hex_string
hlist_add* hlist_del* ida_* idr_* init_timer_key init_work insert_work instrument_* iov_iter_* ip*_string iput
irq_work_queue irqentry_* kasprintf kernel_fpu_begin* kfifo_* klist_* kmap_* kmemdup* kobject_add* kobject_cleanup
kobject_create* kobject_del* kobject_get* kobject_init* kobject_put* kobject_release kobject_rename
kobject_set_name* kobject_uevent* kref_* kstrdup* kstrto* kunmap* kvasprintf* list_add* list_del* list_lru_*
list_move* list_replace* list_splice* llist_* local_bh_* local_irq_* lock_for_kill lock_sock* lock_timer_base
logic_in* logic_out* mac_address_string mark_page_accessed mas_* memchr* memcmp memcpy* memdup_user* memmove*
memory_is_* memscan memset* memzero* mmdrop mod_delayed_work* mod_timer* mutex_lock* mutex_remove_waiter
mutex_spin_* mutex_trylock* mutex_unlock* native_queued_* native_restore_fl native_save_fl netdev_hold netdev_put
netdev_refcnt_* nla_get* nla_memcpy nla_parse* nla_put* nla_strcmp nla_validate* nlmsg_* notifier_call_chain
notifier_call_chain_robust number osq_lock page_ref_* page_to_* percpu_counter_* percpu_down_* percpu_ref_*
percpu_rwsem_* percpu_up_* phys_addr* plist_* pointer print_hex_dump* proc_create* proc_mkdir* proc_register
pskb_may_pull* put_bh put_cred* put_device put_net put_page_testzero put_pid put_task_struct* put_user* pv_queued_*
queue_delayed_work* queue_work* queued_read_* queued_spin_* queued_write_* radix_tree_* raw_atomic* raw_copy_*
raw_local_* raw_read_* raw_readb raw_readl raw_readq raw_readw raw_spin_* raw_write_* raw_writeb raw_writel
raw_writeq raw_writew rb_erase* rb_first rb_insert* rb_next rb_prev rcu_barrier* rcu_dereference* read_lock*
read_once_size* read_seq* read_unlock* read_word_at_a_time readb readl readw refcount_* release_sock rhashtable_*
rollback_registered* rq_lock* rt_mutex_* rtlock_* rwbase_* rwsem_* scnprintf seq_printf seq_puts seq_write
seqcount_* set_bit simple_copy_to_iter simple_strto* sk_stop_timer* skb_checksum* skb_cow* skb_dequeue*
skb_header_pointer skb_orphan* skb_over_panic skb_panic skb_pull* skb_push* skb_put* skb_queue_* skb_trim
skb_under_panic skb_unlink snprintf sock_rfree sock_wfree spin_lock* spin_trylock* spin_unlock* sprintf strcasecmp
strcat strchr strcmp strcpy string string_nocheck strlcat strlcpy strlen strncasecmp strncmp strncpy strnlen strnstr
strrchr strscpy* strsep strstr symbol_string sysfs_emit* task_blocks_on_rt_mutex task_rq_lock test_and_* test_bit
timer_delete* timer_fixup* truncate_inode_pages* truncate_pagecache try_to_del_timer* try_to_take_rt_mutex uevent_*
unlock_page unregister_netdev unregister_netdevice_many* unregister_netdevice_queue* up up_read up_write
usb_bulk_msg usb_control_msg* usb_hcd_* usb_internal_control_msg usb_interrupt_msg usb_kill_anchored_urbs
usb_start_wait_urb usb_submit_urb va_format validate_nla variable_test_bit virt_to_* vmemdup_user* vscnprintf
vsnprintf vsprintf wake_up wake_up_all wake_up_interruptible* work_is_static_object write_lock* write_once_size*
write_seq* write_unlock* writeb writel writew ww_mutex_* x86_indirect_thunk_* xa_* xas_* xchg xxh*
"""

# Allocating and freeing: what is wrong is what was asked for, or who still uses it.
_ALLOCATION = """
alloc_contig* alloc_frozen_pages* alloc_page alloc_pages* alloc_percpu* alloc_single_page alloc_skb* alloc_slab*
alloc_vmap_area alloc_workqueue* allocate_slab bad_page build_skb* cache_alloc* cache_flusharray cache_free*
cache_grow* call_rcu* check_free_page* check_new_page* create_object devm_kmalloc* discard_slab dma_pool_*
do_kmalloc* do_krealloc* do_slab_free filemap_alloc_folio filemap_get_folio folio_alloc* folio_batch_* folio_put
folios_put* free_compound_page free_frozen_pages* free_large_kmalloc free_one_page free_page free_page_is_bad
free_pages* free_slab* free_to_* free_unref_* get_free_page* get_page_from_freelist get_vm_area* get_zeroed_page
kcalloc* kfree* kmalloc* kmem_cache_* kmemleak_* krealloc* kvcalloc* kvfree* kvmalloc* kvrealloc* kvzalloc* kzalloc*
lru_add_drain* memcg_slab* mempool_* napi_alloc_* netdev_alloc_* new_slab* page_frag_* pagecache_get_page pcpu_*
poison_* post_alloc_hook prep_new_page pskb_expand_head put_page put_pages qlist_* quarantine_* release_pages
reset_page_owner set_page_owner skb_clone skb_copy* skb_free_* skb_release_* slab_* slub_* sock_alloc_send_*
sock_wmalloc unpoison_* vfree* vmalloc* vunmap* vzalloc*
"""

# Waiting, and switching away.
_WAITING = """
autoremove_wake_function bit_wait* blk_mq_get_tag cancel_delayed_work* cancel_work* complete* cond_resched
context_switch default_wake_function destroy_workqueue do_nanosleep do_sched_yield do_wait_for_common
drain_workqueue exp_funnel_lock finish_wait flush_work* folio_lock* folio_wait* futex_wait_queue* hrtimer_nanosleep
io_schedule* kthread_park kthread_should_stop kthread_stop lock_buffer lock_page* msleep* out_of_line_wait*
preempt_schedule* prepare_to_* rcu_exp_* rq_qos_wait schedule schedule_* start_flush_work submit_bio_wait swait_*
swake_* switch_to* sync_rcu_* synchronize_rcu_expedited_wait* try_exp_funnel* try_to_wake_up usleep_range*
wait_event* wait_for_common* wait_for_completion* wait_on_bit* wait_on_buffer wait_on_page* wait_rcu_gp wait_woken
wake_up_common* wbt_wait
"""

# From the CPU's vector to the function that was interrupted, and what runs in that interrupt to find a stall.
_INTERRUPT = """
*reschedule_interrupt apic_timer_interrupt* arch_timer_handler_* asm_common_interrupt asm_exc_nmi asm_sysvec_*
call_function*_interrupt call_irq_handler call_on_irq_stack call_on_stack check_cpu_stall common_interrupt*
decrementer_common* default_do_nmi do_ext_interrupt do_ext_irq do_handle_IPI do_interrupt_handler do_irq do_IRQ
do_nmi dump_cpu_task el0_interrupt el0_irq* el1_interrupt el1_irq el1h_64_irq* end_repeat_nmi exc_nmi
ext_int_handler generic_handle_* gic_handle_irq handle_domain_irq handle_IPI handle_IRQ handle_percpu_devid_irq
hardware_interrupt_common* hrtimer_interrupt hrtimer_run_queues interrupt_entry io_int_handler ipi_cpu_backtrace
irq_svc irq_usr irq_work_interrupt kaiser* local_apic_timer_interrupt nmi nmi_handle perf_event_nmi_handler
print_cpu_stall* print_other_cpu_stall* rcu_check_callbacks rcu_dump_cpu_stacks rcu_pending rcu_sched_clock_irq
reboot_interrupt ret_from_intr retint_kernel retint_user riscv_intc_irq riscv_timer_interrupt run_hrtimer
sched_show_task sched_tick scheduler_tick smp_*_interrupt smp_apic_timer_interrupt* smp_reboot_interrupt smp_trace_*
sysvec_* tick_handle_* tick_nohz_* tick_periodic tick_sched_* timer_interrupt update_process_times watchdog_timer_fn
xen_*upcall*
"""

# Reading a stalled stack from its outer end: these pass a request on; what they call says what it was.
_DISPATCH = """
*_compat_ioctl arch_do_signal* blkdev_driver_ioctl blkdev_ioctl block_ioctl call_mmap call_read_iter call_timer_fn
call_write_iter compat_blkdev_ioctl compat_sys_* cpu_idle* cpu_startup_entry cstar_dispatch do_dentry_open
do_el0_svc do_exit do_fast_syscall* do_filp_open do_group_exit do_idle do_initcalls do_int80_syscall* do_iter_*
do_loop_readv* do_mmap do_notify_resume do_one_initcall do_open do_readv* do_signal do_sock_getsockopt
do_sock_setsockopt do_softirq* do_sys_open* do_syscall_* do_SYSENTER* do_vfs_ioctl do_writev* el0* entry_* exit_to_*
expire_timers fput genl_family_rcv* genl_rcv* get_signal handle_softirqs hrtimer_run_queues hrtimer_run_softirq
ia32_sys_call int_ret_from_sys_call invoke_softirq invoke_syscall irq_exit* irq_thread* kernel_init* kernel_sendmsg
ksys_ioctl ksys_mmap_pgoff ksys_pread64 ksys_pwrite64 ksys_read ksys_write kthread kthread_worker_fn mmap_region
napi_poll net_rx_action net_tx_action netif_receive_skb* netlink_dump* netlink_rcv_skb netlink_sendmsg
netlink_unicast* new_sync_read new_sync_write nfnetlink_rcv* path_openat prepare_exit* process_backlog
process_one_work process_scheduled_works rcu_core* rcu_cpu_kthread rcu_do_batch rcu_gp_* rcu_nocb*
rcu_process_callbacks rcu_tasks_* rest_init ret_fast_syscall ret_from_* rtnetlink_rcv* run_ksoftirqd run_timer_*
run_timers secondary_startup* smpboot_thread_fn sock_close sock_common_setsockopt sock_diag_rcv* sock_do_ioctl
sock_ioctl sock_release sock_sendmsg* sock_write_iter start_kernel start_secondary sys_close sys_connect sys_creat
sys_exit sys_exit_group sys_getsockopt sys_io_uring_enter sys_ioctl sys_mmap sys_mmap2 sys_mmap_pgoff sys_open
sys_openat sys_openat2 sys_pread* sys_pwrite* sys_read sys_readv sys_sendfile* sys_sendmmsg sys_sendmsg sys_sendto
sys_setsockopt sys_socketcall sys_splice sys_write sys_writev syscall_* sysenter_* system_call* task_work_run
tasklet_action* vfs_ioctl vfs_iter_* vfs_open vfs_read vfs_readv vfs_write vfs_writev vm_mmap_pgoff worker_thread
x64_sys_call x86_64_start* xfrm_netlink_rcv xfrm_user_rcv_msg
"""

# Where the handling of something that came in by itself begins: a timer, a packet.
# What lies further out is who was interrupted.
_ARRIVAL = "do_softirq* handle_softirqs run_timer_softirq hrtimer_run_softirq netif_receive_skb* netif_rx*"

# A CPU that has nothing to do, in a dump of all of them.
_IDLE = """
acpi_idle_* acpi_safe_halt arch_cpu_idle cpu_do_idle cpuidle_* default_idle* intel_idle* mwait_idle*
native_safe_halt pv_native_safe_halt wait_for_interrupt
"""


# In the backtrace of a leaked object: every allocator, whatever subsystem it belongs to.
_LEAK = "*alloc* *_dup"


# A kernel thread's own loop: in a stall report it is the witness.
_KERNEL_THREAD = "kthread worker_thread rcu_gp_* rcu_tasks_* smpboot_thread_fn"


class Table:
    """A set of function names."""

    def __init__(self, *texts: str) -> None:
        names = [re.escape(word).replace(r"\*", r"\w*") for text in texts for word in text.split()]
        self._pattern = re.compile("|".join(names))

    def __contains__(self, function: str) -> bool:
        # _noprof: the wrapped function of an allocator under CONFIG_MEM_ALLOC_PROFILING.
        return self._pattern.fullmatch(function.lstrip("_").removesuffix("_noprof")[:80]) is not None


INTERRUPT = Table(_INTERRUPT)
ALLOCATOR = Table(_LEAK)
DISPATCH = Table(_DISPATCH, _WAITING)
ARRIVAL = Table(_ARRIVAL)
IDLE = Table(_IDLE)
KERNEL_THREAD = Table(_KERNEL_THREAD)
_SKIPPED = Table(_REPORTING, _CHECKERS, _PRIMITIVES, _ALLOCATION, _WAITING, _INTERRUPT)


@lru_cache(maxsize=4096)
def relevant(function: str) -> bool:
    """A function that tells this report from others."""
    return function not in _SKIPPED
