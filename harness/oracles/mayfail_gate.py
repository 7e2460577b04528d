# SPDX-License-Identifier: GPL-2.0-only
"""MMU_NOTIFIER_RANGE_MAYFAIL gates what a callback may answer: −EAGAIN is tolerated with it, and only with it.

Three rules, each from mm/mmu_notifier.c and mm/rmap.c as the patch leaves them:

1. The range of a task that reclaims through try_to_unmap_one() is MAYFAIL, and
   BLOCKABLE with it (mmu_notifier_invalidate_range_start() sets that): direct
   reclaim, kswapd, MADV_PAGEOUT, all that have PF_MEMALLOC. Memory failure,
   truncation and the other callers must unmap. Whether their ranges are MAYFAIL
   is the patch's choice: those of the patch of 2020 are.
2. No other range is MAYFAIL: munmap, mprotect, fork, … must succeed.
3. The kernel complains about a start that fails ("callback failed with", then a
   WARN) exactly when the failure is not tolerated: any errno without MAYFAIL, any
   errno but −EAGAIN with it.

Under the contract `stock` the first two rules are one: no range is MAYFAIL. And
the third is the same, with no failure to tolerate: where a range may block, the
kernel complains about every one.

The kernel leaves one more rule to its drivers: −EAGAIN is for MAYFAIL ranges
only. A subscriber whose policy is to keep this rule must keep it.

Probes, where there are any, see which task is below try_to_unmap_one(). Without
probes (no CONFIG_KPROBES, or the function has another name) only a task in direct
reclaim is known to be, by its own flags. Of any other nothing is known where the
event is try_to_unmap_one()'s, MMU_NOTIFY_CLEAR: khugepaged, memory failure and
others call it, too.

Huge pages are different. Direct reclaim may split a huge page before it unmaps
the pages: through try_to_migrate_one(), whose range is not MAYFAIL and covers as
much of the huge page as the VMA has, so that without probes nothing is known of a
range of more than one page. And v6.1 splits the mapping of a huge page within
try_to_unmap_one() (split_huge_pmd_address() in mm/rmap.c), in a range of its own
that is not MAYFAIL, before it begins the MAYFAIL range.
"""

from __future__ import annotations

import bisect
import errno
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.console import Report, find, records
from harness.model.contract import Contract
from harness.model.event import PF_MEMALLOC, Chunk, Event, Kind, Policy, RangeEvent, Tally
from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding

if TYPE_CHECKING:
    from harness.model.event import Mask

NAME = "mayfail-gate"

_COMPLAINT = re.compile(
    r"(?:mmu_notifier: )?(?P<callback>[\w.]+)\S*(?: \[\w+\])? "
    r"callback failed with (?P<errno>-?\d+) in (?P<non>non-)?blockable"
)
_WARNS_A_COMPLAINT = 2
# Policies that refuse, or may refuse, ranges that are not MAYFAIL.
_RUDE = (0, Policy.EAGAIN_RECLAIM, Policy.EAGAIN_ALWAYS, Policy.ERRNO)
_PAGE_BYTES = 4096
_HUGE_BYTES = 2 << 20  # a PMD of x86_64
# Not by function: its name depends on what the compiler inlined, and on how a patch is written.
_FILE = "mm/mmu_notifier.c"


@dataclass(frozen=True)
class Complaint:
    """A "callback failed with … in blockable context" on the console. caller: "T123", empty where no record says."""

    line: int
    errno: int
    caller: str


def complaints(recording: Recording) -> list[Complaint]:
    """All complaints on the console, in order."""
    found = []
    for number, line in enumerate(recording.console_lines, 1):
        for record in records(line, 0) if "callback failed with" in line else ():
            match = _COMPLAINT.match(record.text)
            if match is not None and not match["non"]:
                found.append(Complaint(number, int(match["errno"]), record.caller))
    return found


