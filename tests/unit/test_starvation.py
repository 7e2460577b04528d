# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from harness.host import starvation
from harness.host.clock import Deadline
from harness.host.starvation import Share, share, starved, watched


def test_a_process_that_waits_for_something_else_is_not_starved():
    """A guest whose CPUs are all halted sleeps on the host: it wants no CPU, so its silence is its own."""
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


def test_a_process_that_the_kernel_keeps_asleep_is_blocked():
    """The parent of a vfork() sleeps as one does that waits for a disk."""
    code = "import ctypes, time; ctypes.CDLL(None).vfork() or time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        # While Python starts, it may wait for a disk now and then.
        deadline = Deadline(30)
        while (seen := [share(child.pid).blocked for _ in range(20)]) != [True] * 20 and not deadline.expired:
            pass
        assert all(seen)
        assert not share(os.getpid()).blocked
    finally:
        os.killpg(child.pid, signal.SIGKILL)
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


def test_a_process_that_was_stopped_and_runs_again_is_remembered(monkeypatch: pytest.MonkeyPatch):
    """Afterwards /proc does not show the stop."""
    monkeypatch.setattr(starvation, "_LEAST_S", 0.5)
    child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        with watched(child.pid) as pauses:
            os.kill(child.pid, signal.SIGSTOP)
            deadline = Deadline(30)
            while "QEMU" not in pauses.told() and not deadline.expired:
                pass
            os.kill(child.pid, signal.SIGCONT)
        assert "QEMU was stopped for" in pauses.told()
    finally:
        child.kill()
        child.wait()


def test_a_harness_that_was_stopped_and_runs_again_knows_it():
    """The process that watches itself is stopped and woken."""
    text = (
        "import os, sys; from harness.host import starvation as s; s._LEAST_S = 0.5\n"
        "with s.watched(os.getpid()) as pauses:\n"
        "    print('ready', flush=True)\n"
        "    while not pauses.told() and os.getppid() != 1: s.time.sleep(0.01)\n"
        "print(pauses.told())\n"
    )
    child = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(1)
    os.kill(child.pid, signal.SIGCONT)

    assert "the harness itself did not run for" in child.communicate(timeout=60)[0]
