# SPDX-License-Identifier: GPL-2.0-only
"""A test's own guest, and the test's judgement by what its kernel did."""

from __future__ import annotations

import contextlib
import functools
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin import marks, sessions, telling
from harness.pytest_plugin.faults import Failed, HostFault, KernelFault, TimeUp, errors_as_text, texts
from harness.pytest_plugin.guest import Guest, Kernel, fixture_of_guest, kernel_of
from harness.pytest_plugin.marks import Expected, Marks
from harness.pytest_plugin.notifiers import Notifier, Observed, Pressure

if TYPE_CHECKING:
    from harness.run.session import Session

_WATCH = pytest.StashKey["_Watch"]()
# The guest that a test had, for what is told of a failure.
_HAD = pytest.StashKey[Guest]()
_TRIES = pytest.StashKey[int]()
# Whether a test is to be run again.
_DUE = pytest.StashKey[bool]()
# The outcome of a test that is run again, because its guest was lost for a reason of the host.
_AGAIN = "again"


@dataclass
class _Watch:
    """The guest of a test that is under way. told: what the test has failed by already. lost: nothing can be said."""

    guest: Guest
    session: Session
    expected: Sequence[Expected]
    told: set[str] = field(default_factory=set)
    lost: bool = False

    def complaint(self) -> str:
        """What the kernel has done that nobody expected or told yet, and what it was to do and did not."""
        results = [life.result for life in self.guest.lives if life.result is not None]
        findings = [finding for result in results for finding in result.findings]
        complaints = {
            finding.summary: text
            for finding, text in zip(findings, texts(findings), strict=True)
            if not any(expected.meets(finding) for expected in self.expected)
        }
        for expected in self.expected:
            if expected.must and not any(expected.meets(finding) for finding in findings):
                text = f"[kernel_report] the kernel was to do {expected.pattern!r} and did not"
                complaints[text] = text
        for life in self.guest.lives:
            if life.driven.broken and not findings:
                text = f"[driver] {life.driven.broken}"
                complaints[text] = text
        new = [text for summary, text in complaints.items() if summary not in self.told]
        self.told.update(complaints)
        if not new:
            return ""
        decoded = telling.decoded(self.session, new, self.guest.built)
        return "\n".join([*decoded, f"console: {self.guest.machine.console.log}"])


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A fresh machine with the chosen kernel and the module loaded; its kernel is judged with the test."""
    with errors_as_text():
        marked = marks.read(request.node)
        session = sessions.session(request.config, marked.kernel)
        reason = _unfit(session, marked)
    if reason:
        pytest.skip(reason)
    made = Guest(request, session, marked.shape)
    request.node.stash[_HAD] = made
    with contextlib.ExitStack() as stack:
        stack.callback(made.end)
        with errors_as_text():
            _ = session.lab
            made.begin()
        watch = request.node.stash[_WATCH] = _Watch(made, session, marked.expected)
        try:
            yield made
        finally:
            del request.node.stash[_WATCH]
        with errors_as_text(quiet=watch.lost):
            # What happens now, while the test's other fixtures are taken down, is judged, too.
            stack.close()
    if not watch.lost and (complaint := watch.complaint()):
        raise KernelFault(complaint, pytrace=False)


@pytest.fixture(scope="session")
def kernel(pytestconfig: pytest.Config) -> Kernel:
    """The kernel that the options choose; built at the first use."""
    with errors_as_text():
        return kernel_of(sessions.session(pytestconfig))


@pytest.fixture
def module(guest: Guest) -> Callable[..., list[str]]:
    """A function that builds the modules of a folder for the guest's kernel, and loads them; returns their names."""
    return fixture_of_guest(guest).load


@pytest.fixture
def notifier(guest: Guest) -> Notifier:
    """Notifiers on the memory of a process of the guest."""
    return Notifier(fixture_of_guest(guest))


@pytest.fixture
def pressure(notifier: Notifier) -> Pressure:
    """Ways to make the guest's kernel reclaim."""
    return Pressure(notifier)


