# SPDX-License-Identifier: GPL-2.0-only
"""harness console: the reports in any kernel console log."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from harness.console import Report, noise, scan
from harness.model.errors import UsageError
from harness.report.text import one_line, plain


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("files", nargs="+", metavar="FILE", type=Path, help="what a kernel wrote to its console")
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
        say=print,
        note=lambda line: print(line, file=sys.stderr),
    )


def run(
    files: Sequence[Path],
    *,
    as_json: bool,
    text: bool,
    known_noise: Path,
    say: Callable[[str], object],
    note: Callable[[str], object],
) -> int:
    """Print what each file reports; returns 1 if there was any report that nothing excuses, else 0.

    say: takes a line of the result. note: takes a line about the list of known noise.
    Raises UsageError for a file that is not there, before anything is printed.
    """
    for path in files:
        if not path.is_file():
            raise UsageError(f"{path}: {'a directory' if path.is_dir() else 'no such file'}", "name a console log")
    excuses = noise.Excuses(noise.load(known_noise))
    any_report = False
    for path in files:
        reports, excused = _split(path, excuses)
        any_report = any_report or bool(reports)
        if as_json:
            say(json.dumps(_document(path, reports, excused, text=text)))
        else:
            for report in reports:
                say(_line(path, report))
                if text:
                    say(plain(report.text))
            if excused:
                say(f"{one_line(str(path))}: {len(excused)} known reports excused")
    for complaint in excuses.complaints():
        note(one_line(complaint))
    return 1 if any_report else 0


def _split(path: Path, excuses: noise.Excuses) -> tuple[list[Report], list[Report]]:
    reports: list[Report] = []
    excused: list[Report] = []
    try:
        with path.open("rb") as stream:
            for report in scan(stream):
                (reports if excuses.excuse(report) is None else excused).append(report)
    except PermissionError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    return reports, excused


def _line(path: Path, report: Report) -> str:
    torn = " (torn)" if report.torn else ""
    return f"{one_line(str(path))}:{report.line}: {report.type}: {one_line(report.title)}{torn}"


def _document(path: Path, reports: Sequence[Report], excused: Sequence[Report], *, text: bool) -> dict[str, Any]:
    return {
        "file": str(path),
        "reports": [_entry(report, text=text) for report in reports],
        "excused": [{"title": report.title, "line": report.line} for report in excused],
    }


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
