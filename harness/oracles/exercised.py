# SPDX-License-Identifier: GPL-2.0-only
"""What had to happen happened as often as the scenario demands; less proves nothing and is inconclusive."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from harness.model.contract import Contract
from harness.model.event import HAS_END, OWNER_IS_CURRENT, PF_KSWAPD, Chunk, Kind, RangeEvent, Young
from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding
from harness.model.vocabulary import COUNTERS

NAME = "exercised"


def count(recording: Recording) -> Mapping[str, int]:
    """The COUNTERS of model/vocabulary.py, over callbacks for a subscriber's own buffer; counted only once."""
    if NAME not in recording.worked_out:
        recording.worked_out[NAME] = _counted(recording)
    counted: Mapping[str, int] = recording.worked_out[NAME]
    return counted


def _counted(recording: Recording) -> Mapping[str, int]:
    counted = Counter(
        {
            "allocstall": recording.moved("allocstall"),
            "exits": _exits(recording),
            "lost_ends": recording.module.get("aborted", 0),
            **_within(recording),
        }
    )
    nesting = _Nesting(recording.contract)
    for chunk in recording.events.chunks():
        own = chunk.of(Kind.START) & chunk.own
        waits = chunk.of(Kind.WAIT)
        result = chunk["result"]
        which = {
            "callbacks": own,
            "direct_reclaim": own & chunk.strict_direct,
            "kswapd": own & (chunk["pf_flags"] & PF_KSWAPD).astype(bool),
            "mayfail": own & chunk.mayfail,
            "nonblockable": own & ~chunk.blockable,
            "eagain": own & (result == -errno.EAGAIN),
            "errno": own & (result != 0) & (result != -errno.EAGAIN),
            "invalidates": chunk.of(Kind.INVALIDATE) & chunk.own,
            "refused_invalidates": chunk.of(Kind.INVALIDATE) & chunk.own & (result != 0),
            "waits": waits,
            "self_waits": waits & (chunk["context"] & OWNER_IS_CURRENT).astype(bool),
            "self_held": own & (chunk["context"] & OWNER_IS_CURRENT).astype(bool),
        }
        counted.update({name: int(mask.sum()) for name, mask in which.items()})
        for event, times in Counter(chunk["event"][own].tolist()).items():
            if event in RangeEvent._value2member_map_:
                counted[f"event_{RangeEvent(event).name.lower()}"] += times
        counted["nested"] += nesting.count(chunk)
        counted["held"] += int(result[chunk.of(Kind.HOLD) & (result > 0)].sum())
        young = chunk.of(Kind.YOUNG) & chunk.own
        for asked in Young:
            counted[f"young_{asked.name.lower()}"] += int((young & (chunk["event"] == asked)).sum())
        for name, kind in (("mirrored", Kind.MIRROR), ("compared", Kind.COMPARE)):
            counted[name] += int(result[chunk.of(kind) & (result > 0)].sum())
        counted["awaited"] += int((chunk.of(Kind.END) & (result > 0)).sum())
        counted["flushes"] += int((chunk.of(Kind.FLUSH) & chunk.own).sum())
        counted["released"] += int(result[chunk.of(Kind.PUT)].sum())
    return {name: counted[name] for name in COUNTERS}


def _exits(recording: Recording) -> int:
    """Calls of release() because the mm exited: mmu_notifier_unregister() calls it, too, while the mm lives."""
    leaving: set[int] = set()
    exits = 0
    for entry in recording.events.of(Kind.UNREGISTER, Kind.RELEASE):
        if entry.kind == Kind.UNREGISTER:
            leaving.add(entry.subscriber)
        exits += entry.kind == Kind.RELEASE and entry.subscriber not in leaving
    return exits


