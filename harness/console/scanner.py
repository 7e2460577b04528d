# SPDX-License-Identifier: GPL-2.0-only
"""Finds the reports in a console: one pass, in bounded memory, fast where nothing happens.

Most of a console is clean. A block of it is searched for the needles of the
tables as bytes; only lines that hold one are looked at. While a report is
open, lines are read one by one.
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import BinaryIO

from harness.console import patterns, stack
from harness.console.lines import LINE_LIMIT, Record, decode, records, rows
from harness.console.pattern import LIMIT, Frame, Pattern, Role
from harness.console.report import Report
from harness.console.sight import REBOOT, Sight, sight
from harness.console.title import Who, Whole, judge, who

BLOCK_BYTES = 256 << 10
# While a report is open, so much is read line by line before the search for needles may begin again.
_PIECE_BYTES = 8 << 10
# A report's text ends here; what follows is read on only to find its end.
BODY_LINES = 800
# After this many lines without anything that belongs to a report, the report is over.
_QUIET_LINES = 40
# A stack confirms a doubtful report within this many lines.
_WEAK_LINES = 12
# Whom a report is about is told within this many lines.
_WHO_LINES = 60
# How many reports are open at once, one for each caller; the oldest is closed for a new one.
_OPEN_REPORTS = 8
# Reports are yielded in the order of their first lines; so many wait for the end of an earlier one.
_WAITING_REPORTS = 64
# A line that follows (an Oops after its BUG, a panic after its WARN) comes within this many lines.
_NEAR_LINES = 30

_LAST_TIME = re.compile(rb"\[ {0,8}(\d{1,9}\.\d{3,9})\]")
_BYTE_NEEDLES = tuple(needle.encode() for needle in (*patterns.NEEDLES, *REBOOT.needles))


@dataclass(eq=False)
class _Open:
    """A report whose lines are still coming in. told: it was yielded before its end was known."""

    pattern: Pattern
    line: int
    caller: str
    body: list[str]
    last: int
    entries: list[stack.Entry] = field(default_factory=list)
    who: Who | None = None
    useful: int = 1
    quiet: int = 0
    stack_seen: bool = False
    done: bool = False
    told: bool = False

    def __post_init__(self) -> None:
        self.who = who(self.body[0])
        self.weak = self.pattern.role is Role.WEAK
        self.anyone = self.pattern.frame is Frame.STALL

    @property
    def counts(self) -> bool:
        """It is a report, as far as its lines have come."""
        return not self.weak or self.stack_seen

    def report(self) -> Report:
        """What its lines say."""
        return judge(Whole(self.pattern, self.body, tuple(self.entries), self.who), self.line, self.useful)

    def add(self, line: int, text: str, seen: Sight) -> bool:
        """Take another line; returns whether the report ends with it."""
        self.last = line
        if len(self.body) < BODY_LINES:
            if seen.who is not None and self.who is None and len(self.body) < _WHO_LINES:
                self.who = seen.who
            self.body.append(seen.text if len(text) <= LIMIT else text)
            if seen.entry is not None:
                self.entries.append(seen.entry)
        if seen.body:
            self.useful, self.quiet = len(self.body), 0
            self.stack_seen = self.stack_seen or seen.trace
        else:
            self.quiet += 1
            if self.quiet > _QUIET_LINES:
                return True
        return seen.end or (self.weak and not self.stack_seen and len(self.body) > _WEAK_LINES)


class _Hits:
    """Where the needles are in a block, asked for with growing positions: each needle passes over the block once."""

    def __init__(self, block: bytes) -> None:
        self._block = block
        self._next = [(-1, needle) for needle in _BYTE_NEEDLES]
        # An escape sequence may end with a letter.
        self._plain = b"\x1b" not in block

    def after(self, position: int) -> int:
        """The first place from `position` on; −1 when there is none."""
        while self._next and self._next[0][0] < position:
            needle = self._next[0][1]
            again = self._block.find(needle, position)
            while self._plain and needle == b"BUG" and again > 0 and self._block[again - 1 : again].isupper():
                # Programs write "DEBUG" into each of their lines.
                again = self._block.find(needle, again + 1)
            if again < 0:
                heapq.heappop(self._next)
            else:
                heapq.heapreplace(self._next, (again, needle))
        return self._next[0][0] if self._next else -1


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
        # More of a line is not looked at, so a line without end cannot fill the memory.
        self._rest = data[cut : cut + LINE_LIMIT]
        self._block(data[:cut])
        return self._drain()

    def pause(self) -> Iterator[Report]:
        """Nothing more comes for now; yields what is open, by the lines that there are. It is not yielded again."""
        for entry in self._queue:
            if entry.counts and not entry.told:
                entry.told = True
                yield entry.report()

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
            if entry.counts and not entry.told:
                yield entry.report()

    def _block(self, block: bytes) -> None:
        position, hits = 0, _Hits(block)
        while position < len(block):
            position = self._read(block, position) if self._open else self._skip(block, position, hits)

    def _read(self, block: bytes, position: int) -> int:
        """Look at every line of a piece of the block that begins at `position`; returns where the piece ends."""
        end = block.rfind(b"\n", position, position + _PIECE_BYTES) + 1 or block.find(b"\n", position) + 1 or len(block)
        piece = block[position:end]
        if plain := rows(piece):
            self._rows(plain)
        else:
            for raw in piece.removesuffix(b"\n").split(b"\n"):
                self._line(decode(raw))
        return end

    def _rows(self, plain: Sequence[tuple[str, str, str]]) -> None:
        before = ""
        for time, caller, text in plain:
            self.line += 1
            seen = sight(text)
            if seen.found is not None or seen.reboot or not self._open:
                self._time_s = float(before) if before else self._time_s
                self._record(Record(self.line, text, caller, float(time)), seen)
            else:
                self._extend(self.line, caller, text, seen)
            before = time
        self._time_s = float(before)

    def _skip(self, block: bytes, position: int, hits: _Hits) -> int:
        """Look at the lines from `position` on that hold a needle, until one opens a report; returns how far it got."""
        while (hit := hits.after(position)) >= 0:
            start = max(block.rfind(b"\n", position, hit) + 1, position)
            end = block.find(b"\n", hit) + 1 or len(block)
            self.line += block.count(b"\n", position, start)
            self._clock(block, position, start)
            self._line(decode(block[start:end]))
            position = end
            if self._open:
                return position
        self.line += block.count(b"\n", position)
        self._clock(block, position, len(block))
        return len(block)

    def _clock(self, block: bytes, start: int, end: int) -> None:
        """Remember the time of the last record that was skipped, and whether there was anything at all."""
        self._heard = self._heard or bool(block[start:end].strip())
        tail = block[max(start, end - 512) : end]
        for match in _LAST_TIME.finditer(tail):
            self._time_s = float(match[1])

    def _line(self, text: str) -> None:
        self.line += 1
        for record in records(text, self.line):
            self._record(record, sight(record.text))

    def _record(self, record: Record, seen: Sight) -> None:
        if seen.reboot:
            self._boot(record)
        elif seen.found is not None and not self._belongs(seen.found[0], record):
            self._begin(seen.found[0], record, seen.found[1])
        elif self._open:
            self._extend(record.line, record.caller, record.text, seen)
        elif record.text:
            self._heard = True
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
        for entry in [e for e in self._open if e.caller == record.caller or e.weak]:
            self._finish(entry)
        while len(self._open) >= _OPEN_REPORTS:
            self._finish(self._open[0])
        entry = _Open(pattern, record.line, record.caller, [record.text[start:]], record.line)
        self._open.append(entry)
        self._queue.append(entry)
        if len(self._queue) > _WAITING_REPORTS:
            self._finish(self._queue[0])
        if pattern.role is not Role.WEAK:
            self._seen_any = True
            self._latest = record.line

    def _extend(self, line: int, caller: str, text: str, seen: Sight) -> None:
        for entry in tuple(self._open):
            if not entry.caller and len(entry.body) == 1:
                # The line that opened it lost its caller; the next one has it.
                entry.caller = caller
            if caller == entry.caller or not caller or entry.anyone:
                if entry.add(line, text, seen):
                    self._finish(entry)
            elif line - entry.last > 20 * _QUIET_LINES:
                self._finish(entry)

    def _finish(self, entry: _Open) -> None:
        if not entry.done:
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
