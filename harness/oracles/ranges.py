# SPDX-License-Identifier: GPL-2.0-only
"""A range names its memory and the event: it is not empty, and where a page is unmapped it covers whole pages.

A subscriber compares the range with what it maps. A range that is empty, or ends
within a page, tells it nothing of the page that goes (mm/rmap.c sets the end of
try_to_unmap_one()'s range by vma_address_end()). Other ranges need not cover whole
pages: clearing soft-dirty bits is announced for [0, -1UL). And where a page is
unmapped the event is MMU_NOTIFY_CLEAR: a driver may take MMU_NOTIFY_UNMAP for the
end of its object.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.event import Kind, RangeEvent, Tally
from harness.model.recording import Recording
from harness.model.verdict import Finding

NAME = "ranges"

_PAGE_BYTES = 4096


def judge(recording: Recording) -> Iterator[Finding]:
    """Ranges of no length, ranges of reclaim that do not cover whole pages, and unmapping under another event."""
    empty, partial, torn, other = Tally(), Tally(), Tally(), Tally()
    for chunk in recording.events.chunks():
        starts = chunk.of(Kind.START, Kind.INVALIDATE)
        without = starts & (chunk["end"] <= chunk["start"])
        empty.add(chunk, without)
        odd = starts & ~without & ((chunk["start"] | chunk["end"]) % _PAGE_BYTES != 0)
        unmaps = chunk.observed & chunk.unmap_one
        partial.add(chunk, odd & chunk.mayfail)
        torn.add(chunk, odd & unmaps & ~chunk.mayfail)
        other.add(chunk, starts & unmaps & (chunk["event"] != RangeEvent.CLEAR))
    for what, tally in (
        ("a range of no length", empty),
        ("a MAYFAIL range that does not cover whole pages", partial),
        ("try_to_unmap_one() announces a range that does not cover whole pages", torn),
        ("try_to_unmap_one() announces something other than MMU_NOTIFY_CLEAR", other),
    ):
        if tally.first is not None:
            first = tally.first
            yield Finding(
                NAME, what, f"{tally.count} starts; the first is event {first.seq}: [{first.start:#x}, {first.end:#x})"
            )