@pytest.fixture
def observed(guest: Guest) -> Observed:
    """What the guest's notifiers have seen."""
    return Observed(fixture_of_guest(guest))


def _unfit(session: Session, marked: Marks) -> str:
    """Why a test does not apply to the kernel; empty when it does."""
    needs = marked.needs
    if not (needs.options or needs.without or needs.version or needs.until):
        return ""
    from harness.kernel import kconfig

    built = session.lab.kernel
    return needs.missing(kconfig.values(built.config.read_text(encoding="utf-8")), built.release)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """A test with a guest ends with its judgement."""
    try:
        with _limited(item):
            yield
    except (GeneratorExit, KeyboardInterrupt, SystemExit, pytest.exit.Exception):
        raise
    except BaseException as own:
        _judge(item, own)
        raise
    _judge(item)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """What a fixture of the user's asks of a guest in vain is shown at their line, too."""
    try:
        yield
    except Exception as own:
        if _HAD in item.stash:
            _forget_our_frames(own)
        raise


def _late(said: str, _number: int, _frame: FrameType | None) -> None:
    raise TimeUp(said)


@contextlib.contextmanager
def _limited(item: pytest.Item) -> Iterator[None]:
    """The time that a test may take by its marker, on a machine that may be slower than an ordinary one."""
    if item.get_closest_marker("kernel") is None:
        yield
        return
    with errors_as_text():
        marked = marks.read(item)
    watch = item.stash.get(_WATCH, None)
    # A signal is handled by the main thread alone; whoever has a handler, such as pytest-timeout, keeps it.
    mine = threading.current_thread() is threading.main_thread()
    if not marked.timeout_s or not mine or signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
        yield
        return
    slowdown = max(1.0, watch.guest.watched.slowdown) if watch else 1.0
    limit_s = marked.timeout_s * slowdown

    said = f"not done within {limit_s:.4g} s = {marked.timeout_s:g} s × slow-down {slowdown:.1f} (limit)"
    signal.signal(signal.SIGALRM, functools.partial(_late, said))
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _judge(item: pytest.Item, own: BaseException | None = None) -> None:
    """Raises KernelFault or HostFault for what is not the test's own failure."""
    from harness.model.errors import HarnessError
    from harness.report.text import plain

    watch = item.stash.get(_WATCH, None)
    if watch is None:
        marked = any(item.get_closest_marker(name) for name in ("kernel", "kernel_report"))
        if own is None and marked and any(expected.must for expected in marks.read(item).expected):
            raise Failed("kernel_report: the test has no guest to report anything", pytrace=False)
        return
    if own is not None:
        _forget_our_frames(own)
    with errors_as_text():
        try:
            if isinstance(own, TimeUp):
                watch.guest.watched.look()
            watch.guest.watched.judge()
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
    from harness.model.errors import HarnessError

    # GuestTimeout is an OSError, and so is the guest's errno.
    return isinstance(error, HarnessError | OSError | TimeUp)


def _forget_our_frames(error: BaseException | None) -> None:
    """End the traceback of what a guest raised at the call: nobody who writes a test looks for a fault below."""
    here = Path(__file__)
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        at = error.__traceback__ if _is_of_the_guest(error) else None
        while at is not None and at.tb_next is not None:
            file = Path(at.tb_next.tb_frame.f_code.co_filename)
            ours = file != here or at.tb_next.tb_frame.f_code.co_name == _late.__name__
            if ours and file.is_relative_to(here.parents[1]):
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
    if report.failed and (had := item.stash.get(_HAD, None)) is not None:
        report.sections += [*telling.sections(had), ("to repeat it", telling.repeat(item, had.lives))]
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
    elif _is_of_the_host(fault) and report.when == "call" and report.outcome == "failed":
        # What we could not do says nothing of the kernel.
        report.when = "setup"
    return report


def _is_of_the_host(fault: BaseException | None) -> bool:
    from harness.model.errors import HarnessError

    return isinstance(fault, HarnessError)


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
