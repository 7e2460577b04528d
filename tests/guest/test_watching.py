# SPDX-License-Identifier: GPL-2.0-only
"""Guests without our module, or with another module: they boot, clone, are watched, and their kernel is judged."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from harness.guest.agent import GuestTimeout
from harness.host.workspace import data
from harness.model.errors import GuestLost
from harness.model.instrument import Instrument
from harness.model.verdict import Outcome, ScenarioResult
from harness.run.pipeline import KernelRequest
from harness.run.session import Session
from harness.variants import instruments

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

PLANTED = Instrument(module=data("guest-modules") / "planted")


def session(instrument: Instrument, folder: Path) -> Session:
    """A session on the default kernel."""
    return Session(KernelRequest(), instrument, "auto", out=folder)


def test_a_guest_that_carries_nothing_is_a_clone_and_passes(tmp_path: Path) -> None:
    """It has neither module nor driver; its writes to the kernel's log were heard."""
    with session(instruments.NONE, tmp_path).watched("bare") as seen:
        assert seen.machine.cloned
        assert seen.machine.hello["modules"] == "ok"
        assert seen.machine.run("ls", "/modules").text == ""
        assert seen.machine.run("test", "-e", "/sys/module/notifier_hold").status == 1
        assert seen.machine.run("test", "-e", "/bin/drive").status == 1

    assert seen.result is not None
    assert (seen.result.outcome, list(seen.result.findings)) == (Outcome.PASS, [])
    assert b"end:bare" in (tmp_path / "bare" / "console.log").read_bytes()


def planted(fault: str, folder: Path) -> ScenarioResult:
    """The result of a guest with somebody else's module, in which a fault happened."""
    with session(PLANTED, folder).watched(fault) as seen, contextlib.suppress(GuestLost, GuestTimeout, OSError):
        assert seen.machine.run("cat", "/sys/module/planted/initstate").text == "live\n"
        seen.machine.agent.write_file("/dev/planted", fault, 20)
    assert seen.result is not None
    return seen.result


@pytest.mark.parametrize(
    ("fault", "oracle", "summary"),
    [
        ("warning", "clean-log", "WARNING in planted_warning"),
        ("null", "clean-log", "BUG: unable to handle kernel NULL pointer dereference in planted_read"),
        ("panic", "no-hang", "the kernel panicked"),
    ],
)
def test_what_the_kernel_complains_of_in_a_module_of_somebody_else_s_is_a_finding(
    fault: str, oracle: str, summary: str, tmp_path: Path
) -> None:
    result = planted(fault, tmp_path)

    assert result.outcome is Outcome.FAIL
    assert (oracle, summary) in [(finding.oracle, finding.summary) for finding in result.findings]


def test_a_panic_was_looked_at_from_outside(tmp_path: Path) -> None:
    """The stack in the other module, without a section on subscribers."""
    result = planted("panic", tmp_path)

    (panic,) = [finding for finding in result.findings if finding.oracle == "no-hang"]
    assert "    planted_" in panic.evidence
    assert "Subscribers" not in (tmp_path / "panic" / "postmortem.txt").read_text()


def test_a_test_that_fails_has_its_guest_judged_all_the_same(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), session(instruments.NONE, tmp_path).watched("bare") as seen:
        raise ZeroDivisionError

    assert seen.result is not None
    assert seen.result.outcome is Outcome.PASS


def test_a_guest_is_judged_while_it_goes_on(tmp_path: Path) -> None:
    """As often as wanted; the last word is that of the end."""
    with session(PLANTED, tmp_path).watched("goes-on") as seen:
        assert seen.judge().outcome is Outcome.PASS
        seen.machine.agent.write_file("/dev/planted", "warning", 20)
        assert seen.judge().outcome is Outcome.FAIL

    assert seen.result is not None
    assert [finding.summary for finding in seen.result.findings] == ["WARNING in planted_warning"]


def test_a_guest_without_a_name_has_a_folder_that_no_scenario_can_have(tmp_path: Path) -> None:
    used = session(instruments.NONE, tmp_path)
    with used.watched() as first, used.machine() as second:
        folders = [first.machine.console.log.parent.name, second.console.log.parent.name]

    assert folders == ["guest_1", "guest_2"]
