# SPDX-License-Identifier: GPL-2.0-only
"""harness console: the reports in any kernel console log, each as soon as it is complete."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from harness.console import Report, Scanner, noise, stream
from harness.report.text import one_line, plain


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="what a kernel wrote to its console: a file, a fifo, - (standard input)",
    )
    parser.add_argument("--json", action="store_true", help="one object a line for each file")
    parser.add_argument("--text", action="store_true", help="each report in full as well")
    parser.add_argument("--known-noise", type=Path, metavar="YAML", help="reports that are excused (default: our list)")


def main(arguments: argparse.Namespace) -> int:
    """Print what each file reports; 1 if there was a report that nothing excuses."""
    return run(
        arguments.files,
        as_json=arguments.json,
        text=arguments.text,
        known_noise=arguments.known_noise or noise.DEFAULT,
        out=sys.stdout,
        note=lambda line: print(line, file=sys.stderr),
    )


def run(
    files: Sequence[str],
    *,
    as_json: bool,
    text: bool,
    known_noise: Path,
    out: TextIO,
    note: Callable[[str], object],
) -> int:
    """Write what each file reports; returns 1 if there was any report that nothing excuses, else 0.

    note: takes a line about the list of known noise, or about what is waited for. Raises UsageError
    for a file that is not there, before anything is written.
    """
    for name in files:
        stream.check(name)
    excuses = noise.Excuses(noise.load(known_noise))
    reported = 0
    for name in files:
        printer = _Json(name, out, text=text) if as_json else _Lines(name, out, text=text)
        reported += _read(name, printer, excuses, lambda line: note(f"harness: {one_line(line)}"))
    for complaint in excuses.complaints():
        note(one_line(complaint))
    return 1 if reported else 0


def _read(name: str, printer: _Lines | _Json, excuses: noise.Excuses, note: Callable[[str], object]) -> int:
    """Print what a file reports; returns how many reports nothing excuses."""
    scanner = Scanner()
    reported = 0

    def tell(reports: Iterable[Report]) -> None:
        nonlocal reported
        for report in reports:
            excused = excuses.excuse(report) is not None
            reported += not excused
            printer.add(report, excused=excused)
        printer.out.flush()

    def end() -> None:
        tell(scanner.close())
        printer.end()

    try:
        for block in stream.blocks(name, note):
            tell(scanner.feed(block))
            if not block:
                tell(scanner.pause())
    except KeyboardInterrupt:
        # The usual end of dmesg -w; what it told so far counts.
        end()
        raise
    end()
    return reported


class _Lines:
    """A line for each report."""

    def __init__(self, name: str, out: TextIO, *, text: bool) -> None:
        self.out = out
        self._name = one_line(name)
        self._text = text
        self._excused = 0

    def add(self, report: Report, *, excused: bool) -> None:
        """Another report."""
        if excused:
            self._excused += 1
            return
        torn = " (torn)" if report.torn else ""
        line = f"{self._name}:{report.line}: {report.type}: {one_line(report.title)}{torn}\n"
        # In one piece, whenever an interrupt comes.
        self.out.write(line + (plain(report.text) + "\n" if self._text else ""))

    def end(self) -> None:
        """The file has ended."""
        if self._excused:
            self.out.write(f"{self._name}: {self._excused} known reports excused\n")


class _Json:
    """One object on one line, written as the reports come, so that it need not fit in memory."""

    def __init__(self, name: str, out: TextIO, *, text: bool) -> None:
        self.out = out
        self._before = f'{{"file": {json.dumps(name)}, "reports": ['
        self._text = text
        self._excused: list[dict[str, Any]] = []

    def add(self, report: Report, *, excused: bool) -> None:
        """Another report."""
        if excused:
            self._excused.append({"title": report.title, "line": report.line})
            return
        before, self._before = self._before, ", "
        self.out.write(before + json.dumps(_entry(report, text=self._text)))

    def end(self) -> None:
        """The file has ended."""
        before = "" if self._before == ", " else self._before
        self.out.write(f'{before}], "excused": {json.dumps(self._excused)}}}\n')


def _entry(report: Report, *, text: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": report.type,
        "title": report.title,
        "torn": report.torn,
        "line": report.line,
        "frame": report.frame,
        "site": report.site,
        "task": report.task,
        "pid": report.pid,
        "cpu": report.cpu,
    }
    if text:
        entry["text"] = report.text
    return entry
