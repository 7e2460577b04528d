# SPDX-License-Identifier: GPL-2.0-only
"""harness shell COMMAND: whose word the status is, and what is told of the kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness import cli
from harness.commands import shell
from harness.guest.agent import GuestResult, GuestTimeout
from harness.host.starvation import Share
from harness.model.errors import GuestLost, MachineError, UsageError
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.run.pipeline import KernelRequest
from tests.unit.conftest import Said

WARNED = Finding("clean-log", "WARNING in \x1b[1mx", "2 times\nconsole line 812:\nWARNING: …")
PANIC = Finding("no-hang", "the kernel panicked", "Kernel panic")
DONE = GuestResult(("x",), 3, b"out", b"err")


class Guest:
    """A session, its guest and the agent in one: what the command comes to, and what the judgement is."""

    def __init__(self, command: list[GuestResult | Exception], judged: list[Finding] | Exception, still: bool) -> None:
        self.command = command
        self.judged = judged
        self.still = still
        self.agent = self.machine = self
        # Nobody's: the host counts nothing of it.
        self.pid = 0
        self.console = SimpleNamespace(log=Path("/run/guest_1/console.log"))
        self.result: ScenarioResult | None = None
        self.given_up = ""

    @contextlib.contextmanager
    def watched(self, shape: object) -> Iterator[Guest]:
        """As harness/run/watching.py has it."""
        assert shape is None
        yield self
        if isinstance(self.judged, Exception):
            raise self.judged
        self.result = ScenarioResult("guest_1", Outcome.FAIL if self.judged else Outcome.PASS, self.judged)

    def start(self, argv: object) -> SimpleNamespace:
        """Of the agent: the process."""
        assert argv == ["x"]
        return SimpleNamespace(send=lambda *_: None, close_stdin=lambda: None, result=self._next)

    def _next(self, _: object) -> GuestResult:
        happened = self.command.pop(0)
        if isinstance(happened, Exception):
            raise happened
        return happened

    def stands_still(self, _: float) -> bool:
        """Of the machine."""
        return self.still


def executed(
    *command: GuestResult | Exception, judged: list[Finding] | Exception, still: bool = False
) -> shell.Executed:
    """What execute() makes of it."""
    guest = Guest(list(command), judged, still)
    return shell.execute(shell.Visit(cast("Any", guest), Said()), ["x"])


def told(done: shell.Executed, capfd: pytest.CaptureFixture[str]) -> tuple[int, str, list[str]]:
    """Status, standard output, and the lines on standard error."""
    status = shell._pass_on_all(done)
    said = capfd.readouterr()
    return status, said.out, said.err.splitlines()


def test_a_quiet_kernel_leaves_a_command_alone(capfd) -> None:
    late = GuestTimeout("x: not done after 1 s")

    assert told(executed(late, late, DONE, judged=[]), capfd) == (3, "out", ["err"])


def test_the_status_is_the_command_s_whatever_the_kernel_said(capfd) -> None:
    status, out, lines = told(executed(DONE, judged=[WARNED, PANIC]), capfd)

    assert (status, out) == (3, "out")
    assert lines == [
        "errharness: the guest's kernel: WARNING in \\x1b[1mx (console line 812)",
        "harness: the guest's kernel: the kernel panicked",
        "harness: console: /run/guest_1/console.log",
    ]


def test_a_guest_that_its_kernel_ended_gave_no_status(capfd) -> None:
    """Whether it is gone, or stands still."""
    for end, still in ((GuestLost("QEMU is gone"), False), (GuestTimeout("x: not done"), True)):
        status, _, lines = told(executed(end, judged=[PANIC], still=still), capfd)

        assert status == 1
        assert lines[0] == "harness: the guest's kernel: the kernel panicked"


def test_a_guest_that_the_host_lost_is_an_error_of_the_host() -> None:
    with pytest.raises(GuestLost, match="the host was busy"):
        executed(GuestLost("QEMU is gone"), judged=GuestLost("the host was busy"))


def test_what_a_command_printed_is_kept_when_its_kernel_cannot_be_heard(capfd) -> None:
    done = executed(DONE, judged=MachineError("console.log: not whole"))

    with pytest.raises(MachineError, match="not whole"):
        shell._pass_on_all(done)
    assert capfd.readouterr().out == "out"


def test_a_command_without_an_end_is_none_of_the_kernel_s_faults(monkeypatch) -> None:
    monkeypatch.setattr(shell, "_COMMAND_LIMIT_S", 0.0)

    with pytest.raises(MachineError, match="x: not done; its kernel says nothing of it"):
        executed(GuestTimeout("x: not done"), judged=[])


def test_what_a_run_has_decided_is_not_asked_for_beside_it() -> None:
    """A fragment is added to its kernel; nothing is ignored."""
    theirs = KernelRequest("debian:6.1", ("mayfail",), ("lockdep",))

    def beside(*words: str) -> KernelRequest:
        return shell._beside(theirs, cli.parse(["shell", *words, "last"]), "last")

    assert beside() == theirs
    assert beside("--config", "lockdep") == theirs
    assert beside("--config", "debug-info").configs == ("lockdep", "debug-info")
    for words in (["--source", "debian:7.2"], ["--patch", "none"], ["--contract", "stock"]):
        with pytest.raises(UsageError, match=rf"{words[0]} and last: a run has its own"):
            beside(*words)


def test_only_a_guest_that_the_host_lets_run_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """For each second: what QEMU got, what it waited for, and whether the host had stopped it."""
    now = [100.0]
    given = [Share(10.0, 0.0)]
    monkeypatch.setattr(shell, "share", lambda _: given[0])
    monkeypatch.setattr(shell, "time", SimpleNamespace(monotonic=lambda: now[0]))
    idle = shell._Idle(cast("Any", SimpleNamespace(pid=1)))

    def after(got_s: float, waited_s: float, *, stopped: bool = False) -> float:
        now[0] += 1
        given[0] = Share(given[0].ran_s + got_s, given[0].waited_s + waited_s, stopped)
        return idle.for_s()

    assert [after(0.05, 0.1), after(0.05, 0.1)] == [1, 2]
    assert after(0.5, 0) == 0
    assert after(0.05, 0.6) == 1
    assert after(0.05, 0.9) == 0
    assert [after(0, 0), after(0, 0, stopped=True), after(0, 0)] == [1, 0, 1]


def test_a_guest_that_stands_still_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever judges it is told, and asks it nothing more."""
    monkeypatch.setattr(shell, "_IDLE_S", -1.0)
    guest = Guest([GuestTimeout("late")], [PANIC], still=True)
    monkeypatch.setattr(guest, "stands_still", lambda patience_s: patience_s == 0.0, raising=False)
    monkeypatch.setattr(guest, "signs", lambda: "no heartbeat", raising=False)

    done = shell.execute(shell.Visit(cast("Any", guest), Said()), ["x"])

    assert done.done is None
    assert "PID 1 stands still" in guest.given_up
