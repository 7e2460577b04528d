# SPDX-License-Identifier: GPL-2.0-only
"""invalidate_range_start and _end pair once for every subscriber: in each task, last in, first out.

The automaton, from mm/mmu_notifier.c. A *group* is one call of
mmu_notifier_invalidate_range_start(): one task, one struct mmu_notifier_range
(it is on the caller's stack), every subscriber of the mm in the order of the
list. Groups of a task nest: a fork that allocates page tables can enter
reclaim, whose ranges then lie inside the fork's.

- An end belongs to the innermost open group, and to a subscriber that had a start there.
- start, end, flags, event and mm are the same at the end as at the start.
- Each subscriber with an invalidate_range_end gets exactly one, in list order.
- If a start failed and the failure was not tolerated, each gets two in a blockable
  group: mn_hlist_invalidate_range_start() calls the ends itself, and its caller,
  which never learns of the failure, calls them again. That is Linux commit
  c2655835fd8c ("mm/mmu_notifiers: ensure range_end() is paired with range_start()",
  in v5.12); kernels without it call the ends once, and not at all where the range
  is not blockable. The log shows which of the two a kernel does; no kernel does both, and
  one since 5.12 does the former.
- Every subscriber that was registered before the group's first start and not
  unregistered since has a start in it, the last to register first.
- A subscriber that unregisters in between loses its end, legally.
- An interval that the range meets has its invalidate() before the list's starts.
- A task's callback has returned before the task's next callback begins.
- try_to_unmap_one() unmaps a page between the start and the end of its range:
  what probes saw of the page table (guest-modules/notifier_hold/unmapping.c).
- A task that is back in a system call of the module has no group open, and a
  range whose address is used again is over.

The module checks the same while it runs (guest-modules/notifier_hold/pairing.c).
A fault that only one of the two sees is a finding, too.
"""

from __future__ import annotations

import errno
import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from harness.model.event import HAS_END, Event, Kind, Tally
from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding
from harness.oracles._intervals import untold
from harness.oracles._life import NEVER, Life, Roll, lives
from harness.oracles._regular import Sieve
from harness.oracles.coherence import STALE

NAME = "pairing"

# enum nh_broken of notifier_hold_uapi.h.
_BROKEN = {
    1: "lost end",
    2: "end without a start",
    3: "extra end",
    4: "range changed",
    5: "wrong nesting",
    6: "wrong order",
    7: "missing start",
    8: "callback within a callback",
}
# The kinds that only probes see, and the callbacks in the log do not show.
_BESIDE = {
    9: "a page was unmapped before its invalidate_range_start",
    10: "a page was unmapped after its invalidate_range_end",
    11: "a page was unmapped without an invalidate_range_start for it",
    12: "a range is larger than what is unmapped in it",
}


# How a kernel ends groups of which a start failed, and since when it does so in the new manner.
_OLD_MANNER, _NEW_MANNER = "without c2655835fd8c", "with c2655835fd8c"
_MANNER_SINCE = (5, 12)


@dataclass(slots=True)
class _Group:
    """doubtful: the last starts, of subscribers on their way in, which may be the first of another group."""

    first: Event
    starts: dict[int, Event] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    doubtful: list[Event] = field(default_factory=list)

    @property
    def last(self) -> Event:
        """The last start so far."""
        return next(reversed(self.starts.values()))

    @property
    def failed(self) -> bool:
        """A start failed, and the failure was not to be tolerated."""
        return any(
            start.result and not (start.mayfail and start.result == -errno.EAGAIN) for start in self.starts.values()
        )

    @property
    def with_end(self) -> list[int]:
        """Subscribers that have an invalidate_range_end, in the order of their starts."""
        return [number for number, start in self.starts.items() if start.context & HAS_END]

    @property
    def rounds(self) -> list[list[int]]:
        """The ends, cut where a subscriber gets another; a subscriber that left is missing from one part, or all."""
        found: list[list[int]] = []
        for number in self.ends:
            if not found or number in found[-1]:
                found.append([])
            found[-1].append(number)
        return found

    @property
    def most(self) -> int:
        """How many ends a subscriber may get."""
        return 2 if self.failed and self.first.blockable else 1


