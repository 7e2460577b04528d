# SPDX-License-Identifier: GPL-2.0-only
"""A page table that mirrors the CPU's is never stale: what the kernel takes away, it announces in a range.

A mirror (guest-modules/notifier_hold/mirror.c) holds page frames and permissions to
write, taken by hmm_range_fault(), and gives up what ranges tell it to give up. After
each step, and whenever a thread asks for it, what it still holds is compared with
the page table. This needs no probe on any function: an operation that tells of
nothing, of too little, or too late (the mirror takes the old page over again before
the change) leaves something stale behind, whatever its code looks like. A range that
begins after its change finds the mirror stale already.

What the kernel need not tell, Documentation/mm/mmu_notifier.rst and
mm/memory.c: that a page is mapped where none was, that a page may be written
(wp_page_reuse()), or that it is younger, older, clean or dirty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from harness.model.event import Event, Kind, RangeEvent
from harness.model.recording import Answer, Recording
from harness.model.verdict import Finding

NAME = "coherence"

# enum nh_broken of notifier_hold_uapi.h: what a mirror holds although …
STALE = {
    13: "pages that are not mapped any more",
    14: "pages in whose place others are mapped",
    15: "a permission to write that the page table has not",
    16: "pages that had changed before their range began",
    17: "pages for itself alone that are mapped again",
}


@dataclass
class _Loss:
    """What one step took away from one mirror without a word. pages: how many; runs: the records, one for each run."""

    step: int
    subscriber: int
    broken: int
    pages: int = 0
    runs: list[Event] = field(default_factory=list)


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each step, mirror, and kind of staleness."""
    if recording.events.lost:
        yield from _beside_the_log(recording)
    losses: dict[tuple[int, int, int], _Loss] = {}
    stale = [entry for entry in recording.events.of(Kind.VIOLATION) if entry.result in STALE]
    if not stale:
        return
    # The driver's main thread compares after each step: what went stale before that went in this step. A child
    # process counts lines of its own, and no answer holds their numbers.
    drivers = {entry.tgid for entry in recording.events.of(Kind.MARK)}
    compared = sorted(recording.events.of(Kind.COMPARE), key=lambda entry: entry.seq)
    rests = [entry for entry in compared if entry.pid == entry.tgid and entry.tgid in drivers]
    for entry in stale:
        after = (one.flags for one in rests if one.tgid == entry.tgid and not 0 < one.seq_exit < entry.seq)
        step = next(after, 0)
        key = (step, entry.subscriber, entry.result)
        loss = losses.setdefault(key, _Loss(*key))
        loss.pages += (entry.end - entry.start) >> 12
        loss.runs.append(entry)
    told = sorted(recording.events.of(Kind.INVALIDATE), key=lambda entry: entry.seq)
    taken = sorted(recording.events.of(Kind.MIRROR), key=lambda entry: entry.seq)
    for loss in losses.values():
        yield _finding(recording, loss, told, taken)


def _finding(recording: Recording, loss: _Loss, told: Sequence[Event], taken: Sequence[Event]) -> Finding:
    first = loss.runs[0]
    answer = _answer(recording, loss.step)
    doing = f"{answer.doing}: " if answer else ""
    near = [entry for entry in told if entry.subscriber == loss.subscriber and entry.seq < first.seq]
    there = [entry for entry in near if entry.start < first.end and entry.end > first.start]
    filled = [entry.seq for entry in taken if entry.subscriber == loss.subscriber and entry.seq < first.seq]
    lines = [
        f"{loss.pages} pages, {len(loss.runs)} runs; first: [{first.start:#x}, {first.end:#x})",
        f"step {answer.step}: {answer.command}" if answer else "the step is not known",
        f"the last range told there: {_range(there[-1])}" if there else _elsewhere(near),
    ]
    if there and filled and there[-1].seq < filled[-1]:
        lines.append("the mirror took the page table over after that")
    return Finding(
        NAME,
        f"{doing}mirror {recording.subscriber(loss.subscriber)} holds {STALE[loss.broken]}",
        "; ".join(lines),
    )


def _range(entry: Event) -> str:
    known = entry.event in RangeEvent._value2member_map_
    name = RangeEvent(entry.event).name if known else f"event {entry.event}"
    return f"[{entry.start:#x}, {entry.end:#x}), {name}, record {entry.seq}"


def _elsewhere(near: Sequence[Event]) -> str:
    if not near:
        return "no range was told"
    return f"no range was told there; the last one elsewhere in the mirror: {_range(near[-1])}"


def _answer(recording: Recording, number: int) -> Answer | None:
    """The answer to the driver's line of this number, if there is one."""
    for answer in recording.answers:
        if answer.reply.get("step") == number:
            return answer
    return None


def _beside_the_log(recording: Recording) -> Iterator[Finding]:
    """What the module counted, for a log that overflowed."""
    for broken, what in STALE.items():
        if count := recording.module.get(f"broken_{broken}", 0):
            yield Finding(
                NAME,
                f"the log overflowed, and a mirror was seen to hold {what}",
                f"{count} runs, counted in the module; {recording.events.lost} events are missing in the log",
            )
