# SPDX-License-Identifier: GPL-2.0-only
"""invalidate_range_start and _end pair: per task last in, first out, for every subscriber, once.

The automaton, from mm/mmu_notifier.c. A *group* is one call of
mmu_notifier_invalidate_range_start(): one task, one struct mmu_notifier_range
(its address is the caller's stack), every subscriber of the mm in the order of
the list. Groups of a task nest: a fork that allocates page tables can enter
reclaim, whose ranges then lie inside the fork's.

- An end belongs to the innermost open group, and to a subscriber that had a start there.
- start, end, flags, event and mm are the same at the end as at the start.
- Each subscriber with an invalidate_range_end gets exactly one, in list order.
- If a start failed and that was not tolerated, a blockable group gets two:
  mn_hlist_invalidate_range_start() calls the ends itself, and its caller, which
  never learns of the failure, calls them again. Linux commit c2655835fd8c
  ("mm/mmu_notifiers: ensure range_end() is paired with range_start()", in v5.12);
  kernels without it call once, and not at all where the range is not blockable.
- Every subscriber that was registered before the group's first start and not
  unregistered since has a start in it.
- A subscriber that unregisters in between loses its end, legally.
"""

from __future__ import annotations

import errno
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.model.event import HAS_END, Event, Kind
from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding

NAME = "pairing"


@dataclass(slots=True)
class _Group:
    first: Event
    starts: dict[int, Event] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    failed: bool = False
    registered: frozenset[int] = frozenset()
    aborted: set[int] = field(default_factory=set)

    def waiting(self) -> list[int]:
        """Subscribers that still have their first end to come."""
        return [
            number
            for number, start in self.starts.items()
            if start.context & HAS_END and number not in self.aborted and number not in self.ends
        ]

    def most(self) -> int:
        """How many ends a subscriber may get."""
        return 2 if self.failed and self.first.blockable else 1

    def full(self) -> bool:
        """No further end may come."""
        with_end = [number for number, start in self.starts.items() if start.context & HAS_END]
        got = Counter(self.ends)
        return all(got[number] >= self.most() or number in self.aborted for number in with_end)


class _Automaton:
    """Eats events in order, keeps what is wrong: summary → count and first evidence."""

    def __init__(self, recording: Recording) -> None:
        self._name = recording.subscriber
        self._open: defaultdict[int, list[_Group]] = defaultdict(list)
        self._registered: dict[int, int] = {}
        self._wrong: dict[str, tuple[int, str]] = {}

    def eat(self, entry: Event) -> None:
        """Take one event."""
        match entry.kind:
            case Kind.START:
                self._start(entry)
            case Kind.END:
                self._end(entry)
            case Kind.REGISTER:
                self._registered[entry.subscriber] = entry.mm
            case Kind.UNREGISTER | Kind.RELEASE:
                self._registered.pop(entry.subscriber, None)
                for groups in self._open.values():
                    for group in groups:
                        if entry.subscriber in group.starts:
                            group.aborted.add(entry.subscriber)

    def finish(self, *, complete: bool) -> Iterator[Finding]:
        """What is wrong, now that no event is to come. complete: the guest came to rest."""
        for groups in self._open.values():
            for group in groups:
                if complete:
                    self._close(group)
        for summary, (count, evidence) in self._wrong.items():
            yield Finding(NAME, summary, f"{count} times; {evidence}")

    def _start(self, entry: Event) -> None:
        groups = self._open[entry.task]
        while groups:
            top = groups[-1]
            if top.first.range == entry.range and not top.ends and entry.subscriber not in top.starts:
                break
            if top.first.range != entry.range and top.waiting():
                break  # nested: the outer group is still open
            self._close(groups.pop())
        if not groups or groups[-1].first.range != entry.range:
            here = frozenset(number for number, mm in self._registered.items() if mm == entry.mm)
            groups.append(_Group(entry, registered=here))
        group = groups[-1]
        group.starts[entry.subscriber] = entry
        self._same(group, entry)
        if entry.result and not (entry.mayfail and entry.result == -errno.EAGAIN):
            group.failed = True

    def _end(self, entry: Event) -> None:
        groups = self._open[entry.task]
        while groups and groups[-1].first.range != entry.range and not groups[-1].waiting():
            self._close(groups.pop())
        if not groups:
            self._say(entry, "an invalidate_range_end without a start")
            return
        group = groups[-1]
        if group.first.range != entry.range:
            inside = any(outer.first.range == entry.range for outer in groups[:-1])
            self._say(
                entry,
                "an outer range ended before the inner one" if inside else "an invalidate_range_end without a start",
            )
            return
        if entry.subscriber not in group.starts:
            self._say(entry, "an invalidate_range_end for a subscriber that had no start")
            return
        self._same(group, entry)
        if group.ends.count(entry.subscriber) >= group.most():
            extra = "second" if group.most() == 1 else "third"
            self._say(entry, f"a {extra} invalidate_range_end for one start")
            return
        group.ends.append(entry.subscriber)
        if group.full():
            self._close(groups.pop())

    def _close(self, group: _Group) -> None:
        """A group that is over: nothing may be missing from it, and the order must be the list's."""
        for number in group.waiting():
            self._say(group.starts[number], "a start whose invalidate_range_end never came")
        for number in group.registered - set(group.starts) - group.aborted:
            if self._registered.get(number) == group.first.mm:
                self._say(
                    group.first,
                    f"no invalidate_range_start for subscriber {self._name(number)}, though others had theirs",
                )
        order = [number for number, start in group.starts.items() if start.context & HAS_END]
        for begin in range(0, len(group.ends), max(1, len(order))):
            part = group.ends[begin : begin + len(order)]
            if part != [number for number in order if number in part]:
                self._say(group.first, "ends came in another order than starts")

    def _same(self, group: _Group, entry: Event) -> None:
        first = group.first
        if (first.mm, first.start, first.end, first.flags, first.event) != (
            entry.mm, entry.start, entry.end, entry.flags, entry.event,
        ):  # fmt: skip
            self._say(entry, "the range changed between start and end")

    def _say(self, entry: Event, what: str) -> None:
        count, evidence = self._wrong.get(what, (0, ""))
        evidence = evidence or (
            f"first: event {entry.seq}, subscriber {self._name(entry.subscriber)}, pid {entry.pid}, "
            f"[{entry.start:#x}, {entry.end:#x}), flags {entry.flags:#x}, result {entry.result}"
        )
        self._wrong[what] = (count + 1, evidence)


def judge(recording: Recording) -> Iterator[Finding]:
    """Run the automaton over the log; a log with losses cannot be judged and is left to `exercised`."""
    if recording.events.lost:
        return
    automaton = _Automaton(recording)
    for entry in recording.all_events:
        automaton.eat(entry)
    yield from automaton.finish(complete=recording.ended in (Ended.COMPLETE, Ended.EARLY, Ended.STEP_FAILED))