class _Automaton:
    """Eats the events of each task in order, and keeps the faults: summary → count and first evidence."""

    def __init__(self, recording: Recording, all_lives: Sequence[Life]) -> None:
        self._name = recording.subscriber
        self._version = recording.version
        self._open: defaultdict[tuple[int, int], list[_Group]] = defaultdict(list)
        self._last: dict[tuple[int, int], Event] = {}
        self._lives: dict[int, list[Life]] = {}
        for life in all_lives:
            self._lives.setdefault(life.subscriber, []).append(life)
        # The first failed group that got the ends of a kernel without c2655835fd8c, and the first with it.
        self._manners: dict[str, Event] = {}
        # The first that was not ended for anybody.
        self._unended: Event | None = None
        self._wrong: dict[str, tuple[int, str]] = {}
        # The module sees a group only from within its task's callbacks, and does not see what only the whole log tells.
        self._at_rest = False
        self.module_must_know = False

    @property
    def pending(self) -> list[tuple[int, int, int]]:
        """Task, pid and range of each open group."""
        return [(*key, group.first.range) for key, groups in self._open.items() for group in groups]

    def eat(self, entry: Event, before: int) -> None:
        """Take one event. before: the number of its task's previous event, 0 if there was none."""
        key = (entry.task, entry.pid)
        groups, last = self._open[key], self._last.get(key)
        inside = last is not None and not 0 < last.seq_exit < entry.seq
        if last is not None and last.seq != before:
            # Regular groups lay in between: they are nested, or an open group that wants no more ends is over.
            self._drop_full(groups, entry.seq)
        if entry.kind == Kind.START:
            self._start(groups, entry, before)
        elif entry.kind == Kind.END:
            self._end(groups, entry)
        else:
            if not inside:
                self._at_rest = True
                self._unwind(groups, 0, entry.seq)
                self._at_rest = False
            return
        self._last[key] = entry
        if inside:
            self._note(entry, "a callback began before the task's last one had returned")

    def finish(self, *, complete: bool) -> Iterator[Finding]:
        """The faults, now that no event is to come. complete: the guest came to rest."""
        self._at_rest = True
        for groups in self._open.values() if complete else ():
            self._unwind(groups, 0, NEVER)
        old = self._unended
        if old is not None and (self._version or (0, 0)) >= _MANNER_SINCE:
            yield Finding(
                NAME,
                "starts that failed are ended as before Linux 5.12: those that accepted get no end",
                f"event {old.seq}, pid {old.pid}, [{old.start:#x}, {old.end:#x}): Linux commit c2655835fd8c is undone",
            )
        if len(self._manners) > 1:
            told = "; ".join(f"{manner}: event {first.seq}" for manner, first in sorted(self._manners.items()))
            yield Finding(NAME, "starts that failed were ended in two manners", told)
        for summary, (count, evidence) in self._wrong.items():
            yield Finding(NAME, summary, f"{count} times; {evidence}")

    def _start(self, groups: list[_Group], entry: Event, before: int) -> None:
        for depth, group in enumerate(groups):
            if group.first.range == entry.range:
                if group is groups[-1] and self._continues(group, entry, before):
                    break
                renewed = _renewed(group, entry, before) if group is groups[-1] else None
                self._unwind(groups, depth, entry.seq)
                if renewed:
                    groups.append(renewed)
                break
        if groups and groups[-1].first.range != entry.range:
            self._drop_full(groups, entry.seq)
        if not groups or groups[-1].first.range != entry.range:
            groups.append(_Group(entry))
        group = groups[-1]
        life = self._life(entry)
        moving = life is not None and life.began > group.first.seq and bool(group.starts)
        group.doubtful = [*group.doubtful, entry] if moving else []
        group.starts[entry.subscriber] = entry
        self._same(group, entry)

    def _continues(self, group: _Group, entry: Event, before: int) -> bool:
        """A start of the same range right after the last start is one more of the same group.

        Not for a subscriber that came after the group began: the callers hold
        locks that mmu_notifier_register() must take. For a subscriber that was on
        its way in, the order of the list tells (the newest is first), or the range.
        """
        life = self._life(entry)
        moving = life is not None and life.began > group.first.seq
        new = life is not None and life.asked > group.first.seq
        new = new or (moving and (self._swapped(group.last, entry) or not _is_same(group.first, entry)))
        return before == group.last.seq and entry.subscriber not in group.starts and not new

    def _end(self, groups: list[_Group], entry: Event) -> None:
        while groups and groups[-1].first.range != entry.range and not self._waiting(groups[-1], entry.seq):
            self._unwind(groups, len(groups) - 1, entry.seq)
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
        if group.ends.count(entry.subscriber) >= group.most:
            extra = "second" if group.most == 1 else "third"
            self._say(entry, f"a {extra} invalidate_range_end for one start")
            return
        group.ends.append(entry.subscriber)
        if self._full(group, entry.seq):
            self._unwind(groups, len(groups) - 1, entry.seq)

    def _drop_full(self, groups: list[_Group], now: int) -> None:
        while groups and self._full(groups[-1], now):
            self._unwind(groups, len(groups) - 1, now)

    def _unwind(self, groups: list[_Group], depth: int, now: int) -> None:
        """All groups from `depth` inwards are over by `now`."""
        while len(groups) > depth:
            self._close(groups.pop(), now)

    def _close(self, group: _Group, now: int) -> None:
        """A group that is over: nothing may be missing from it, and the order must be the list's."""
        starts, with_end = list(group.starts.values()), group.with_end
        if group.failed:
            got = Counter(group.ends)
            self._manner(group, {got[number] for number in with_end if not self._left(group.starts[number], now)})
        else:
            for number in self._waiting(group, now):
                self._say(group.starts[number], "a start whose invalidate_range_end never came")
        for number in self._absent(group, now):
            self._say(
                group.first,
                f"no invalidate_range_start for subscriber {self._name(number)}, though others had theirs",
            )
        if any(self._swapped(*pair) for pair in itertools.pairwise(starts)):
            self._note(group.first, "starts came in another order than the list's")
        for part in group.rounds:
            if part != [number for number in with_end if number in part]:
                self._say(group.first, "ends came in another order than starts")

    def _waiting(self, group: _Group, now: int) -> list[int]:
        """Subscribers whose first end is still to come."""
        return [
            number
            for number in group.with_end
            if number not in group.ends and not self._left(group.starts[number], now)
        ]

    def _full(self, group: _Group, now: int) -> bool:
        """No further end may come: a subscriber that is leaving may still get its own, until it is gone."""
        got = Counter(group.ends)
        return all(got[number] >= group.most or self._gone(group.starts[number], now) for number in group.with_end)

    def _manner(self, group: _Group, counts: set[int]) -> None:
        """A kernel may end failed groups in either manner, but only in one."""
        least = 1 if group.first.blockable else 0
        if counts == {0} and not group.first.blockable:
            # A kernel that took a blockable range's failure for success would end it once, too.
            self._unended = self._unended or group.first
        if counts == {least}:
            self._manners.setdefault(_OLD_MANNER, group.first)
        elif counts == {least + 1}:
            self._manners.setdefault(_NEW_MANNER, group.first)
        elif 0 in counts:
            self._say(group.first, "a start whose invalidate_range_end never came")
        elif counts:
            self._note(group.first, "a failed start was ended once for one subscriber and twice for another")

    def _life(self, entry: Event) -> Life | None:
        """The registration that an event falls into."""
        for life in self._lives.get(entry.subscriber, ()):
            if life.asked < entry.seq < life.gone:
                return life
        return None

    def _left(self, start: Event, now: int) -> bool:
        """A subscriber began to leave between its start and now."""
        life = self._life(start)
        return life is not None and life.cut < now

    def _gone(self, start: Event, now: int) -> bool:
        """A subscriber was gone for good between its start and now."""
        life = self._life(start)
        return life is not None and life.gone < now

    def _absent(self, group: _Group, now: int) -> list[int]:
        """Subscribers that were there for all of the starts and had none; they can leave while the last start waits."""
        return [
            number
            for number, some in self._lives.items()
            if number not in group.starts
            and any(life.mm == group.first.mm and life.began < group.first.seq and life.cut >= now for life in some)
        ]

    def _swapped(self, one: Event, other: Event) -> bool:
        """The second registered after the first, beyond doubt."""
        first, second = self._life(one), self._life(other)
        return first is not None and second is not None and first.began < second.asked

    def _same(self, group: _Group, entry: Event) -> None:
        if not _is_same(group.first, entry):
            self._say(entry, "the range changed between start and end")

    def _say(self, entry: Event, what: str) -> None:
        """Note a fault that the module sees, too."""
        self.module_must_know = self.module_must_know or not self._at_rest
        self._note(entry, what)

    def _note(self, entry: Event, what: str) -> None:
        count, evidence = self._wrong.get(what, (0, ""))
        evidence = evidence or (
            f"first: event {entry.seq}, subscriber {self._name(entry.subscriber)}, pid {entry.pid}, "
            f"[{entry.start:#x}, {entry.end:#x}), flags {entry.flags:#x}, result {entry.result}"
        )
        self._wrong[what] = (count + 1, evidence)


