# SPDX-License-Identifier: GPL-2.0-only
"""A test's own guest, and the test's judgement by what its kernel did."""

from __future__ import annotations

import re
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin import sessions
from harness.pytest_plugin.faults import Failed, HostFault, KernelFault, errors_as_text, texts

if TYPE_CHECKING:
    from harness.guest.machine import Machine
    from harness.model.verdict import Finding
    from harness.run.watching import Watched

_WATCH = pytest.StashKey["_Watch"]()
_TRIES = pytest.StashKey[int]()
# Whether a test is to be run again.
_DUE = pytest.StashKey[bool]()
# The outcome of a test that is run again, because its guest was lost for a reason of the host.
_AGAIN = "again"


def pytest_configure(config: pytest.Config) -> None:
    """The marker of a test whose guest is to complain."""
    config.addinivalue_line(
        "markers",
        "kernel_report(pattern, oracle=None): the kernel of the test's guest must do this, and is not blamed for it; "
        "pattern: a regular expression that is searched in a finding's summary, as that of a scenario's `expect`",
    )


@dataclass(frozen=True)
class _Expected:
    """What a test says with the marker kernel_report."""

    pattern: str
    oracle: str | None = None

    def meets(self, finding: Finding) -> bool:
        """The kernel did it."""
        return self.oracle in (None, finding.oracle) and re.search(self.pattern, finding.summary) is not None


@dataclass
class _Watch:
    """The guest of a test that is under way. told: what the test has failed by already. lost: nothing can be said."""

    seen: Watched
    expected: Sequence[_Expected]
    told: set[str] = field(default_factory=set)
    lost: bool = False

    def complaint(self) -> str:
        """What the kernel has done that nobody expected or told yet, and what it was to do and did not."""
        assert self.seen.result is not None
        findings = self.seen.result.findings
        complaints = {
            finding.summary: text
            for finding, text in zip(findings, texts(findings), strict=True)
            if not any(expected.meets(finding) for expected in self.expected)
        }
        for expected in self.expected:
            if not any(expected.meets(finding) for finding in findings):
                text = f"[kernel_report] the kernel was to do {expected.pattern!r} and did not"
                complaints[text] = text
        new = [text for summary, text in complaints.items() if summary not in self.told]
        self.told.update(complaints)
        return "\n".join([*new, f"console: {self.seen.machine.console.log}"]) if new else ""


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A fresh machine with the chosen kernel and the module loaded; its kernel is judged with the test."""
    session = sessions.session(request.config)
    with ExitStack() as stack:
        with errors_as_text():
            expected = list(_expected(request.node))
            _ = session.lab
            seen = stack.enter_context(session.watched())
        watch = request.node.stash[_WATCH] = _Watch(seen, expected)
        try:
            yield seen.machine
        finally:
            del request.node.stash[_WATCH]
        with errors_as_text(quiet=watch.lost):
            # What happens now, while the test's other fixtures are taken down, is judged, too.
            stack.close()
    if not watch.lost and (complaint := watch.complaint()):
        raise KernelFault(complaint, pytrace=False)


def _expected(item: pytest.Item) -> Iterator[_Expected]:
    """What the markers of a test say. Raises UsageError."""
    from harness.model.errors import UsageError

    for marker in item.iter_markers("kernel_report"):
        try:
            expected = _Expected(*marker.args, **marker.kwargs)
            re.compile(expected.pattern)
        except (TypeError, re.error) as error:
            raise UsageError(f"{item.nodeid}: kernel_report: {error}", "pytest --markers") from None
        yield expected


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test with a guest ends with its judgement."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, pytest.exit.Exception):
        raise
    except BaseException as own:
        _judge(item, own)
        raise
    _judge(item)


def _judge(item: pytest.Item, own: BaseException | None = None) -> None:
    """Raises KernelFault or HostFault for what is not the test's own failure."""
    from harness.model.errors import HarnessError
    from harness.report.text import plain

    watch = item.stash.get(_WATCH, None)
    if watch is None:
        if own is None and item.get_closest_marker("kernel_report"):
            raise Failed("kernel_report: the test has no guest to report anything", pytrace=False)
        return
    if own is not None:
        _forget_our_frames(own)
    with errors_as_text():
        try:
            watch.seen.judge()
        except Exception as error:
            watch.lost = True
            # A guest that was lost after the test had failed by itself is no second failure.
            if own is not None and not _is_of_the_guest(own) and not _excused(item, own):
                return
            if isinstance(error, HarnessError):
                raise
            raise HostFault(f"the harness failed:\n{traceback.format_exc()}", pytrace=False) from None
    if complaint := watch.complaint():
        if own is not None:
            failure = item.repr_failure(pytest.ExceptionInfo.from_exception(own))
            complaint += plain(f"\n\nthe test itself:\n{failure}")
        raise KernelFault(complaint, pytrace=False) from None


def _excused(item: pytest.Item, own: BaseException) -> bool:
    """Whether pytest counts the end of a test as no failure."""
    return isinstance(own, pytest.skip.Exception | pytest.xfail.Exception) or bool(item.get_closest_marker("xfail"))


def _is_of_the_guest(error: BaseException) -> bool:
    """Whether an exception is what a guest's methods raise when the guest does not do what was asked."""
    from harness.model.errors import MachineError

    # GuestTimeout is an OSError, and so is the guest's errno.
    return isinstance(error, MachineError | OSError)


def _forget_our_frames(error: BaseException | None) -> None:
    """End the traceback of what a guest raised at the call: nobody who writes a test looks for a fault below."""
    here = Path(__file__)
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        at = error.__traceback__ if _is_of_the_guest(error) else None
        while at is not None and at.tb_next is not None:
            file = Path(at.tb_next.tb_frame.f_code.co_filename)
            if file != here and file.is_relative_to(here.parents[1]):
                at.tb_next = None
            at = at.tb_next
        # What it was raised from is shown, too.
        error = error.__cause__ or error.__context__


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The kernel's fault counts as *failed*; the host's as *error*, and not before the test was tried again."""
    report = yield
    fault = call.excinfo.value if call.excinfo else None
    if isinstance(fault, KernelFault):
        # An xfail excuses what a test asserts; what its kernel does is excused by kernel_report.
        report.__dict__.pop("wasxfail", None)
        report.outcome = "failed"
        if report.when == "setup":
            # To pytest, and to all who read JUnit, the phase tells a failure from an error.
            report.when = "call"
    elif isinstance(fault, HostFault) and report.when != "teardown":
        tries = item.stash[_TRIES] = item.stash.get(_TRIES, 0) + 1
        again = fault.transient and tries == 1
        # Nor is it the failure that an xfail expects.
        report.__dict__.pop("wasxfail", None)
        report.outcome = _AGAIN if again else "failed"  # type: ignore[assignment]
        report.when = "setup"
        item.stash[_DUE] = again
    return report


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """A test whose guest was lost for a reason of the host is run once more."""
    done = yield
    if item.stash.get(_DUE, False):
        item.stash[_DUE] = False
        item.ihook.pytest_runtest_protocol(item=item, nextitem=nextitem)
    return done


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, Any] | None:
    """How a test that is run again is counted."""
    return (_AGAIN, "R", ("AGAIN", {"yellow": True})) if report.outcome == _AGAIN else None


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say why a test was run again."""
    for report in terminalreporter.getreports(_AGAIN):
        # Before it, a worker of pytest-xdist says which it is.
        terminalreporter.line(f"AGAIN {report.nodeid}: {report.longreprtext.strip().splitlines()[-1]}")
