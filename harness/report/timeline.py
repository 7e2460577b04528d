# SPDX-License-Identifier: GPL-2.0-only
"""What happened when in a scenario, reduced to what a page can hold, however long its event log is.

Events are counted in bins of time, which are finer around each finding; the
events next to those that a finding names are kept as they are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from harness import console
from harness.model.event import PF_KSWAPD, Chunk, Event, EventLog, Kind
from harness.model.recording import Answer, Recording
from harness.model.verdict import Finding

if TYPE_CHECKING:
    import numpy.typing as npt

    Numbers = npt.NDArray[Any]

BINS = 240
# Around a finding: so many bins in place of each of the two next to it.
_FINE = 16
# The events before and after the one that a finding names.
AROUND = 20
# The rest is counted together.
_SUBSCRIBERS, _TASKS, _MARKS, _STEPS, _POINTS = 6, 5, 8, 100, 400
_NAMED = re.compile(r"\bevent (\d{1,19})\b")
_LINE = re.compile(r"\bline (\d{1,9})\b")
_STAMP = re.compile(r"\[ {0,8}(\d{1,9}\.\d{1,6})\]")
_BEGUN = re.compile(r"\bmark (?:\d{1,9} )?begin:")
_EAGAIN = -11
_PAGE_MIB = 4096 / (1 << 20)

# What a callback came to, in the order of the counts.
WORDS = ("start", "−EAGAIN", "other refusal", "end", "accessed?")
_START, _AGAIN, _REFUSED, _END, _YOUNG, _ELSE = range(6)
RECLAIM = ("direct reclaim", "kswapd")


@dataclass(frozen=True)
class Lane:
    """A subscriber or a task: what of it happened, and how often in each bin."""

    who: str
    counts: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Curve:
    """An amount over time, in seconds and its unit; it is known only at these points."""

    name: str
    unit: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Mark:
    """A finding, or a report of the kernel, in time. number: of the finding, from 1. event: that it names, or 0."""

    at_s: float
    text: str
    number: int = 0
    event: int = 0


@dataclass(frozen=True)
class Row:
    """A step: what was done, when and for how long; and what the subscribers saw meanwhile."""

    number: int
    text: str
    at_s: float
    seconds: float
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Timeline:
    """All of it. Times are in seconds from the first event; edges: of the bins."""

    events: int = 0
    lost: int = 0
    edges: Sequence[float] = ()
    subscribers: Sequence[Lane] = ()
    tasks: Sequence[Lane] = ()
    curves: Sequence[Curve] = ()
    marks: Sequence[Mark] = ()
    steps: Sequence[Row] = ()
    # The events around each that a finding names, by that one's number.
    exact: Mapping[int, Sequence[Event]] = field(default_factory=dict)
    begin_ns: int = 0
    # How many callbacks took up to 2^n ns.
    durations: Mapping[int, int] = field(default_factory=dict)
    names: Mapping[int, str] = field(default_factory=dict)

    def chart(self) -> dict[str, Any]:
        """What the page's script draws."""
        return {
            "edges": list(self.edges),
            "subscribers": [{"who": lane.who, "counts": dict(lane.counts)} for lane in self.subscribers],
            "tasks": [{"who": lane.who, "counts": dict(lane.counts)} for lane in self.tasks],
            "curves": [{"name": curve.name, "unit": curve.unit, "points": curve.points} for curve in self.curves],
            "marks": [{"at": mark.at_s, "text": mark.text, "number": mark.number} for mark in self.marks],
            "steps": [{"at": step.at_s, "number": step.number} for step in self.steps if step.number],
            "durations": [[power, count] for power, count in self.durations.items()],
        }


@dataclass
class _Found:
    """What a first look at the log tells."""

    begin: float = float("inf")
    end: float = 0.0
    subscribers: Counter[int] = field(default_factory=Counter)
    tasks: Counter[int] = field(default_factory=Counter)
    places: dict[int, int] = field(default_factory=dict)
    times: dict[int, float] = field(default_factory=dict)
    durations: Counter[int] = field(default_factory=Counter)


