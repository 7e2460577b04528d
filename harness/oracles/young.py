# SPDX-License-Identifier: GPL-2.0-only
"""Whether a device accessed a page is asked page by page, under the lock of the page table.

include/linux/mmu_notifier.h, clear_flush_young(), clear_young() and test_young():
their callers hold the lock of the page table whose accessed bit they read
(folio_referenced_one(), page_idle_clear_pte_refs_one(), lru_gen_look_around(),
hpage_collapse_scan_pmd()), and add the answer to that bit. Whether the answer counts
is for a scenario to show: a page that a device accessed is not idle, and stays. That
only who is registered is asked is for `lifetimes`, as with every callback.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.event import YOUNG_ATOMIC, YOUNG_COUNTED, Kind, Tally
from harness.model.recording import Recording
from harness.model.verdict import Finding

NAME = "young"

_PAGE_BYTES = 4096


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
