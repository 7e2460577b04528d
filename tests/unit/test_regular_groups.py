# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import errno
import itertools
import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.model import event
from harness.model.event import BLOCKABLE, HAS_END, OWN_BUFFER, Event, Kind
from harness.oracles import pairing
from harness.oracles._life import Roll, lives
from harness.oracles._regular import Sieve
from tests.unit.recordings import MUNMAP, RANGE, TASK, Log, recording

EAGAIN = -errno.EAGAIN
# Fields of a start that is in no regular group.
FAILED = {"flags": BLOCKABLE, "result": EAGAIN}


class Guest:
    """Tasks that invalidate ranges of one mm, and subscribers that come and go, as on a correct kernel."""

    def __init__(self, seed: int) -> None:
        self.log = Log()
        self._random = random.Random(seed)  # noqa: S311 - test data
        self._list: list[int] = []
        self._numbers = 0
        self._ranges = 0
        self._stop = False
        # Current walks of the list; for a removed subscriber, the walks of that time and the next subscriber of each.
        self._walk_numbers = itertools.count()
        self._walks: set[int] = set()
        self._off: dict[int, set[int]] = {}
        self._after: dict[int, list[int]] = {}
        # Places of records of calls that have not returned: asked to register, on the list, asked to go.
        self._asked: list[int] = []
        self._listed: list[int] = []
        self._going: list[int] = []

    def run(self, steps: int) -> list[Event]:
        """Runs that many steps of randomly chosen tasks, then runs all tasks to their ends."""
        for _ in range(3):
            self._come_and_go(1, 1, 0)
        tasks = [self._task(number) for number in range(3)]
        for _ in range(steps):
            next(self._random.choice(tasks))
            self._come_and_go(0.1, 0.3, 0.05)
        self._stop = True
        for task in tasks:
            for _ in task:
                pass
        while self._asked or self._listed or self._going or self._list:
            self._come_and_go(0, 1, 1)
        return self.log.events

    def _come_and_go(self, ask: float, go_on: float, leave: float) -> None:
        """A subscriber is called before its registration returns, and until its unregistration is through."""

        def chance(of: float) -> bool:
            return self._random.random() < of

        if self._going and chance(go_on):
            place = self._going[0]
            number = self.log.events[place].subscriber
            if number in self._list:
                self._after[number] = self._list[self._list.index(number) + 1 :]
                self._list.remove(number)
                self._off[number] = set(self._walks)
            elif not self._off[number] & self._walks:
                self._return(self._going.pop(0))
        staying = [number for number in self._list if not self._is_moving(number)]
        if len(staying) > (leave < 1) and chance(leave):
            self._going.append(self._call(Kind.UNREGISTER, self._random.choice(staying)))
        if self._listed and chance(go_on):
            self._return(self._listed.pop(0))
        # Callers hold the locks that registering takes from start to end, so it waits for them.
        if self._asked and not self._ranges:
            self._listed.append(self._asked.pop(0))
            self._list.insert(0, self.log.events[self._listed[-1]].subscriber)
        if chance(ask):
            self._numbers += 1
            self._asked.append(self._call(Kind.REGISTER, self._numbers))

    def _is_moving(self, number: int) -> bool:
        return any(self.log.events[place].subscriber == number for place in [*self._listed, *self._going])

    def _call(self, kind: Kind, number: int) -> int:
        self.log.add(kind, subscriber=number, task=TASK - 64 * number, pid=1)
        return len(self.log.events) - 1

    def _return(self, place: int) -> None:
        self.log.events[place] = self.log.events[place]._replace(seq_exit=self.log.stamp())

    def _task(self, number: int) -> Iterator[None]:
        while not self._stop:
            yield from self._group({"task": TASK + number * 64, "pid": 100 + number}, 3)

    def _group(self, who: dict[str, Any], levels: int) -> Iterator[None]:
        """One range: a start for each subscriber, perhaps ranges inside, an end for each that is still there."""
        fields = who | {"range": RANGE + 64 * levels, "start": self._random.randrange(4) << 12}
        refusal = 0
        self._ranges += 1
        if levels == 3:
            fields |= MUNMAP | {"flags": self._random.choice([BLOCKABLE, BLOCKABLE, 0])}
            refusal = EAGAIN * (self._random.random() < 0.1)
        rest = fields | {"result": 0}
        failed = False
        for subscriber in self._walk():
            result = self._random.choice([0, EAGAIN]) if levels < 3 else refusal
            refusal = 0
            failed = failed or bool(result and levels == 3)
            yield from self._called(Kind.START, subscriber, fields | {"result": result})
        if failed:
            yield from self._ends(rest)
        yield
        if not failed or fields["flags"]:
            while levels > 1 and self._random.random() < 0.5:
                yield from self._group(who, levels - 1)
            yield from self._ends(rest)
        self._ranges -= 1
        yield

    def _ends(self, fields: dict[str, Any]) -> Iterator[None]:
        for subscriber in self._walk():
            if subscriber % 3:
                yield from self._called(Kind.END, subscriber, fields)

    def _called(self, kind: Kind, subscriber: int, fields: dict[str, Any]) -> Iterator[None]:
        """A callback, during which other tasks go on."""
        context = OWN_BUFFER | (HAS_END if subscriber % 3 else 0)
        self.log.add(kind, **(fields | {"subscriber": subscriber, "context": context, "seq_exit": 0}))
        place = len(self.log.events) - 1
        yield
        self._return(place)

    def _walk(self) -> Iterator[int]:
        """hlist_for_each_entry_rcu() under SRCU: a removed subscriber leads to the one that was behind it then."""
        walk = next(self._walk_numbers)
        self._walks.add(walk)
        behind = list(self._list)
        while behind:
            number = behind[0]
            yield number
            behind = self._list[self._list.index(number) + 1 :] if number in self._list else self._after[number]
        self._walks.remove(walk)


