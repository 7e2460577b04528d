# SPDX-License-Identifier: GPL-2.0-only
"""Finds the reports in a console: one pass, in bounded memory, fast where nothing happens.

Most of a console is clean. A block of it is searched for the needles of the
tables as bytes; only lines that hold one are looked at. While a report is
open, lines are read one by one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

from harness.console import patterns
from harness.console.lines import LINE_LIMIT, Record, decode, records
from harness.console.pattern import Frame, Pattern, Role
from harness.console.report import Report
from harness.console.title import judge

BLOCK_BYTES = 256 << 10
# A report's text ends here; what follows is read on only to find its end.
BODY_LINES = 800
# After this many lines without anything that belongs to a report, the report is over.
_QUIET_LINES = 40
# A stack confirms a doubtful report within this many lines.
_WEAK_LINES = 12
# How many reports are open at once, one for each caller; the oldest is closed for a new one.
_OPEN_REPORTS = 8
# A line that follows (an Oops after its BUG, a panic after its WARN) comes within this many lines.
_NEAR_LINES = 30

REBOOT = Pattern(
    name="reboot",
    type="REBOOT",
    needles=("Linux version ", "Booting the kernel.", "SeaBIOS (version ", "U-Boot "),
    regex=r"Linux version \d+\.\d+|Booting the kernel\.|SeaBIOS \(version |U-Boot (?:SPL )?20\d\d",
    title="unexpected kernel reboot",
    frame=Frame.NONE,
    sample="Linux version 6.12.117 (h@h) (gcc (Debian 12.2.0-14+deb12u1) 12.2.0)",
    near_miss="Linux version is unknown",
)

_LAST_TIME = re.compile(rb"\[ {0,8}(\d{1,9}\.\d{3,9})\]")
_BYTE_NEEDLES = tuple(needle.encode() for needle in (*patterns.NEEDLES, *REBOOT.needles))
_END = re.compile(r"---\[ end (?:trace|Kernel panic)")
# How a line that belongs to a report begins; what follows the last such line is not shown as the report's text.
_BODY = re.compile(
    r"[ \t]{0,40}(?:"
    + "|".join((
        r"\? |\[<|[^+]{0,60}\+0x[0-9a-f]{1,8}/0x|[^\[]{1,160}\[inline\]|</?[A-Z#]",  # frames
        r"Call |stack backtrace|backtrace:|NMI backtrace|Sending NMI|--- interrupt|task[: ]|comm |Showing",
        r"[ER]?[A-Z0-9]{2}: |[A-Z]{3}: |[a-z]{1,3}\d{0,2} ?: |NIP|LR |Code: |CPU: |\[[c-f][0-9a-f]{15}\]",  # registers
        r"[0-9a-f]{8,16}[ :]|>?[0-9a-f]{2} [0-9a-f]{2} |hex dump",  # memory
        r"Hardware name|Modules linked|Workqueue: |Kernel Offset|=====|-----|\*\*\*",
        r"#\d|-> #|\d+ locks? held|other info|irq event|hard|soft|Possible|May be",  # lockdep
        r"Read of|Write of|Allocated|Freed|The buggy|Memory state|page:|INFO: |rcu: ",
    ))
    + ")"
)  # fmt: skip


@dataclass
class _Open:
    """A report whose lines are still coming in."""

    pattern: Pattern
    line: int
    caller: str
    body: list[str]
    last: int
    useful: int = 1
    quiet: int = 0
    stack_seen: bool = False
    done: bool = False


@dataclass
class Scanner:
    """Takes a console in pieces of any size, and yields each report when it is complete.

    Feed it bytes, then close it; both yield what is complete by then.
    """

    line: int = 0
    _rest: bytes = b""
    _open: list[_Open] = field(default_factory=list)
    _queue: deque[_Open] = field(default_factory=deque)
    _ready: deque[Report] = field(default_factory=deque)
    _latest: int = -10_000
    _seen_any: bool = False
    _booted: bool = False
    _heard: bool = False
    _time_s: float = 0.0

    def feed(self, data: bytes) -> Iterator[Report]:
        """More of the console; yields the reports that are complete with it."""
        data = self._rest + data
        cut = data.rfind(b"\n") + 1
        if not cut and len(data) > LINE_LIMIT:
            # A line without end is read in pieces, so that it cannot fill the memory.
            cut = len(data)
        self._rest = data[cut:]
        self._block(data[:cut])
        return self._drain()

    def close(self) -> Iterator[Report]:
        """The console has ended; yields what was still open."""
        self._block(self._rest)
        self._rest = b""
        for entry in self._open:
            entry.done = True
        self._open.clear()
        return self._drain()

    def _drain(self) -> Iterator[Report]:
        while self._queue and self._queue[0].done:
            entry = self._queue.popleft()
            if entry.pattern.role is not Role.WEAK or entry.stack_seen:
                yield judge(entry.pattern, entry.line, entry.body, entry.useful)

    def _block(self, block: bytes) -> None:
        position = 0
        while position < len(block):
            if self._open:
                end = block.find(b"\n", position) + 1 or len(block)
                self._line(block[position:end])
                position = end
            else:
                position = self._skip(block, position)

    def _skip(self, block: bytes, position: int) -> int:
        """Look at the lines from `position` on that hold a needle, until one opens a report; returns how far it got."""
        hits = {needle: found for needle in _BYTE_NEEDLES if (found := block.find(needle, position)) >= 0}
        while hits:
            hit = min(hits.values())
            start = max(block.rfind(b"\n", 0, hit) + 1, position)
            end = block.find(b"\n", hit) + 1 or len(block)
            self.line += block.count(b"\n", position, start)
            self._clock(block, position, start)
            self._line(block[start:end])
            position = end
            if self._open:
                return position
            hits = {
                needle: found if found >= end else again
                for needle, found in hits.items()
                if found >= end or (again := block.find(needle, end)) >= 0
            }
        self.line += block.count(b"\n", position)
        self._clock(block, position, len(block))
        return len(block)

    def _clock(self, block: bytes, start: int, end: int) -> None:
        """Remember the time of the last record that was skipped, and whether there was anything at all."""
        self._heard = self._heard or bool(block[start:end].strip())
        tail = block[max(start, end - 2 * LINE_LIMIT) : end]
        for match in _LAST_TIME.finditer(tail, max(0, len(tail) - 512)):
            self._time_s = float(match[1])

    def _line(self, raw: bytes) -> None:
        self.line += 1
        for record in records(decode(raw), self.line):
            self._record(record)

    def _record(self, record: Record) -> None:
        found = patterns.match(record.text)
        if REBOOT.compiled.match(record.text) is not None:
            self._boot(record)
        elif found is not None and not self._belongs(found[0], record):
            self._begin(found[0], record, found[1])
        else:
            self._extend(record)
        if record.time_s is not None:
            self._time_s = record.time_s

    def _boot(self, record: Record) -> None:
        """A second boot is a report of its own: something reset the machine."""
        kernel = record.text.startswith("Linux version")
        firmware = record.text.startswith(("SeaBIOS", "U-Boot"))
        # Firmware comes first of all, and a kernel's clock begins at 0.
        again = self._time_s > 1.0 or (kernel and self._booted) or (firmware and self._heard)
        self._booted = kernel
        self._time_s = 0.0
        if again:
            self._begin(REBOOT, record)

    def _belongs(self, pattern: Pattern, record: Record) -> bool:
        """The line is part of a report that is open, or of the one before."""
        if pattern.role is Role.OPENS:
            return False
        if pattern.role is Role.WEAK:
            return bool(self._open)
        if pattern.name == "panic-consequence":
            return self._seen_any
        return record.line - self._latest <= _NEAR_LINES

    def _begin(self, pattern: Pattern, record: Record, start: int = 0) -> None:
        for entry in [e for e in self._open if e.caller == record.caller or e.pattern.role is Role.WEAK]:
            self._finish(entry)
        while len(self._open) >= _OPEN_REPORTS:
            self._finish(self._open[0])
        entry = _Open(pattern, record.line, record.caller, [record.text[start:]], record.line)
        self._open.append(entry)
        self._queue.append(entry)
        if pattern.role is not Role.WEAK:
            self._seen_any = True
            self._latest = record.line

    def _extend(self, record: Record) -> None:
        for entry in tuple(self._open):
            if not entry.caller and len(entry.body) == 1:
                # The line that opened it lost its caller; the next one has it.
                entry.caller = record.caller
            anyone = entry.pattern.frame is Frame.STALL
            if record.caller == entry.caller or not record.caller or anyone:
                self._add(entry, record)
            elif record.line - entry.last > 20 * _QUIET_LINES:
                self._finish(entry)

    def _add(self, entry: _Open, record: Record) -> None:
        entry.last = record.line
        if len(entry.body) < BODY_LINES:
            entry.body.append(record.text)
        if _BODY.match(record.text[:400]) is not None:
            entry.useful, entry.quiet = len(entry.body), 0
            entry.stack_seen = entry.stack_seen or record.text.lstrip().startswith(
                ("Call Trace:", "Call trace:", "Backtrace:")
            )
        else:
            entry.quiet += 1
        doubtful = entry.pattern.role is Role.WEAK and not entry.stack_seen and len(entry.body) > _WEAK_LINES
        if doubtful or entry.quiet > _QUIET_LINES or _END.match(record.text) is not None:
            self._finish(entry)

    def _finish(self, entry: _Open) -> None:
        entry.done = True
        self._open.remove(entry)


def scan(stream: BinaryIO) -> Iterator[Report]:
    """Every report in a stream of console bytes, in order of their first lines."""
    scanner = Scanner()
    while block := stream.read(BLOCK_BYTES):
        yield from scanner.feed(block)
    yield from scanner.close()


@lru_cache(maxsize=1)
def find(console: bytes) -> tuple[Report, ...]:
    """Every report in a console that is in memory. The last answer is kept: several oracles ask the same."""
    scanner = Scanner()
    return (*scanner.feed(console), *scanner.close())


def opener(line: str) -> Pattern | None:
    """What a line of a console announces by itself, for callers that listen live and need no more than that."""
    for record in records(line, 0):
        found = patterns.match(record.text)
        if found is not None and found[0].role is not Role.WEAK:
            return found[0]
    return None
