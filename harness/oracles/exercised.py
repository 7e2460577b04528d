# SPDX-License-Identifier: GPL-2.0-only
"""What had to happen happened, so often as the scenario says; less proves nothing and is inconclusive."""

from __future__ import annotations

import errno
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from harness.model.event import OWNER_IS_CURRENT, PF_KSWAPD, Kind, RangeEvent
from harness.model.recording import Recording
from harness.model.verdict import Finding

NAME = "exercised"


def count(recording: Recording) -> Mapping[str, int]:
    """The counters of model/vocabulary.py COUNTERS, over callbacks for a subscriber's own buffer."""
    own = [entry for entry in recording.starts if entry.own]
    waits = [entry for entry in recording.all_events if entry.kind == Kind.WAIT]
    events = Counter(entry.event for entry in own)
    return {
        "callbacks": len(own),
        "direct_reclaim": sum(entry.strict_direct for entry in own),
        "kswapd": sum(bool(entry.pf_flags & PF_KSWAPD) for entry in own),
        "mayfail": sum(entry.mayfail for entry in own),
        "nonblockable": sum(not entry.blockable for entry in own),
        "nested": _nested(recording),
        "eagain": sum(entry.result == -errno.EAGAIN for entry in own),
        "errno": sum(entry.result not in (0, -errno.EAGAIN) for entry in own),
        "waits": len(waits),
        "self_waits": sum(bool(entry.context & OWNER_IS_CURRENT) for entry in waits),
        "exits": _exits(recording),
        "held": sum(entry.result for entry in recording.all_events if entry.kind == Kind.HOLD and entry.result > 0),
        "released": sum(entry.result for entry in recording.all_events if entry.kind == Kind.PUT),
        "allocstall": recording.moved("allocstall"),
        **{f"event_{event.name.lower()}": events[event] for event in RangeEvent},
    }


def _exits(recording: Recording) -> int:
    """Releases because the mm went away: mmu_notifier_unregister() calls release, too, when it is not."""
    leaving: set[int] = set()
    exits = 0
    for entry in recording.all_events:
        if entry.kind == Kind.UNREGISTER:
            leaving.add(entry.subscriber)
        exits += entry.kind == Kind.RELEASE and entry.subscriber not in leaving
    return exits


def _nested(recording: Recording) -> int:
    """MAYFAIL starts within another range of the same task: reclaim in a fork or mremap that allocates page tables."""
    outer: defaultdict[int, set[int]] = defaultdict(set)
    nested = 0
    for entry in recording.all_events:
        if entry.kind == Kind.START and entry.mayfail:
            nested += bool(outer[entry.task]) and entry.own
        elif entry.kind == Kind.START:
            outer[entry.task].add(entry.range)
        elif entry.kind == Kind.END:
            outer[entry.task].discard(entry.range)
    return nested


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each counter that fell short, and one for a log that lost events."""
    counted = count(recording)
    for counter, least in recording.scenario.exercised.items():
        if counted[counter] < least:
            yield Finding(
                NAME, f"too little {counter} to judge", f"{counter}: {counted[counter]}, at least {least} needed"
            )
    if recording.events.lost:
        yield Finding(
            NAME,
            "the event log overflowed",
            f"{recording.events.lost} events lost, its capacity is {recording.events.capacity}",
        )