def found(events: list[Event]) -> dict[str, str]:
    """Summary → how often, of what pairing finds."""
    log = Log()
    log.events = events
    return {finding.summary: finding.evidence.partition(" times")[0][:3] for finding in pairing.judge(recording(log))}


def by_automaton_alone(events: list[Event]) -> dict[str, str]:
    """The same, with no group taken out beforehand."""
    last: dict[tuple[int, int], int] = {}

    def everything(_: Sieve, chunk: event.Chunk, *__: object) -> Iterator[tuple[Event, int]]:
        for entry in chunk:
            yield entry, last.get((entry.task, entry.pid), 0)
            last[entry.task, entry.pid] = entry.seq

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sieve, "irregular", everything)
        return found(events)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32), chunk=st.integers(1, 40))
# A subscriber without an end, and one that is registering, are called for the same range twice in a row.
@example(seed=648294, chunk=1)
def test_a_right_kernel_has_no_finding_wherever_chunks_end(seed: int, chunk: int) -> None:
    """Nesting, two ends after a failure, subscribers that come and go in between."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event, "CHUNK_RECORDS", chunk)
        assert found(Guest(seed).run(40)) == {}


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32), chunk=st.integers(1, 60), data=st.data())
def test_what_is_taken_out_beforehand_changes_no_finding(seed: int, chunk: int, data: st.DataObject) -> None:
    """Events that were lost, doubled, swapped, altered or returned late: the automaton alone says the same."""
    # Numbers far apart leave room for one more.
    events = [entry._replace(seq=entry.seq * 2, seq_exit=entry.seq_exit * 2) for entry in Guest(seed).run(30)]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(3, len(events) - 2))
        match data.draw(st.sampled_from(["lose", "double", "swap", "alter", "refuse", "linger"])):
            case "lose":
                del events[place]
            case "double":
                seq = events[place].seq + 1
                events.insert(place + 1, events[place]._replace(seq=seq, seq_exit=seq))
            case "swap":
                one, other = events[place : place + 2]
                events[place] = other._replace(seq=one.seq, seq_exit=one.seq_exit)
                events[place + 1] = one._replace(seq=other.seq, seq_exit=other.seq_exit)
            case "alter":
                events[place] = events[place]._replace(end=0x9000)
            case "linger":
                events[place] = events[place]._replace(seq_exit=events[place].seq + 21)
            case "refuse":
                events[place] = events[place]._replace(result=EAGAIN, flags=BLOCKABLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event, "CHUNK_RECORDS", chunk)
        assert found(events) == by_automaton_alone(events)


def test_a_callback_that_returns_late_is_seen_where_a_chunk_ends() -> None:
    """The task's next event, with which it overlaps, is in another chunk, and both groups are regular."""
    events = [entry._replace(seq=entry.seq * 2, seq_exit=entry.seq_exit * 2) for entry in Guest(1586).run(30)]
    events[37] = events[37]._replace(seq_exit=events[37].seq + 21)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event, "CHUNK_RECORDS", 8)
        assert found(events) == {"a callback began before the task's last one had returned": "1"}


