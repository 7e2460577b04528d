# SPDX-License-Identifier: GPL-2.0-only
"""WARN(), what subsystems say for themselves, and what no other table knows.

Formats: kernel/panic.c (__warn), lib/bug.c, arch/x86/kernel/unwind_*.c, fs/super.c, fs/open.c,
fs/dcache.c, net/core/dev.c, kernel/irq/spurious.c, kernel/irq/manage.c, lib/kobject.c, fs/sysfs/dir.c,
kernel/cfi.c, kernel/time/sleep_timeout.c, kernel/sched/{idle,debug}.c.
"""

from __future__ import annotations

from harness.console.pattern import Frame, Pattern, Role

# "WARNING: CPU: 1 PID: 42 at FILE:LINE FUNCTION+0x1/0x2", in later kernels
# "WARNING: FILE:LINE at FUNCTION+0x1/0x2, CPU#1: task/42"; before Linux v3.11, nothing said which CPU.
_AT = (
    r"(?:(?:CPU: (?P<cpu>\d+) PID: (?P<pid>\d+) )?at |(?:\[[^\]]{1,80}\] )?"
    r"(?=[^\s:]{1,160}:\d+ at [^\s,]{1,200}(?:,|$| [\[(])))"
)
# A kernel that was built outside of its tree says so: ../linux-6.12/lib/refcount.c.
_TREE = r"(?:\.\.?/){0,8}(?:[\w.+-]{1,64}/)?"


def _warn(site: str, function: str = r"[^\s+(]{1,200}") -> str:
    return rf"WARNING: {_AT}(?P<site>{_TREE}{site}:\d+) (?:at )?(?P<fn>{function})"


