# SPDX-License-Identifier: GPL-2.0-only
"""The events of a log around one of them, as text: a line for each, a column for each task."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Sequence

from harness.model.event import PF_KSWAPD, Event, EventLog, Kind
from harness.report.text import one_line

_COLUMNS = 4
_WIDTH = 64
# The callbacks that answer.
_ANSWERS = (Kind.START, Kind.INVALIDATE)
# As oracles write it in their evidence.
_NAMED = re.compile(r"\bevents? (\d{1,12})")


def named(evidence: str) -> int | None:
    """The number of the event that a finding's evidence names first."""
    found = _NAMED.search(evidence)
    return int(found[1]) if found else None


def near(log: EventLog, number: int, count: int) -> list[Event]:
    """At most so many events, with the one of that number among them; none if the log does not have it."""
    # A callback has two numbers, for its begin and its return.
    found = _between(log, number - 2 * count, number + 2 * count)
    place = next((place for place, entry in enumerate(found) if entry.seq == number), None)
    if place is None:
        return []
    first = max(0, place - count // 2)
    return found[first : first + count]


def last(log: EventLog, count: int) -> list[Event]:
    """The last events before the last mark but one, behind which all is taken down."""
    marks = sorted(entry.seq for entry in log.of(Kind.MARK))
    end = marks[-2] - 1 if len(marks) > 2 else max((int(chunk["seq"].max()) for chunk in log.chunks()), default=0)
    return _between(log, end - 2 * count, end)[-count:]


def _between(log: EventLog, first: int, final: int) -> list[Event]:
    found = [
        entry
        for chunk in log.chunks()
        for entry in chunk.take((chunk["seq"] >= max(0, first)) & (chunk["seq"] <= max(0, final)))
    ]
    return sorted(found, key=lambda entry: entry.seq)


def lines(events: Sequence[Event], name: Callable[[int], str], marked: int | None = None) -> list[str]:
    """The events as a table: milliseconds since the first, or the marked one, then what each task did.

    name: of a subscriber. marked: the number of an event.
    """
    if not events:
        return []
    tasks = list(dict.fromkeys(entry.pid for entry in events))
    own, shared = tasks[: _COLUMNS - 1], tasks[_COLUMNS - 1 :]
    origin_ns = next((entry.time_ns for entry in events if entry.seq == marked), events[0].time_ns)
    rows = [["event", "ms", *(f"pid {pid}" for pid in own), *(["other tasks"] if shared else [])]]
    for entry in events:
        column = own.index(entry.pid) if entry.pid in own else len(own)
        text = _told(entry, name) if column < len(own) else f"pid {entry.pid}: {_told(entry, name)}"
        number = f"{'>' if entry.seq == marked else ' '} {entry.seq}"
        rows.append([number, f"{(entry.time_ns - origin_ns) / 1e6:.3f}", *[""] * (len(rows[0]) - 2)])
        rows[-1][column + 2] = text
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    aligned = [str.rjust, str.rjust, *[str.ljust] * (len(widths) - 2)]
    if marked is not None:
        aligned[0] = str.ljust
    return ["  ".join([put(cell, width) for put, cell, width in zip(aligned, row, widths, strict=True)]).rstrip()
            for row in rows]  # fmt: skip


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
