# SPDX-License-Identifier: GPL-2.0-only
"""What a real guest's own signs tell: that its log lost records, that it panicked, that it is dead or spins."""

from __future__ import annotations

import contextlib
import json

import pytest

from harness.guest.agent import GuestTimeout
from harness.guest.machine import Condition, Machine
from harness.host.clock import Deadline
from harness.model.errors import GuestLost

pytestmark = pytest.mark.guest

# 1,500 records of 900 bytes, for a ring of 1 MiB; KERN_DEBUG, which does not go to the console.
_FLOOD = r"""
echo on > /proc/sys/kernel/printk_devkmsg
text=$(head -c 900 /dev/zero | tr '\0' x)
i=0; while [ $i -lt 1500 ]; do echo "<7>$text" > /dev/kmsg; i=$((i+1)); done
"""

_FREEZE = "echo 1 > ice/cgroup.freeze"


@pytest.mark.parametrize("flood", [False, True])
def test_records_that_the_kernel_s_log_lost_are_counted(guest: Machine, flood: bool) -> None:
    """Between the mark and the end of a scenario, by the numbers in /dev/kmsg."""
    driver = guest.agent.start(["/bin/drive"])
    driver.send("mark text=begin:flood\n")
    driver.readline(30)
    if flood:
        done = guest.run("sh", "-c", _FLOOD, timeout_s=120)
        assert done.status == 0, done.stderr

    driver.send("log\n")
    reply = json.loads(driver.readline(30) or "{}")
    driver.close_stdin(Deadline(30))

    assert reply["ok"] is True, reply
    assert (reply["kmsg_lost"] > 0) is flood


def test_a_panic_is_told_without_the_console(guest: Machine) -> None:
    """By the pvpanic device; before, the same machine has nothing to tell."""
    assert guest.state().condition is Condition.RUNNING
    guest.look_at_the_end(lambda: None)

    with contextlib.suppress(GuestLost, GuestTimeout):
        guest.agent.write_file("/proc/sysrq-trigger", "c", 30)

    assert guest.told_panic
    assert guest.state().condition is Condition.PANICKED


@pytest.mark.parametrize("spins", [False, True])
def test_a_guest_that_spins_is_told_from_one_that_is_dead(guest: Machine, spins: bool) -> None:
    """PID 1 is frozen, beside a task that never rests or beside nothing; before, it answered."""
    assert guest.pulse(30).answers
    loop = "while :; do :; done &" if spins else ""
    guest.agent.start(["sh", "-c", f"{loop} cd /sys/fs/cgroup; mkdir ice; echo 1 > ice/cgroup.procs; {_FREEZE}"])

    # The first may still find PID 1 before the ice is there.
    deadline = Deadline(60)
    while (pulse := guest.pulse(3)).answers and not deadline.expired:
        pass

    assert (pulse.answers, pulse.spins) == (False, spins), pulse
    assert "QEMU says running" in guest.signs()
    assert guest.console.silent_s > 1
