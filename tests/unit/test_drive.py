# SPDX-License-Identifier: GPL-2.0-only
"""Whose fault it is that a scenario does not end: a real machine around a guest of which only PID 1 answers."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.guest.boot import Parts, boot
from harness.guest.image import GuestImage
from harness.guest.machine import Machine
from harness.host import starvation
from harness.host.starvation import Share
from harness.model.errors import GuestLost, OutOfSpace
from harness.model.postmortem import Hangs, PostMortem, Wait
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
    parts = Parts(image, tmp_path / "vmlinux", slowdown=1.0, program=str(program), confined=False)
    with boot(parts, run_dir=tmp_path / "run") as machine:
        yield machine


@pytest.fixture
def driven(machine: Machine, tmp_path: Path) -> Callable[..., Recording]:
    """Drives a scenario whose first step never answers; takes the findings of the post-mortem, and what is known."""
    (scenario,) = catalogue.choose(["memcg-eagain"])
    log = tmp_path / "events.bin"

    def run(
        found: PostMortem | Callable[[], PostMortem] = PostMortem(),  # noqa: B008 - frozen
        hangs: Hangs | None = None,
        limit_s: float = 2.0,
        lines: Sequence[str] = (),
        listener: Listener | None = None,
    ) -> Recording:
        listener = listener or Listener()
        for line in lines:
            listener(line)
        given = instruments.NOTIFIER_HOLD
        examine = found if callable(found) else lambda: found
        return drive(scenario, machine, given, listener, limit_s, log, examine, hangs=hangs)

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


def test_nobody_asks_a_qemu_that_the_host_has_stopped(
    machine: Machine, driven: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each question would take until its limit, and the answer is known."""
    asked: list[str] = []
    monkeypatch.setattr(machine.monitor, "execute", lambda command, *_, **__: asked.append(command))
    monkeypatch.setattr("harness.run.drive._CALM_S", 0.1)
    os.kill(machine.pid, signal.SIGSTOP)
    try:
        with pytest.raises(GuestLost, match=r"the host has stopped QEMU \(SIGSTOP\)"):
            driven(lambda: pytest.fail("it was looked at"), limit_s=0.5)
    finally:
        os.kill(machine.pid, signal.SIGCONT)

    assert asked == []


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


WAIT = Wait(42, "pid 42 drive", ("try_to_unmap_one", "rmap_walk_anon"))


