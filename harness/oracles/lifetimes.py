# SPDX-License-Identifier: GPL-2.0-only
"""Subscribers of the list and intervals are called while they are registered: to the end, and no longer.

- A subscriber is not called before it was registered or after it is gone.
- It is not gone before the callbacks that ran when it began to leave are over:
  mmu_notifier_unregister() waits for them, mmu_notifier_put() frees after them.
- A subscriber of mmu_notifier_register() gets its release(), when the mm ends or when it leaves;
  no task calls it twice.
- An interval is told of no range that it does not meet, and of none before it was
  inserted or after it was removed. It is not gone before each range that it was
  told of is over. When the mm ends, it is told so.

The pairing oracle judges whether each registered subscriber is told of a range.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.event import Event, Tally
from harness.model.recording import Recording
from harness.model.verdict import Finding
from harness.oracles._intervals import untimely
from harness.oracles._life import hurried, lives, repeated, strangers, unreleased

NAME = "lifetimes"


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each way in which the calls of a subscriber do not fit its registration."""
    if recording.events.lost:
        return
    all_lives = lives(recording.events)
    for what, number, tally in strangers(recording.events, all_lives):
        yield from _beyond(recording, f"subscriber {recording.subscriber(number)} {what}", tally)
    for what, number, tally in untimely(recording.events):
        yield from _beyond(recording, f"interval {recording.subscriber(number)} {what}", tally)
    for number, tally in hurried(recording.events, all_lives):
        name = recording.subscriber(number)
        yield from _beyond(recording, f"subscriber {name} was gone before a callback that ran had returned", tally)
    for entry in unreleased(recording.events):
        name = recording.subscriber(entry.subscriber)
        yield Finding(
            NAME,
            f"subscriber {name} was unregistered, and never had its release()",
            f"event {entry.seq}, pid {entry.pid}: no RELEASE between its REGISTER and the return of its UNREGISTER",
        )
    twice: dict[int, Event] = {}
    for entry in repeated(recording.events):
        twice.setdefault(entry.subscriber, entry)
    for number, entry in twice.items():
        yield Finding(
            NAME,
            f"subscriber {recording.subscriber(number)} had its release() twice",
            f"event {entry.seq}, pid {entry.pid}: the same task had called it since the subscriber was registered",
        )


def _beyond(recording: Recording, what: str, tally: Tally) -> Iterator[Finding]:
    if (first := tally.first) is not None:
        yield Finding(
            NAME,
            what,
            f"{tally.count} times; first: event {first.seq}, subscriber {recording.subscriber(first.subscriber)}, "
            f"pid {first.pid}, [{first.start:#x}, {first.end:#x})",
        )
