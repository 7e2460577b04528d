# SPDX-License-Identifier: GPL-2.0-only
"""The event log as a trace for ui.perfetto.dev and trace_processor, in Chrome's JSON format.

Each scenario is a process; each of its guest's tasks is a thread, on which a
callback is a slice. What a range is open for, from a start to its end, and what
a subscriber holds, are tracks beside them. Times are those of the guest's clock.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

from harness.model.event import Event, EventLog, Kind
from harness.report.text import plain
from harness.report.timeline import Timeline

Entry = Mapping[str, Any]
# How many ranges may be open at once; a log may hold starts alone.
_OPEN = 1 << 16
_INSTANTS = (Kind.MARK, Kind.REGISTER, Kind.UNREGISTER, Kind.RELEASE, Kind.VIOLATION)
_U64 = (1 << 64) - 1


def write(path: Path, scenarios: Iterable[tuple[str, EventLog, Timeline]]) -> int:
    """Write the trace of some scenarios, compressed if the name ends in .gz; returns how many entries it has."""
    count = 0
    with _opened(path) as file:
        file.write('{"displayTimeUnit":"ns","traceEvents":[')
        for number, (name, log, line) in enumerate(scenarios, 1):
            for entry in entries(number, name, log, line):
                file.write(f"{',' if count else ''}\n{json.dumps(entry, separators=(',', ':'))}")
                count += 1
        file.write("\n]}\n")
    return count


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, "wt", 1, encoding="ascii")
    return path.open("w", encoding="ascii")


def entries(number: int, name: str, log: EventLog, line: Timeline) -> Iterator[Entry]:
    """The entries of a scenario. number: the process that it is in the trace."""
    yield {"ph": "M", "name": "process_name", "pid": number, "tid": 0, "args": {"name": plain(name)}}
    told: set[int] = set()
    ranges = _Ranges(number, line)
    held: dict[int, int] = {}
    for event in log:
        if event.pid not in told and len(told) < _OPEN:
            told.add(event.pid)
            named = {"name": f"task {event.pid}"}
            yield {"ph": "M", "name": "thread_name", "pid": number, "tid": event.pid, "args": named}
        yield from _of(event, number, line)
        yield from ranges.entries(event)
        if event.kind in (Kind.HOLD, Kind.PUT) and len(held) < _OPEN:
            change = max(0, event.result)
            before = held.get(event.subscriber, 0)
            held[event.subscriber] = before + change if event.kind == Kind.HOLD else max(0, before - change)
            who = plain(line.names.get(event.subscriber, f"#{event.subscriber}"))
            yield {
                "ph": "C", "name": f"held by {who}", "pid": number, "ts": event.time_ns / 1000,
                "args": {"pages": held[event.subscriber]},
            }  # fmt: skip
    for mark in islice(line.marks, 100):
        yield {
            "ph": "i", "s": "p", "name": plain(mark.text)[:500], "cat": "finding", "pid": number, "tid": 0,
            "ts": line.begin_ns / 1000 + mark.at_s * 1e6, "args": {"event": mark.event},
        }  # fmt: skip


def _of(event: Event, number: int, line: Timeline) -> Iterator[Entry]:
    """A callback as a slice of its task, or a moment."""
    kind = Kind(event.kind) if event.kind in Kind._value2member_map_ else None
    what = kind.name.lower() if kind else f"kind {event.kind}"
    refused = kind is Kind.START and event.result
    base = {
        "name": f"{what} −EAGAIN" if refused == -11 else f"{what} refused" if refused else what,
        "cat": "reclaim" if event.strict_direct else "notifier",
        "pid": number,
        "tid": event.pid,
        "ts": event.time_ns / 1000,
        "args": {
            "event": event.seq,
            "subscriber": plain(line.names.get(event.subscriber, str(event.subscriber))),
            "start": f"{event.start:#x}",
            "end": f"{event.end:#x}",
            "flags": event.flags,
            "mayfail": event.mayfail,
            "direct_reclaim": event.strict_direct,
            "result": event.result,
            "cpu": event.cpu,
        },
    }
    if kind in _INSTANTS:
        yield {**base, "ph": "i", "s": "t"}
    elif event.seq_exit:
        yield {**base, "ph": "X", "dur": event.duration_ns / 1000}
    else:
        # It never returned: a slice without an end goes on to the end of the trace.
        yield {**base, "ph": "B"}


class _Ranges:
    """From a start to its end, by subscriber, task and range."""

    def __init__(self, number: int, line: Timeline) -> None:
        self._number = number
        self._line = line
        self._open: dict[tuple[int, int, int], list[int]] = {}

    def entries(self, event: Event) -> Iterator[Entry]:
        """What an event opens or closes."""
        at = (event.subscriber, event.task, event.range)
        if event.kind == Kind.START and not event.result and len(self._open) < _OPEN:
            self._open.setdefault(at, []).append(event.seq)
            yield self._entry("b", event, event.seq, event.time_ns)
        elif event.kind == Kind.END and self._open.get(at):
            begun = self._open[at].pop()
            if not self._open[at]:
                del self._open[at]
            yield self._entry("e", event, begun, min(_U64, event.time_ns + event.duration_ns))

    def _entry(self, phase: str, event: Event, begun: int, time_ns: int) -> Entry:
        who = plain(self._line.names.get(event.subscriber, f"#{event.subscriber}"))
        return {
            "ph": phase, "cat": "range", "id": f"{self._number}.{begun}", "name": f"range open for {who}",
            "pid": self._number, "tid": event.pid, "ts": time_ns / 1000,
        }  # fmt: skip