def test_regular_groups_never_reach_the_automaton() -> None:
    """That is what makes a million events cheap."""
    log = Log()
    log.add(Kind.REGISTER)
    outer = MUNMAP | {"range": RANGE + 0x800}
    for _ in range(100):
        log.start(**outer)
        log.pair(result=EAGAIN)
        log.pair()
        log.end(**outer)
    (chunk,) = recording(log).events.chunks()
    sieve = Sieve(Roll.of(lives(recording(log).events)))

    assert [entry.kind for entry, _ in sieve.irregular(chunk)] == [Kind.REGISTER]


@pytest.mark.parametrize(
    ("build", "summary"),
    [
        (lambda log: (log.start(), log.end(end=0x9000)), "the range changed between start and end"),
        (lambda log: (log.start(), log.end(flags=BLOCKABLE)), "the range changed between start and end"),
        (lambda log: (log.start(seq_exit=3), log.end()), "a callback began before the task's last one had returned"),
        (
            lambda log: (log.start(seq_exit=4), log.pair(range=RANGE - 64), log.end()),
            "a callback began before the task's last one had returned",
        ),
        (
            lambda log: (log.start(), log.end(subscriber=2)),
            "an invalidate_range_end for a subscriber that had no start",
        ),
        (lambda log: (log.start(), log.end(range=RANGE + 64)), "an invalidate_range_end without a start"),
        (lambda log: (log.start(), log.end(pid=7)), "an invalidate_range_end without a start"),
        (lambda log: (log.pair(), log.end()), "an invalidate_range_end without a start"),
        (lambda log: (log.start(), log.pair()), "a start whose invalidate_range_end never came"),
        (
            lambda log: (log.start(), log.pair(range=RANGE - 64), log.pair()),
            "a start whose invalidate_range_end never came",
        ),
    ],
)
def test_nothing_wrong_passes_for_regular(build, summary) -> None:
    """The log has the subscriber's registration, so its groups could be taken out."""
    log = Log()
    log.add(Kind.REGISTER)
    build(log)

    assert summary in found(log.events)


def test_a_subscriber_that_came_in_between_opens_a_group_of_its_own() -> None:
    """The range of a group without ends is used again right behind it, and the newest is called first."""
    log = Log()
    log.add(Kind.REGISTER, subscriber=1, task=TASK - 64)
    log.start(subscriber=1, context=0, **FAILED)
    log.add(Kind.REGISTER, subscriber=2, task=TASK - 64)
    log.start(subscriber=2, context=0, **FAILED)
    log.start(subscriber=1, context=0, **FAILED)

    assert found(log.events) == {}


def test_starts_with_another_group_between_them_are_of_two_groups() -> None:
    """One call of mmu_notifier_invalidate_range_start() calls all subscribers, one right after another."""
    log = Log()
    for subscriber in (1, 2):
        log.add(Kind.REGISTER, subscriber=subscriber)
    log.start(subscriber=2)
    for add in (log.start, log.end):
        for subscriber in (2, 1):
            add(subscriber=subscriber, range=RANGE - 64)
    log.start(subscriber=1)

    assert "no invalidate_range_start for subscriber #1, though others had theirs" in found(log.events)