def _renewed(group: _Group, entry: Event, before: int) -> _Group | None:
    """The second of two groups at one address, when a start shows that the first one's last starts belong to it.

    No subscriber is called twice in a group: after starts that may belong to a new
    group, of subscribers on their way in, such a second start shows that they do.
    """
    starts = {start.subscriber: start for start in group.doubtful}
    again = entry.subscriber in group.starts.keys() - starts.keys()
    if not starts or not again or group.ends or before != group.last.seq:
        return None
    for number in starts:
        del group.starts[number]
    return _Group(group.doubtful[0], starts)


def _is_same(one: Event, other: Event) -> bool:
    """Both tell of the same range."""
    return (one.mm, one.start, one.end, one.flags, one.event) == (
        other.mm, other.start, other.end, other.flags, other.event,
    )  # fmt: skip


def judge(recording: Recording) -> Iterator[Finding]:
    """Run the automaton over the log; for a log with losses, tell only what the module itself counted."""
    if recording.events.lost:
        yield from _beside_the_log(recording)
        return
    all_lives = lives(recording.events)
    sieve = Sieve(Roll.of(all_lives))
    automaton = _Automaton(recording, all_lives)
    logged: dict[int, Tally] = {}
    for chunk in recording.events.chunks():
        for entry, before in sieve.irregular(chunk, automaton.pending):
            automaton.eat(entry, before)
        violations = chunk.of(Kind.VIOLATION)
        for broken in set(chunk["result"][violations].tolist()):
            logged.setdefault(broken, Tally()).add(chunk, violations & (chunk["result"] == broken))
    found = list(automaton.finish(complete=recording.ended in (Ended.COMPLETE, Ended.EARLY, Ended.STEP_FAILED)))
    yield from found
    yield from _untold(recording)
    yield from _disagreement(recording, logged, found, must=automaton.module_must_know)


