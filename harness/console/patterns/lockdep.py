# SPDX-License-Identifier: GPL-2.0-only
"""Locking: what lockdep and the lock debugging proved wrong, mostly before it deadlocks.

Formats: kernel/locking/lockdep.c, kernel/locking/spinlock_debug.c, kernel/locking/rtmutex.c,
lib/smp_processor_id.c, kernel/workqueue.c, kernel/sched/core.c.
Until Linux v4.10 the first line stood in brackets: "[ INFO: possible … ]".
"""

from __future__ import annotations

from harness.console.pattern import Frame, Pattern

PATTERNS = (
    Pattern(
        name="deadlock",
        type="LOCKDEP",
        needles=(
            "WARNING: ",
            "INFO: ",
        ),
        regex=(
            r"(?:\[ )?(?:INFO|WARNING): possible (?:circular locking dependency|recursive locking|"
            r"irq lock inversion dependency) detected"
        ),
        title="possible deadlock in {frame}",
        frame=Frame.LOCK,
        skip="process_one_work *flush_work* *drain_workqueue* *destroy_workqueue*",
        sample="WARNING: possible circular locking dependency detected",
        near_miss="WARNING: possible SYN flooding detected on port 80. Sending cookies.",
    ),
    Pattern(
        name="irq-lock-order",
        type="LOCKDEP",
        needles=(
            "WARNING: ",
            "INFO: ",
        ),
        regex=(
            r"(?:\[ )?(?:INFO|WARNING): (?:HARD|SOFT|RECLAIM_FS)\w{0,24}-safe -> \w{1,32}-unsafe lock order detected"
        ),
        title="possible deadlock in {frame}",
        frame=Frame.BECAME,
        sample="WARNING: SOFTIRQ-safe -> SOFTIRQ-unsafe lock order detected",
        near_miss="WARNING: safe -> unsafe lock order detected",
    ),
    Pattern(
        name="inconsistent-lock-state",
        type="LOCKDEP",
        needles=(
            "WARNING: ",
            "INFO: ",
        ),
        regex=r"(?:\[ )?(?:INFO|WARNING): inconsistent (?:lock state|\{[\w-]{1,32}\} -> )",
        title="inconsistent lock state in {frame}",
        frame=Frame.STACK,
        sample="WARNING: inconsistent lock state",
        near_miss="WARNING: inconsistent use of partitions",
    ),
    Pattern(
        name="rtmutex-deadlock",
        type="LOCKDEP",
        needles=(
            "WARNING: ",
            "BUG",
        ),
        regex=r"(?:\[ )?(?:BUG|WARNING): circular locking deadlock detected",
        title="possible deadlock in {frame}",
        frame=Frame.STACK,
        sample="WARNING: circular locking deadlock detected!",
        near_miss="no circular locking deadlock detected",
    ),
    Pattern(
        name="unlock-balance",
        type="LOCKDEP",
        needles=(
            "WARNING: ",
            "BUG",
        ),
        regex=r"(?:\[ )?(?P<how>BUG|WARNING): bad (?:unlock balance|contention) detected!",
        title="{how}: bad unlock balance in {frame}",
        frame=Frame.STACK,
        sample="WARNING: bad unlock balance detected!",
        near_miss="WARNING: bad load balance detected!",
    ),
    Pattern(
        name="held-lock-freed",
        type="LOCKDEP",
        needles=(
            "WARNING: ",
            "BUG",
        ),
        regex=r"(?:\[ )?(?P<how>BUG|WARNING): held lock freed!",
        title="{how}: held lock freed in {frame}",
        frame=Frame.HOLDER,
        sample="WARNING: held lock freed!",
        near_miss="INFO: held lock freed!",
    ),
    Pattern(
        name="locks-held",
        type="LOCKDEP",
        needles=(
            "WARNING: ",
            "BUG",
        ),
        regex=r"(?:\[ )?(?P<how>BUG|WARNING): (?P<task>.{1,32}?)/(?P<pid>\d+) still has locks held!",
        title="{how}: still has locks held in {frame}",
        frame=Frame.HOLDER,
        sample="WARNING: drive/4711 still has locks held!",
        near_miss="Showing all locks held in the system:",
    ),
    Pattern(
        name="lock-held-to-user",
        type="LOCKDEP",
        needles=(
            "WARNING: ",
            "BUG",
        ),
        regex=r"(?:\[ )?(?P<how>BUG|WARNING): lock held when returning to user space!",
        title="{how}: lock held when returning to user space in {frame}",
        frame=Frame.HOLDER,
        sample="WARNING: lock held when returning to user space!",
        near_miss="no lock held when returning to user space",
    ),
    Pattern(
        name="nested-lock",
        type="LOCKDEP",
        needles=(
            "WARNING: ",
            "BUG",
        ),
        regex=r"(?:\[ )?(?P<how>BUG|WARNING): Nested lock was not taken",
        title="{how}: nested lock was not taken in {frame}",
        frame=Frame.STACK,
        sample="WARNING: Nested lock was not taken",
        near_miss="kvm: Nested lock was not taken over",
    ),
    Pattern(
        name="wait-context",
        type="LOCKDEP",
        needles=("BUG",),
        regex=r"(?:\[ )?BUG: [Ii]nvalid wait context",
        title="BUG: Invalid wait context in {frame}",
        frame=Frame.STACK,
        skip="*lock_sock* *release_sock* check_wait_context",
        sample="[ BUG: Invalid wait context ]",
        near_miss="DEBUG: Invalid wait context",
    ),
    Pattern(
        name="non-static-key",
        type="LOCKDEP",
        needles=("INFO: ",),
        regex=r"INFO: trying to register non-static key",
        title="INFO: trying to register non-static key in {frame}",
        frame=Frame.STACK,
        skip="*stack* *lock* *IRQ*",
        sample="INFO: trying to register non-static key.",
        near_miss="BUG: key ffff8880 has not been registered!",
    ),
    Pattern(
        name="lockdep-limit",
        type="LOCKDEP",
        needles=("BUG",),
        regex=r"BUG: (?P<what>MAX_[A-Z_]{1,32}) too low!",
        title="BUG: {what} too low!",
        frame=Frame.NONE,
        sample="BUG: MAX_LOCKDEP_CHAINS too low!",
        near_miss="power supply: voltage too low!",
    ),
    Pattern(
        name="suspicious-rcu",
        type="LOCKDEP",
        needles=(
            "WARNING: ",
            "INFO: ",
        ),
        regex=r"(?:\[ )?(?P<how>INFO|WARNING): suspicious RCU usage",
        title="{how}: suspicious RCU usage in {frame}",
        frame=Frame.STACK,
        skip="*rcu* *kmem* *slab*",
        sample="WARNING: suspicious RCU usage",
        near_miss="include/linux/rcupdate.h:302 suspicious RCU usage!",
    ),
    Pattern(
        name="spinlock",
        type="LOCKDEP",
        needles=("BUG",),
        regex=(
            r"BUG: (?P<what>(?:spin|rw)lock (?:bad magic|recursion|lockup suspected|lockup|already unlocked|"
            r"wrong owner|"
            r"wrong CPU|trylock failure on UP|cpu recursion|uninitialized)|rwlock-lockup|write-lock (?:lockup|"
            r"recursion)|"
            r"read-lock lockup|lock recursion deadlock)(?: suspected)? on CPU#(?P<cpu>\d+), (?P<task>.{0,32}?)"
            r"/(?P<pid>\d+)"
        ),
        title="BUG: {what} in {frame}",
        frame=Frame.STACK,
        skip="*spin_* *_lock* *_unlock*",
        sample="BUG: spinlock bad magic on CPU#0, swapper/0/1",
        near_miss="BUG: spinlock of the driver is on CPU#0",
    ),
    Pattern(
        name="preemptible",
        type="LOCKDEP",
        needles=("BUG",),
        regex=(
            r"BUG: using (?P<what>\w{1,48})\(\) in preemptible \[[0-9a-f]{8,16}\] (?:code: )?(?P<task>.{0,32}?)"
            r"/(?P<pid>\d+)"
        ),
        title="BUG: using {what}() in preemptible code in {frame}",
        frame=Frame.STACK,
        skip="*preempt* *debug_* *processor_id* *this_cpu*",
        sample="BUG: using smp_processor_id() in preemptible [00000000] code: drive/123",
        near_miss="BUG: using smp_processor_id() in preemptible code is wrong",
    ),
    Pattern(
        name="workqueue-leak",
        type="LOCKDEP",
        needles=("BUG",),
        regex=(
            r"BUG: workqueue leaked (?:lock or atomic|atomic, lock or RCU): "
            r"(?P<task>[^\[\n]{1,32}?)(?:/0x[0-9a-f]|\[(?P<pid>\d+)\])"
        ),
        title="BUG: workqueue leaked lock or atomic in {last}",
        detail=r"(?:last function: |workfn=)(?P<last>[\w.]{1,128})",
        missing={"last": "corrupted"},
        frame=Frame.NONE,
        sample="BUG: workqueue leaked lock or atomic: kworker/0:0/0x00000001/4",
        near_miss="workqueue: leaked lock or atomic: none",
    ),
    Pattern(
        name="sleep-in-atomic",
        type="ATOMIC_SLEEP",
        needles=("BUG",),
        regex=r"BUG: sleeping function called from invalid context at (?P<site>[\w./-]{1,128}:\d+)",
        title="BUG: sleeping function called from invalid context in {frame}",
        frame=Frame.STACK,
        sample="BUG: sleeping function called from invalid context at kernel/locking/mutex.c:585",
        near_miss="BUG: sleeping function of the display is broken",
    ),
    Pattern(
        name="atomic-assumption",
        type="ATOMIC_SLEEP",
        needles=("BUG",),
        regex=r"BUG: assuming (?P<what>atomic|non migratable) context at (?P<site>[\w./-]{1,128}:\d+)",
        title="BUG: assuming {what} context in {frame}",
        frame=Frame.STACK,
        sample="BUG: assuming atomic context at kernel/seccomp.c:271",
        near_miss="BUG: assuming the best",
    ),
    Pattern(
        name="scheduling-while-atomic",
        type="ATOMIC_SLEEP",
        needles=("BUG",),
        regex=r"BUG: scheduling while atomic: (?P<task>.{0,32}?)/(?P<pid>\d+)/0x[0-9a-f]{8}",
        title="BUG: scheduling while atomic in {frame}",
        frame=Frame.STACK,
        skip="*schedule*",
        sample="BUG: scheduling while atomic: drive/4711/0x00000002",
        near_miss="BUG: scheduling while atomic is not allowed",
    ),
)
