# SPDX-License-Identifier: GPL-2.0-only
"""A scenario's console for a page: the reports folded in their places, and of the rest what is near."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness import console
from harness.model.recording import Recording

# How many lines are shown at the begin and the end, and before and after a report; and how long each may be.
ENDS, NEAR, LINE_LIMIT = 40, 4, 400
REPORTS, REPORT_LINES = 12, 150


@dataclass(frozen=True)
class Part:
    """Lines that follow each other. title: of a report, else empty. line: of the first one, from 1."""

    line: int
    title: str
    text: str


def parts(recording: Recording) -> list[Part]:
    """The parts of a console, in order; what lies between two of them is left out."""
    lines = recording.console_lines
    count = len(lines)
    reports: list[tuple[int, int, str]] = []
    for report in console.find(recording.console_head)[:REPORTS]:
        low = max(report.line - 1, reports[-1][1] if reports else 0)
        high = min(count, low + min(REPORT_LINES, report.text.count("\n") + 1))
        reports.append((low, high, report.title))
    shown = [(0, min(ENDS, count)), (max(0, count - ENDS), count)]
    shown += [(max(0, low - NEAR), min(count, high + NEAR)) for low, high, _ in reports]
    return list(_parts(lines, reports, _merged(shown)))


def _merged(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    begin, end = 0, 0
    for low, high in sorted(spans):
        if low > end:
            yield begin, end
            begin = low
        end = max(end, high)
    yield begin, end


def _parts(
    lines: Sequence[str], reports: Sequence[tuple[int, int, str]], spans: Iterator[tuple[int, int]]
) -> Iterator[Part]:
    waiting = list(reversed(reports))
    for low, high in spans:
        at = low
        while waiting and waiting[-1][0] < high:
            begin, end, title = waiting.pop()
            if at < begin:
                yield _part(lines, at, begin)
            yield _part(lines, begin, end, title)
            at = end
        if at < high:
            yield _part(lines, at, high)


def _part(lines: Sequence[str], low: int, high: int, title: str = "") -> Part:
    return Part(low + 1, title, "\n".join(line[:LINE_LIMIT] for line in lines[low:high]))
