# SPDX-License-Identifier: GPL-2.0-only
"""Each page reference that a subscriber took is returned, and every subscriber is unregistered and freed at the end.

Pages that reclaim took off the lists of the LRU come back, too, by the kernel's own count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from harness.model.event import Event, Kind
from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding

NAME = "references"

# What reclaim and compaction may have taken off the lists at any moment, on each of a few CPUs: 32 pages a time.
_ISOLATED_PAGES = 256


def judge(recording: Recording) -> Iterator[Finding]:
    """HOLD and PUT events balance, as do the kernel's own counts of pins; all that was registered was unregistered."""
    if recording.ended not in (Ended.COMPLETE, Ended.EARLY, Ended.STEP_FAILED) or recording.events.lost:
        return
    balance: Counter[int] = Counter()
    registered: set[int] = set()
    unfinished: list[Event] = []
    for entry in recording.events.of(Kind.HOLD, Kind.PUT, Kind.REGISTER, Kind.UNREGISTER):
        if entry.kind == Kind.HOLD and entry.result > 0:
            balance[entry.subscriber] += entry.result
        elif entry.kind == Kind.PUT:
            balance[entry.subscriber] -= entry.result
        elif entry.kind == Kind.REGISTER and not entry.result:
            registered.add(entry.subscriber)
        elif entry.kind == Kind.UNREGISTER:
            registered.discard(entry.subscriber)
            if not entry.seq_exit:
                unfinished.append(entry)
    for number, left in sorted(balance.items()):
        if left:
            more = "kept" if left > 0 else "returned too often"
            yield Finding(
                NAME,
                f"subscriber {recording.subscriber(number)}: page references {more}",
                f"{left:+d} pages after HOLD − PUT over the whole log",
            )
    pinned = recording.moved("nr_foll_pin_acquired") - recording.moved("nr_foll_pin_released")
    if pinned:
        yield Finding(
            NAME,
            "the kernel counted different numbers of pins taken and released",
            f"nr_foll_pin_acquired − nr_foll_pin_released moved by {pinned:+d} over the scenario",
        )
    yield from _left(recording, registered, unfinished)
    if recording.ended is Ended.COMPLETE:
        yield from _never_returned(recording)


def _never_returned(recording: Recording) -> Iterator[Finding]:
    """Pages that are isolated, though nothing reclaims any more."""
    isolated = recording.moved("nr_isolated_anon") + recording.moved("nr_isolated_file")
    if abs(isolated) > _ISOLATED_PAGES:
        yield Finding(
            NAME,
            "pages that reclaim took off the LRU lists were never put back",
            f"nr_isolated_anon + nr_isolated_file moved by {isolated:+d} pages over the scenario",
        )


def _left(recording: Recording, registered: set[int], unfinished: Sequence[Event]) -> Iterator[Finding]:
    """Subscribers that are still there."""
    if leaving := recording.module.get("leaving", 0):
        yield Finding(
            NAME,
            "a subscriber that was put was never freed",
            f"{leaving} on their way out, and no free_notifier after many grace periods: "
            + (", ".join(recording.subscriber(entry.subscriber) for entry in unfinished) or "not in the log"),
        )
    for number in sorted(registered):
        yield Finding(
            NAME,
            f"subscriber {recording.subscriber(number)} was never unregistered",
            "a REGISTER event without an UNREGISTER over the whole log",
        )