def of(recording: Recording, findings: Sequence[Finding] = ()) -> Timeline:
    """The timeline of a recording, with the findings that it came to."""
    log = recording.events
    wanted = [int(found[1]) if (found := _NAMED.search(finding.evidence)) else 0 for finding in findings]
    seen = _look(log, sorted(set(wanted[:_MARKS]) - {0}))
    begin = seen.begin if len(log) else 0.0
    clock = _clock(recording, begin)
    marks = list(_marks(recording, findings, wanted, seen, begin))
    rows = list(islice(_rows(recording, clock), _STEPS))
    edges = _edges(seen, begin, [mark.at_s for mark in marks])
    counted = _Counts(edges, seen, rows)
    exact: dict[int, list[Event]] = {seq: [] for seq in seen.places}
    at = 0
    for chunk in log.chunks():
        counted.add(chunk, begin)
        for seq, place in seen.places.items():
            low, high = max(at, place - AROUND) - at, min(at + len(chunk), place + AROUND + 1) - at
            if low < high:
                exact[seq] += Chunk(chunk.records[low:high])
        at += len(chunk)
    names = {number: recording.subscriber(number) for number, _ in seen.subscribers.most_common(_SUBSCRIBERS)}
    return Timeline(
        events=len(log),
        lost=log.lost,
        edges=[round(edge, 7) for edge in edges],
        subscribers=counted.subscribers(names),
        tasks=counted.tasks(),
        curves=[*_held(recording, begin), *_memory(recording, clock)],
        marks=marks,
        steps=counted.rows(),
        exact=exact,
        begin_ns=int(begin),
        durations=dict(sorted(seen.durations.items())),
        names=names,
    )


def _look(log: EventLog, wanted: Sequence[int]) -> _Found:
    import numpy as np

    found, at = _Found(), 0
    for chunk in log.chunks():
        times = chunk["time_ns"].astype(np.float64)
        found.begin, found.end = min(found.begin, float(times.min())), max(found.end, float(times.max()))
        calls = chunk.of(Kind.START, Kind.END, Kind.INVALIDATE, Kind.YOUNG)
        _tally(found.subscribers, chunk["subscriber"][calls])
        _tally(found.tasks, chunk["pid"][calls & (chunk.strict_direct | (chunk["pf_flags"] & PF_KSWAPD).astype(bool))])
        spent = chunk["duration_ns"][chunk.of(Kind.START, Kind.END, Kind.INVALIDATE) & (chunk["seq_exit"] > 0)]
        _tally(found.durations, np.ceil(np.log2(np.maximum(spent, 1).astype(np.float64))).astype(np.int64))
        if wanted:
            for index in np.flatnonzero(np.isin(chunk["seq"], np.array(wanted, np.uint64)))[:_MARKS].tolist():
                seq = int(chunk["seq"][index])
                found.places.setdefault(seq, at + index)
                found.times.setdefault(seq, float(times[index]))
        at += len(chunk)
    return found


def _tally(counter: Counter[int], values: Numbers) -> None:
    import numpy as np

    for value, count in zip(*(part.tolist() for part in np.unique(values, return_counts=True)), strict=True):
        counter[value] += count
    # A log may have a subscriber for each of its events.
    if len(counter) > 1 << 12:
        kept = counter.most_common(1 << 10)
        counter.clear()
        counter.update(dict(kept))


def _edges(seen: _Found, begin: float, marks: Iterable[float]) -> list[float]:
    """The edges of the bins, in seconds; none without events."""
    import numpy as np

    if seen.end < begin:
        return []
    whole = max((seen.end - begin) / 1e9, 1e-6)
    width = whole / BINS
    parts = [np.linspace(0.0, whole, BINS + 1)]
    for mark in marks:
        if 0 <= mark <= whole:
            low = np.floor(mark / width) * width
            parts.append(np.linspace(max(0.0, low - width), min(whole, low + 2 * width), 3 * _FINE + 1))
    found: list[float] = np.unique(np.concatenate(parts).round(9)).tolist()
    return found


