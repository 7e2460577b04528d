# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
import signal
import subprocess
import sys

from harness.host.clock import Deadline
from harness.host.starvation import Share, share, starved


def test_a_process_that_waits_for_something_else_is_not_starved():
    """A guest whose CPUs are all halted sleeps on the host: it wants nothing, so it is its own silence."""
    assert not starved(Share(1.0, 1.0), Share(1.1, 1.1))


def test_a_process_that_runs_is_not_starved():
    assert not starved(Share(), Share(ran_s=10.0, waited_s=30.0))


def test_a_process_that_waits_for_a_cpu_is_starved():
    reason = starved(Share(5.0, 0.0), Share(6.0, 20.0))

    assert reason.startswith("the host gave QEMU 5 % of the CPU time that it wanted (limit 20%): 1.0 s on a CPU")


def test_a_process_that_was_stopped_is_starved():
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        before = share(child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        deadline = Deadline(30)
        while not share(child.pid).stopped and not deadline.expired:
            pass
        assert "SIGSTOP" in starved(before, share(child.pid))
    finally:
        child.kill()
        child.wait()


def test_the_kernel_counts_what_a_process_got():
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        deadline = Deadline(30)
        while share(child.pid).ran_s < 0.1 and not deadline.expired:
            pass
        assert share(child.pid).ran_s >= 0.1
    finally:
        child.kill()
        child.wait()


def test_a_process_that_is_gone_has_no_share():
    assert share(1 << 22) == Share()
