# SPDX-License-Identifier: GPL-2.0-only
"""The events of a log around one of them, a column for each task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from harness.model.event import MANY, Event, EventLog, Kind, RangeEvent

# How many events before and behind, and how many tasks have a column of their own.
_BESIDE, _TASKS = 6, 4
_COLUMN = 46
# As oracles write it in their evidence.
_NAMED = re.compile(r"\bevents? (\d{1,12})")


def named(evidence: str) -> int | None:
    """The event that a finding's evidence names first."""
    found = _NAMED.search(evidence)
    return int(found[1]) if found else None


def lines(log: EventLog, seq: int) -> Iterator[str]:
    """The event of a number, with those around it, in the order in which they began; nothing if the log has it not."""
    around = _around(log, seq)
    if not any(entry.seq == seq for entry in around):
        return
    marked = next(entry for entry in around if entry.seq == seq)
    pids = sorted({entry.pid for entry in around}, key=lambda pid: (pid != marked.pid, pid))[:_TASKS]
    yield "".join([" " * 24, *(f"task {pid}".ljust(_COLUMN) for pid in pids)]).rstrip()
    for entry in around:
        if entry.pid in pids:
            mark = ">" if entry.seq == seq else " "
            at = f"{mark} {entry.seq:>8} {(entry.time_ns - marked.time_ns) / 1e6:>+9.3f} ms "
            yield f"{at:24}{' ' * (_COLUMN * pids.index(entry.pid))}{_told(entry)}".rstrip()


def _around(log: EventLog, seq: int) -> Sequence[Event]:
    """Those whose numbers are near; a callback has two, for its begin and its return."""
    least, most = seq - 4 * _BESIDE, seq + 4 * _BESIDE
    near = [
        entry
        for chunk in log.chunks()
        for entry in chunk.take((chunk["seq"] >= max(0, least)) & (chunk["seq"] <= most))
    ]
    near.sort(key=lambda entry: entry.seq)
    place = next((number for number, entry in enumerate(near) if entry.seq == seq), 0)
    return near[max(0, place - _BESIDE) : place + _BESIDE + 1]


def _told(entry: Event) -> str:
    kind = Kind(entry.kind).name.lower() if entry.kind in set(Kind) else f"kind {entry.kind}"
    words = [kind, f"sub {entry.subscriber}"]
    if entry.kind in MANY and entry.kind != Kind.YOUNG:
        why = RangeEvent(entry.event).name.lower() if entry.event in set(RangeEvent) else str(entry.event)
        words += [why, f"{entry.start:x}+{max(0, entry.end - entry.start) >> 10}K"]
        words += ["mayfail"] if entry.mayfail else []
    return " ".join(words) + (f" → {entry.result}" if entry.result else "")
