# SPDX-License-Identifier: GPL-2.0-only
"""What had to happen happened, so often as the scenario says; less proves nothing and is inconclusive."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping

from harness.model.event import OWNER_IS_CURRENT, Kind
from harness.model.recording import Recording
from harness.model.verdict import Finding

NAME = "exercised"


def count(recording: Recording) -> Mapping[str, int]:
    """The counters of model/scenario.py COUNTERS, over callbacks for a subscriber's own buffer."""
    own = [entry for entry in recording.starts if entry.own]
    waits = [entry for entry in recording.all_events if entry.kind == Kind.WAIT]
    return {
        "callbacks": len(own),
        "direct_reclaim": sum(entry.strict_direct for entry in own),
        "mayfail": sum(entry.mayfail for entry in own),
        "eagain": sum(entry.result == -errno.EAGAIN for entry in own),
        "errno": sum(entry.result not in (0, -errno.EAGAIN) for entry in own),
        "waits": len(waits),
        "self_waits": sum(bool(entry.context & OWNER_IS_CURRENT) for entry in waits),
        "held": sum(entry.result for entry in recording.all_events if entry.kind == Kind.HOLD and entry.result > 0),
        "released": sum(entry.result for entry in recording.all_events if entry.kind == Kind.PUT),
        "allocstall": recording.moved("allocstall"),
    }


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
