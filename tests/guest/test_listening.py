# SPDX-License-Identifier: GPL-2.0-only
"""That somebody listened is proved, in a real guest: what the kernel's log lost is told."""

from __future__ import annotations

import json

import pytest

from harness.guest.machine import Machine
from harness.host.clock import Deadline

pytestmark = pytest.mark.guest

# 1,500 records of 900 bytes, for a ring of 1 MiB; KERN_DEBUG, which does not go to the console.
_FLOOD = r"""
echo on > /proc/sys/kernel/printk_devkmsg
text=$(head -c 900 /dev/zero | tr '\0' x)
i=0; while [ $i -lt 1500 ]; do echo "<7>$text" > /dev/kmsg; i=$((i+1)); done
"""


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
