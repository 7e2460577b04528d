# SPDX-License-Identifier: GPL-2.0-only
"""Finds the reports in a console: one pass, in bounded memory, fast where nothing happens.

Most of a console is clean. A block of it is searched for the needles of the
tables as bytes; only lines that hold one are looked at. While a report is
open, lines are read one by one.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import BinaryIO

import re2

from harness.console import patterns
from harness.console.boots import Boots
from harness.console.lines import LINE_LIMIT, Reader, Record, Rows, decode, records
from harness.console.loop import Repeated, Shapes, Stretch
from harness.console.pattern import Frame, Pattern, Role
from harness.console.report import Report
from harness.console.sight import MARKS, NOTHING, REBOOT, Sight, belongs, others, own, sight, trace
from harness.console.stack import calls
from harness.console.title import judge

BLOCK_BYTES = 256 << 10
# While a report is open, so much is read at once before the search for needles may begin again; less, down to so much,
# where an odd line makes that all lines around it are read one by one.
_PIECE_BYTES = 8 << 10
_ODD_PIECE_BYTES = 512
# A report's text ends here; what follows is read on only to find its end.
BODY_LINES = 800
# After this many lines without anything that belongs to a report, the report is over.
_QUIET_LINES = 40
# Where the lines do not say who wrote them, a report without its stack is waited for longer.
_PATIENT_LINES = 200
# A stack confirms a doubtful report within this many lines.
_WEAK_LINES = 12
# How many reports are open at once, one for each caller; the oldest is closed for a new one.
_OPEN_REPORTS = 8
# Reports are yielded in the order of their first lines; so many wait for the end of an earlier one.
_WAITING_REPORTS = 64
# A line that follows (an Oops after its BUG, a panic after its WARN) comes within this many lines.
_NEAR_LINES = 30
# So many reports are remembered, to know them when a log is dumped again; so many lines with the same time and
# content are no coincidence, and a clock that went back so far did go back.
_KNOWN_REPORTS = 1024
_SURE_LINES = 8
_SAME_MOMENT_S = 5e-6

_LAST_TIME = re.compile(rb"\[ {0,8}(\d{1,9}\.\d{3,9})\]")


def _lines_with(needles: Sequence[str]) -> re2._Regexp[bytes]:
    # A console may hold any bytes: what is no UTF-8 must not end a line.
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile(rf"(?m)[^\n]*(?:{'|'.join(needles)})[^\n]*\n?".encode(), options)


_NEEDLES = [re2.escape(needle) for needle in (*patterns.NEEDLES, *REBOOT.needles, "---[ end ", *MARKS)]
_ANY = _lines_with(_NEEDLES)
_WORDS = _lines_with([r"(?:^|[^A-Z\n])BUG" if needle == "BUG" else needle for needle in _NEEDLES])


@dataclass(eq=False)
class _Open:
    """A report whose lines are still coming in.

    rewound: the clock had gone back before. told: it was yielded before its end was known. void: it is none. cut: the
    next report ended it.
    """

    pattern: Pattern
    record: Record
    body: list[str]
    boot: int = 1
    rewound: bool = False
    caller: str = ""
    last: int = 0
    useful: int = 1
    quiet: int = 0
    stack_seen: bool = False
    died: bool = False
    done: bool = False
    told: bool = False
    void: bool = False
    cut: bool = False

    def __post_init__(self) -> None:
        self.caller, self.last = self.record.caller, self.record.line
        self.weak = self.pattern.role is Role.WEAK
        self.anyone = self.pattern.frame is Frame.STALL
        self.patience = _QUIET_LINES

    @property
    def counts(self) -> bool:
        """It is a report, as far as its lines have come."""
        return not self.void and (not self.weak or self.died or (self.stack_seen and any(map(calls, self.body[1:]))))

    @property
    def unfinished(self) -> bool:
        """Its stack is still to come."""
        return self.pattern.frame is not Frame.NONE and not any("+0x" in text for text in self.body[1 : self.useful])

    def report(self) -> Report:
        """What its lines say."""
        wrapping = "+".join(self.record.names) or "none"
        return judge(self.pattern, self.body, self.useful, self.record.line, self.boot, wrapping)

    def begins(self, count: int) -> Sequence[str]:
        """Its first lines."""
        return self.body[:count]

    def extend(self, line: int, texts: Sequence[str]) -> bool:
        """Take more lines; returns whether the report ends with them."""
        self.last = line
        if self.weak and not self.stack_seen:
            near, texts = texts[: _WEAK_LINES + 1 - len(self.body)], texts[_WEAK_LINES + 1 - len(self.body) :]
            if self.pattern.directly and len(self.body) == 1 and near and not own(near[0]):
                return True
            told = next((text for text in near if trace(text) or others(text)), None)
            if told is None:
                self._append(near)
                return bool(texts) or len(self.body) > _WEAK_LINES
            if not trace(told):
                return True
            self.stack_seen = True
            texts = [*near, *texts]
        return self._follow(texts)

    def _follow(self, texts: Sequence[str]) -> bool:
        """Take lines up to where too many in a row have nothing of a report."""
        if len(texts) == 1 and self.quiet < self.patience:
            # Most often so, where callers alternate.
            self._append(texts)
            if belongs(texts[0]):
                self.useful, self.quiet = len(self.body), 0
            else:
                self.quiet += 1
            return False
        start = 0
        while start < len(texts):
            window = texts[start : start + self.patience + 1 - self.quiet]
            # Most lines are of the report, so the last one that is comes soon.
            index = next((index for index in range(len(window) - 1, -1, -1) if belongs(window[index])), -1)
            self._append(window[: index + 1] if index >= 0 else window)
            if index >= 0:
                self.useful, self.quiet = len(self.body), 0
                start += index + 1
                continue
            start += len(window)
            self.quiet += len(window)
            if self.quiet > self.patience:
                if self.caller or self.patience > _QUIET_LINES or not self.unfinished:
                    return True
                # Drivers whose lines come in between do not say that they are others.
                self.patience = _PATIENT_LINES
        return False

    def _append(self, texts: Sequence[str]) -> None:
        self.body += texts[: max(0, BODY_LINES - len(self.body))]


def _key(entry: _Open | Repeated) -> int:
    """The same for the same lines at the same time; what follows the last may be the rest of another dump."""
    sure = entry.useful if entry.record.time_s is None else min(entry.useful, _SURE_LINES)
    return hash((entry.record.time_s, entry.record.caller, *entry.begins(sure)))


class _Hits:
    """The lines of a block that hold a needle, asked for with growing positions: the block is passed over once."""

    def __init__(self, block: bytes) -> None:
        # An escape sequence may end with a letter, and programs write "DEBUG" into each of their lines.
        self._lines = _ANY if b"\x1b" in block else _WORDS
        self._block = block
        self._matches = self._lines.finditer(block)
        self._none = (len(block), len(block))
        self._next = (-1, -1)

    def after(self, position: int) -> tuple[int, int]:
        """Where the first such line from `position` on begins and ends; the block's end when there is none."""
        while self._next[0] < position:
            match = next(self._matches, None)
            self._next = match.span() if match is not None else self._none
        return self._next

    def skip(self, position: int) -> None:
        """What lies before `position` is not asked for any more."""
        self._matches = self._lines.finditer(self._block, position)
        self._next = (-1, -1)


