# SPDX-License-Identifier: GPL-2.0-only
"""Whose fault it is that a scenario does not end: a real machine around a guest of which only PID 1 answers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.guest.boot import Parts, boot
from harness.guest.image import GuestImage
from harness.guest.machine import Machine
from harness.host import starvation
from harness.model.errors import GuestLost, OutOfSpace
from harness.model.postmortem import PostMortem
from harness.model.recording import Ended, Recording
from harness.run.drive import Listener, drive
from harness.variants import catalogue, instruments
from tests.fakes import qemu as fake


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    program = tmp_path / "stalls"
    program.write_text(f"#!{sys.executable}\n{Path(fake.__file__).read_text('utf-8')}", "utf-8")
    program.chmod(0o755)
    image = GuestImage(tmp_path / "i.cpio", Path("/bin/false"), "key", 0.0)
    parts = Parts(image, tmp_path / "vmlinux", slowdown=1.0, program=str(program))
    with boot(parts, run_dir=tmp_path / "run") as machine:
        yield machine


@pytest.fixture
def driven(machine: Machine, tmp_path: Path) -> Callable[..., Recording]:
    """Drives a scenario whose first step never answers; takes the findings of the post-mortem."""
    (scenario,) = catalogue.choose(["memcg-eagain"])
    log = tmp_path / "events.bin"

    def run(found: PostMortem = PostMortem(), listener: Listener | None = None) -> Recording:  # noqa: B008 - frozen
        return drive(scenario, machine, instruments.NOTIFIER_HOLD, listener or Listener(), 2.0, log, lambda: found)

    return run


def test_a_step_that_never_answers_is_the_guest_s_fault(driven: Callable[..., Recording]) -> None:
    recording = driven()

    assert recording.ended is Ended.NO_PROGRESS
    # The console of this guest lags behind its kernel's log.
    assert b"sysrq: d" in recording.console


def test_a_console_falls_silent_only_when_it_has_printed_what_was_logged(driven: Callable[..., Recording]) -> None:
    """A thread of the kernel prints, and leaves out what has too low a level by then."""
    listener = Listener()
    listener.enough.set()

    recording = driven(listener=listener)

    assert recording.ended is Ended.EARLY
    assert b"the last that was logged" in recording.console


def test_a_guest_that_was_stopped_for_a_while_has_no_fault(
    machine: Machine, driven: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs again when its time is over, and /proc does not show the stop any more."""
    monkeypatch.setattr(starvation, "_LEAST_S", 0.5)

    def pause() -> None:
        os.kill(machine.pid, signal.SIGSTOP)
        time.sleep(1.2)
        os.kill(machine.pid, signal.SIGCONT)

    thread = threading.Thread(target=pause)
    thread.start()
    with pytest.raises(GuestLost, match=r"QEMU was stopped for|the harness itself did not run for"):
        driven()
    thread.join()


def test_a_circle_of_waiters_is_proof_however_slow_the_host_was(
    driven: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof is data: the prose of a post-mortem excuses nothing, and convicts nobody."""
    monkeypatch.setattr("harness.run.drive.starved", lambda *_: "the host was busy")

    with pytest.raises(GuestLost, match="the host was busy"):
        driven(PostMortem("deadlock: somebody's log says so"))
    recording = driven(PostMortem("two tasks", [["pid 7 drive", "pid 9 kswapd0"]]))

    assert recording.ended is Ended.NO_PROGRESS
    assert recording.postmortem.circles == [["pid 7 drive", "pid 9 kswapd0"]]


def test_a_console_that_could_not_be_kept_is_no_clean_log_and_no_fault_of_the_guest(
    machine: Machine, driven: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk was full for a while: what is missing from console.log was not silence."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(machine.console, "_file", full)
        machine.console._take(b"WARNING: nobody will read this\n")

    with pytest.raises(OutOfSpace, match=r"console\.log: no space left"):
        driven()


def test_a_file_that_the_guest_lacks_costs_one_scenario_and_not_the_run(
    machine: Machine, driven: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> None:
        raise FileNotFoundError(2, "in the guest: No such file or directory", "/proc/sysrq-trigger")

    monkeypatch.setattr(machine.agent, "keep_file", refuse)

    with pytest.raises(GuestLost, match="in the guest: No such file or directory: '/proc/sysrq-trigger'"):
        driven()
