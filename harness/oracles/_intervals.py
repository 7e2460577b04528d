# SPDX-License-Identifier: GPL-2.0-only
"""Intervals are told of the ranges that subscribers of the list are told of, and of no others.

mn_itree_invalidate() runs before the walk over the list, in the same task: the
first start of a group has an INVALIDATE of the same range right before it, from
each interval that the range meets. An interval that is inserted while a range is
open joins at the end of the last open range (mmu_interval_notifier_insert()), so
an INVALIDATE is demanded only from its first one on, or at once where nothing
came for the mm before it.

mmu_interval_notifier_remove() returns when no invalidate() of the interval runs
or will run, and no range that the interval was told of is open. When an mm ends,
its intervals are told so, as a range over everything, before the list is told
(__mmu_notifier_release()).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from harness.model.event import SUB_INTERVAL, Event, EventLog, Kind, RangeEvent, Tally
from harness.oracles._life import NEVER

# The most callbacks for one range: more than a scenario has subscribers.
_GROUP_MOST = 64


@dataclass(slots=True)
class _Interval:
    inserted: Event
    since: int

    def wants(self, start: Event) -> bool:
        """The interval must have been told of the range of this start."""
        mine = self.inserted
        return self.since < start.seq and start.mm == mine.mm and start.start < mine.end and mine.start < start.end


@dataclass(slots=True)
class _Task:
    """A task's last event, the intervals that were told of that event's range, and the event before that range."""

    last: Event
    before: int
    told: set[int] = field(default_factory=set)


def untold(log: EventLog) -> dict[int, list[Event]]:
    """By interval: the first starts of the ranges that it was not told of."""
    missed: defaultdict[int, list[Event]] = defaultdict(list)
    all_intervals = [entry for entry in log.of(Kind.REGISTER) if entry.flags & SUB_INTERVAL]
    if not all_intervals:
        return missed
    intervals: dict[int, _Interval] = {}
    tasks: dict[tuple[int, int], _Task] = {}
    known: set[int] = set()
    for entry in _concerning(log, all_intervals):
        if entry.kind == Kind.REGISTER:
            if entry.flags & SUB_INTERVAL and not entry.result and entry.seq_exit:
                since = NEVER if entry.mm in known else entry.seq_exit
                intervals[entry.subscriber] = _Interval(entry, since)
        elif entry.kind == Kind.UNREGISTER:
            intervals.pop(entry.subscriber, None)
        else:
            known.add(entry.mm)
        key = (entry.task, entry.pid)
        task = tasks.get(key)
        same = task is not None and (task.last.range, task.last.mm) == (entry.range, entry.mm)
        within = task is not None and same and task.last.kind != Kind.END
        told = task.told if task is not None and within else set()
        before = 0 if task is None else task.before if within else task.last.seq
        if entry.kind == Kind.INVALIDATE:
            if (mine := intervals.get(entry.subscriber)) is not None:
                mine.since = min(mine.since, entry.seq)
            told.add(entry.subscriber)
        elif entry.kind == Kind.START and not (task is not None and same and task.last.kind == Kind.START):
            for number, mine in intervals.items():
                # A task may be in the middle of a call that told its intervals before this one was inserted.
                newer = before > mine.since or entry.task == mine.inserted.task
                if mine.wants(entry) and number not in told and newer:
                    missed[number].append(entry)
        tasks[key] = _Task(entry, before, told)
    return missed


def untimely(log: EventLog) -> Iterator[tuple[str, int, Tally]]:
    """Calls of an interval for a range, or at a time, not its own; and the end of an mm that it was not told of."""
    rare = [entry for entry in log.of(Kind.REGISTER, Kind.UNREGISTER, Kind.RELEASE) if entry.seq_exit]
    intervals = [
        entry for entry in rare if entry.kind == Kind.REGISTER and entry.flags & SUB_INTERVAL and not entry.result
    ]
    left = {entry.subscriber: entry for entry in rare if entry.kind == Kind.UNREGISTER}
    for mine in intervals:
        leaving = left.get(mine.subscriber)
        gone, asked = (leaving.seq_exit, leaving.seq) if leaving else (NEVER, NEVER)
        early, late, running, elsewhere, ends = (Tally() for _ in range(5))
        for chunk in log.chunks():
            told = chunk.of(Kind.INVALIDATE) & (chunk["subscriber"] == mine.subscriber)
            if not told.any():
                continue
            meets = (chunk["mm"] == mine.mm) & (chunk["start"] < mine.end) & (chunk["end"] > mine.start)
            early.add(chunk, told & (chunk["seq"] < mine.seq))
            late.add(chunk, told & (chunk["seq"] > gone))
            running.add(chunk, told & (chunk["seq"] < gone) & (chunk["seq_exit"] > gone))
            elsewhere.add(chunk, told & ~meets)
            ends.add(chunk, told & (chunk["event"] == RangeEvent.RELEASE))
        yield "was called before it was inserted", mine.subscriber, early
        yield "was called after it was removed", mine.subscriber, late
        yield "was removed while its invalidate() ran", mine.subscriber, running
        yield "was told of a range that it does not meet", mine.subscriber, elsewhere
        if leaving:
            yield "was removed while a range was open that it was told of", mine.subscriber, _open_at(log, leaving)
        for end in rare:
            # mmu_notifier_unregister() calls release(), too.
            parting = left.get(end.subscriber)
            of_mm = end.kind == Kind.RELEASE and end.mm == mine.mm and not (parting and parting.seq < end.seq)
            if of_mm and mine.seq_exit < end.seq < asked and not (ends.first and ends.first.seq < end.seq):
                yield "was not told that its mm ends, though the list was", mine.subscriber, Tally(1, end)
                break


def _open_at(log: EventLog, leaving: Event) -> Tally:
    """Callbacks that still ran when an interval was gone, of ranges that it was told of before it began to leave.

    The sequence is odd from the INVALIDATE to the end of the range, and the
    removal waits until it is even (mmu_interval_notifier_remove()).
    """
    found = Tally()
    for chunk in log.chunks():
        calls = chunk.of(Kind.START, Kind.INVALIDATE) & (chunk["seq"] < leaving.seq_exit)
        calls &= (chunk["seq_exit"] > leaving.seq_exit) & (chunk["subscriber"] != leaving.subscriber)
        for entry in chunk.take(calls):
            if any(one.subscriber == leaving.subscriber and one.seq < leaving.seq for one in _group_until(log, entry)):
                found.add(chunk, calls & (chunk["seq"] == entry.seq))
    return found


def _group_until(log: EventLog, last: Event) -> Sequence[Event]:
    """The callbacks of the same task, range and call up to this one: each subscriber once."""
    events: list[Event] = []
    for chunk in log.chunks():
        mine = chunk.of(Kind.START, Kind.INVALIDATE, Kind.END) & (chunk["task"] == last.task)
        mine &= (chunk["pid"] == last.pid) & (chunk["seq"] <= last.seq)
        mine[np.flatnonzero(mine)[:-_GROUP_MOST]] = False
        events = [*events, *chunk.take(mine)][-_GROUP_MOST:]
    group: dict[int, Event] = {}
    for entry in reversed(events):
        if entry.range != last.range or entry.subscriber in group:
            break
        group[entry.subscriber] = entry
    return tuple(group.values())


def _concerning(log: EventLog, intervals: Sequence[Event]) -> Iterator[Event]:
    """Registrations, removals, calls for the memory of an interval, and the first call of each task and each mm.

    In a soak one event in eight is among these, and each costs 2 µs.
    """
    for chunk in log.chunks():
        wanted = chunk.of(Kind.REGISTER, Kind.UNREGISTER)
        calls = chunk.of(Kind.START, Kind.END, Kind.INVALIDATE)
        for one in intervals:
            wanted |= calls & (chunk["mm"] == one.mm) & (chunk["start"] < one.end) & (chunk["end"] > one.start)
        places = np.flatnonzero(calls)
        for name in ("task", "mm"):
            wanted[places[np.unique(chunk[name][places], return_index=True)[1]]] = True
        yield from chunk.take(wanted)
