# SPDX-License-Identifier: GPL-2.0-only
"""Every page reference that a subscriber took is returned, and every subscriber is gone at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from harness.model.event import Kind
from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding

NAME = "references"


def judge(recording: Recording) -> Iterator[Finding]:
    """HOLD and PUT events balance, and the module's own account says the same."""
    if recording.ended not in (Ended.COMPLETE, Ended.EARLY, Ended.STEP_FAILED) or recording.events.lost:
        return
    balance: Counter[int] = Counter()
    for entry in recording.all_events:
        if entry.kind == Kind.HOLD:
            balance[entry.subscriber] += entry.result
        elif entry.kind == Kind.PUT:
            balance[entry.subscriber] -= entry.result
    for number, left in sorted(balance.items()):
        if left:
            more = "kept" if left > 0 else "returned too often"
            yield Finding(
                NAME,
                f"subscriber {recording.subscriber(number)}: page references {more}",
                f"{left:+d} pages after HOLD − PUT over the whole log",
            )
    for key, what in (("held_pages", "page references"), ("subscribers", "subscribers")):
        if recording.module.get(key):
            yield Finding(
                NAME, f"the module still has {what} at the end", f"{key} = {recording.module[key]}, expected 0"
            )
