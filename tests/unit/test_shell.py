# SPDX-License-Identifier: GPL-2.0-only
"""harness shell COMMAND: whose word the status is, and what is told of the kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.commands import shell
from harness.guest.agent import GuestResult, GuestTimeout
from harness.model.errors import GuestLost, MachineError
from harness.model.verdict import Finding, Outcome, ScenarioResult
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
        self.console = SimpleNamespace(log=Path("/run/guest_1/console.log"))
        self.result: ScenarioResult | None = None

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
