# SPDX-License-Identifier: GPL-2.0-only
"""What a real guest's own signs show: that its log lost records, that it panicked, that it is dead, spins, or lives."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.guest.agent import GuestTimeout
from harness.guest.machine import Condition, Machine
from harness.host.clock import Deadline
from harness.model.errors import GuestLost
from harness.model.instrument import Instrument
from harness.model.recording import Ended, Recording
from harness.run.drive import Listener, drive
from harness.variants import catalogue

pytestmark = pytest.mark.guest

# 1,500 records of 900 bytes, for a ring of 1 MiB; KERN_DEBUG, which does not go to the console.
_FLOOD = r"""
echo on > /proc/sys/kernel/printk_devkmsg
text=$(head -c 900 /dev/zero | tr '\0' x)
i=0; while [ $i -lt 1500 ]; do echo "<7>$text" > /dev/kmsg; i=$((i+1)); done
"""

_FREEZE = "cd /sys/fs/cgroup; mkdir ice; echo 1 > ice/cgroup.procs; echo 1 > ice/cgroup.freeze"


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


def test_a_panic_is_told_without_the_console(machine: Machine) -> None:
    """The pvpanic device tells; before the panic the same machine has nothing to tell."""
    assert machine.state().condition is Condition.RUNNING
    machine.look_at_the_end(lambda: None)

    with contextlib.suppress(GuestLost, GuestTimeout):
        machine.agent.write_file("/proc/sysrq-trigger", "c", 30)

    assert machine.told_panic
    assert machine.state().condition is Condition.PANICKED


@pytest.mark.parametrize("spins", [False, True])
def test_a_guest_that_spins_is_told_from_one_that_is_dead(machine: Machine, spins: bool) -> None:
    """PID 1 is frozen, beside a task that never sleeps or beside no task; before that, it answered."""
    assert machine.pulse(30).answers
    assert "QEMU's watchdog has not gone off" in machine.signs()
    loop = "while :; do :; done &" if spins else ""
    machine.agent.start(["sh", "-c", f"{loop} {_FREEZE}"])

    # The first request may still reach PID 1 before it is frozen.
    deadline = Deadline(60)
    while (pulse := machine.pulse(3)).answers and not deadline.expired:
        pass

    assert (pulse.answers, pulse.spins) == (False, spins), pulse
    assert "QEMU says running" in machine.signs()
    deadline = Deadline(120)
    while machine.watchdog_s is None and not deadline.expired:
        time.sleep(0.1)
    assert (machine.stands_still(0), machine.stands_still(3600)) == (True, False)
    assert machine.other_life(5) == ""


@pytest.fixture
def waits(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Recording]:
    """A function that drives a scenario whose driver never answers, while something happens to the guest.

    Other tests beside this one may keep QEMU from running: that reason would be told first, and is no part of these.
    """
    monkeypatch.setattr("harness.run.drive.starved", lambda *_: "")
    instrument = Instrument(driver=("/bin/drive",))
    begin = machine.agent.start

    def run(limit_s: float, happens: Callable[[], object]) -> Recording:
        def start(_):
            driver = begin(["sleep", "3600"])
            happens()
            return driver

        monkeypatch.setattr(machine.agent, "start", start)
        (scenario,) = catalogue.choose(["munmap-eagain"])
        return drive(scenario, machine, instrument, Listener(), limit_s, tmp_path / "events")

    return run


def test_the_watchdog_ends_a_scenario_in_a_guest_that_is_dead(machine: Machine, waits, monkeypatch) -> None:
    """Before the time of the scenario is up."""
    monkeypatch.setattr("harness.run.drive._WATCHDOG_SHARE", 0.15)
    begin = machine.agent.start

    recording = waits(80, lambda: begin(["sh", "-c", _FREEZE]))

    assert recording.ended is Ended.SILENT
    # The pending request comes first, then the requests that could not be made any more.
    assert recording.detail.startswith("step 0, 'mark text=begin:munmap-eagain': no answer"), recording.detail
    assert "QEMU's watchdog went off" in recording.detail
    waited = re.search(r"no answer after ([\d.]+) s \(limit 80 s\)", recording.detail)
    assert waited, recording.detail
    assert float(waited[1]) < 80


@pytest.mark.parametrize(("greets", "life"), [(True, "it serves SSH"), (False, "it feeds QEMU's watchdog")])
def test_a_guest_that_is_only_not_heard_blames_no_kernel(machine: Machine, waits, monkeypatch, greets, life) -> None:
    """The output of PID 1 is lost on the way, as after a bug in QEMU or in the harness."""
    if not greets:
        monkeypatch.setattr(machine, "_knock", lambda _: False)

    def deafen() -> None:
        monkeypatch.setattr(machine.agent, "_file", lambda _number, _kind, size, stream: stream.read(size))

    with pytest.raises(GuestLost, match=f"PID 1 does not answer .*; but {life}: our connection to the guest broke"):
        waits(8, deafen)


def test_a_recorded_guest_is_not_knocked_at(machine: Machine, monkeypatch) -> None:
    """Its tape would lack the connection."""
    monkeypatch.setattr(machine, "taped", True)
    monkeypatch.setattr(machine, "_knock", lambda _: pytest.fail("knocked"))

    assert machine.other_life(5) == ""
