# SPDX-License-Identifier: GPL-2.0-only
"""MMU_NOTIFIER_RANGE_MAYFAIL gates what a callback may answer: −EAGAIN is tolerated with it, and only with it.

Three rules, each from mm/mmu_notifier.c and mm/rmap.c as the patch leaves them:

1. Direct reclaim unmaps through try_to_unmap_one(), so each of its ranges is
   MAYFAIL, and BLOCKABLE with it (mmu_notifier_invalidate_range_start() sets that).
2. Nothing that must unmap (munmap, mprotect, fork, …) may say MAYFAIL.
3. A start that fails is complained about ("callback failed with", then a
   WARN) exactly when it was not tolerated: any errno without MAYFAIL, any errno
   but −EAGAIN with it.
"""

from __future__ import annotations

import bisect
import errno
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from harness.console import Report, find, records
from harness.model.event import PF_MEMALLOC, Event, RangeEvent
from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding

NAME = "mayfail-gate"

_COMPLAINT = re.compile(
    r"(?:mmu_notifier: )?(?P<callback>[\w.]+)\S*(?: \[\w+\])? "
    r"callback failed with (?P<errno>-?\d+) in (?P<non>non-)?blockable"
)
_WARNS_A_COMPLAINT = 2
_FUNCTIONS = ("mn_hlist_invalidate_range_start", "__mmu_notifier_invalidate_range_start")


def complaints(recording: Recording) -> list[tuple[int, int]]:
    """Line and errno of each "callback failed with … in blockable context" on the console."""
    found = []
    for number, line in enumerate(recording.console_lines, 1):
        for record in records(line, 0) if "callback failed with" in line else ():
            match = _COMPLAINT.match(record.text)
            if match is not None and not match["non"]:
                found.append((number, int(match["errno"])))
    return found


def owned(recording: Recording) -> list[Report]:
    """The WARNs that belong to complaints: this oracle's to judge, not the clean log's.

    mn_hlist_invalidate_range_start() warns once behind its line, and once more
    for a subscriber with an invalidate_range_end. Any other WARN there is news.
    """
    lines = [number for number, _ in complaints(recording)]
    seen: set[tuple[int, str]] = set()
    own = []
    for report in find(recording.console_head):
        after = bisect.bisect_left(lines, report.line)
        if report.type != "WARNING" or report.function not in _FUNCTIONS or not after:
            continue
        key = (after, report.site)
        if key not in seen and sum(before == after for before, _ in seen) < _WARNS_A_COMPLAINT:
            seen.add(key)
            own.append(report)
    return own


def judge(recording: Recording) -> Iterator[Finding]:
    """Ranges that carry the wrong flags, and answers that the kernel took the wrong way."""
    warns = owned(recording)
    yield from _unmarked(recording, warns)
    yield from _half_marked(recording)
    yield from _marked_wrongly(recording)
    yield from _complaints(recording, warns)


def name_errno(result: int) -> str:
    """-11 → '−EAGAIN (-11)'."""
    word = errno.errorcode.get(-result)
    return f"−{word} ({result})" if word else str(result)


def _unmarked(recording: Recording, warns: Sequence[Report]) -> Iterator[Finding]:
    bare = [entry for entry in recording.starts if entry.strict_direct and not entry.mayfail]
    if not bare:
        return
    failed = [entry for entry in bare if entry.result]
    text = "direct reclaim came without MMU_NOTIFIER_RANGE_MAYFAIL"
    if failed:
        text += f"; {name_errno(failed[0].result)} was not tolerated"
        if warns:
            text += f": WARN at {_site(warns)}"
    yield Finding(
        NAME,
        text,
        f"scenario {recording.scenario.name}: {len(bare)} of {sum(e.strict_direct for e in recording.starts)} "
        f"callbacks in direct reclaim, {len(failed)} of them answered an errno; "
        f"{_point(failed or bare)}; {_shown(warns)}",
    )


def _half_marked(recording: Recording) -> Iterator[Finding]:
    odd = [entry for entry in recording.starts if entry.mayfail and not entry.blockable]
    if odd:
        yield Finding(
            NAME,
            "a MAYFAIL range is not BLOCKABLE",
            f"scenario {recording.scenario.name}: {len(odd)} callbacks; {_point(odd)}",
        )


