# SPDX-License-Identifier: GPL-2.0-only
"""A verdict as lines for a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from harness.model.run import RunVerdict
from harness.model.verdict import Outcome, ScenarioResult
from harness.report.text import flat, one_line

# Gives a word the colour of an outcome, padded to a column; an empty word stands for the outcome's own.
Colour = Callable[[Outcome, str], str]

_INDENT = " " * 13


def result(result: ScenarioResult, colour: Colour) -> Iterator[str]:
    """One line for a scenario, and one for each finding."""
    word = colour(result.outcome, "")
    yield f"{word} {one_line(result.name):36} {result.seconds:6.1f} s  {one_line(result.counted, 400)}"
    if result.outcome is Outcome.PASS:
        return
    if result.reason:
        yield f"{_INDENT}{one_line(result.reason, 400)}"
    for finding in result.findings:
        yield f"{_INDENT}[{one_line(finding.oracle)}] {one_line(finding.summary)}"
        for line in finding.evidence.splitlines()[:2]:
            yield f"{_INDENT}    {one_line(line)}"


def summary(verdict: RunVerdict, folder: str, colour: Colour) -> Iterator[str]:
    """The last lines of a run."""
    counts = Counter(result.outcome.value for result in verdict.scenarios)
    said = ", ".join(f"{number} {word}" for word, number in counts.items()) or "no scenario judged"
    for name, reason in verdict.skipped.items():
        yield f"{'skipped':12} {one_line(f'{name}: {reason}')}"
    for line in verdict.noise:
        yield f"{'known noise':12} {one_line(line)}"
    for line in verdict.cache:
        yield f"{'made again':12} {one_line(line)}"
    spent = ", ".join(f"{name} {value:.1f}" for name, value in verdict.seconds.items() if value >= 0.05)
    accel = f"{verdict.accel.used or 'none'}: {verdict.accel.reason}"
    yield f"accelerator  {one_line(accel)}"
    yield f"seconds      {one_line(spent, 1000)}"
    yield f"report       {flat(folder)}/report.html"
    kernel = f"{verdict.source} + {', '.join(verdict.patches)}, configuration {', '.join(verdict.configs)}"
    if verdict.error:
        yield f"{'stopped':12} {one_line(verdict.error, 1000)}"
    yield f"{colour(verdict.outcome, '')} {one_line(kernel, 1000)}: {said}"
