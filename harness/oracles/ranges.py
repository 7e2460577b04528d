# SPDX-License-Identifier: GPL-2.0-only
"""A range names memory: it has a length, and where reclaim unmaps a page, whole pages.

A subscriber compares the range with what it maps. One that is empty, or ends
within a page, tells it nothing of the page that goes (mm/rmap.c sets the end of
try_to_unmap_one()'s range by vma_address_end()). Others need not be whole
pages: clearing soft-dirty bits is announced for [0, -1UL).
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.event import Kind, Tally
from harness.model.recording import Recording
from harness.model.verdict import Finding

NAME = "ranges"

_PAGE_BYTES = 4096


def judge(recording: Recording) -> Iterator[Finding]:
    """Ranges of no length, and MAYFAIL ranges that are no whole pages."""
    empty, partial = Tally(), Tally()
    for chunk in recording.events.chunks():
        starts = chunk.of(Kind.START, Kind.INVALIDATE)
        without = starts & (chunk["end"] <= chunk["start"])
        empty.add(chunk, without)
        partial.add(chunk, starts & ~without & chunk.mayfail & ((chunk["start"] | chunk["end"]) % _PAGE_BYTES != 0))
    for what, tally in (("a range of no length", empty), ("a MAYFAIL range that is no whole pages", partial)):
        if tally.first is not None:
            first = tally.first
            yield Finding(
                NAME, what, f"{tally.count} starts; the first is event {first.seq}: [{first.start:#x}, {first.end:#x})"
            )