def test_a_guest_that_does_nothing_is_looked_at_and_a_circle_ends_the_scenario(
    driven: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.run.drive._CALM_S", 0.1)

    recording = driven(PostMortem("two tasks", [[WAIT.task, "pid 9 kswapd0"]], [WAIT]), limit_s=600)

    assert recording.ended is Ended.NO_PROGRESS
    assert recording.postmortem.waits == [WAIT]


def test_a_wait_that_another_scenario_proved_to_be_a_hang_is_not_waited_for_again(
    driven: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.run.drive._KNOWN_S", 0.1)
    hangs = Hangs()
    hangs.learn("memcg-accept", [WAIT])
    elsewhere = Wait(43, "pid 43 kworker", ("worker_thread", "kthread"))

    recording = driven(PostMortem("1 blocked task", waits=[elsewhere, WAIT]), hangs, limit_s=600)

    assert recording.ended is Ended.NO_PROGRESS
    assert recording.postmortem.waits == [WAIT]
    assert "waits in try_to_unmap_one ← rmap_walk_anon, which was proved to hang in memcg-accept" in recording.detail


def test_the_log_of_a_guest_of_which_the_worst_is_known_is_not_waited_for_long(
    machine: Machine, driven: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its limit is a share of the scenario's otherwise: 60 s here."""
    monkeypatch.setattr("harness.run.drive._KNOWN_S", 0.1)
    real, given = machine.agent.read_file, []

    def read_file(path: str, timeout_s: float, *words: Any) -> bytes:
        given.append(timeout_s)
        return real(path, timeout_s, *words)

    monkeypatch.setattr(machine.agent, "read_file", read_file)
    hangs = Hangs()
    hangs.learn("memcg-accept", [WAIT])

    driven(PostMortem("1 blocked task", waits=[WAIT]), hangs, limit_s=600)

    assert given == [2.0]


def test_a_hang_that_is_proved_beside_a_scenario_counts_for_it_as_well(
    driven: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first scenarios of a run begin together, before anything is proved."""
    monkeypatch.setattr("harness.run.drive._KNOWN_S", 0.1)
    hangs = Hangs()
    assert not hangs.proved
    beside = threading.Timer(0.5, hangs.learn, ("memcg-accept", [WAIT]))
    beside.start()

    recording = driven(PostMortem("1 blocked task", waits=[WAIT]), hangs, limit_s=600)

    beside.join()
    assert "which was proved to hang in memcg-accept" in recording.detail


def test_a_look_that_proves_nothing_leaves_nothing_behind_and_ends_nothing(
    machine: Machine, driven: Callable[..., Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.run.drive._CALM_S", 0.1)
    forgotten: list[Path] = []
    monkeypatch.setattr("harness.run.drive.outside.forget", forgotten.append)

    elsewhere = Wait(43, "pid 43 kworker", ("worker_thread", "kthread"))

    recording = driven(PostMortem("2 blocked tasks", waits=[elsewhere, WAIT]))

    assert forgotten[:1] == [machine.console.log.parent]
    assert recording.seconds >= 2
    assert recording.postmortem.waits == [WAIT], "where the driver was when its time was over"


@pytest.mark.parametrize(
    ("runs", "ends", "busy", "proved"),
    [
        (False, False, False, True),
        (True, False, False, False),
        (False, True, False, False),
        # The host's disk may be what it waits for.
        (False, False, True, False),
    ],
)
def test_a_task_that_never_runs_in_a_guest_that_does_nothing_hangs(
    driven: Callable[..., Recording],
    monkeypatch: pytest.MonkeyPatch,
    runs: bool,
    ends: bool,
    busy: bool,
    proved: bool,
) -> None:
    """Without a circle, without a word of the kernel, and long before the scenario's time is over."""
    monkeypatch.setattr("harness.run.drive._CALM_S", 0.1)
    monkeypatch.setattr("harness.run.drive._STILL_S", 0.5)
    monkeypatch.setattr("harness.run.drive.share", lambda _: Share(1.0, blocked=busy))
    looks = itertools.count()

    def found() -> PostMortem:
        switches = next(looks) if runs else 5
        return PostMortem("1 blocked task", waits=[dataclasses.replace(WAIT, switches=switches, ends=ends)])

    recording = driven(found, limit_s=600 if proved else 3)

    assert recording.ended is Ended.NO_PROGRESS
    assert recording.postmortem.waits == [WAIT]
    said = "waits in try_to_unmap_one ← rmap_walk_anon, and nothing ran in the guest for 0.5 s"
    assert (said in recording.detail) is proved


def test_what_does_not_go_on_after_an_oops_is_over(driven: Callable[..., Recording]) -> None:
    recording = driven(lines=["[ 1.0] Oops: invalid opcode: 0000 [#1] PREEMPT SMP PTI"], limit_s=600)

    assert recording.ended is Ended.NO_PROGRESS
    assert "a task died in the kernel, and nothing went on" in recording.detail


@pytest.mark.parametrize(
    ("line", "died", "hung"),
    [
        ("[ 1.0] Oops: invalid opcode: 0000 [#1] PREEMPT SMP PTI", True, set()),
        ("[ 1.0] general protection fault, probably for non-canonical address 0x1: 0000 [#2] SMP", True, set()),
        ("[ 1.0] invalid opcode: 0000 [#1] PREEMPT SMP PTI", True, set()),
        ("[ 1.0] WARNING: CPU: 0 PID: 42 at mm/rmap.c:1702 try_to_unmap_one+0x1/0x2", False, set()),
        ("[ 1.0] INFO: task drive:42 blocked for more than 20 seconds.", False, {42}),
        ("[ 1.0] INFO: task kworker/0:1:17 blocked for more than 20 seconds.", False, {17}),
    ],
)
def test_the_listener_knows_who_died_and_who_hangs(line: str, died: bool, hung: set[int]) -> None:
    listener = Listener()

    listener(line)

    assert (listener.died, listener.hung) == (died, hung)


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