def _beside_the_log(recording: Recording) -> Iterator[Finding]:
    """What the module saw while it ran, for a log that overflowed: the module has a counter for each kind."""
    for broken, what in (_BROKEN | _BESIDE).items():
        if count := recording.module.get(f"broken_{broken}", 0):
            yield Finding(
                NAME,
                f"the log overflowed, and the module saw pairing broken: {what}",
                f"{count} times, counted in the module; {recording.events.lost} events are missing in the log",
            )


def _untold(recording: Recording) -> Iterator[Finding]:
    for number, starts in sorted(untold(recording.events).items()):
        yield Finding(
            NAME,
            f"no invalidate() for interval {recording.subscriber(number)}, though the list had its start",
            f"{len(starts)} ranges; first: event {starts[0].seq}, pid {starts[0].pid}, "
            f"[{starts[0].start:#x}, {starts[0].end:#x}), flags {starts[0].flags:#x}",
        )


def _disagreement(
    recording: Recording, logged: Mapping[int, Tally], found: Sequence[Finding], *, must: bool
) -> Iterator[Finding]:
    """What the module found while it ran against what the log shows.

    must: the log shows a fault that the module sees, too. A module that had no
    room to follow all callbacks is not asked.
    """
    for broken, tally in sorted(logged.items()):
        if broken in STALE:
            continue
        if tally.first and broken in _BESIDE:
            yield Finding(
                NAME,
                _BESIDE[broken],
                f"{tally.count} times; first: event {tally.first.seq}, subscriber "
                f"{recording.subscriber(tally.first.subscriber)}, pid {tally.first.pid}, "
                f"the page at {tally.first.start:#x}",
            )
        elif tally.first and not found:
            yield Finding(
                NAME,
                f"the module saw pairing broken, the log does not show it: {_BROKEN.get(broken, broken)}",
                f"{tally.count} times; first: event {tally.first.seq}, subscriber "
                f"{recording.subscriber(tally.first.subscriber)}, pid {tally.first.pid}",
            )
    counted = recording.module.get("violations")
    if counted is None or recording.module.get("saturated"):
        return
    recorded = sum(tally.count for tally in logged.values())
    if counted != recorded:
        yield Finding(
            NAME,
            "the module counted other violations than it recorded",
            f"{counted} counted, {recorded} in the log",
        )
    if must and not counted:
        yield Finding(
            NAME,
            "the log shows pairing broken, the module did not see it",
            f"violations counted by the module: 0; found in the log: {'; '.join(f.summary for f in found)}",
        )