class _Counts:
    """Counts events by bin, and by step."""

    def __init__(self, edges: Sequence[float], seen: _Found, rows: Sequence[Row]) -> None:
        import numpy as np

        self._edges = np.array(edges)
        self._bins = max(1, len(edges) - 1)
        self._subscribers = np.array(sorted(number for number, _ in seen.subscribers.most_common(_SUBSCRIBERS)))
        self._tasks = np.array(sorted(pid for pid, _ in seen.tasks.most_common(_TASKS)))
        self._rows = rows
        self._begins = np.array([row.at_s for row in rows])
        self._by_subscriber = np.zeros((len(self._subscribers) + 1, _ELSE + 1, self._bins), np.int64)
        self._by_task = np.zeros((len(self._tasks) + 1, len(RECLAIM) + 1, self._bins), np.int64)
        self._by_row = np.zeros((len(rows) + 1, _ELSE + 1 + len(RECLAIM) + 1), np.int64)

    def add(self, chunk: Chunk, begin: float) -> None:
        """Count a chunk."""
        import numpy as np

        times = (chunk["time_ns"].astype(np.float64) - begin) / 1e9
        bins = np.clip(np.searchsorted(self._edges, times, "right") - 1, 0, self._bins - 1)
        what, reclaim = _what(chunk), _reclaim(chunk)
        called = what != _ELSE
        lanes = _places(self._subscribers, chunk["subscriber"])
        self._by_subscriber += _count(self._by_subscriber.shape, lanes, what, bins)
        lanes = _places(self._tasks, chunk["pid"])[called]
        self._by_task += _count(self._by_task.shape, lanes, reclaim[called], bins[called])
        rows = np.searchsorted(self._begins, times, "right")
        self._by_row[:, : _ELSE + 1] += _count((len(self._rows) + 1, _ELSE + 1), rows, what)
        shape = (len(self._rows) + 1, len(RECLAIM) + 1)
        self._by_row[:, _ELSE + 1 :] += _count(shape, rows[called], reclaim[called])

    def subscribers(self, names: Mapping[int, str]) -> list[Lane]:
        """A lane for each subscriber that was called."""
        who = [names.get(int(number), f"#{number}") for number in self._subscribers]
        return _lanes([*who, "other subscribers"], WORDS, self._by_subscriber)

    def tasks(self) -> list[Lane]:
        """A lane for each task that reclaimed."""
        return _lanes([*(f"task {pid}" for pid in self._tasks), "other tasks"], RECLAIM, self._by_task)

    def rows(self) -> list[Row]:
        """The steps, with what was called while they ran."""
        words = (*WORDS, "", *RECLAIM)
        return [
            Row(row.number, row.text, row.at_s, row.seconds, _named(words, counts))
            for row, counts in zip(self._rows, self._by_row[1:].tolist(), strict=True)
        ]


def _named(words: Sequence[str], counts: Sequence[int]) -> dict[str, int]:
    return {word: count for word, count in zip(words, counts, strict=False) if word and count}


def _lanes(who: Sequence[str], words: Sequence[str], counts: Numbers) -> list[Lane]:
    lanes = []
    for name, lane in zip(who, counts, strict=True):
        kinds = {word: line.tolist() for word, line in zip(words, lane, strict=False) if line.any()}
        if kinds:
            lanes.append(Lane(name, kinds))
    return lanes


def _count(shape: tuple[int, ...], *indexes: Numbers) -> Numbers:
    import numpy as np

    flat = np.ravel_multi_index(indexes, shape)
    return np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)


def _places(known: Numbers, values: Numbers) -> Numbers:
    """Where each value is in a sorted array; behind its end for those that it does not hold."""
    import numpy as np

    if not len(known):
        return np.zeros(len(values), np.int64)
    at = np.minimum(np.searchsorted(known, values), len(known) - 1)
    return np.where(known[at] == values, at, len(known))


def _what(chunk: Chunk) -> Numbers:
    import numpy as np

    kinds = np.full(256, _ELSE, np.int64)
    kinds[[Kind.START, Kind.INVALIDATE]], kinds[Kind.END], kinds[Kind.YOUNG] = _START, _END, _YOUNG
    what: Numbers = kinds[chunk["kind"]]
    refused = (what == _START) & (chunk["result"] != 0)
    what[refused] = np.where(chunk["result"][refused] == _EAGAIN, _AGAIN, _REFUSED)
    return what


def _reclaim(chunk: Chunk) -> Numbers:
    import numpy as np

    kswapd = (chunk["pf_flags"] & PF_KSWAPD).astype(bool)
    return np.select([chunk.strict_direct, kswapd], [0, 1], len(RECLAIM))


Clock = Callable[[float], float]


def _clock(recording: Recording, begin: float) -> Clock:
    """From seconds since the first command to seconds since the first event: both know the two marks.

    Of a scenario without a log, only the first command is known.
    """
    answered, passed = [], 0.0
    for answer in recording.answers:
        passed += answer.seconds
        if answer.verb == "mark" and answer.ok:
            answered.append(passed)
    marks = islice(recording.events.of(Kind.MARK), 1 << 10)
    heard = [(entry.time_ns + entry.duration_ns - begin) / 1e9 for entry in marks]
    if not answered or not heard:
        return lambda seconds: seconds
    pace = 1.0
    if len(answered) > 1 and len(heard) > 1 and answered[-1] > answered[0]:
        pace = min(20.0, max(0.05, (heard[-1] - heard[0]) / (answered[-1] - answered[0])))
    return lambda seconds: heard[0] + (seconds - answered[0]) * pace


