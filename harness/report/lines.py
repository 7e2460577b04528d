# SPDX-License-Identifier: GPL-2.0-only
"""A verdict as lines for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from harness.model.causes import key
from harness.model.run import AccelFacts, RunVerdict
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.report.text import flat, one_line

# Gives a word the colour of an outcome, padded to a column; an empty word stands for the outcome's own.
Colour = Callable[[Outcome, str], str]

_INDENT = " " * 13
# Columns of a scenario's name, at most and at least; of its time, with the blank before it.
_NAME, _LEAST, _TIME = 36, 8, 9


def result(result: ScenarioResult, colour: Colour) -> Iterator[str]:
    """One line for a scenario, and one for each finding."""
    yield _head(result, colour)
    yield from _reason(result)
    for finding in result.findings:
        yield from _finding(finding)


def _head(result: ScenarioResult, colour: Colour, width: int = 0) -> str:
    """The line of a scenario. width: of the terminal; what does not fit is left out, so that nothing wraps."""
    columns = max(_LEAST, min(_NAME, width - len(_INDENT) - _TIME)) if width else _NAME
    word, name = colour(result.outcome, ""), one_line(result.name, columns)
    line = f"{word} {name:{columns}} {result.seconds:6.1f} s"
    counted = one_line(result.counted, 400)
    if not width:
        return f"{line}  {counted}"
    room = width - len(_INDENT) - columns - _TIME - 2
    if len(counted) > room:
        kept = counted[: max(0, room)].rpartition(", ")[0]
        counted = f"{kept}, …" if kept and len(kept) + 3 <= room else ""
    return f"{line}  {counted}".rstrip()


def _reason(result: ScenarioResult) -> Iterator[str]:
    if result.reason and result.outcome is not Outcome.PASS:
        yield f"{_INDENT}{one_line(result.reason, 400)}"


def _said(finding: Finding) -> str:
    return f"{_INDENT}[{one_line(finding.oracle)}] {one_line(finding.summary)}"


def _finding(finding: Finding) -> Iterator[str]:
    yield _said(finding)
    for line in finding.evidence.splitlines()[:2]:
        yield f"{_INDENT}    {one_line(line)}"


def _causes(verdict: RunVerdict) -> Iterator[str]:
    """What the failures of several scenarios come down to."""
    causes = verdict.causes
    failed = sum(len(cause.scenarios) for cause in causes)
    if failed < 2:
        return
    number = "one finding" if len(causes) == 1 else f"{len(causes)} findings"
    yield f"{'causes':12} {number} in {failed} of {len(verdict.scenarios)} scenarios"
    for cause in causes:
        yield f"{_said(cause.finding)}: {one_line(', '.join(cause.scenarios), 400)}"


def _coverage(verdict: RunVerdict) -> Iterator[str]:
    """What became of the lines of the user's patches."""
    if verdict.coverage is None:
        return
    yield f"{'your lines':12} {one_line(verdict.coverage.sentence, 1000)}"
    if by := verdict.coverage.scenarios:
        yield f"{_INDENT}ran in {one_line(', '.join(f'{name} ({number})' for name, number in by), 400)}"
    if verdict.coverage.short:
        yield f"{'too little':12} {one_line(verdict.coverage.short.partition(': ')[0])}"


def _accelerator(accel: AccelFacts) -> str:
    """The one that was used. Why it is not KVM is a paragraph, which is said when it is found out."""
    if accel.used == "tcg" and accel.requested == "auto":
        return "tcg: KVM does not work here; harness doctor says why"
    return f"{accel.used or 'none'}: {accel.reason}"


class Told:
    """The results of a run as they come: a finding that was told already is named, and not told again."""

    def __init__(self, colour: Colour, width: int = 0) -> None:
        """width: of the terminal; 0: no line is cut."""
        self._colour = colour
        self._width = width
        self._first: dict[tuple[str, str], str] = {}

    def result(self, result: ScenarioResult) -> Iterator[str]:
        """One line for a scenario, and for each finding its evidence or where that was told."""
        yield _head(result, self._colour, self._width)
        yield from _reason(result)
        for finding in result.findings:
            first = self._first.setdefault(key(finding), result.name)
            if first == result.name:
                yield from _finding(finding)
            else:
                yield f"{_said(finding)}: as in {one_line(first)}"


def summary(verdict: RunVerdict, folder: str, colour: Colour, left: int = 0) -> Iterator[str]:
    """The last lines of a run. left: how many scenarios nobody asked for by name, and nobody ran."""
    counts = Counter(result.outcome.value for result in verdict.scenarios)
    said = ", ".join(f"{number} {word}" for word, number in counts.items()) or "no scenario judged"
    yield from _causes(verdict)
    for rate in verdict.rates:
        yield f"{'now and then':12} {one_line(rate.sentence)}"
    for name, reason in verdict.skipped.items():
        yield f"{'skipped':12} {one_line(f'{name}: {reason}')}"
    for line in verdict.noise:
        yield f"{'known noise':12} {one_line(line)}"
    for line in verdict.cache:
        yield f"{'made again':12} {one_line(line)}"
    spent = ", ".join(f"{name} {value:.1f}" for name, value in verdict.seconds.items() if value >= 0.05)
    accel = _accelerator(verdict.accel)
    if verdict.contract.used:
        yield f"{'contract':12} {one_line(f'{verdict.contract.used}: {verdict.contract.reason}', 400)}"
    if verdict.sandbox:
        yield f"sandbox      {one_line(verdict.sandbox)}"
    yield f"accelerator  {one_line(accel)}"
    yield f"seconds      {one_line(spent, 1000)}"
    yield f"report       {flat(folder)}/report.html"
    yield from _coverage(verdict)
    if verdict.error:
        yield f"{'stopped':12} {one_line(verdict.error, 1000)}"
    more = f"; {left} more scenarios did not run: harness run all" if left > 0 else ""
    yield f"{colour(verdict.outcome, '')} {one_line(verdict.title, 1000)}: {said}{more}"
