# SPDX-License-Identifier: GPL-2.0-only
"""A driver that is given one step at a time does what the scenario with these steps has it do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.guest.agent import GuestTimeout
from harness.guest.machine import Machine
from harness.host.clock import Deadline
from harness.model.errors import UsageError
from harness.model.instrument import Instrument
from harness.model.shape import MachineShape
from harness.pytest_plugin.guest import Guest
from harness.pytest_plugin.notifiers import Notifier, Observed, Pressure
from harness.run import planning
from harness.run.driven import Driven, StepFailed
from harness.variants import catalogue
from tests.unit.recordings import Log

LINE = "the guest driver"


class Process:
    """A driver that answers each line with ok, but for the verbs that it is told to fail or to keep silent about."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.fails: set[str] = set()
        self.silent: set[str] = set()
        self.stderr = ""
        self.ended = False

    def send(self, text: str, _deadline: Deadline | None = None) -> None:
        """Take a line."""
        self.heard.append(text.rstrip("\n"))

    def lines(self, _deadline: Deadline) -> Iterator[str]:
        """Answer the last one."""
        verb = self.heard[-1].split()[0]
        if verb in self.silent:
            raise GuestTimeout(LINE)
        yield '{"progress": {"step": 1}}'
        yield (
            '{"ok": false, "errno": 12, "error": "no \\u001b[1m"}' if verb in self.fails else '{"ok": true, "pages": 7}'
        )

    def wait(self, _timeout_s: float) -> int:
        """End."""
        self.ended = True
        return 0


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def driven(process: Process, tmp_path: Path) -> Driven:
    log = Log()
    log.pair()

    def read_file(_path: str, _limit_s: float, into: Any = None) -> bytes:
        return log.packed() if into is None else cast(bytes, into.write(log.packed()))

    agent = SimpleNamespace(start=lambda _: process, read_file=read_file)
    machine = cast(Machine, SimpleNamespace(agent=agent))
    return Driven(machine, Instrument(log="/dev/log"), MachineShape(), 1.0, tmp_path / "guest_1")


@pytest.fixture
def notifier(driven: Driven) -> Notifier:
    return Notifier(cast(Guest, SimpleNamespace(watched=SimpleNamespace(driven=driven))))


def test_the_commands_are_those_of_the_scenario_that_it_writes(
    driven: Driven, process: Process, notifier: Notifier
) -> None:
    """Which is a scenario that anybody can run."""
    device = notifier.subscribe(policy="eagain")
    Pressure(notifier).memcg(size="40M", limit="32M")
    assert device.device_write(seed=2)["pages"] == 7
    notifier.buffer("4M", kind="file", thp=True)
    driven.finish()
    path = driven.write()

    assert path
    (told,) = catalogue.choose([str(path)])
    wanted = [command.text for command in planning.plan(told)]
    # The name of the scenario is that of the guest; what a buffer needs is done before that buffer.
    assert sorted(line.replace("guest_1", "scenario") for line in process.heard) == sorted(
        [*wanted, "mark text=done:scenario", "quit"]
    )
    steps = [command.text for command in planning.plan(told) if command.step]
    assert [line for line in process.heard if line in steps] == steps
    assert process.ended
    assert driven.recorded().scenario.subscribers["device-2"].policy == "eagain-mayfail"
    assert len(driven.recorded().events) == 2


def test_a_step_that_fails_is_an_errno_and_is_not_taken_down(
    driven: Driven, process: Process, notifier: Notifier
) -> None:
    process.fails = {"subscribe"}

    with pytest.raises(StepFailed, match=r"no \\x1b\[1m") as raised:
        notifier.subscribe()
    driven.finish()

    assert raised.value.errno == 12
    assert not any(line.startswith("unsubscribe") for line in process.heard)
    assert any(line.startswith("unmap") for line in process.heard)


def test_what_cannot_be_taken_down_is_told(driven: Driven, process: Process, notifier: Notifier) -> None:
    notifier.subscribe()
    process.fails = {"unsubscribe"}

    driven.finish()

    assert driven.broken.startswith("unsubscribe name=device-2: no ")
    assert process.ended


def test_after_a_step_without_an_answer_nothing_is_tried(driven: Driven, process: Process, notifier: Notifier) -> None:
    buffer = notifier.buffer()
    process.silent = {"touch"}

    with pytest.raises(GuestTimeout, match="no answer after"):
        buffer.touch(seed=1)
    heard = len(process.heard)
    with pytest.raises(GuestTimeout, match="is not tried"):
        buffer.advise(advice="cold")
    driven.finish()

    assert len(process.heard) == heard
    assert "touch" in driven.late


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda notifier: notifier.subscribe(policy="eagan"), "unknown policy 'eagan'.*eagain"),
        (lambda notifier: notifier.buffer("5"), "5 bytes are not whole pages"),
        (lambda notifier: notifier.buffer(kind="annon"), "unknown kind of memory 'annon'"),
        (lambda notifier: notifier.do("fly", "x"), "'fly' is not a verb"),
        (lambda notifier: notifier.do("touch", "x\nquit"), "touch cannot be"),
        (lambda notifier: notifier.do("write", "/proc/x", value="a\nquit"), "value cannot be"),
        (lambda notifier: notifier.buffer().touch(sed=1), "unknown key 'sed'.*did you mean 'seed'"),
    ],
)
def test_wrong_words_are_told_as_in_a_scenario_and_reach_no_guest(
    process: Process, notifier: Notifier, step: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words) as raised:
        step(notifier)

    assert "test.yaml" not in str(raised.value)
    assert not any("quit" in line for line in process.heard)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda notifier: notifier.buffer().hold, "a buffer has no verb 'hold'"),
        (lambda notifier: Pressure(notifier).memory_hihg, "did you mean 'memory-high'"),
        (lambda notifier: Observed(notifier._guest).eagains, "did you mean 'eagain'"),
    ],
)
def test_what_does_not_exist_is_no_attribute(notifier: Notifier, what: Any, words: str) -> None:
    with pytest.raises(AttributeError, match=words):
        what(notifier)


def test_what_was_observed_is_counted_so_far(notifier: Notifier) -> None:
    observed = Observed(notifier._guest)
    notifier.buffer()

    assert observed.callbacks == 1
    assert [entry.seq for entry in observed.events] == sorted(entry.seq for entry in observed.events)


def test_a_test_that_has_ended_gives_no_more_steps(driven: Driven, notifier: Notifier) -> None:
    notifier.buffer()
    driven.finish()
    driven.finish()

    with pytest.raises(UsageError, match="has ended"):
        notifier.buffer()


def test_a_driver_that_nobody_asked_for_is_not_started(driven: Driven, process: Process) -> None:
    driven.finish()

    assert process.heard == []
    assert driven.write() is None
    found: Mapping[str, Any] = driven.recorded().scenario.buffers
    assert found == {}