def _rows(recording: Recording, clock: Clock) -> Iterator[Row]:
    """The steps of the scenario in time; what comes before and after them is one row each time."""
    passed, before = 0.0, -1
    for answer in recording.answers:
        began, passed = passed, passed + answer.seconds
        if answer.step or before:
            text = answer.doing if answer.step else "set-up" if before < 0 else "tear-down"
            yield Row(answer.step, text, round(clock(began), 6), answer.seconds, {})
        before = answer.step


def _marks(
    recording: Recording, findings: Sequence[Finding], wanted: Sequence[int], seen: _Found, begin: float
) -> Iterator[Mark]:
    reports = {report.line: report for report in console.find(recording.console_head)[:_MARKS]}
    stamped = _stamps(recording, begin)
    told = set()
    for number, (finding, seq) in enumerate(zip(findings[:_MARKS], wanted, strict=False), 1):
        line = int(found[1]) if (found := _LINE.search(finding.evidence)) else 0
        text = f"{finding.oracle}: {finding.summary}"
        if seq in seen.times:
            yield Mark(round((seen.times[seq] - begin) / 1e9, 7), text, number, seq)
        elif (at := stamped(line)) is not None:
            told.add(line)
            yield Mark(at, text, number)
    for line, report in reports.items():
        if line not in told and (at := stamped(line)) is not None:
            yield Mark(at, f"console: {report.title}")


def _stamps(recording: Recording, begin: float) -> Callable[[int], float | None]:
    """The time of a line of the console, None where the kernel does not say: its own clock, set by the first mark."""
    lines = recording.console_lines
    begun = (line[:200] for line in lines if "begin:" in line and _BEGUN.search(line[:200]))
    stamp = next(filter(None, map(_STAMP.search, begun)), None)
    heard = next(iter(recording.events.of(Kind.MARK)), None)
    offset = (heard.time_ns - begin) / 1e9 if heard else 0.0

    def at(line: int) -> float | None:
        found = _STAMP.search(lines[line - 1][:200]) if 0 < line <= len(lines) else None
        return round(float(found[1]) - float(stamp[1]) + offset, 6) if found and stamp else None

    return at


def _held(recording: Recording, begin: float) -> Iterator[Curve]:
    """What each subscriber holds, of its references."""
    amounts: dict[int, int] = {}
    points: dict[int, list[tuple[float, float]]] = {}
    for entry in islice(recording.events.of(Kind.HOLD, Kind.PUT), _POINTS):
        at = round((entry.time_ns - begin) / 1e9, 6)
        before = amounts.get(entry.subscriber, 0)
        change = max(0, entry.result)
        amounts[entry.subscriber] = before + change if entry.kind == Kind.HOLD else max(0, before - change)
        line = points.setdefault(entry.subscriber, [])
        # It changes at once, and not little by little.
        line += [(at, round(before * _PAGE_MIB, 3)), (at, round(amounts[entry.subscriber] * _PAGE_MIB, 3))]
    for subscriber in list(points)[:_SUBSCRIBERS]:
        yield Curve(f"held by {recording.subscriber(subscriber)}", "MiB", points[subscriber])


# verb: field of its reply → what it is called, and what makes MiB of it. {} stands for the step's target.
_AMOUNTS: Mapping[str, Mapping[str, tuple[str, float]]] = {
    "vmstat": {"nr_free_pages": ("free in the guest", _PAGE_MIB), "pswpout": ("swapped out in all", _PAGE_MIB)},
    "cgroup-stat": {"current": ("memory of {}", 1 / (1 << 20)), "swap_current": ("swap of {}", 1 / (1 << 20))},
    "pages": {"present": ("{} in memory", _PAGE_MIB), "swapped": ("{} in swap", _PAGE_MIB)},
}


def _memory(recording: Recording, clock: Clock) -> Iterator[Curve]:
    """Memory and swap, where the scenario looked at them."""
    passed = 0.0
    points: dict[str, list[tuple[float, float]]] = {}
    for answer in recording.answers[:_POINTS]:
        passed += answer.seconds
        for name, amount in _amounts(answer):
            points.setdefault(name, []).append((round(clock(passed), 6), amount))
    for name in list(points)[: 2 * _SUBSCRIBERS]:
        yield Curve(name, "MiB", points[name])


def _amounts(answer: Answer) -> Iterator[tuple[str, float]]:
    for name, (said, scale) in _AMOUNTS.get(answer.verb, {}).items():
        value = answer.reply.get(name)
        if type(value) is int and 0 <= value < 1 << 62:
            yield said.format(answer.target), round(value * scale, 3)
