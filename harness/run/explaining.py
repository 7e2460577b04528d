# SPDX-License-Identifier: GPL-2.0-only
"""Why a scenario failed, for whoever has to mend the kernel.

Which invariant was broken, where in the source to look, the events around it,
and the commands that repeat it and that open a debugger there.
"""

from __future__ import annotations

import re
import shlex
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.host.progress import Progress
from harness.kernel import lines as places
from harness.kernel.lines import Spot
from harness.model import event
from harness.model import recording as recordings
from harness.model.contract import AUTO
from harness.model.errors import HarnessError, UsageError
from harness.model.instrument import Instrument
from harness.model.run import RunVerdict
from harness.model.strict_yaml import offer
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.report import around, meaning
from harness.report.text import one_line, plain
from harness.run import decoding, earlier, pipeline

# How many events are told around the one that a finding names.
_EVENTS = 13
# How many places of a stack are told for each finding; the whole of it has harness decode.
_SPOTS = 8
# What findings and documents name as file:line.
_FILE_LINE = re.compile(r"\b((?:[\w-]+/)+[\w-]+\.[chS]:\d+)\b", re.ASCII)
_LABEL, _WIDTH = 15, 100
_INDENT = " " * 17


def failed(verdict: RunVerdict, folder: Path, name: str = "") -> ScenarioResult:
    """The scenario of a run that is to be explained: the one of this name, or else the first that failed.

    Raises UsageError when there is none.
    """
    known = {result.name: result for result in verdict.scenarios}
    if name:
        if name not in known:
            raise UsageError(f"{folder}: the run has no scenario {name!r}", offer(name, known))
        return known[name]
    for result in verdict.scenarios:
        if result.outcome is Outcome.FAIL:
            return result
    raise UsageError(f"{folder}: no scenario failed, there is nothing to explain", f"harness judge {_word(folder)}")


def explain(
    folder: Path, verdict: RunVerdict, result: ScenarioResult, cache: Path, progress: Progress
) -> Iterator[str]:
    """Lines for a terminal about each finding of a scenario; what a run directory says is written safely."""
    yield f"{result.outcome.value:12} {one_line(result.name)}{': ' + one_line(result.reason) if result.reason else ''}"
    meanings = [meaning.of(finding.oracle, finding.summary) for finding in result.findings]
    wanted = [_spots(finding, means.look) for finding, means in zip(result.findings, meanings, strict=True)]
    try:
        found = _found(folder, {spot for spots in wanted for spot in spots}, cache, progress)
        trouble = ""
    except HarnessError as error:
        found, trouble = {}, error.message
    log, names = _log(folder, result.name), _names(folder / result.name, result.name)
    for finding, means, spots in zip(result.findings, meanings, wanted, strict=True):
        yield ""
        yield f"[{one_line(finding.oracle)}] {one_line(finding.summary)}"
        yield from _said("the invariant", means.invariant)
        yield from _said("look at", means.look)
        where = list(dict.fromkeys(place for spot in spots for place in found.get(spot, ())))
        where = where or list(dict.fromkeys(_FILE_LINE.findall(finding.evidence)))
        for number, place in enumerate(where or ([f"not known: {trouble}"] if trouble and spots else [])):
            yield f"  {'in the source' if not number else '':{_LABEL}}{one_line(place)}"
        for number, line in enumerate(_events(log, around.named(finding.evidence), names)):
            yield f"  {'the events' if not number else '':{_LABEL}}{plain(line)}"
    yield ""
    for number, command in enumerate(_commands(folder, verdict, result)):
        yield f"  {('again', 'a look inside')[min(number, 1)]:{_LABEL}}{plain(command)}"


def _said(label: str, text: str) -> Iterator[str]:
    for number, line in enumerate(textwrap.wrap(plain(text), _WIDTH - len(_INDENT))):
        yield f"  {label if not number else '':{_LABEL}}{line}"


def _spots(finding: Finding, look: str) -> Sequence[Spot]:
    """The places that a finding names: of a stack, else the functions that it or its meaning is about."""
    stack = [spot for line in finding.evidence.splitlines() for spot in decoding.spots_of(line)]
    if stack:
        return list(dict.fromkeys(stack))[:_SPOTS]
    names = meaning.functions(f"{finding.summary} {finding.evidence}") or meaning.functions(look)
    return [Spot(name, 0, 0) for name in names[:_SPOTS]]


def _found(folder: Path, spots: set[Spot], cache: Path, progress: Progress) -> dict[Spot, tuple[str, ...]]:
    """Their lines in the run's own kernel."""
    if not spots:
        return {}
    ran = earlier.read(folder)
    kernel = pipeline.prepare(ran.request, Instrument(), cache, progress, pipeline.Clock(progress)).kernel
    ran.verify(kernel)
    return places.find(kernel, spots, cache, earlier.module(folder), progress)


def _log(folder: Path, name: str) -> event.EventLog | None:
    try:
        return event.read(folder / "events" / f"{name}.bin")
    except (HarnessError, OSError):
        return None


def _names(place: Path, name: str) -> Callable[[int], str]:
    """The names of the subscribers; their numbers where the recording cannot be read."""
    try:
        return recordings.read(place, earlier.scenario_of(place, name)).subscriber
    except (HarnessError, OSError):
        return "subscriber {}".format


def _events(log: event.EventLog | None, number: int | None, names: Callable[[int], str]) -> Sequence[str]:
    if log is None or number is None:
        return ()
    return around.lines(around.near(log, number, _EVENTS), names, number)


def _commands(folder: Path, verdict: RunVerdict, result: ScenarioResult) -> Iterator[str]:
    """What repeats the scenario, and what opens a debugger where it stopped."""
    words = ["harness", "run", "--source", verdict.source]
    for patch in verdict.patches:
        words += ["--patch", patch]
    for config in verdict.configs:
        words += ["--config", config] if config != "base" else []
    if verdict.contract.requested not in ("", AUTO):
        words += ["--contract", verdict.contract.requested]
    words += ["--sandbox"] * bool(verdict.sandbox)
    yield shlex.join([*words, result.name.partition(".")[0]])
    if result.tape:
        yield f"harness replay --gdb {_word(folder)} {shlex.quote(result.name)}"
    yield f"harness shell --gdb {_word(folder / result.name)}"


def _word(path: Path) -> str:
    return shlex.quote(str(path))