def _within(recording: Recording) -> Mapping[str, int]:
    """Registrations and removals that began while the mm had a range open.

    Before each there were more starts than ends, of subscribers that have ends and had not left.
    """
    import numpy as np

    moves = {Kind.REGISTER: "registers_within", Kind.UNREGISTER: "leaves_within"}
    asked = sorted(recording.events.of(*moves), key=lambda entry: entry.seq)
    opened = [0] * len(asked)
    for chunk in recording.events.chunks():
        starts, ends = chunk.of(Kind.START) & (chunk["context"] & HAS_END).astype(bool), chunk.of(Kind.END)
        gone: set[int] = set()
        for number, entry in enumerate(asked):
            before = (chunk["seq"] < entry.seq) & (chunk["mm"] == entry.mm)
            before &= ~np.isin(chunk["subscriber"], list(gone))
            opened[number] += int((starts & before).sum()) - int((ends & before).sum())
            (gone.add if entry.kind == Kind.UNREGISTER else gone.discard)(entry.subscriber)
    return Counter(moves[Kind(entry.kind)] for entry, number in zip(asked, opened, strict=True) if number > 0)


class _Nesting:
    """Starts of reclaim within another range of the same task: in a fork or mremap that allocates page tables.

    A task is within a range while its last event outside reclaim is a start.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._within: dict[int, bool] = {}

    def count(self, chunk: Chunk) -> int:
        """How many of these starts are in the next chunk."""
        import numpy as np

        pairing = np.flatnonzero(chunk.of(Kind.START, Kind.END) & (chunk["context"] & HAS_END).astype(bool))
        if not len(pairing):
            return 0
        pairing = pairing[np.argsort(chunk["task"][pairing], kind="stable")]
        columns = chunk["task"], self._contract.reclaims(chunk), chunk.of(Kind.START)
        task, reclaims, start = (column[pairing] for column in columns)
        first = np.flatnonzero(np.concatenate([[True], task[1:] != task[:-1]]))
        tasks = task[first].tolist()
        size = np.diff(first, append=len(task))
        # For each event the last event of its task outside reclaim; before the first of these, the state carried over.
        outer = np.maximum.accumulate(np.where(reclaims, -1, np.arange(len(task))))
        carried = np.repeat([self._within.get(key, False) for key in tasks], size)
        within = np.where(outer >= np.repeat(first, size), start[outer], carried)
        self._within.update(zip(tasks, within[first + size - 1].tolist(), strict=True))
        return int((within & start & reclaims & chunk.own[pairing]).sum())


def enough(recording: Recording, without: Callable[[str], bool] | None = None) -> bool:
    """Whether all that the scenario exercises happened, so that what follows from it can be demanded.

    without: counters that are left out. A log with losses counts too little of what follows, and tells nothing.
    """
    if recording.events.lost:
        return False
    counted = count(recording)
    whole = recording.ended in (Ended.COMPLETE, Ended.NO_PROGRESS, Ended.SILENT, Ended.SPINNING)
    return whole and all(
        counted[counter] >= least
        for counter, least in demanded(recording).items()
        if not (without and without(counter))
    )


def demanded(recording: Recording) -> Mapping[str, int]:
    """Counter → how often it must have happened, under the contract that the kernel is judged by."""
    return recording.contract.demanded(recording.scenario.exercised, recording.scenario.policies)


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each counter that fell short, and one for each other gap in the evidence."""
    counted = count(recording)
    for counter, least in demanded(recording).items():
        if counted[counter] < least:
            yield Finding(
                NAME, f"not enough {counter} to judge", f"{counter}: {counted[counter]}, at least {least} needed"
            )
    if recording.ended is Ended.EARLY:
        yield Finding(NAME, "not all of the scenario's steps were done", recording.detail)
    for program, results in recording.selftests.items():
        if not results.ran:
            yield Finding(NAME, "none of a selftest's tests ran", f"{program}: {results}: {results.why_skipped}")
        if results.cut:
            text = f"{program}: {results} in the part that was read; see {program}.tap"
            yield Finding(NAME, "a selftest printed more than is read", text)
    for answer in recording.answers:
        if unwatched := answer.reply.get("unwatched"):
            text = f"{answer.command}: {unwatched} of {answer.reply.get('processes')}"
            yield Finding(NAME, "processes of a selftest ran without a subscriber", text)
    if recording.events.lost:
        yield Finding(
            NAME,
            "the event log overflowed",
            f"{recording.events.lost} events lost, its capacity is {recording.events.capacity}",
        )
    if unfollowed := recording.module.get("saturated", 0):
        yield Finding(
            NAME,
            "the module had no room to follow the pairing of every callback",
            f"{unfollowed} callbacks or subscribers not followed in the module; the event log has them",
        )