def owned(recording: Recording) -> list[Report]:
    """The WARNs that belong to complaints: this oracle judges them, clean-log does not.

    mn_hlist_invalidate_range_start() warns once after its line, and once more for
    a subscriber with an invalidate_range_end. Any other WARN there belongs to no
    complaint. The lines of two tasks that complain at once are interleaved.
    """
    lines: defaultdict[str, list[int]] = defaultdict(list)
    for complaint in complaints(recording):
        lines[complaint.caller].append(complaint.line)
    seen: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    own = []
    for report in find(recording.console_head):
        caller = f"T{report.pid}" if f"T{report.pid}" in lines else ""
        after = bisect.bisect_left(lines[caller], report.line)
        if report.type != "WARNING" or report.site.partition(":")[0] != _FILE or not after:
            continue
        sites = seen[caller, after]
        if report.site not in sites and len(sites) < _WARNS_A_COMPLAINT:
            sites.add(report.site)
            own.append(report)
    return own


def judge(recording: Recording) -> Iterator[Finding]:
    """Ranges that carry the wrong flags, and answers that the kernel handled in the wrong way."""
    seen = _Seen(recording.contract)
    for chunk in recording.events.chunks():
        seen.add(chunk)
    warns = owned(recording)
    if recording.contract.marks:
        yield from _unmarked(recording, seen, warns)
        yield from _half_marked(recording, seen)
        yield from _marked_wrongly(recording, seen)
    else:
        yield from _marked(recording, seen)
    yield from _denied(recording, seen)
    yield from _rude(recording, seen)
    yield from _complaints(recording, seen, warns)


def name_errno(result: int) -> str:
    """-11 → '−EAGAIN (-11)'."""
    word = errno.errorcode.get(-result)
    return f"−{word} ({result})" if word else str(result)


@dataclass
class _Seen:
    """What the starts of a log add up to."""

    contract: Contract
    must_be_marked: int = 0
    bare: Tally = field(default_factory=Tally)
    bare_direct: Tally = field(default_factory=Tally)
    bare_failed: Tally = field(default_factory=Tally)
    bare_huge: Tally = field(default_factory=Tally)
    # Ranges of bare_huge followed by the MAYFAIL range that they prepared; those that no range has followed yet.
    followed: int = 0
    splits: dict[tuple[int, int, int], Event] = field(default_factory=dict)
    half: Tally = field(default_factory=Tally)
    marked_at_all: Tally = field(default_factory=Tally)
    wrong: defaultdict[int, Tally] = field(default_factory=lambda: defaultdict(Tally))
    denied: Tally = field(default_factory=Tally)
    rude: Tally = field(default_factory=Tally)
    # By errno: answers that the kernel must complain about; those of them under MAYFAIL; answers that it must tolerate.
    must: defaultdict[int, Tally] = field(default_factory=lambda: defaultdict(Tally))
    marked: Counter[int] = field(default_factory=Counter)
    tolerated: Counter[int] = field(default_factory=Counter)

    def add(self, chunk: Chunk) -> None:
        """Take one more chunk."""
        import numpy as np

        starts, mayfail, direct, observed = chunk.of(Kind.START), chunk.mayfail, chunk.strict_direct, chunk.observed
        result = chunk["result"]
        size = chunk["end"] - chunk["start"]
        huge, single = size == _HUGE_BYTES, size == _PAGE_BYTES
        reclaims = (chunk["pf_flags"] & PF_MEMALLOC).astype(bool)
        told = starts | chunk.of(Kind.INVALIDATE)
        below = told & (observed & chunk.unmap_one & reclaims | ~observed & direct & (single | mayfail))
        self.must_be_marked += int(below.sum())
        self.bare_huge.add(chunk, below & ~mayfail & huge)
        if self.splits or (below & ~mayfail & huge).any():
            for entry in chunk.take(below):
                self._follow(entry)
        bare = below & ~mayfail
        self.bare.add(chunk, bare)
        self.bare_direct.add(chunk, bare & direct)
        self.bare_failed.add(chunk, bare & (result != 0))
        self.marked_at_all.add(chunk, told & mayfail)
        self.half.add(chunk, told & mayfail & ~chunk.blockable)
        self.denied.add(chunk, starts & observed & chunk.below_direct & ~direct)
        polite = np.isin(chunk["policy"], _RUDE, invert=True)
        self.rude.add(chunk, starts & polite & (result == -errno.EAGAIN) & ~chunk.mayfail & chunk.blockable)
        outside = observed & ~chunk.unmap_one | ~observed & (chunk["event"] != RangeEvent.CLEAR)
        wrong = told & mayfail & outside
        for number in set(chunk["event"][wrong].tolist()):
            self.wrong[number].add(chunk, wrong & (chunk["event"] == number))
        failed = starts & (result != 0)
        for number in set(result[failed].tolist()):
            self._answer(chunk, failed & (result == number), number)

    def _follow(self, entry: Event) -> None:
        """A task's next range after that of a split lies within it, and is smaller where the VMA is smaller."""
        who = entry.task, entry.pid, entry.subscriber
        split = self.splits.pop(who, None)
        if not entry.mayfail and entry.end - entry.start == _HUGE_BYTES:
            self.splits[who] = entry
        elif entry.mayfail and split and split.start <= entry.start and entry.end <= split.end:
            self.followed += 1

    def _answer(self, chunk: Chunk, answers: Mask, number: int) -> None:
        again = number == -errno.EAGAIN
        tolerated = answers & self.contract.tolerated(chunk) & again
        self.tolerated[number] += int(tolerated.sum())
        # A range that may not block may be refused with −EAGAIN, whatever its other flags.
        must = answers & ~tolerated & (chunk.blockable | (not again))
        self.must[number].add(chunk, must)
        self.marked[number] += int((must & chunk.mayfail).sum())


