# SPDX-License-Identifier: GPL-2.0-only
"""No callback takes seconds: the task that reclaims or unmaps waits for it.

The module measures each callback on the guest's monotonic clock. On a busy host
that clock runs on while the guest does not, so the bound is for callbacks that
slept, not for callbacks that were slow, and scales with the host's slow-down.
The time that a callback waited for its object is not counted here: no-hang
judges it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from harness.model.event import Event, Kind
from harness.model.recording import Recording
from harness.model.verdict import Finding

NAME = "latency"

BOUND_S = 2.0

# Durations are counted in steps of a 16th of an octave, 4.4 %, up to 2^64 ns.
_STEPS = 16
_PERCENTS = (50, 90, 99)


def measure(recording: Recording) -> Mapping[str, int]:
    """Percentiles of all callbacks that returned, each at most 4.4 % too high, and the longest; in µs.

    Empty when no callback returned.
    """
    import numpy as np

    counts = np.zeros(64 * _STEPS + 1, np.int64)
    longest = 0
    for chunk in recording.events.chunks():
        some = chunk["duration_ns"][chunk.of(Kind.START, Kind.END, Kind.INVALIDATE) & (chunk["seq_exit"] > 0)]
        if len(some):
            steps = np.ceil(np.log2(np.maximum(some, 1)) * _STEPS).astype(np.int64)
            counts += np.bincount(steps, minlength=len(counts))
            longest = max(longest, int(some.max()))
    total = int(counts.sum())
    if not total:
        return {}
    reached = counts.cumsum()
    at = {f"p{percent}": int(np.searchsorted(reached, total * percent / 100)) for percent in _PERCENTS}
    return {name: min(round(2 ** (step / _STEPS)), longest) // 1000 for name, step in at.items()} | {
        "max": longest // 1000
    }


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each subscriber and kind of callback that took longer than the bound plus the longest wait."""
    bound_ns = int(BOUND_S * max(1.0, recording.slowdown) * 1e9)
    waited: defaultdict[int, int] = defaultdict(int)
    for entry in recording.events.of(Kind.WAIT):
        waited[entry.subscriber] = max(waited[entry.subscriber], entry.duration_ns)
    late: defaultdict[tuple[int, int], list[Event]] = defaultdict(list)
    for chunk in recording.events.chunks():
        slow = chunk.of(Kind.START, Kind.END, Kind.INVALIDATE) & (chunk["duration_ns"] > bound_ns)
        for entry in chunk.take(slow):
            if entry.duration_ns > bound_ns + waited[entry.subscriber]:
                late[entry.subscriber, entry.kind].append(entry)
    for (subscriber, kind), entries in sorted(late.items()):
        worst = max(entries, key=lambda entry: entry.duration_ns)
        where = "direct reclaim" if worst.strict_direct else "a callback"
        yield Finding(
            NAME,
            f"subscriber {recording.subscriber(subscriber)} took seconds in {where} ({Kind(kind).name})",
            f"{len(entries)} callbacks took longer than {bound_ns / 1e9:.1f} s; the longest is event {worst.seq}: "
            f"{worst.duration_ns / 1e9:.1f} s in pid {worst.pid}",
        )
