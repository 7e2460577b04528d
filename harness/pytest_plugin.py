# SPDX-License-Identifier: GPL-2.0-only
"""The pytest plugin: scenarios as test items, and fixtures for tests that drive a guest themselves.

::

    pytest scenarios/                     every YAML file of a folder called scenarios
    pytest mine.yaml                      one file
    def test_x(judged): judged("memcg-eagain")
    def test_y(guest): guest.agent.run(["uname", "-r"], timeout_s=10)

Options: --kernel-source, --kernel-patch, --kernel-config, --accel, with the
meanings that `harness run` gives them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from harness.guest.machine import Machine
    from harness.model.scenario import Scenario
    from harness.model.verdict import ScenarioResult
    from harness.run.session import Session

_SESSION = pytest.StashKey["Session"]()


class ScenarioFailed(Exception):
    """A scenario that did not pass; its text is what pytest shows."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options that choose kernel and accelerator."""
    group = parser.getgroup("kernel harness")
    group.addoption("--kernel-source", metavar="SOURCE", help="as harness run --source")
    group.addoption("--kernel-patch", action="append", metavar="PATCH", help="as harness run --patch; repeatable")
    group.addoption("--kernel-config", action="append", metavar="FRAGMENT", help="as harness run --config; repeatable")
    group.addoption("--accel", default="auto", choices=("auto", "kvm", "tcg"), help="as harness run --accel")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A YAML file holds scenarios if its folder is called `scenarios`, or if the command line names the file."""
    if file_path.suffix not in (".yaml", ".yml"):
        return None
    named = {Path(argument.partition("::")[0]).absolute() for argument in parent.config.args}
    if file_path.parent.name == "scenarios" or file_path in named:
        return ScenarioFile.from_parent(parent, path=file_path)
    return None


class ScenarioFile(pytest.File):
    """A YAML file: one item for each of its scenarios."""

    def collect(self) -> Iterable[pytest.Item]:
        """Read the file; a fault in it is a collection error of one line."""
        from harness.model.errors import HarnessError
        from harness.variants import catalogue

        try:
            chosen = catalogue.choose([str(self.path)])
        except HarnessError as error:
            raise self.CollectError(str(error)) from None
        for scenario in chosen:
            yield ScenarioItem.from_parent(self, name=scenario.name, scenario=scenario)


class ScenarioItem(pytest.Item):
    """A scenario; it passes when its verdict is pass."""

    def __init__(self, *, scenario: Scenario, **rest: Any) -> None:
        super().__init__(**rest)
        self.scenario = scenario

    def runtest(self) -> None:
        """Build, boot, press and judge."""
        if reason := _session(self.config).missing(self.scenario):
            pytest.skip(reason)
        result = _session(self.config).judge(self.scenario)
        self.user_properties.extend(result.exercised.items())
        _demand_pass(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Findings and harness errors as text; a traceback only for a bug in the harness."""
        from harness.model.errors import HarnessError

        if isinstance(excinfo.value, ScenarioFailed | HarnessError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the scenario is."""
        return self.path, None, f"scenario {self.name}"


@pytest.fixture
def judged(pytestconfig: pytest.Config) -> Callable[[str], ScenarioResult]:
    """A function that runs a scenario, by name or path, fails the test unless it passes, and returns its result."""
    from harness.variants import catalogue

    def run(name: str) -> ScenarioResult:
        __tracebackhide__ = True
        with _errors_as_text():
            (scenario,) = catalogue.choose([name])
            reason = _session(pytestconfig).missing(scenario)
            result = None if reason else _session(pytestconfig).judge(scenario)
        if result is None:
            pytest.skip(reason)
        _demand_pass(result)
        return result

    return run


@pytest.fixture
def guest(pytestconfig: pytest.Config) -> Iterator[Machine]:
    """A fresh machine, with the chosen kernel and the module loaded."""
    with _errors_as_text():
        _ = _session(pytestconfig).lab
    with _session(pytestconfig).machine() as machine:
        yield machine


def pytest_unconfigure(config: pytest.Config) -> None:
    """Say where the recordings are."""
    session = config.stash.get(_SESSION, None)
    if session is not None:
        session.close()


def _session(config: pytest.Config) -> Session:
    from harness.kernel import versions
    from harness.run.pipeline import KernelRequest
    from harness.run.session import Session
    from harness.terminal import Terminal
    from harness.variants import instruments

    if _SESSION not in config.stash:
        request = KernelRequest(
            config.getoption("--kernel-source") or versions.DEFAULT,
            tuple(config.getoption("--kernel-patch") or (versions.PATCH,)),
            tuple(config.getoption("--kernel-config") or ()),
        )
        config.stash[_SESSION] = Session(request, instruments.NOTIFIER_HOLD, config.getoption("--accel"), Terminal())
    return config.stash[_SESSION]


@contextmanager
def _errors_as_text() -> Iterator[None]:
    """Show a harness error to the author of the test as one line, without a traceback through our code."""
    from harness.model.errors import HarnessError

    try:
        yield
    except HarnessError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def _demand_pass(result: ScenarioResult) -> None:
    __tracebackhide__ = True
    from harness.model.verdict import Outcome
    from harness.report.text import plain

    if result.outcome is not Outcome.PASS:
        lines = [f"{result.outcome.value}: {result.reason}" if result.reason else result.outcome.value]
        lines += [f"[{finding.oracle}] {finding.summary}\n{finding.evidence}" for finding in result.findings]
        raise ScenarioFailed(plain("\n".join(lines)))