def _unmarked(recording: Recording, seen: _Seen, warns: Sequence[Report]) -> Iterator[Finding]:
    splits = seen.bare_huge.count if seen.bare_huge.count <= seen.followed else 0
    if not seen.bare.first or seen.bare.count == splits:
        return
    failed = seen.bare_failed.first
    who = "direct reclaim" if seen.bare_direct.first else "try_to_unmap_one()"
    text = f"{who} came without MMU_NOTIFIER_RANGE_MAYFAIL"
    if failed:
        text += f"; {name_errno(failed.result)} was not tolerated"
        if warns:
            text += f": WARN at {_site(warns)}"
    yield Finding(
        NAME,
        text,
        f"scenario {recording.scenario.name}: {seen.bare.count} of {seen.must_be_marked} callbacks in {who}, "
        f"{seen.bare_failed.count} of them answered an errno; "
        f"{_point(failed or seen.bare_direct.first or seen.bare.first)}; {_shown(warns)}",
    )


def _half_marked(recording: Recording, seen: _Seen) -> Iterator[Finding]:
    if seen.half.first:
        yield Finding(
            NAME,
            "a MAYFAIL range is not BLOCKABLE",
            f"scenario {recording.scenario.name}: {seen.half.count} callbacks; {_point(seen.half.first)}",
        )


def _marked_wrongly(recording: Recording, seen: _Seen) -> Iterator[Finding]:
    for number, tally in sorted(seen.wrong.items()):
        assert tally.first is not None
        yield Finding(
            NAME,
            f"MMU_NOTIFIER_RANGE_MAYFAIL outside reclaim: MMU_NOTIFY_{_event(number)}",
            f"scenario {recording.scenario.name}: {tally.count} callbacks of tasks that are not below "
            f"try_to_unmap_one(); {_point(tally.first)}",
        )


