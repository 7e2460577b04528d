# SPDX-License-Identifier: GPL-2.0-only
"""harness console: the reports in any kernel console log, each as soon as it is complete."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from harness.console import Report, Scanner, noise, stream
from harness.host import process
from harness.model.errors import HarnessError, UsageError
from harness.report.text import one_line, plain

# What a live stream told is not held back for longer.
_HELD_S = 2.0
# So many reports are held until it is known how often each came.
_HELD_REPORTS = 1000


def options(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.description = (
        "The reports in any kernel console log, also in what journalctl, dmesg -T, syslog, a CI system or a mail made "
        "of it. Exit code: 0 no report, 1 a report that nothing excuses, 129 something could not be read."
    )
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="what a kernel wrote to its console: a file, packed or not, a directory, a fifo, - (standard input)",
    )
    parser.add_argument("--json", action="store_true", help="one object a line for each file")
    parser.add_argument("--text", action="store_true", help="each report in full as well, without prefixes")
    parser.add_argument("--all", action="store_true", help="reports of one title one by one, not once with a count")
    parser.add_argument("--known-noise", type=Path, metavar="YAML", help="reports that are excused (default: our list)")


def main(arguments: argparse.Namespace) -> int:
    """Print what each file reports; 1 if there was a report that nothing excuses."""
    return run(
        arguments.files,
        as_json=arguments.json,
        text=arguments.text,
        each=arguments.all,
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
    each: bool = False,
) -> int:
    """Write what each file reports; returns 1 if there was any report that nothing excuses, else 0.

    each: also what has the title of another. note: takes a line about the list of known noise, or
    about what is waited for. Raises UsageError for a file that is not there, before anything is written.
    """
    names = [name for given in files for name in stream.files(given)]
    excuses = noise.Excuses(noise.load(known_noise))
    reported = 0
    for name in names:
        printer = _Json(name, out, text=text) if as_json else _Lines(name, out, text=text)
        reported += _read(name, printer, excuses, lambda line: note(f"harness: {one_line(line)}"), each=each)
    for complaint in excuses.complaints():
        note(one_line(complaint))
    return 1 if reported else 0


def _read(
    name: str, printer: _Lines | _Json, excuses: noise.Excuses, note: Callable[[str], object], *, each: bool
) -> int:
    """Print what a file reports; returns how many reports nothing excuses."""
    scanner = Scanner()
    held = _Held(scanner, printer, excuses, each=each)
    live = stream.live(name)
    try:
        for block in stream.blocks(name, note, functools.partial(_unpack, name)):
            held.add(scanner.feed(block))
            if not block:
                held.add(scanner.pause())
            if not block or (live and held.late) or len(held) > _HELD_REPORTS:
                held.tell()
    except (KeyboardInterrupt, HarnessError):
        # The usual end of dmesg -w; what was told so far counts.
        if scanner.line:
            held.end()
        raise
    held.end()
    return held.reported


def _unpack(name: str, command: Sequence[str], source: int) -> Iterator[bytes]:
    """What a command makes of a packed file."""
    with tempfile.TemporaryFile() as said, process.running(process.spawn(command, stdin=source, stderr=said)) as child:
        assert child.stdout is not None
        while piece := child.stdout.read(stream.BLOCK_BYTES):
            yield piece
        if child.wait() != 0:
            said.seek(0)
            words = said.read(200).decode(errors="backslashreplace").strip() or f"exit code {child.returncode}"
            raise UsageError(f"{name}: cannot be unpacked: {one_line(words)}", f"file {shlex.quote(name)}")


class _Held:
    """Reports that wait until it is known how often each came."""

    def __init__(self, scanner: Scanner, printer: _Lines | _Json, excuses: noise.Excuses, *, each: bool) -> None:
        self.reported = 0
        self._scanner = scanner
        self._printer = printer
        self._excuses = excuses
        self._each = each
        # By what they are told as: the first, whether it is excused, and the lines of all.
        self._reports: dict[tuple[object, ...], tuple[Report, bool, list[int]]] = {}
        self._since_s = 0.0

    def __len__(self) -> int:
        return len(self._reports)

    @property
    def late(self) -> bool:
        """Something waits for too long."""
        return bool(self._reports) and time.monotonic() - self._since_s > _HELD_S

    def add(self, reports: Iterable[Report]) -> None:
        """Others."""
        for report in reports:
            if not self._reports:
                self._since_s = time.monotonic()
            excused = self._excuses.excuse(report) is not None
            self.reported += not excused
            key = (report.line,) if self._each or excused else (report.type, report.title)
            self._reports.setdefault(key, (report, excused, []))[2].append(report.line)

    def tell(self) -> None:
        """Print them."""
        for report, excused, lines in self._reports.values():
            count = sum(map(self._scanner.times, lines))
            self._printer.add(dataclasses.replace(report, count=count), excused=excused)
        self._reports.clear()
        self._printer.out.flush()

    def end(self) -> None:
        """The file has ended."""
        self.add(self._scanner.close())
        self.tell()
        self._printer.end()


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
        times = f" ({report.count} times)" if report.count > 1 else ""
        line = f"{self._name}:{report.line}: {report.type}: {one_line(report.title)}{torn}{times}\n"
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
        "count": report.count,
        "boot": report.boot,
        "wrapping": report.wrapping,
    }
    if text:
        entry["text"] = report.text
    return entry
