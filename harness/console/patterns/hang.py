# SPDX-License-Identifier: GPL-2.0-only
"""The kernel noticed that something makes no progress.

Formats: kernel/watchdog.c, kernel/hung_task.c, kernel/rcu/tree_stall.h, kernel/rcu/tasks.h,
kernel/workqueue.c, arch/powerpc/kernel/watchdog.c, net/core/dev.c.
"""

from __future__ import annotations

from harness.console.pattern import Frame, Pattern, Role

PATTERNS = (
    Pattern(
        name="soft-lockup",
        type="HANG",
        needles=("BUG",),
        regex=(
            r"(?:NMI )?(?:watchdog: )?BUG: soft lockup\b(?: - CPU#(?P<cpu>\d+) stuck for \d+s! \[(?P<task>.{1,32}?)"
            r":(?P<pid>\d+)\])?"
        ),
        title="BUG: soft lockup in {frame}",
        frame=Frame.STALL,
        skip="switch_to",
        sample="watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [drive:123]",
        near_miss="watchdog: soft lockup detector is off",
    ),
    Pattern(
        name="hard-lockup",
        type="HANG",
        needles=("LOCKUP",),
        regex=r"(?:NMI )?(?:watchdog: )?(?:CPU\d+: )?Watchdog detected hard LOCKUP on cpu (?P<cpu>\d+)",
        within=frozenset(("rcu-stall",)),
        title="BUG: hard lockup in {frame}",
        frame=Frame.STALL,
        sample="watchdog: CPU1: Watchdog detected hard LOCKUP on cpu 1",
        near_miss="NMI watchdog: enabled on all CPUs, permanently consumes one hw-PMU counter.",
    ),
    Pattern(
        name="hard-lockup-powerpc",
        type="HANG",
        needles=("LOCKUP",),
        regex=r"watchdog: CPU (?P<cpu>\d+) (?:self-)?detected hard LOCKUP|watchdog: CPU \d+ Hard LOCKUP",
        within=frozenset(("rcu-stall",)),
        title="BUG: hard lockup in {frame}",
        frame=Frame.STALL,
        sample="watchdog: CPU 3 self-detected hard LOCKUP @ plpar_hcall_norets+0x1c/0x28",
        near_miss="watchdog: CPU 3 became unstuck TB:1234",
    ),
    Pattern(
        name="rcu-stall",
        type="HANG",
        needles=("INFO: ",),
        regex=r"(?:rcu: )?INFO: rcu\w{0,32} (?:self-)?detected (?:expedited )?stalls?(?:\?| on (?:CPU|tasks)|, but)",
        title="INFO: rcu detected stall in {frame}",
        frame=Frame.STALL,
        skip="*rcu* switch_to",
        sample="rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
        near_miss="rcu: INFO: Stall ended before state dump start",
    ),
    Pattern(
        name="rcu-kthread-starved",
        type="HANG",
        needles=("kthread ",),
        regex=r"(?:rcu: )?rcu_\w{1,32} kthread (?:starved for \d+ jiffies|timer wakeup didn't happen for)",
        title="INFO: rcu kthread starved",
        frame=Frame.NONE,
        role=Role.FOLLOWS,
        sample="rcu: rcu_preempt kthread starved for 10502 jiffies! g1129 f0x0 RCU_GP_WAIT_FQS(5) ->state=0x0 ->cpu=1",
        near_miss="rcu: Adjusting geometry for rcu_fanout_leaf=16, nr_cpu_ids=2 kthread",
    ),
    Pattern(
        name="hung-task",
        type="HANG",
        needles=("INFO: ",),
        regex=(
            r"INFO: task (?P<task>.{1,64}?):(?P<pid>\d+) (?:<\w+> )?(?:is )?blocked (?:in I/O wait )?for more than "
            r"\d+ seconds"
        ),
        title="INFO: task hung in {frame}",
        frame=Frame.HANG,
        sample="INFO: task khugepaged:33 blocked for more than 122 seconds.",
        near_miss="INFO: task khugepaged:33 is blocked on a mutex likely owned by task drive:12.",
    ),
    Pattern(
        # The task's name had a newline in it.
        name="hung-task-tail",
        type="HANG",
        needles=(" blocked ",),
        regex=r".{0,64}?:(?P<pid>\d+) blocked (?:in I/O wait )?for more than \d+ seconds\.$",
        title="INFO: task hung in {frame}",
        frame=Frame.HANG,
        first=True,
        sample="name:18088 blocked for more than 143 seconds.",
        near_miss="name:18088 is blocked for more than 143 seconds, or so it seems",
    ),
    Pattern(
        name="unkillable-task",
        type="HANG",
        needles=("INFO: ",),
        regex=r"INFO: task (?P<task>.{1,64}?):(?P<pid>\d+) can't die for more than \d+ seconds",
        title="INFO: task can't die in {frame}",
        skip="*schedule*",
        sample="INFO: task drive:4711 can't die for more than 143 seconds.",
        near_miss="drive: the task can't die for more than it has lived",
    ),
    Pattern(
        name="workqueue-lockup",
        type="HANG",
        needles=("BUG",),
        regex=r"BUG: workqueue lockup - pool",
        title="BUG: workqueue lockup",
        frame=Frame.NONE,
        sample="BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 33s!",
        near_miss="workqueue: vmstat_shepherd hogged CPU for >10000us 4 times, consider switching to WQ_UNBOUND",
    ),
    Pattern(
        name="csd-lock",
        type="HANG",
        needles=("csd: ",),
        regex=r"smp: csd: Detected non-responsive CSD lock",
        title="smp: non-responsive CSD lock",
        frame=Frame.NONE,
        sample="smp: csd: Detected non-responsive CSD lock (#1) on CPU#1, waiting 5000000000 ns for CPU#00",
        near_miss="smp: csd: CSD lock (#1) unresponsive.",
    ),
    Pattern(
        name="netdevice-reference",
        type="DoS",
        needles=("unregister_netdevice: waiting for",),
        regex=r"(?:NOHZ: |\S{1,16}: )?unregister_netdevice: waiting for \S{1,32} to become free",
        title="unregister_netdevice: waiting for DEV to become free",
        frame=Frame.NONE,
        sample="unregister_netdevice: waiting for lo to become free. Usage count = 2",
        near_miss="unregister_netdevice: device lo/000 never was registered",
    ),
)