def _marked(recording: Recording, seen: _Seen) -> Iterator[Finding]:
    marked = seen.marked_at_all
    if marked.first:
        yield Finding(
            NAME,
            "MMU_NOTIFIER_RANGE_MAYFAIL is set, and the contract stock has no such range",
            f"scenario {recording.scenario.name}: {marked.count} callbacks; {_point(marked.first)}",
        )


def _denied(recording: Recording, seen: _Seen) -> Iterator[Finding]:
    if seen.denied.first:
        yield Finding(
            NAME,
            "a task below try_to_free_pages() is not in reclaim by its own flags",
            f"scenario {recording.scenario.name}: {seen.denied.count} callbacks; {_point(seen.denied.first)}",
        )


def _rude(recording: Recording, seen: _Seen) -> Iterator[Finding]:
    if seen.rude.first:
        yield Finding(
            NAME,
            f"subscriber {recording.subscriber(seen.rude.first.subscriber)} refused a range that may not fail",
            f"scenario {recording.scenario.name}: {seen.rude.count} callbacks, against policy "
            f"{Policy(seen.rude.first.policy).name}; {_point(seen.rude.first)}",
        )


def _complaints(recording: Recording, seen: _Seen, warns: Sequence[Report]) -> Iterator[Finding]:
    """Rule 3, by errno: the complaints that the events demand against those on the console.

    The numbers must be equal for a scenario that ran to its end; a scenario that
    was stopped early because of a flood is judged by presence alone.
    """
    said = Counter(complaint.errno for complaint in complaints(recording))
    exact = recording.ended is Ended.COMPLETE and not recording.events.lost
    for result in sorted({*seen.must, *seen.tolerated, *said}):
        must, got = seen.must[result], said[result]
        wanted = must.count
        if got > wanted and seen.tolerated[result]:
            yield Finding(
                NAME,
                f"{name_errno(result)} under MMU_NOTIFIER_RANGE_MAYFAIL was not tolerated: WARN at {_site(warns)}",
                f"scenario {recording.scenario.name}: {seen.tolerated[result]} answers to be tolerated, {wanted} not; "
                f"{got} complaints; {_shown(warns)}",
            )
        elif got > wanted and exact:
            yield Finding(
                NAME,
                f"the kernel complained of {name_errno(result)} more often than a callback answered it: "
                f"WARN at {_site(warns)}",
                f"scenario {recording.scenario.name}: {wanted} answers, {got} complaints; {_shown(warns)}",
            )
        elif must.first and (not got or (exact and got < wanted)):
            flags = "with" if seen.marked[result] else "without"
            yield Finding(
                NAME,
                f"{name_errno(result)} {flags} MMU_NOTIFIER_RANGE_MAYFAIL was swallowed: "
                "the kernel must warn and did not",
                f"scenario {recording.scenario.name}: {wanted} answers that nothing permits, {got} complaints; "
                f"{_point(must.first)}",
            )
    if exact and any(tally.count for tally in seen.must.values()) and len(warns) < said.total():
        yield Finding(
            NAME,
            "a callback's failure was logged without a WARN",
            f"scenario {recording.scenario.name}: {said.total()} complaints, {len(warns)} WARNs",
        )


def _site(warns: Sequence[Report]) -> str:
    sites = Counter(report.site for report in warns)
    return ", ".join(sorted(sites)) or "(none on the console)"


def _event(number: int) -> str:
    return RangeEvent(number).name if number in RangeEvent._value2member_map_ else f"event {number}"


def _point(first: Event) -> str:
    return (
        f"the first is event {first.seq}: flags {first.flags:#x}, MMU_NOTIFY_{_event(first.event)}, "
        f"[{first.start:#x}, {first.end:#x}), PF_ flags {first.pf_flags:#x}, result {first.result}"
    )


def _shown(warns: Sequence[Report]) -> str:
    if not warns:
        return "no WARN on the console"
    return f"{len(warns)} WARNs on the console, the first at line {warns[0].line}:\n{warns[0].text}"
