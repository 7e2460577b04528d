# SPDX-License-Identifier: GPL-2.0-only
"""Events of a log beside each other: a line for each, a column for each task."""

from __future__ import annotations

import bisect
import errno
from collections.abc import Callable, Sequence

from harness.model.event import PF_KSWAPD, Event, EventLog, Kind
from harness.report.text import one_line

_COLUMNS = 4
_WIDTH = 64
# The callbacks that answer.
_ANSWERS = (Kind.START, Kind.INVALIDATE)


def around(log: EventLog, number: int | None, count: int) -> list[Event]:
    """The events next to one; or the last ones before the last mark but one, behind which all is taken down."""
    # An event takes two numbers, one for its begin and one for its end.
    reach = 2 * count
    if number is None:
        marks = sorted(entry.seq for entry in log.of(Kind.MARK))
        last = marks[-2] - 1 if len(marks) > 2 else max((int(chunk["seq"].max()) for chunk in log.chunks()), default=0)
        return _between(log, last - reach, last)[-count:]
    found = _between(log, number - reach, number + reach)
    begin = max(0, bisect.bisect_left([entry.seq for entry in found], number) - count // 2)
    return found[begin : begin + count]


def _between(log: EventLog, first: int, last: int) -> list[Event]:
    """The events that began behind one number and up to another."""
    found: list[Event] = []
    for chunk in log.chunks():
        # In the type of the log, a number below 0 would be a large one.
        seq = chunk["seq"].astype("int64")
        found += chunk.take((seq > first) & (seq <= last))
    return sorted(found, key=lambda entry: entry.seq)


def lines(events: Sequence[Event], name: Callable[[int], str]) -> list[str]:
    """The events as a table: milliseconds since the first of them, then what each task did. name: of a subscriber."""
    if not events:
        return []
    tasks = list(dict.fromkeys(entry.pid for entry in events))
    own, shared = tasks[: _COLUMNS - 1], tasks[_COLUMNS - 1 :]
    rows = [["ms", *(f"pid {pid}" for pid in own), *(["other tasks"] if shared else [])]]
    for entry in events:
        column = own.index(entry.pid) if entry.pid in own else len(own)
        text = _told(entry, name) if column < len(own) else f"pid {entry.pid}: {_told(entry, name)}"
        rows.append([f"{(entry.time_ns - events[0].time_ns) / 1e6:.3f}", *[""] * (len(rows[0]) - 1)])
        rows[-1][column + 1] = text
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([f"{row[0]:>{widths[0]}}", *map(str.ljust, row[1:], widths[1:])]).rstrip() for row in rows]


def _told(entry: Event, name: Callable[[int], str]) -> str:
    kind = Kind(entry.kind).name.lower() if entry.kind in Kind._value2member_map_ else f"kind {entry.kind}"
    words = [kind, name(entry.subscriber) if entry.subscriber else ""]
    if entry.end > entry.start:
        words.append(f"{(entry.end - entry.start + 4095) >> 12} pages")
    if entry.kind in (Kind.START, Kind.END):
        words += ["mayfail"] * entry.mayfail + ["reclaim"] * entry.strict_direct
        words += ["kswapd"] * bool(entry.pf_flags & PF_KSWAPD)
    if entry.kind in _ANSWERS and entry.result:
        words.append(f"→ {_answer(entry.result)}")
    if not entry.seq_exit and entry.kind in (Kind.START, Kind.END, Kind.INVALIDATE):
        words.append("never returned")
    return one_line(" ".join(word for word in words if word), _WIDTH)


def _answer(result: int) -> str:
    return f"−{errno.errorcode[-result]}" if -result in errno.errorcode else str(result)