PATTERNS = (
    Pattern(
        name="warn-refcount",
        type="REFCOUNT_WARNING",
        needles=("WARNING: ",),
        regex=_warn(r"lib/refcount\.c"),
        title="WARNING: refcount bug in {frame}",
        skip="*refcount* *kobject_*",
        sample="WARNING: CPU: 0 PID: 28200 at lib/refcount.c:152 refcount_inc+0x47/0x50",
        near_miss="WARNING: CPU: 0 PID: 28200 at lib/refcounts.c:152 refcount_inc+0x47/0x50",
    ),
    Pattern(
        name="warn-odebug",
        type="WARNING",
        needles=("WARNING: ",),
        regex=_warn(r"lib/debugobjects\.c"),
        title="WARNING: ODEBUG bug in {frame}",
        skip="*debug_* *rcu* *hrtimer_* *timer_* *work_* *percpu_* *vunmap* *vfree* *__free_* *kobject_*",
        sample="WARNING: CPU: 0 PID: 5989 at lib/debugobjects.c:291 debug_print_object+0x166/0x220",
        near_miss="WARNING: CPU: 0 PID: 5989 at lib/bitmap.c:291 debug_print_object+0x166/0x220",
    ),
    Pattern(
        name="warn-usercopy",
        type="WARNING",
        needles=("WARNING: ",),
        regex=_warn(r"mm/usercopy\.c"),
        title="WARNING: bad usercopy in {frame}",
        skip="*usercopy* *__check*",
        sample="WARNING: CPU: 0 PID: 5989 at mm/usercopy.c:74 usercopy_warn+0xe8/0x110",
        near_miss="WARNING: CPU: 0 PID: 5989 at mm/util.c:74 usercopy_warn+0xe8/0x110",
    ),
    Pattern(
        name="warn-kobject",
        type="WARNING",
        needles=("WARNING: ",),
        regex=_warn(r"lib/kobject\.c"),
        title="WARNING: kobject bug in {frame}",
        skip="*kobject_*",
        sample="WARNING: CPU: 1 PID: 12 at lib/kobject.c:718 kobject_get+0xa6/0xe0",
        near_miss="WARNING: CPU: 1 PID: 12 at lib/kobject_uevent.c:718 kobject_get+0xa6/0xe0",
    ),
    Pattern(
        name="warn-lockdep",
        type="LOCKDEP",
        needles=("WARNING: ",),
        regex=_warn(r"kernel/locking/lockdep\.c"),
        title="WARNING: locking bug in {frame}",
        skip="*lock_sock* *release_sock*",
        sample="WARNING: CPU: 0 PID: 17530 at kernel/locking/lockdep.c:735 look_up_lock_class+0x179/0x260",
        near_miss="WARNING: CPU: 0 PID: 17530 at kernel/locking/rwsem.c:735 up_write+0x179/0x260",
    ),
    Pattern(
        name="warn-kmalloc",
        type="WARNING",
        needles=("WARNING: ",),
        regex=_warn(
            r"mm/\w{1,24}\.c",
            r"(?:__)?k\w{0,8}malloc\w{0,24}",
        ),
        title="WARNING: kmalloc bug in {frame}",
        skip="*slab* *kmem* *kmalloc* *krealloc*",
        sample="WARNING: CPU: 1 PID: 10275 at mm/slab_common.c:1012 kmalloc_slab+0x5d/0x70",
        near_miss="WARNING: CPU: 1 PID: 10275 at mm/slab_common.c:1012 kmem_cache_destroy+0x5d/0x70",
    ),
    Pattern(
        name="warn-vmalloc",
        type="WARNING",
        needles=("WARNING: ",),
        regex=_warn(r"mm/vmalloc\.c", r"__vmalloc_node_range\w{0,16}"),
        title="WARNING: zero-size vmalloc in {frame}",
        sample="WARNING: CPU: 1 PID: 3605 at mm/vmalloc.c:3086 __vmalloc_node_range+0x4d6/0x6c0",
        near_miss="WARNING: CPU: 1 PID: 3605 at mm/vmalloc.c:3086 vunmap+0x4d6/0x6c0",
    ),
    Pattern(
        name="warn-proc",
        type="WARNING",
        needles=("WARNING: ",),
        regex=_warn(r"fs/proc/generic\.c", "proc_register"),
        title="WARNING: proc registration bug in {frame}",
        skip="*proc_*",
        sample="WARNING: CPU: 1 PID: 12 at fs/proc/generic.c:372 proc_register+0x2a4/0x370",
        near_miss="WARNING: CPU: 1 PID: 12 at fs/proc/generic.c:715 remove_proc_entry+0x2a4/0x370",
    ),
    Pattern(
        # The USB core complains about what a driver submits.
        name="warn-urb",
        type="WARNING",
        needles=("WARNING: ",),
        regex=_warn(r"drivers/usb/core/urb\.c", "usb_submit_urb"),
        title="WARNING in {frame}/usb_submit_urb",
        skip="usb_start_wait_urb usb_bulk_msg usb_interrupt_msg usb_control_msg",
        sample="WARNING: CPU: 1 PID: 12 at drivers/usb/core/urb.c:494 usb_submit_urb+0xaf2/0x1180",
        near_miss="WARNING: CPU: 1 PID: 12 at drivers/usb/core/urb.c:712 usb_kill_urb+0xaf2/0x1180",
    ),
    Pattern(
        name="warn",
        type="WARNING",
        needles=("WARNING: ",),
        regex=_warn(r"[\w./+-]{1,160}"),
        title="WARNING in {frame}",
        frame=Frame.LINE,
        within=frozenset(("cfi",)),
        sample="WARNING: CPU: 0 PID: 34 at mm/mmu_notifier.c:489 __mmu_notifier_invalidate_range_start+0x1e0/0x260",
        near_miss="WARNING: Spectre v2 mitigation leaves CPU vulnerable to RETBleed attacks, data leaks possible!",
    ),
    Pattern(
        # Without CONFIG_DEBUG_BUGVERBOSE, and for the traps of CFI, nothing says in which file.
        name="warn-bare",
        type="WARNING",
        needles=("WARNING: ",),
        regex=(
            r"WARNING: (?:CPU: (?P<cpu>\d+) PID: (?P<pid>\d+) )?at (?P<fn>[A-Za-z_][\w.$]{0,200})"
            r"(?:\+0x|, CPU#| \([\w./+-]{1,160}:\d)"
        ),
        title="WARNING in {frame}",
        frame=Frame.LINE,
        within=frozenset(("cfi",)),
        sample="WARNING: CPU: 6 PID: 1 at pick_next+0xa2/0x210 [sched_ext]",
        near_miss="WARNING: at least one of the disks is old",
    ),
    Pattern(
        name="cfi",
        type="BUG",
        needles=("CFI failure ",),
        regex=r"CFI failure (?:\(target: .{1,200}|at (?P<fn>[A-Za-z_][\w.$]{0,200})\S{0,40}(?: \[\w{1,64}\])? \()",
        title="CFI failure in {frame}",
        frame=Frame.LINE,
        skip="*cfi_*",
        sample="CFI failure at do_basic_setup+0x10/0x28 (target: nh_init+0x0/0x88 [nh]; expected type: 0x8c5b2c7a)",
        near_miss="CFI failure rate of the device: 0",
    ),
    Pattern(
        name="unwinder-value",
        type="WARNING",
        needles=("WARNING: ",),
        regex=(
            r"WARNING: (?P<what>kernel stack regs|kernel stack frame pointer) at {1,24}\S{1,40} in .{1,32}:\d+ has bad "
            r"(?P<value>'bp' )?value"
        ),
        title="WARNING: {what} has bad {value}value",
        frame=Frame.NONE,
        role=Role.FOLLOWS,
        missing={"value": ""},
        sample="WARNING: kernel stack regs at ffff8801d100fea8 in drive:16059 has bad 'bp' value ffff8801d100ff28",
        near_miss="WARNING: kernel stack is not protected",
    ),
    Pattern(
        name="unwinder",
        type="WARNING",
        needles=("WARNING: ",),
        regex=(
            r"WARNING: (?P<what>stack recursion on stack type|can't access registers at|unrecognized unwind stack "
            r"type)"
        ),
        title="WARNING: {what}",
        frame=Frame.NONE,
        role=Role.FOLLOWS,
        sample="WARNING: stack recursion on stack type 4",
        near_miss="WARNING: stack recursion is fun",
    ),
    Pattern(
        name="irq-nobody-cared",
        type="WARNING",
        needles=("nobody cared",),
        regex=r"irq (?:\d+|event \d+): nobody cared",
        title="irq NUM: nobody cared",
        frame=Frame.NONE,
        traced=True,
        sample='irq 26: nobody cared (try booting with the "irqpoll" option)',
        near_miss="the task said that nobody cared",
    ),
    Pattern(
        name="irq-return-value",
        type="WARNING",
        needles=("bogus return value",),
        regex=r"irq event \d+: bogus return value ",
        title="irq event NUM: bogus return value",
        frame=Frame.NONE,
        traced=True,
        sample="irq event 19: bogus return value ffffff92",
        near_miss="mydev: bogus return value from the firmware",
    ),
    Pattern(
        # Where two drivers may not share a line; many ask for that on purpose, and only debugging shows a stack.
        name="irq-flags",
        type="WARNING",
        needles=("Flags mismatch irq",),
        regex=r"genirq: Flags mismatch irq \d+\. [0-9a-f]{8} \(",
        title="genirq: Flags mismatch irq",
        frame=Frame.NONE,
        role=Role.WEAK,
        directly=True,
        sample="genirq: Flags mismatch irq 4. 00000000 (ttyS0) vs. 00000080 (nh)",
        near_miss="Flags mismatch irq of the day",
    ),
    Pattern(
        name="sysfs-duplicate",
        type="WARNING",
        needles=("cannot create duplicate filename",),
        regex=r"sysfs: cannot create duplicate filename '",
        title="sysfs: cannot create duplicate filename in {frame}",
        skip="*sysfs* *kobject* *device_add* device_create* device_register driver_register bus_add_*",
        sample="sysfs: cannot create duplicate filename '/devices/virtual/misc/nh'",
        near_miss="tar: cannot create duplicate filename 'nh'",
    ),
    Pattern(
        name="kobject",
        type="WARNING",
        needles=("something is seriously wrong", "kobject_add_internal failed for", "initialized properly!"),
        regex=(
            r"(?:kobject: )?(?:kobject (?:'[^']{1,80}' )?\([^)]{1,24}\): (?:tried to (?:init an initialized|add an "
            r"uninitialized) object|must have a ktype|invalid)|kobject_add_internal failed for .{1,80} with -EEXIST)"
        ),
        title="kobject bug in {frame}",
        role=Role.WEAK,
        skip="*kobject* *sysfs*",
        sample="kobject (00000000a1b2c3d4): tried to init an initialized object, something is seriously wrong.",
        near_miss="mydev: something is seriously wrong.",
    ),
    Pattern(
        name="schedule-timeout",
        type="WARNING",
        needles=("wrong timeout value",),
        regex=r"schedule_timeout: wrong timeout value [0-9a-f-]{1,20}",
        title="schedule_timeout: wrong timeout value in {frame}",
        skip="*schedule*",
        sample="schedule_timeout: wrong timeout value fffffffffffffff6",
        near_miss="mydev: wrong timeout value 12",
    ),
    Pattern(
        name="idle-scheduling",
        type="ATOMIC_SLEEP",
        needles=("bad: scheduling from",),
        regex=r"bad: scheduling from the idle thread!",
        title="bad: scheduling from the idle thread in {frame}",
        skip="*schedule* *dequeue_task_idle*",
        sample="bad: scheduling from the idle thread!",
        near_miss="not bad: scheduling from the idle thread",
    ),
    Pattern(
        name="no-schedule",
        type="HANG",
        needles=("without schedule",),
        regex=r"sched: CPU (?P<cpu>\d+) need_resched set for > \d+ ns \(\d+ ticks\) without schedule",
        title="sched: need_resched set without schedule in {frame}",
        frame=Frame.STALL,
        sample="sched: CPU 1 need_resched set for > 100000000 ns (25 ticks) without schedule",
        near_miss="a day without schedule",
    ),
    Pattern(
        name="dead-loop",
        type="WARNING",
        needles=("Dead loop",),
        regex=r"(?:\S{1,32}: )?Dead loop on virtual device \S{1,32},",
        title="Dead loop on virtual device",
        frame=Frame.NONE,
        sample="Dead loop on virtual device ip6_vti0, fix it urgently!",
        near_miss="No Dead loop on virtual device",
    ),
    Pattern(
        name="busy-inodes",
        type="DoS",
        needles=("VFS: ",),
        regex=r"VFS: Busy inodes after unmount of ",
        title="VFS: Busy inodes after unmount (use-after-free)",
        frame=Frame.NONE,
        sample="VFS: Busy inodes after unmount of vda (ext4)",
        near_miss="VFS: Busy inodes after a long day",
    ),
    Pattern(
        name="file-count",
        type="DoS",
        needles=("VFS: ",),
        regex=r"VFS: Close: file count is (?:0|zero)",
        title="VFS: Close: file count is zero (use-after-free)",
        frame=Frame.NONE,
        sample="VFS: Close: file count is 0 (f_op=ext4_file_operations)",
        near_miss="VFS: Close: file count is 1",
    ),
    Pattern(
        name="dentry-in-use",
        type="BUG",
        needles=("BUG",),
        regex=r"BUG: Dentry .{1,160} still in use \(-?\d+\) \[unmount of ",
        title="BUG: Dentry still in use in unmount",
        frame=Frame.NONE,
        sample="BUG: Dentry 00000000a1b2c3d4{i=1,n=file}  still in use (1) [unmount of tmpfs tmpfs]",
        near_miss="BUG: Dentry cache hash table entries: 65536",
    ),
    Pattern(
        # Android's second kernel, beside Linux in the secure world, shares its console.
        name="trusty-assert",
        type="DoS",
        needles=("trusty: panic",),
        regex=r"trusty: panic .{0,160}?ASSERT FAILED(?: at \([^)]{0,160}\))?: ?(?P<what>.{1,120})",
        title="trusty: ASSERT FAILED: {what}",
        frame=Frame.NONE,
        sample="trusty: panic (caller 0xffff): DEBUG ASSERT FAILED at (kernel/rctee/lib/sm/sm.c:12): m == NULL",
        near_miss="trusty: panic (caller 0xffff): out of handles",
    ),
    Pattern(
        name="trusty-panic",
        type="DoS",
        needles=("trusty: panic",),
        regex=r"trusty: panic \([^)]{0,160}\): (?P<what>.{1,120})",
        title="trusty: panic: {what}",
        frame=Frame.NONE,
        sample="trusty: panic (caller 0xffff): out of handles",
        near_miss="trusty: panic is not what this does",
    ),
    Pattern(
        # A program in Go, on the same console.
        name="program-panic",
        type="DoS",
        needles=("panic: ", "fatal error: "),
        program=True,
        regex=(
            r"(?P<what>panic: |fatal error: (?=all goroutines|runtime|unexpected signal|stack overflow|concurrent map|"
            r"sync: |out of memory|checkptr|found |schedule: |bad ))(?P<how>[a-z][^\n]{2,120})"
        ),
        title="{what}{how}",
        frame=Frame.NONE,
        role=Role.FOLLOWS,
        first=True,
        sample="panic: runtime error: index out of range [5] with length 3",
        near_miss="kernel.panic: 1",
    ),
    Pattern(
        name="program",
        type="SYZ_FAILURE",
        needles=("SYZF",),
        regex=r"(?P<what>SYZ(?:FAIL|FATAL): .{1,120})",
        title="{what}",
        frame=Frame.NONE,
        sample="SYZFAIL: mmap of data segment failed",
        near_miss="SYZFS: mounted",
    ),
    Pattern(
        name="any-bug",
        type="BUG",
        needles=("BUG",),
        regex=r"(?:\[ )?BUG: (?P<what>(?!no syscalls can)\S[^\n]{2,120})",
        title="BUG: {what}",
        frame=Frame.NONE,
        first=True,
        sample="BUG: arch topology borken",
        near_miss="BUG: KASAN: use-after-free in foo+0x1/0x2",
    ),
    Pattern(
        name="any-warning",
        type="WARNING",
        needles=("WARNING: ",),
        regex=r"(?:\[ )?WARNING: (?P<what>\S[^\n]{2,120})",
        title="WARNING: {what}",
        frame=Frame.NONE,
        role=Role.WEAK,
        first=True,
        sample="WARNING: a check that prints its own line and calls dump_stack()",
        near_miss="WARNING: CPU: 0 PID: 34 at mm/mmu_notifier.c:489 foo+0x1e0/0x260",
    ),
)
