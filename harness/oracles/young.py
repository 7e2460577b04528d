# SPDX-License-Identifier: GPL-2.0-only
"""Whether a device accessed a page is asked page by page, under the lock of the page table.

include/linux/mmu_notifier.h, clear_flush_young(), clear_young() and test_young():
their callers hold the lock of the page table whose accessed bit they read
(folio_referenced_one(), page_idle_clear_pte_refs_one(), lru_gen_look_around(),
hpage_collapse_scan_pmd()), and add the answer to that bit. Whether the answer counts
is for a scenario to show: a page that a device accessed is not idle, and stays. That
only who is registered is asked is for `lifetimes`, as with every callback.

Where the answer is also an order to forget, every device gets it, whatever another one
answered; only test_young() may stop at the first that says yes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.model.event import SUB_YOUNG, YOUNG_ATOMIC, YOUNG_COUNTED, Kind, Tally, Young
from harness.model.recording import Recording
from harness.model.verdict import Finding
from harness.oracles._life import Life, lives

NAME = "young"

_PAGE_BYTES = 4096
# A subscriber that leaves may be missed by those who ask at that moment: not more than there are CPUs in any guest.
_LEAVING = 64


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each way in which the question is wrong."""
    partial, unlocked = Tally(), Tally()
    for chunk in recording.events.chunks():
        asked = chunk.of(Kind.YOUNG)
        partial.add(
            chunk, asked & ((chunk["end"] <= chunk["start"]) | ((chunk["start"] | chunk["end"]) % _PAGE_BYTES != 0))
        )
        unlocked.add(chunk, asked & (chunk["flags"] & (YOUNG_ATOMIC | YOUNG_COUNTED) == YOUNG_COUNTED))
    for what, tally in (
        ("a device is asked about something other than whole pages", partial),
        ("a device is asked whether it accessed a page, and no lock of a page table is held", unlocked),
    ):
        if tally.first is not None:
            first = tally.first
            text = f"{tally.count} times; first: event {first.seq}, subscriber {recording.subscriber(first.subscriber)}"
            yield Finding(NAME, what, f"{text}, pid {first.pid}, [{first.start:#x}, {first.end:#x})")
    if not recording.events.lost:
        yield from _passed_over(recording)


def _passed_over(recording: Recording) -> Iterator[Finding]:
    """Subscribers of one mm that were not asked as often as another, while both were registered."""
    asked = {entry.subscriber for entry in recording.events.of(Kind.REGISTER) if entry.flags & SUB_YOUNG}
    groups: dict[int, list[Life]] = {}
    for life in lives(recording.events):
        if life.subscriber in asked:
            groups.setdefault(life.mm, []).append(life)
    for group in groups.values():
        counts = _asked(recording, group)
        most = max(counts, key=counts.__getitem__)
        for number, count in counts.items():
            if counts[most] - count > _LEAVING:
                yield Finding(
                    NAME,
                    f"subscriber {recording.subscriber(number)} is not asked for what it accessed, "
                    f"and subscriber {recording.subscriber(most)} is",
                    f"{count} times, where the other was asked {counts[most]} times while both were registered",
                )


def _asked(recording: Recording, group: Sequence[Life]) -> dict[int, int]:
    """How often each was asked and told to forget, while all of them were registered."""
    import numpy as np

    began, cut = max(life.began for life in group), min(life.cut for life in group)
    counts = dict.fromkeys((life.subscriber for life in group), 0)
    for chunk in recording.events.chunks():
        which = chunk.of(Kind.YOUNG) & (chunk["event"] != Young.TEST) & (chunk["seq"] > np.uint64(began))
        which &= chunk["seq"] < np.uint64(cut)
        for number in counts:
            counts[number] += int((which & (chunk["subscriber"] == number)).sum())
    return counts
