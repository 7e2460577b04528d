# SPDX-License-Identifier: GPL-2.0-only
"""Scenarios as test items, and in a test of somebody's own."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.pytest_plugin import sessions, telling
from harness.pytest_plugin.faults import HostFault, ScenarioFailed, errors_as_text, texts

if TYPE_CHECKING:
    from harness.model.scenario import Scenario
    from harness.model.verdict import ScenarioResult

# How a scenario is known among other people's YAML: two of these words, each a key at the beginning of a line. Nothing
# is parsed, so a scenario with a fault in it is known, too.
_KEY = re.compile(rb"""^["']?(summary|buffers|subscribers|steps|exercised)["']?[ \t]*:(?=\s|$)""", re.MULTILINE)
_KEYS_NEEDED = 2
_LOOKED_AT_BYTES = 1 << 16


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(
    file_path: Path, parent: pytest.Collector
) -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """A YAML file is ours by kernel_scenarios, by what is in it, or by the command line if nobody else takes it."""
    collectors = yield
    if file_path.suffix in (".yaml", ".yml") and _is_ours(file_path, parent.config, bool(collectors)):
        collectors = [*collectors, ScenarioFile.from_parent(parent, path=file_path)]
    return collectors


def _is_ours(path: Path, config: pytest.Config, somebody_s: bool) -> bool:
    configured = config.getini("kernel_scenarios")
    if configured is None:
        if path.parent.name == "scenarios" and _looks_like_a_scenario(_beginning(path)):
            return True
    elif any(_below(path, config.rootpath, entry) for entry in configured):
        return True
    start = config.invocation_params.dir
    named = {os.path.normpath(start / argument.partition("::")[0]) for argument in config.args}
    return not somebody_s and str(path) in named


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(_LOOKED_AT_BYTES)
    except OSError:
        return b""


def _looks_like_a_scenario(text: bytes) -> bool:
    return len(set(_KEY.findall(text.removeprefix(b"\xef\xbb\xbf")))) >= _KEYS_NEEDED


def _below(path: Path, root: Path, entry: str) -> bool:
    """Whether an entry of kernel_scenarios names a file, or a folder that it is in."""
    relative = os.path.relpath(path, root)
    return path.is_relative_to(os.path.normpath(root / entry)) or fnmatch.fnmatchcase(relative, entry)


class ScenarioFile(pytest.File):
    """A YAML file: one item for each of its scenarios."""

    def collect(self) -> Iterable[pytest.Item]:
        """Read the file; a fault in it is a collection error of one line."""
        from harness.model.errors import HarnessError
        from harness.report.text import plain
        from harness.variants import catalogue

        try:
            chosen = catalogue.choose([str(self.path)])
        except HarnessError as error:
            raise self.CollectError(plain(str(error))) from None
        for scenario in chosen:
            yield ScenarioItem.from_parent(self, name=scenario.name, scenario=scenario)


class ScenarioItem(pytest.Item):
    """A scenario; it passes when its verdict is pass."""

    def __init__(self, *, scenario: Scenario, **rest: Any) -> None:
        super().__init__(**rest)
        self.scenario = scenario

    def runtest(self) -> None:
        """Build, boot, press and judge."""
        with errors_as_text():
            reason = sessions.session(self.config).missing(self.scenario)
            result = None if reason else sessions.session(self.config).judge(self.scenario)
        if result is None:
            pytest.skip(reason)
        self.user_properties.extend(result.exercised.items())
        _demand_pass(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Findings as text; a traceback only for a bug in the harness."""
        if isinstance(excinfo.value, ScenarioFailed):
            return f"{excinfo.value}\nto repeat it: {telling.repeat(self)}"
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
        with errors_as_text():
            (scenario,) = catalogue.choose([name])
            reason = sessions.session(pytestconfig).missing(scenario)
            result = None if reason else sessions.session(pytestconfig).judge(scenario)
        if result is None:
            pytest.skip(reason)
        _demand_pass(result)
        return result

    return run


def _demand_pass(result: ScenarioResult) -> None:
    __tracebackhide__ = True
    from harness.model.verdict import Outcome
    from harness.report.text import plain

    lines = [f"{result.outcome.value}: {result.reason}" if result.reason else result.outcome.value]
    if result.outcome is Outcome.ERROR:
        raise HostFault(plain("\n".join(lines)), pytrace=False)
    if result.outcome is not Outcome.PASS:
        raise ScenarioFailed("\n".join(map(plain, [lines[0], *texts(result.findings)])))