def _marked_wrongly(recording: Recording) -> Iterator[Finding]:
    wrong = [
        entry
        for entry in recording.starts
        if entry.mayfail and (entry.event != RangeEvent.CLEAR or not entry.pf_flags & PF_MEMALLOC)
    ]
    by_event = Counter(entry.event for entry in wrong)
    for number, count in sorted(by_event.items()):
        name = RangeEvent(number).name if number in RangeEvent._value2member_map_ else f"event {number}"
        some = [entry for entry in wrong if entry.event == number]
        yield Finding(
            NAME,
            f"MMU_NOTIFIER_RANGE_MAYFAIL outside reclaim: MMU_NOTIFY_{name}",
            f"scenario {recording.scenario.name}: {count} callbacks of tasks that are not in reclaim; {_point(some)}",
        )


def _complaints(recording: Recording, warns: Sequence[Report]) -> Iterator[Finding]:
    """Rule 3, by errno: what the events say must be complained about against what the console holds.

    Exact on a scenario that ran to its end; one that was stopped early because
    of a flood is judged by presence alone.
    """
    must: Counter[int] = Counter()
    tolerated: Counter[int] = Counter()
    for entry in recording.starts:
        if entry.result and (entry.blockable or entry.result != -errno.EAGAIN):
            (tolerated if entry.mayfail and entry.result == -errno.EAGAIN else must)[entry.result] += 1
    said = Counter(result for _, result in complaints(recording))
    exact = recording.ended is Ended.COMPLETE and not recording.events.lost
    for result in sorted({*must, *tolerated, *said}):
        wanted, got = must[result], said[result]
        if got > wanted and tolerated[result]:
            yield Finding(
                NAME,
                f"{name_errno(result)} under MMU_NOTIFIER_RANGE_MAYFAIL was not tolerated: WARN at {_site(warns)}",
                f"scenario {recording.scenario.name}: {tolerated[result]} answers to be tolerated, {wanted} not; "
                f"{got} complaints; {_shown(warns)}",
            )
        elif got > wanted and exact:
            yield Finding(
                NAME,
                f"the kernel complained of {name_errno(result)} more often than a callback answered it: "
                f"WARN at {_site(warns)}",
                f"scenario {recording.scenario.name}: {wanted} answers, {got} complaints; {_shown(warns)}",
            )
        elif wanted and (not got or (exact and got < wanted)):
            flags = "with" if any(e.mayfail for e in _answers(recording.starts, result)) else "without"
            yield Finding(
                NAME,
                f"{name_errno(result)} {flags} MMU_NOTIFIER_RANGE_MAYFAIL was swallowed: "
                "the kernel must warn and did not",
                f"scenario {recording.scenario.name}: {wanted} answers that nothing permits, {got} complaints; "
                f"{_point(_answers(recording.starts, result))}",
            )
    if exact and must.total() and len(warns) < said.total():
        yield Finding(
            NAME,
            "a callback's failure was logged without a WARN",
            f"scenario {recording.scenario.name}: {said.total()} complaints, {len(warns)} WARNs",
        )


def _answers(starts: Iterable[Event], result: int) -> list[Event]:
    return [entry for entry in starts if entry.result == result and not (entry.mayfail and result == -errno.EAGAIN)]


def _site(warns: Sequence[Report]) -> str:
    sites = Counter(report.site for report in warns)
    return ", ".join(sorted(sites)) or "(none on the console)"


def _point(entries: Sequence[Event]) -> str:
    first = entries[0]
    event = RangeEvent(first.event).name if first.event in RangeEvent._value2member_map_ else first.event
    return (
        f"the first is event {first.seq}: flags {first.flags:#x}, MMU_NOTIFY_{event}, "
        f"[{first.start:#x}, {first.end:#x}), PF_ flags {first.pf_flags:#x}, result {first.result}"
    )


def _shown(warns: Sequence[Report]) -> str:
    if not warns:
        return "no WARN on the console"
    return f"{len(warns)} WARNs on the console, the first at line {warns[0].line}:\n{warns[0].text}"