@dataclass
class Scanner:
    """Takes a console in pieces of any size, and yields each report when it is complete.

    Feed it bytes, then close it; both yield what is complete by then. A report that
    comes a second time, because a log was dumped again, is yielded once; `times` counts it.
    """

    line: int = 0
    _rest: bytes = b""
    _reader: Reader = field(default_factory=Reader)
    _piece_bytes: int = _PIECE_BYTES
    _open: list[_Open] = field(default_factory=list)
    _queue: deque[_Open | Repeated] = field(default_factory=deque)
    _latest: int = -10_000
    _seen_any: bool = False
    _time_s: float = 0.0
    _boots: Boots = field(default_factory=Boots)
    _reset: _Open | None = None
    _rewound: bool = False
    _shapes: Shapes = field(default_factory=Shapes)
    _began: tuple[bytes, int, _Open] | None = None
    _known: dict[int, int] = field(default_factory=dict)
    _again: dict[int, int] = field(default_factory=dict)

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
                if not self._is_known(entry):
                    yield entry.report()

    def close(self) -> Iterator[Report]:
        """The console has ended; yields what was still open."""
        self._block(self._rest)
        self._rest = b""
        self._reset = None
        for entry in self._queue:
            entry.done = True
        self._open.clear()
        return self._drain()

    def times(self, line: int) -> int:
        """How often the report that begins at `line` was found so far."""
        return 1 + self._again.get(line, 0)

    def _drain(self) -> Iterator[Report]:
        while self._queue and self._queue[0].done:
            entry = self._queue.popleft()
            if entry.counts and not entry.told and not self._is_known(entry):
                yield entry.report()

    def _is_known(self, entry: _Open | Repeated) -> bool:
        """The report was there before, with the same lines at the same time: the log was dumped again."""
        if entry.pattern is REBOOT:
            return False
        key = _key(entry)
        first = self._known.setdefault(key, entry.record.line)
        if len(self._known) > _KNOWN_REPORTS:
            self._again.pop(self._known.pop(next(iter(self._known))), None)
        if first == entry.record.line or not (entry.rewound or entry.useful >= _SURE_LINES):
            return False
        self._again[first] = self._again.get(first, 0) + 1
        return True

    def _block(self, block: bytes) -> None:
        position, hits = 0, _Hits(block)
        while position < len(block):
            if self._open or self._boots.undecided:
                position = self._read(block, position, self._piece_end(block, position), hits)
                continue
            start, end = hits.after(position)
            if start > position:
                self.line += block.count(b"\n", position, start)
                self._clock(block, position, start)
            position = self._read(block, start, end, hits) if start < end else end

    def _piece_end(self, block: bytes, position: int) -> int:
        """Where the last line ends that is read at once with the one at `position`."""
        size = block[position : position + self._piece_bytes].rfind(b"\n") + 1
        return position + size if size else block.find(b"\n", position) + 1 or len(block)

    def _read(self, block: bytes, position: int, end: int, hits: _Hits) -> int:
        """Look at every line of a piece of the block; returns how far it got."""
        plain = self._reader.rows(block[position:end])
        if plain is not None:
            self._piece_bytes = min(self._piece_bytes * 2, _PIECE_BYTES)
            return self._rows(block, position, end, plain, hits)
        self._piece_bytes = max(self._piece_bytes // 4, _ODD_PIECE_BYTES)
        end = min(end, self._piece_end(block, position))
        for raw in block[position:end].removesuffix(b"\n").split(b"\n"):
            self.line += 1
            needles = hits.after(position)[0] == position
            position += len(raw) + 1
            for record in self._reader.records(decode(raw), self.line):
                if not record.program:
                    self._record(record, sight(record.text) if needles else NOTHING)
        return end

    def _rows(self, block: bytes, position: int, end: int, plain: Rows, hits: _Hits) -> int:
        """Look at lines that are one record each; returns where they end."""
        lines = plain.lines
        index = done = 0
        while (hit := hits.after(position))[0] < end:
            index += block.count(b"\n", position, hit[0])
            position = hit[1]
            seen = sight(lines[index][2])
            if seen is not NOTHING:
                self._lines(lines[done:index])
                self.line += 1
                self._record(plain.record(index, self.line), seen)
                done = index + 1
                if not self._reader.plain:
                    return position
                if self._open and self._open[-1].record.line == self.line:
                    again = self._repeated(block, hit[0])
                    if again > position:
                        hits.skip(again)
                        return again
            index += 1
        self._lines(lines[done:])
        return end

    def _repeated(self, block: bytes, position: int) -> int:
        """Take the reports from `position` on that look like others before, up to the last of them.

        Returns where that one begins: it is read as any other, as it is open while the next lines come. The report
        that begins at `position` was opened; when nothing is taken, `position` is returned.
        """
        entry, before, self._began = self._open[-1], self._began, None
        if len(self._open) > 1 or entry.pattern.role is not Role.OPENS or self._boots.undecided or self._reset:
            return position
        if before is not None and before[0] is block and len(self._queue) > 1 and self._queue[-2] is before[2]:
            last = before[2]
            if last.counts and not last.unfinished and not last.told:
                read = block[before[1] : position]
                self._shapes.learn(read, self._reader, last.pattern, last.body, last.report(), ended=not last.cut)
        self._began = block, position, entry
        found: list[Stretch] = []
        for stretch in self._shapes.stretches(block, position):
            if found and not found[-1].shape.ended and found[-1].caller != stretch.caller:
                break
            found.append(stretch)
        if len(found) < 2 or (found[0].times and found[0].times[0] < self._time_s):
            return position
        self._began = None
        self._open.remove(entry)
        self._queue.remove(entry)
        number = self.line
        for stretch in found[:-1]:
            self._queue.append(Repeated.of(stretch, number, self._boots.number, rewound=self._rewound))
            self._latest = number
            number += stretch.shape.lines
        self.line = number - 1
        if found[-2].times:
            self._time_s = found[-2].times[-1]
        self._boots.heard = True
        return found[-1].start

    def _lines(self, plain: Sequence[tuple[str, str, str]]) -> None:
        """Take lines that open nothing."""
        if not plain:
            return
        self.line += len(plain)
        if self._boots.undecided:
            for time, _, text in plain:
                self._step(float(time or 0), text)
        if self._open:
            _, callers, texts = zip(*plain, strict=True)
            if callers.count(callers[0]) == len(callers):
                self._extend(self.line, callers[0], texts)
            else:
                for caller, group in groupby(plain, itemgetter(1)):
                    self._extend(self.line, caller, [text for _, _, text in group])
        if plain[-1][0]:
            self._time_s = float(plain[-1][0])

    def _clock(self, block: bytes, start: int, end: int) -> None:
        """Remember the time of the last record that was skipped, and whether there was anything at all."""
        if not self._boots.heard:
            self._boots.heard = bool(block[start:end].strip())
        for match in _LAST_TIME.finditer(block[max(start, end - 512) : end]):
            self._time_s = float(match[1])

    def _record(self, record: Record, seen: Sight) -> None:
        found = seen.found
        if found is not None and ((found[0].program and record.kernel) or (seen.end and self._seen_any)):
            # The words are no program's, or those of a panic again, at its end.
            found = None
        if record.time_s is not None:
            self._rewound = self._rewound or record.time_s < self._time_s - _SAME_MOMENT_S
            self._step(record.time_s, record.text)
        if seen.reboot:
            self._boot(record)
        elif record.text.startswith(MARKS):
            self._boots.marked()
        elif found is not None and not self._belongs(found[0], record):
            self._begin(found[0], record, found[1])
        elif self._open:
            self._boots.heard = True
            self._extend(record.line, record.caller, [record.text])
            if seen.end:
                for entry in [e for e in self._open if e.caller == record.caller or not record.caller or e.anyone]:
                    self._finish(entry)
        if record.time_s is not None:
            self._time_s = record.time_s

    def _boot(self, record: Record) -> None:
        """A second boot is a report of its own, if something reset the machine."""
        if self._boots.begins(record, self._time_s):
            self._begin(REBOOT, record)
            self._reset = self._open[-1] if self._boots.undecided else None
        self._time_s = 0.0

    def _step(self, time_s: float, text: str) -> None:
        """Whether a machine was reset, or its log dumped again, shows when the clock moves."""
        if not self._boots.undecided or time_s <= 0.0:
            return
        same = self._boots.moves(time_s, text)
        if same is not None and self._reset is not None:
            self._reset.void = same
            self._reset.done = self._reset not in self._open
            self._reset = None

    def _belongs(self, pattern: Pattern, record: Record) -> bool:
        """The line is part of a report that is open, or of the one before."""
        if any(entry.pattern.name in pattern.within and entry.unfinished for entry in self._open):
            return True
        if pattern.role is Role.OPENS:
            return False
        if pattern.role is Role.WEAK:
            return bool(self._open)
        if pattern.name == "panic-consequence":
            return self._seen_any
        mine = [entry for entry in self._open if entry.caller == record.caller]
        if record.line - self._latest <= _NEAR_LINES or any(entry.unfinished for entry in mine):
            for entry in mine:
                # What the kernel dies of was no mere warning.
                entry.died = entry.stack_seen = True
            return True
        return False

    def _begin(self, pattern: Pattern, record: Record, start: int = 0) -> None:
        text = record.text.lstrip(" \t")
        start += len(record.text) - len(text)
        for entry in [e for e in self._open if e.caller == record.caller or e.weak]:
            entry.cut = True
            self._finish(entry)
        while len(self._open) >= _OPEN_REPORTS:
            self._finish(self._open[0])
        self._reader.learn(record.text[:start])
        entry = _Open(pattern, record, [record.text[start:].rstrip(" \t")], self._boots.number, self._rewound)
        self._open.append(entry)
        self._queue.append(entry)
        if len(self._queue) > _WAITING_REPORTS:
            self._finish(self._queue[0])
        if pattern.role is not Role.WEAK:
            self._seen_any = True
            self._latest = record.line

    def _extend(self, line: int, caller: str, texts: Sequence[str]) -> None:
        for entry in tuple(self._open):
            if not entry.caller and len(entry.body) == 1:
                # The line that opened it lost its caller; the next one has it.
                entry.caller = caller
            if caller == entry.caller or not caller or entry.anyone:
                if entry.extend(line, texts):
                    self._finish(entry)
            elif line - entry.last > 20 * _QUIET_LINES:
                self._finish(entry)

    def _finish(self, entry: _Open | Repeated) -> None:
        if isinstance(entry, _Open) and entry in self._open:
            self._open.remove(entry)
        entry.done = entry is not self._reset


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
    found = [*scanner.feed(console), *scanner.close()]
    return tuple(replace(report, count=scanner.times(report.line)) for report in found)


def opener(line: str) -> Pattern | None:
    """What a line of a console announces by itself, for callers that listen live and need no more than that."""
    for record in records(line, 0):
        found = patterns.match(record.text) if not record.program else None
        if found is not None and found[0].role is not Role.WEAK and not (found[0].program and record.kernel):
            return found[0]
    return None
