# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import dataclasses
import errno

import pytest

from harness import oracles
from harness.model.event import (
    BLOCKABLE,
    DIRECT,
    HAS_END,
    MAYFAIL,
    OBSERVED,
    OWN_BUFFER,
    OWNER_IS_CURRENT,
    PF_KSWAPD,
    PF_MEMALLOC,
    RECLAIM_STATE,
    SUB_GET,
    SUB_INTERVAL,
    SUB_YOUNG,
    UNMAP_ONE,
    YOUNG_ATOMIC,
    YOUNG_COUNTED,
    Kind,
    Policy,
    RangeEvent,
    Young,
)
from harness.model.recording import Answer, Ended
from harness.model.scenario import Expected
from harness.model.verdict import Finding, Outcome
from harness.oracles import (
    clean_log,
    coherence,
    end_state,
    exercised,
    integrity,
    latency,
    lifetimes,
    mayfail_gate,
    no_hang,
    owed,
    pairing,
    ranges,
    references,
    young,
)
from harness.oracles._intervals import untold
from harness.run import judging
from tests.unit.recordings import BANNER, MM, MUNMAP, RANGE, TASK, Log, complaint, recording, scenario

EAGAIN = -errno.EAGAIN
EBUSY = -errno.EBUSY


def summaries(findings) -> list[str]:
    return [finding.summary for finding in findings]


def test_every_oracle_is_silent_on_a_good_log() -> None:
    """Accepting and refusing under MAYFAIL, in pairs, is what the patch is for."""
    log = Log()
    for _ in range(100):
        log.pair()
        log.pair(result=EAGAIN)

    assert oracles.judge(recording(log)) == []


# --- mayfail gate -------------------------------------------------------------------------------------------------


def test_gate_names_flag_errno_and_site_when_reclaim_comes_without_mayfail() -> None:
    """The unpatched kernel: no flag, and a WARN for each answer."""
    log = Log()
    log.start(flags=BLOCKABLE, result=EAGAIN)
    log.end(flags=BLOCKABLE)
    log.end(flags=BLOCKABLE)

    found = list(mayfail_gate.judge(recording(log, complaint())))

    assert summaries(found) == [
        (
            "direct reclaim came without MMU_NOTIFIER_RANGE_MAYFAIL; −EAGAIN (-11) was not tolerated: "
            "WARN at mm/mmu_notifier.c:489"
        )
    ]
    assert "scenario sample" in found[0].evidence
    assert "flags 0x1" in found[0].evidence


def test_gate_finds_a_tolerable_answer_that_was_not_tolerated() -> None:
    """MAYFAIL is there, the answer is −EAGAIN, and the kernel warns all the same."""
    log = Log()
    log.pair(result=EAGAIN)

    found = summaries(mayfail_gate.judge(recording(log, complaint())))

    assert found == ["−EAGAIN (-11) under MMU_NOTIFIER_RANGE_MAYFAIL was not tolerated: WARN at mm/mmu_notifier.c:489"]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (MUNMAP | {"result": EAGAIN}, "−EAGAIN (-11) without"),
        ({"result": EBUSY}, "−EBUSY (-16) with"),
    ],
)
def test_gate_finds_an_answer_that_was_swallowed(fields, words) -> None:
    """−EAGAIN from munmap, or another errno under MAYFAIL, must be complained about."""
    log = Log()
    log.start(**fields)
    log.end(**(fields | {"result": 0}))
    log.end(**(fields | {"result": 0}))

    assert summaries(mayfail_gate.judge(recording(log))) == [
        f"{words} MMU_NOTIFIER_RANGE_MAYFAIL was swallowed: the kernel must warn and did not"
    ]
    assert summaries(mayfail_gate.judge(recording(log, complaint(fields["result"])))) == []


def test_gate_counts_complaints_exactly_in_a_scenario_that_ended() -> None:
    """Two untolerated answers and one complaint: even one swallowed answer in a thousand is seen."""
    log = Log()
    for _ in range(2):
        log.start(**(MUNMAP | {"result": EAGAIN}))
        log.end(**MUNMAP)
        log.end(**MUNMAP)

    assert "swallowed" in summaries(mayfail_gate.judge(recording(log, complaint())))[0]
    assert summaries(mayfail_gate.judge(recording(log, complaint(), ended=Ended.EARLY))) == []


def test_gate_finds_mayfail_where_the_kernel_must_unmap() -> None:
    """Munmap may not fail."""
    log = Log()
    log.pair(**(MUNMAP | {"flags": BLOCKABLE | MAYFAIL}))

    assert summaries(mayfail_gate.judge(recording(log))) == [
        "MMU_NOTIFIER_RANGE_MAYFAIL outside reclaim: MMU_NOTIFY_UNMAP"
    ]


def test_gate_finds_mayfail_without_blockable() -> None:
    """Reclaim may sleep; a range that says otherwise is wrong."""
    log = Log()
    log.pair(flags=MAYFAIL)

    assert summaries(mayfail_gate.judge(recording(log))) == ["a MAYFAIL range is not BLOCKABLE"]


def test_gate_leaves_kswapd_and_pageout_alone() -> None:
    """MAYFAIL marks try_to_unmap_one(), whoever calls it; kswapd is no violation."""
    log = Log()
    log.pair(pf_flags=PF_MEMALLOC | PF_KSWAPD)

    assert summaries(mayfail_gate.judge(recording(log))) == []


OBSERVED_RECLAIM = {"context": OBSERVED | UNMAP_ONE | OWN_BUFFER | HAS_END}


def test_gate_believes_probes_more_than_flags() -> None:
    """Reclaim below try_to_unmap_one() has MAYFAIL; no range elsewhere has it, whatever the event."""
    log = Log()
    log.pair(**OBSERVED_RECLAIM)
    log.pair(**OBSERVED_RECLAIM | {"pf_flags": 0})  # memory failure, which a patch may mark or not mark
    log.pair(**OBSERVED_RECLAIM | {"pf_flags": 0, "flags": BLOCKABLE})
    log.pair(**MUNMAP | {"context": OBSERVED | OWN_BUFFER | HAS_END})
    # Demotion moves pages within direct reclaim, through try_to_migrate_one().
    log.pair(flags=BLOCKABLE, context=OBSERVED | RECLAIM_STATE | DIRECT | OWN_BUFFER | HAS_END)
    assert summaries(mayfail_gate.judge(recording(log))) == []

    log.pair(pf_flags=PF_MEMALLOC, context=OBSERVED | OWN_BUFFER | HAS_END)
    assert summaries(mayfail_gate.judge(recording(log))) == [
        "MMU_NOTIFIER_RANGE_MAYFAIL outside reclaim: MMU_NOTIFY_CLEAR"
    ]


def test_gate_speaks_of_an_unmarked_page_out_that_only_probes_show() -> None:
    """MADV_PAGEOUT on a kernel without the patch: no direct reclaim, and no subscriber answers −EAGAIN."""
    log = Log()
    log.pair(**OBSERVED_RECLAIM | {"flags": BLOCKABLE})

    (found,) = mayfail_gate.judge(recording(log))

    assert found.summary == "try_to_unmap_one() came without MMU_NOTIFIER_RANGE_MAYFAIL"
    assert "event 1" in found.evidence


def test_gate_looks_at_the_ranges_of_intervals() -> None:
    """Intervals may be the only subscribers that are told of a range."""
    log = Log()
    log.add(Kind.INVALIDATE)
    assert summaries(mayfail_gate.judge(recording(log))) == []

    log.add(Kind.INVALIDATE, flags=BLOCKABLE)
    assert summaries(mayfail_gate.judge(recording(log))) == ["direct reclaim came without MMU_NOTIFIER_RANGE_MAYFAIL"]


def test_gate_knows_nothing_of_a_huge_range_without_probes() -> None:
    """Direct reclaim splits a huge page, or what munmap() left of one, through try_to_migrate_one()."""
    log = Log()
    for end in (0x400000, 0x300000):
        log.pair(flags=BLOCKABLE, start=0x200000, end=end)
    assert summaries(mayfail_gate.judge(recording(log))) == []

    log.pair(flags=BLOCKABLE, start=0x200000, end=0x201000)
    assert "1 of 1" in next(iter(mayfail_gate.judge(recording(log)))).evidence


def test_gate_lets_a_range_that_may_not_block_be_refused_in_silence() -> None:
    """The OOM reaper accepts −EAGAIN as an answer, but no other errno."""
    log = Log()
    log.start(**MUNMAP | {"flags": 0, "result": EAGAIN})
    assert summaries(mayfail_gate.judge(recording(log))) == []

    log.start(**MUNMAP | {"flags": 0, "result": EBUSY})
    assert summaries(mayfail_gate.judge(recording(log))) == [
        "−EBUSY (-16) without MMU_NOTIFIER_RANGE_MAYFAIL was swallowed: the kernel must warn and did not"
    ]


def test_gate_lets_a_huge_page_be_split_before_it_is_unmapped() -> None:
    """Linux v6.1: a range without MAYFAIL, then the range with it; the first alone is a finding."""
    huge = OBSERVED_RECLAIM | {"start": 0x200000, "end": 0x400000}
    log = Log()
    log.pair(**huge | {"flags": BLOCKABLE})
    log.pair(**huge)
    # Of another huge page no more than half is mapped.
    log.pair(**huge | {"flags": BLOCKABLE})
    log.pair(**huge | {"start": 0x300000})
    assert summaries(mayfail_gate.judge(recording(log))) == []

    log.pair(**huge | {"flags": BLOCKABLE})
    log.pair(**huge | {"start": 0x400000, "end": 0x500000})
    assert len(summaries(mayfail_gate.judge(recording(log)))) == 1


def test_gate_notices_direct_reclaim_that_the_task_s_flags_deny() -> None:
    """The probes check the meaning of strict direct reclaim, too."""
    log = Log()
    log.pair(pf_flags=0, context=OBSERVED | UNMAP_ONE | DIRECT | OWN_BUFFER | HAS_END)

    assert summaries(mayfail_gate.judge(recording(log))) == [
        "a task below try_to_free_pages() is not in reclaim by its own flags"
    ]


def test_gate_knows_a_subscriber_that_breaks_its_own_policy() -> None:
    """−EAGAIN to munmap, from a subscriber that is to obey the flag; not from one that is to refuse every range."""
    console = complaint()
    quiet = Log()
    quiet.pair(**MUNMAP, result=EAGAIN, policy=Policy.EAGAIN_ALWAYS)
    quiet.pair(result=EAGAIN, policy=Policy.EAGAIN_MAYFAIL)
    log = Log()
    log.pair(**MUNMAP, result=EAGAIN, policy=Policy.EAGAIN_MAYFAIL)

    assert summaries(mayfail_gate.judge(recording(quiet, console))) == []
    assert summaries(mayfail_gate.judge(recording(log, console))) == ["subscriber #1 refused a range that may not fail"]


def test_without_probes_only_an_event_that_is_never_that_of_unmapping_is_blamed() -> None:
    """A patch may rename try_to_unmap_one(). khugepaged calls it, memory failure, too, and nobody sees who does."""
    log = Log()
    log.pair(pf_flags=0, context=OWN_BUFFER | HAS_END)
    assert summaries(mayfail_gate.judge(recording(log))) == []

    log.pair(**MUNMAP | {"flags": BLOCKABLE | MAYFAIL})
    assert summaries(mayfail_gate.judge(recording(log))) == [
        "MMU_NOTIFIER_RANGE_MAYFAIL outside reclaim: MMU_NOTIFY_UNMAP"
    ]


# --- ranges -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, []),
        # Clearing soft-dirty bits, exit: the range is memory, though not whole pages.
        (MUNMAP | {"start": 0, "end": 2**64 - 1}, []),
        ({"end": 0x7F0000000000}, ["a range of no length"]),
        (MUNMAP | {"start": 0x2000, "end": 0x1000}, ["a range of no length"]),
        ({"end": 0x7F0000000FFF}, ["a MAYFAIL range that does not cover whole pages"]),
        (OBSERVED_RECLAIM, []),
        (
            OBSERVED_RECLAIM | {"event": int(RangeEvent.UNMAP)},
            ["try_to_unmap_one() announces something other than MMU_NOTIFY_CLEAR"],
        ),
    ],
)
def test_a_range_names_memory(fields, found: list[str]) -> None:
    log = Log()
    log.pair()
    log.pair(**fields)

    assert summaries(ranges.judge(recording(log))) == found


# --- pairing ------------------------------------------------------------------------------------------------------


def test_pairing_accepts_groups_in_list_order_and_nesting() -> None:
    """Two subscribers, and a fork whose page table allocation enters reclaim."""
    log = Log()
    outer = MUNMAP | {"event": int(RangeEvent.PROTECTION_PAGE), "range": RANGE + 0x800}
    log.start(subscriber=2, **outer)
    log.start(subscriber=1, **outer)
    log.start(subscriber=2)
    log.start(subscriber=1, result=EAGAIN)
    log.end(subscriber=2)
    log.end(subscriber=1)
    log.end(subscriber=2, **outer)
    log.end(subscriber=1, **outer)

    assert list(pairing.judge(recording(log))) == []


def test_pairing_accepts_two_ends_for_a_failure_that_is_not_tolerated() -> None:
    """Linux commit c2655835fd8c: the second loop and the caller each call end."""
    log = Log()
    log.start(**(MUNMAP | {"result": EAGAIN}))
    log.end(**MUNMAP)
    log.end(**MUNMAP)

    assert list(pairing.judge(recording(log))) == []


@pytest.mark.parametrize(
    ("build", "summary"),
    [
        (lambda log: log.start(), "a start whose invalidate_range_end never came"),
        (lambda log: (log.start(), log.pair()), "a start whose invalidate_range_end never came"),
        (lambda log: log.end(), "an invalidate_range_end without a start"),
        (lambda log: (log.pair(), log.end()), "an invalidate_range_end without a start"),
        (
            lambda log: (
                log.start(subscriber=1),
                log.start(subscriber=2),
                log.end(subscriber=1),
                log.end(subscriber=1),
            ),
            "a second invalidate_range_end for one start",
        ),
        (
            lambda log: (
                log.start(subscriber=1),
                log.start(subscriber=2),
                log.end(subscriber=2),
                log.end(subscriber=1),
            ),
            "ends came in another order than starts",
        ),
        (
            lambda log: (log.start(), log.start(range=RANGE + 64), log.end(), log.end(range=RANGE + 64)),
            "an outer range ended before the inner one",
        ),
        (lambda log: (log.start(), log.end(end=0x7F0000002000)), "the range changed between start and end"),
        (
            lambda log: (log.start(subscriber=1), log.end(subscriber=2)),
            "an invalidate_range_end for a subscriber that had no start",
        ),
        (
            lambda log: (log.start(context=0), log.end(context=0), log.end(context=0)),
            "an invalidate_range_end without a start",
        ),
        (
            lambda log: (
                log.add(Kind.REGISTER, subscriber=1),
                log.add(Kind.REGISTER, subscriber=2),
                log.pair(subscriber=2),
            ),
            "no invalidate_range_start for subscriber #1, though others had theirs",
        ),
    ],
)
def test_pairing_speaks(build, summary) -> None:
    """Each way to lose, double, swap or invent an end has its own words."""
    log = Log()
    build(log)

    assert summary in summaries(pairing.judge(recording(log)))


@pytest.mark.parametrize(
    ("build", "summary"),
    [
        (
            lambda log: (log.add(Kind.REGISTER), log.start(), log.add(Kind.UNREGISTER)),
            "a start whose invalidate_range_end never came",
        ),
        (
            lambda log: (
                log.add(Kind.REGISTER, subscriber=1),
                log.add(Kind.REGISTER, subscriber=2),
                log.start(subscriber=1),
                log.start(subscriber=2),
                log.end(subscriber=1),
                log.end(subscriber=2),
            ),
            "starts came in another order than the list's",
        ),
        (lambda log: (log.start(seq_exit=9), log.end()), "a callback began before the task's last one had returned"),
        (
            lambda log: (
                log.start(**MUNMAP | {"result": EAGAIN}),
                log.end(**MUNMAP),
                log.start(**MUNMAP | {"result": EAGAIN}),
                log.end(**MUNMAP),
                log.end(**MUNMAP),
            ),
            "starts that failed were ended in two manners",
        ),
        (
            lambda log: (
                log.start(subscriber=2, **MUNMAP | {"result": EAGAIN}),
                log.start(subscriber=1, **MUNMAP),
                log.end(subscriber=2, **MUNMAP),
                log.end(subscriber=1, **MUNMAP),
                log.end(subscriber=2, **MUNMAP),
            ),
            "a failed start was ended once for one subscriber and twice for another",
        ),
        (
            lambda log: (
                log.start(**MUNMAP | {"result": EAGAIN}),
                log.end(**MUNMAP),
                log.end(**MUNMAP),
                log.start(**MUNMAP | {"result": EAGAIN, "flags": 0}),
            ),
            "starts that failed were ended in two manners",
        ),
    ],
)
def test_pairing_speaks_of_what_only_the_whole_log_shows(build, summary) -> None:
    """Registrations, order of the list, returns, and one manner of failing for each kernel."""
    log = Log()
    build(log)

    assert summary in summaries(pairing.judge(recording(log)))


@pytest.mark.parametrize(
    ("build", "summary"),
    [
        (lambda log: (log.pair(), log.add(Kind.REGISTER)), "subscriber #1 was called before it was registered"),
        (
            lambda log: (log.add(Kind.REGISTER), log.add(Kind.UNREGISTER), log.pair()),
            "subscriber #1 was called after it was unregistered",
        ),
        # Between two registrations nobody may be called.
        (
            lambda log: (log.add(Kind.REGISTER), log.add(Kind.UNREGISTER), log.pair(), log.add(Kind.REGISTER)),
            "subscriber #1 was called after it was unregistered",
        ),
    ],
)
def test_lifetimes_know_who_may_be_called(build, summary) -> None:
    """Regular pairs, about which pairing says nothing."""
    log = Log()
    build(log)

    assert summary in summaries(lifetimes.judge(recording(log)))


def test_lifetimes_are_silent_of_a_subscriber_that_is_called_while_it_is_registered_and_of_one_unknown() -> None:
    log = Log()
    log.pair(subscriber=7)
    log.add(Kind.REGISTER)
    log.pair()
    log.add(Kind.RELEASE)
    log.add(Kind.UNREGISTER)

    assert summaries(lifetimes.judge(recording(log))) == []


def test_pairing_takes_what_the_module_counted_where_the_log_overflowed() -> None:
    """It counts by kind, because its records may be among the lost records; without violations it says nothing."""
    silent = recording(Log(), lost=3, module={"violations": 0})
    spoke = recording(Log(), lost=3, module={"violations": 5, "broken_1": 2, "broken_10": 3})

    assert summaries(pairing.judge(silent)) == []
    assert summaries(pairing.judge(spoke)) == [
        "the log overflowed, and the module saw pairing broken: lost end",
        "the log overflowed, and the module saw pairing broken: a page was unmapped after its invalidate_range_end",
    ]
    assert judging.judge(spoke).outcome is Outcome.FAIL


def test_pairing_takes_both_manners_of_failing_but_one_of_them_at_a_time() -> None:
    """Before Linux commit c2655835fd8c one end, and no end if the range may not block; since then one more end."""
    old, new = Log(), Log()
    for log in (old, new):
        log.start(**MUNMAP | {"result": EAGAIN})
        log.end(**MUNMAP)
        if log is new:
            log.end(**MUNMAP)
        log.start(**MUNMAP | {"result": EAGAIN, "flags": 0, "range": RANGE + 64})
        if log is new:
            log.end(**MUNMAP | {"flags": 0, "range": RANGE + 64})

        assert list(pairing.judge(recording(log, banner="Linux version 5.10.240"))) == []


def test_pairing_knows_since_when_a_kernel_ends_what_others_accepted() -> None:
    """c2655835fd8c is in v5.12, and in some older kernels, too; which kernel it is, its console says."""
    log = Log()
    log.start(**MUNMAP | {"result": EAGAIN, "flags": 0})
    told = "starts that failed are ended as before Linux 5.12: those that accepted get no end"

    for banner, found in (("Linux version 5.12.0", [told]), ("Linux version 5.11.22", []), ("", [])):
        assert summaries(pairing.judge(recording(log, banner=banner))) == found


def test_pairing_asks_no_start_of_an_interval() -> None:
    """An interval is called, too, but by mn_itree_invalidate(), and it has no end."""
    log = Log()
    log.add(Kind.REGISTER, subscriber=1)
    log.add(Kind.REGISTER, subscriber=2, flags=SUB_INTERVAL)
    log.add(Kind.INVALIDATE, subscriber=2)
    log.pair(subscriber=1)

    assert list(pairing.judge(recording(log))) == []


def test_pairing_asks_for_the_invalidate_of_an_interval() -> None:
    """It comes once, before the list's starts; a range elsewhere, or before the insertion, causes none."""
    log = Log()
    log.pair()
    log.add(Kind.REGISTER, subscriber=2, flags=SUB_INTERVAL)
    log.pair()  # it may not have joined yet
    for subscribers in ((1,), (1, 3)):
        log.add(Kind.INVALIDATE, subscriber=2)
        for subscriber in subscribers:
            log.start(subscriber=subscriber)
        for subscriber in subscribers:
            log.end(subscriber=subscriber)
    log.pair(start=0x7F0000001000, end=0x7F0000002000)
    assert untold(recording(log).events) == {}

    missing = log.start()
    log.end()
    log.add(Kind.UNREGISTER, subscriber=2)
    log.pair()
    assert untold(recording(log).events) == {2: [missing]}
    assert "no invalidate() for interval #2, though the list had its start" in summaries(pairing.judge(recording(log)))


def test_pairing_asks_for_an_intervals_first_invalidate_when_nothing_came_before() -> None:
    """Another task may have been inside its first range."""
    log = Log()
    log.pair(task=TASK + 64, mm=MM + 64)
    log.add(Kind.REGISTER, subscriber=2, flags=SUB_INTERVAL)
    for task in (TASK + 64, TASK + 128):
        log.pair(task=task)
    assert untold(recording(log).events) == {}

    missing = log.start()
    assert untold(recording(log).events) == {2: [missing]}


INTERVAL = {"subscriber": 2, "flags": SUB_INTERVAL}
RELEASE = {"event": int(RangeEvent.RELEASE), "start": 0, "end": 2**64 - 1}
ELSEWHERE = {"start": 0x7F0000001000, "end": 0x7F0000002000}


def test_lifetimes_knows_when_an_interval_may_be_called() -> None:
    """From mmu_interval_notifier_insert() to the return of _remove(), which waits, and at the end of its mm."""
    log = Log()
    log.add(Kind.REGISTER, subscriber=1)
    log.add(Kind.REGISTER, **INTERVAL)
    log.add(Kind.INVALIDATE, subscriber=2)
    running = log.add(Kind.INVALIDATE, subscriber=2, **RELEASE)
    log.add(Kind.RELEASE, subscriber=1)
    leaving = log.add(Kind.UNREGISTER, subscriber=2)
    log.events[-1] = leaving._replace(seq_exit=log.stamp())
    assert list(lifetimes.judge(recording(log))) == []

    log.events[log.events.index(running)] = running._replace(seq_exit=log.stamp())
    log.add(Kind.INVALIDATE, subscriber=2)
    assert summaries(lifetimes.judge(recording(log))) == [
        "interval #2 was called after it was removed",
        "interval #2 was removed while its invalidate() ran",
    ]


def test_lifetimes_keeps_an_interval_until_the_range_that_it_was_told_of_is_over() -> None:
    """The list's starts of the same call still run; an earlier range at that address is over."""
    log = Log()
    log.add(Kind.REGISTER, subscriber=1)
    log.add(Kind.REGISTER, **INTERVAL)
    log.add(Kind.REGISTER, **INTERVAL | {"subscriber": 3, "end": 0x7F0000002000})
    log.add(Kind.INVALIDATE, subscriber=2)
    log.add(Kind.INVALIDATE, subscriber=3)
    log.pair()
    # Another range at the same address, which 2 does not meet.
    log.add(Kind.INVALIDATE, subscriber=3, **ELSEWHERE)
    other = log.start(**ELSEWHERE)
    two = log.add(Kind.UNREGISTER, subscriber=2)
    three = log.add(Kind.UNREGISTER, subscriber=3)
    log.events[-2] = two._replace(seq_exit=log.stamp())
    log.events[log.events.index(other)] = other._replace(seq_exit=log.stamp())
    late = log.events[-1] = three._replace(seq_exit=log.stamp())
    log.end(**ELSEWHERE)
    assert list(lifetimes.judge(recording(log))) == []

    log.events[log.events.index(late)] = three._replace(seq_exit=three.seq)
    assert summaries(lifetimes.judge(recording(log))) == [
        "interval #3 was removed while a range was open that it was told of"
    ]


@pytest.mark.parametrize("by", ["the list", "the mm's end", "both", "nobody"])
def test_lifetimes_wants_everybody_released(by: str) -> None:
    """By mmu_notifier_unregister(), by the end of the mm, or by both at once; mmu_notifier_put() does not release."""
    log = Log()
    for number, flags in ((1, 0), (2, SUB_GET), (3, SUB_INTERVAL)):
        log.add(Kind.REGISTER, subscriber=number, flags=flags)
    if by in ("the mm's end", "both"):
        log.add(Kind.INVALIDATE, subscriber=3, **RELEASE)
        log.add(Kind.RELEASE, task=TASK + 64)
    leaving = log.add(Kind.UNREGISTER)
    if by in ("the list", "both"):
        log.add(Kind.RELEASE)
    log.events[log.events.index(leaving)] = leaving._replace(seq_exit=log.stamp())
    log.add(Kind.UNREGISTER, subscriber=2)
    log.add(Kind.UNREGISTER, subscriber=3)

    told = [] if by != "nobody" else ["subscriber #1 was unregistered, and never had its release()"]
    assert summaries(lifetimes.judge(recording(log))) == told


@pytest.mark.parametrize(("again", "told"), [({}, 1), ({"task": TASK + 64}, 0), ({"subscriber": 2}, 0), (None, 0)])
def test_lifetimes_wants_no_release_twice(again: dict[str, int] | None, told: int) -> None:
    """From one task; the end of the mm and mmu_notifier_unregister() may overlap, and a new registration is another."""
    log = Log()
    log.add(Kind.REGISTER)
    log.add(Kind.REGISTER, subscriber=2)
    log.add(Kind.RELEASE)
    if again is None:
        log.add(Kind.UNREGISTER)
        log.add(Kind.REGISTER)
    log.add(Kind.RELEASE, **(again or {}))

    assert summaries(lifetimes.judge(recording(log))) == ["subscriber #1 had its release() twice"] * told


@pytest.mark.parametrize("fields", [ELSEWHERE, {"mm": MM + 64}])
def test_lifetimes_knows_which_ranges_an_interval_meets(fields: dict[str, int]) -> None:
    """A range does not include its end: a range that ends where the interval begins does not meet the interval."""
    log = Log()
    log.add(Kind.INVALIDATE, subscriber=2)
    log.add(Kind.REGISTER, **INTERVAL)
    log.add(Kind.INVALIDATE, subscriber=2, **fields)

    assert summaries(lifetimes.judge(recording(log))) == [
        "interval #2 was called before it was inserted",
        "interval #2 was told of a range that it does not meet",
    ]


def test_lifetimes_wants_an_interval_told_of_the_end_of_its_mm() -> None:
    """The interval is told before the list; a release() from mmu_notifier_unregister() is not the end of the mm."""
    log = Log()
    log.add(Kind.REGISTER, subscriber=1)
    log.add(Kind.REGISTER, subscriber=3)
    log.add(Kind.REGISTER, **INTERVAL)
    # An interval that could not be inserted is told nothing.
    log.add(Kind.REGISTER, **INTERVAL | {"subscriber": 4, "result": -errno.EINTR})
    log.add(Kind.UNREGISTER, subscriber=3)
    log.add(Kind.RELEASE, subscriber=3)
    assert list(lifetimes.judge(recording(log))) == []

    log.add(Kind.RELEASE, subscriber=1)
    log.add(Kind.INVALIDATE, subscriber=2, **RELEASE)
    assert summaries(lifetimes.judge(recording(log))) == [
        "interval #2 was not told that its mm ends, though the list was"
    ]


def test_lifetimes_wants_nobody_gone_before_the_callbacks_that_ran() -> None:
    """Callbacks that began before the subscriber began to leave, of any subscriber and any mm."""
    log = Log()
    log.add(Kind.REGISTER, subscriber=1, mm=MM + 64)
    log.add(Kind.REGISTER, subscriber=2)
    before = log.start(subscriber=1, mm=MM + 64)
    leaving = log.add(Kind.UNREGISTER, subscriber=2)
    after = log.start(subscriber=1, mm=MM + 64, task=TASK + 64)
    log.events[log.events.index(before)] = before._replace(seq_exit=log.stamp())
    gone = leaving._replace(seq_exit=log.stamp())
    log.events[log.events.index(leaving)] = gone
    log.events[log.events.index(after)] = after._replace(seq_exit=log.stamp())
    told = "subscriber #2 was gone before a callback that ran had returned"
    assert told not in summaries(lifetimes.judge(recording(log)))

    log.events[log.events.index(gone)] = leaving
    assert told in summaries(lifetimes.judge(recording(log)))


def test_pairing_agrees_with_the_module() -> None:
    """Both are silent, or both speak; one without the other is itself a finding."""
    good, broken = Log(), Log()
    good.pair()
    broken.start()
    broken.pair()
    lost = "a start whose invalidate_range_end never came"
    assert summaries(pairing.judge(recording(good, module={"violations": 0}))) == []
    assert summaries(pairing.judge(recording(broken, module={"violations": 0, "saturated": 1}))) == [lost]
    assert summaries(pairing.judge(recording(broken, module={"violations": 0}))) == [
        lost,
        "the log shows pairing broken, the module did not see it",
    ]

    broken.add(Kind.VIOLATION, result=1)
    good.add(Kind.VIOLATION, result=1)
    assert summaries(pairing.judge(recording(broken, module={"violations": 1}))) == [lost]
    assert summaries(pairing.judge(recording(good, module={"violations": 1}))) == [
        "the module saw pairing broken, the log does not show it: lost end"
    ]
    assert summaries(pairing.judge(recording(broken, module={"violations": 2}))) == [
        lost,
        "the module counted other violations than it recorded",
    ]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (9, "a page was unmapped before its invalidate_range_start"),
        (10, "a page was unmapped after its invalidate_range_end"),
        (11, "a page was unmapped without an invalidate_range_start for it"),
        (12, "a range is larger than what is unmapped in it"),
    ],
)
def test_pairing_believes_the_probes_what_no_log_shows(broken: int, said: str) -> None:
    """Only the module sees changes to the page table outside a range; they are no disagreement."""
    log = Log()
    log.pair()
    log.add(Kind.VIOLATION, result=broken)

    (found,) = pairing.judge(recording(log, module={"violations": 1}))

    assert found.summary == said
    assert "the page at 0x7f0000000000" in found.evidence


def test_pairing_lets_an_unregistered_subscriber_lose_its_end() -> None:
    """Unregistering between start and end is legal for a task other than the task in between."""
    log = Log()
    log.add(Kind.REGISTER)
    log.start()
    log.add(Kind.UNREGISTER, task=TASK + 64)

    assert list(pairing.judge(recording(log))) == []


def test_pairing_does_not_ask_for_ends_of_subscribers_without_the_operation() -> None:
    """No invalidate_range_end in the ops, no end."""
    log = Log()
    for _ in range(3):
        log.start(context=0)

    assert list(pairing.judge(recording(log))) == []


@pytest.mark.parametrize("over", [False, True])
def test_lifetimes_wants_nobody_gone_before_the_flush_of_a_tlb_that_ran(over: bool) -> None:
    log = Log()
    log.add(Kind.REGISTER, subscriber=2)
    flush = log.add(Kind.FLUSH, subscriber=1)
    leaving = log.add(Kind.UNREGISTER, subscriber=2)
    for entry in (flush, leaving) if over else (leaving, flush):
        log.events[log.events.index(entry)] = entry._replace(seq_exit=log.stamp())

    told = "subscriber #2 was gone before a callback that ran had returned"
    assert (told in summaries(lifetimes.judge(recording(log)))) is not over


# --- no hang ------------------------------------------------------------------------------------------------------


def test_no_hang_sees_a_callback_that_never_returned() -> None:
    """A slot that was reserved and never finished."""
    log = Log()
    log.start(seq_exit=0)

    assert summaries(no_hang.judge(recording(log))) == ["invalidate_range_start of subscriber #1 never returned"]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Kind.END, "invalidate_range_end"),
        (Kind.INVALIDATE, "an interval's invalidate"),
        (Kind.FLUSH, "arch_invalidate_secondary_tlbs"),
    ],
)
def test_no_hang_sees_every_sort_of_callback(kind, name) -> None:
    """Not only starts can hang."""
    log = Log()
    log.add(kind, seq_exit=0)

    assert summaries(no_hang.judge(recording(log))) == [f"{name} of subscriber #1 never returned"]


def test_no_hang_tells_a_wait_for_oneself_from_a_wait_for_another() -> None:
    """The patch's story: reclaim waits for the mutex that its own task holds."""
    log = Log()
    context = HAS_END | OWNER_IS_CURRENT | 1
    log.add(Kind.WAIT, result=-errno.ETIMEDOUT, context=context, duration_ns=2_000_000_000)

    assert summaries(no_hang.judge(recording(log))) == [
        "subscriber #1 waited in direct reclaim for a mutex that its own task holds, until its bound"
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"policy": Policy.WAIT_FENCE}, "direct reclaim for a fence that another task holds"),
        (
            {"policy": Policy.WAIT_MUTEX, "pf_flags": PF_MEMALLOC | PF_KSWAPD},
            "kswapd for a mutex that another task holds",
        ),
        ({"pf_flags": 0}, "a callback for a mutex that another task holds"),
    ],
)
def test_no_hang_tells_where_and_for_what_a_callback_waited(fields, words) -> None:
    """A callback that waits in kswapd hangs everybody."""
    log = Log()
    log.add(Kind.WAIT, result=-errno.ETIMEDOUT, **fields)

    assert summaries(no_hang.judge(recording(log))) == [f"subscriber #1 waited in {words}, until its bound"]


@pytest.mark.parametrize("ended", [Ended.NO_PROGRESS, Ended.SILENT, Ended.PANIC, Ended.RESET, Ended.NO_BOOT])
def test_no_hang_turns_endings_into_findings(ended) -> None:
    """A guest that does not answer is always a finding."""
    assert len(list(no_hang.judge(recording(ended=ended)))) == 1


def test_no_hang_reads_the_kernel_s_own_reports() -> None:
    """Hung task, soft lockup and RCU stall each have a stable title, even where the stack is lost."""
    console = [
        "[   20.1][   T33] INFO: task drive:77 blocked for more than 10 seconds.",
        "[   20.1][   T33] Call Trace:",
        "[   20.1][   T33]  __schedule+0x2a0/0x9b0",
        "[   20.1][   T33]  schedule+0x2e/0xd0",
        "[   20.1][   T33]  __mutex_lock.constprop.0+0x3a1/0x6a0",
        "[   20.1][   T33]  nh_invalidate_range_start+0x9c/0x1f0 [notifier_hold]",
        "[   30.1][    C0] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [drive:77]",
        "[   40.1][    C1] rcu: INFO: rcu_sched self-detected stall on CPU",
    ]

    found = summaries(no_hang.judge(recording(console=console)))

    assert found == [
        "INFO: task hung in nh_invalidate_range_start",
        "BUG: soft lockup in corrupted",
        "INFO: rcu detected stall in corrupted",
    ]


# --- references, integrity, exercised, clean log ------------------------------------------------------------------


def test_references_balance() -> None:
    """References that were taken must be returned, no more and no less."""
    log = Log()
    log.add(Kind.HOLD, result=4096)
    log.add(Kind.PUT, result=4095)

    assert summaries(references.judge(recording(log))) == ["subscriber #1: page references kept"]
    log.add(Kind.PUT, result=1)
    assert summaries(references.judge(recording(log))) == []
    log.add(Kind.PUT, result=1)
    assert summaries(references.judge(recording(log))) == ["subscriber #1: page references returned too often"]


def test_references_ask_the_kernel_about_pins() -> None:
    """The subscriber only claims that it released its pages."""
    before = {"nr_foll_pin_acquired": 10, "nr_foll_pin_released": 10}
    kept = {"nr_foll_pin_acquired": 20, "nr_foll_pin_released": 18}

    assert summaries(references.judge(recording(before=before, after=before))) == []
    assert summaries(references.judge(recording(before=before, after=kept))) == [
        "the kernel counted different numbers of pins taken and released"
    ]


def test_references_want_isolated_pages_back() -> None:
    """What reclaim has in hand at the moment is no loss."""
    before = {"nr_isolated_anon": 10, "nr_isolated_file": 0}
    now = {"nr_isolated_anon": 74, "nr_isolated_file": 32}
    lost = {"nr_isolated_anon": 1034, "nr_isolated_file": 0}

    assert summaries(references.judge(recording(before=before, after=now))) == []
    assert summaries(references.judge(recording(before=before, after=lost))) == [
        "pages that reclaim took off the LRU lists were never put back"
    ]
    assert summaries(references.judge(recording(before=before, after=lost, ended=Ended.STEP_FAILED))) == []


def test_references_want_every_subscriber_gone() -> None:
    """A subscriber that is still registered at the end can be called after its memory is gone."""
    log = Log()
    log.add(Kind.REGISTER)

    assert summaries(references.judge(recording(log))) == ["subscriber #1 was never unregistered"]
    log.add(Kind.UNREGISTER)
    assert summaries(references.judge(recording(log))) == []


@pytest.mark.parametrize("leaving", [0, 1])
def test_references_want_what_was_put_to_be_freed(leaving: int) -> None:
    """The module's own count decides, which waited for it; the log may be read a moment before."""
    log = Log()
    log.add(Kind.REGISTER)
    log.add(Kind.UNREGISTER, seq_exit=0)

    found = list(references.judge(recording(log, module={"leaving": leaving})))

    assert summaries(found) == ["a subscriber that was put was never freed"] * leaving
    assert all("#1" in finding.evidence for finding in found)


def answer(expect, **reply) -> Answer:
    return Answer(3, "pages", "dev", "", "pages name=dev", {"ok": True, "held": 4096} | reply, expect, 0.1)


@pytest.mark.parametrize(
    ("expect", "reply", "count"),
    [
        ({}, {"bad": 0}, 0),
        ({}, {"bad": 2}, 1),
        ({"present": 0}, {"present": 0}, 0),
        ({"present": 0}, {"present": 7}, 1),
        ({"swapcache": "all"}, {"swapcache": 4096}, 0),
        ({"swapcache": "all"}, {"swapcache": 4095}, 1),
        ({"swapcache": "all"}, {}, 1),
        ({"majflt": ">= 3"}, {"majflt": 2}, 1),
        ({"majflt": "<= 3"}, {"majflt": 2}, 0),
    ],
)
def test_integrity_holds_replies_against_expectations(expect, reply, count) -> None:
    """Wrong content is a finding, and so is any reply that differs from the scenario's."""
    found = list(integrity.judge(recording(answers=[answer(expect, **reply)])))

    assert len(found) == count


def test_exercised_counts_only_callbacks_for_own_pages() -> None:
    """Callbacks for somebody else's pages prove nothing."""
    log = Log()
    log.pair()
    log.pair(context=HAS_END)

    assert exercised.count(recording(log))["callbacks"] == 1


def test_exercised_says_what_is_short_and_what_was_lost() -> None:
    """Too little, an overflow, a module that lost track: each makes the run prove nothing."""
    plan = scenario({"callbacks": 5})

    found = summaries(exercised.judge(recording(Log(), plan=plan, lost=3, module={"saturated": 2})))

    assert found == [
        "not enough callbacks to judge",
        "the event log overflowed",
        "the module had no room to follow the pairing of every callback",
    ]


def test_clean_log_shows_the_first_reports_and_counts_the_rest() -> None:
    """A flood of one title is one finding."""
    line = "[    3.0][  T100] WARNING: CPU: 1 PID: 9 at mm/rmap.c:1234 try_to_unmap_one+0x5/0x10"

    found = list(clean_log.judge(recording(console=[line, "[    3.0][  T100] trace"] * 50)))

    assert summaries(found) == ["WARNING in try_to_unmap_one"]
    assert found[0].evidence.startswith("50 times")
    assert found[0].evidence.count("console line") == clean_log.SHOWN


def test_clean_log_leaves_complaints_about_callbacks_to_the_gate() -> None:
    """One cause, one oracle."""
    assert list(clean_log.judge(recording(console=complaint()))) == []


def test_clean_log_wants_the_mark_at_the_end_back() -> None:
    """If the mark is there, so are all lines that were printed before it."""
    deaf = recording()
    object.__setattr__(deaf, "console", deaf.console.replace(b"end:sample", b""))

    assert summaries(clean_log.judge(deaf)) == ["the mark at the end of the scenario did not come back on the console"]


def test_the_last_of_several_marks_is_the_one_that_is_wanted() -> None:
    """A guest that nobody drives is judged at the end of a test, and again after it."""
    answers = [
        Answer(0, "mark", which, "", "", {"mark": f"{which}:sample:{word}"}, {}, 0.0)
        for which, word in (("begin", "01"), ("end", "02"), ("end", "03"))
    ]
    console = ["[    1.0][  T1] begin:sample:01", "[    2.0][  T1] end:sample:02"]

    heard = recording(console=[*console, "[    3.0][  T1] end:sample:03"], answers=answers)
    lost = recording(console=console, answers=answers)

    assert summaries(clean_log.judge(heard)) == []
    assert summaries(clean_log.judge(lost)) == ["the mark at the end of the scenario did not come back on the console"]


def test_a_mark_that_any_program_could_write_does_not_count() -> None:
    """The log did not come back after it; what the harness wrote holds a word that is new each time."""
    marks = [
        Answer(0, "mark", f"{which}:sample", "", "", {"mark": f"{which}:sample:0123"}, {}, 0.0)
        for which in ("begin", "end")
    ]
    forged = recording(console=["drive: mark begin:sample:0123", "drive: mark end:sample"], answers=marks)
    whole = recording(console=["drive: mark begin:sample:0123", "drive: mark end:sample:0123"], answers=marks)

    assert summaries(clean_log.judge(forged)) == [
        "the mark at the end of the scenario did not come back on the console"
    ]
    assert summaries(clean_log.judge(whole)) == []


def test_forged_marks_hide_no_report() -> None:
    """Reports before, between, after and on the line of marks are found."""
    warn = "[    2.1][  T100] WARNING: CPU: 0 PID: 100 at mm/rmap.c:%d try_to_unmap_%d+0x1c5/0x210"
    console = ["drive: mark end:sample", warn % (1, 1), "drive: mark begin:sample", warn % (2, 2)]
    console += ["harness: the guest driver ended", "drive: mark end:sample " + warn % (3, 3)]

    said = summaries(clean_log.judge(recording(console=console)))

    assert said == [f"WARNING in try_to_unmap_{number}" for number in (1, 2, 3)]


def test_a_console_that_is_longer_than_what_is_judged_is_not_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report may stand behind it."""
    monkeypatch.setattr("harness.model.recording.CONSOLE_LIMIT_BYTES", 2000)
    flood = recording(console=["all is well"] * 1000)

    assert summaries(clean_log.judge(flood)) == ["the console is too long to be judged"]


def test_a_complaint_is_the_gate_s_in_whatever_function_the_patch_writes_it() -> None:
    """A rewrite may complain in its own function, which is not inlined; another file is a finding."""
    helper = recording(console=complaint(function="mn_complain.isra.0"))
    other = recording(console=complaint(site="mm/rmap.c:1700", function="try_to_unmap_one"))

    assert list(clean_log.judge(helper)) == []
    assert len(list(clean_log.judge(other))) == 1


def test_a_warn_without_a_complaint_is_not_the_gate_s() -> None:
    """Two WARNs belong to a complaint; a kernel that warns by itself in the same function is not excused."""
    alone = complaint()[1:]

    assert len(list(clean_log.judge(recording(console=alone)))) == 1
    assert len(list(clean_log.judge(recording(console=complaint() + alone)))) == 1
    assert not list(clean_log.judge(recording(console=complaint() + complaint(site="mm/mmu_notifier.c:497")[1:])))


def test_two_tasks_complain_in_each_others_midst():
    """`harness explore` found this: the line of one task, line and WARN of the other, then the WARN of the first."""
    other = [line.replace("T100", "T101").replace("PID: 100", "PID: 101") for line in complaint()]
    console = [other[0], *complaint(), *other[1:]]
    assert list(clean_log.judge(recording(console=console))) == []
    assert len(list(clean_log.judge(recording(console=[*complaint(), *other[1:]])))) == 1


def test_clean_log_notices_that_it_heard_nothing() -> None:
    """An empty console is no clean one."""
    silent = recording()
    object.__setattr__(silent, "console", b"")

    assert summaries(clean_log.judge(silent)) == ["the kernel's log never reached us"]


@pytest.mark.parametrize(
    ("console", "module", "found"),
    [
        ([], {"kmsg_lost": 0}, []),
        ([], {"kmsg_lost": 17}, ["the kernel's log lost records"]),
        (["** 17 printk messages dropped **"], {}, ["the kernel's log lost records"]),
        (["[    9.0][  T1] drive: 17 messages dropped"], {}, []),
        (["[    9.0][  T1] ready", BANNER], {}, ["unexpected kernel reboot"]),
    ],
)
def test_clean_log_misses_what_was_lost_and_a_machine_that_began_again(console, module, found) -> None:
    """A gap in the numbers of /dev/kmsg, the console's own word for it, and a second banner."""
    assert summaries(clean_log.judge(recording(console=console, module=module))) == found


# --- latency and the state at the end -----------------------------------------------------------------------------


def test_latency_speaks_of_a_callback_that_slept() -> None:
    """Two seconds on an ordinary host; on a slow one it may take longer."""
    log = Log()
    log.pair(duration_ns=1_900_000_000)
    assert summaries(latency.judge(recording(log))) == []

    log.pair(duration_ns=3_000_000_000)
    (found, again) = latency.judge(recording(log))
    assert found.summary == "subscriber #1 took seconds in direct reclaim (START)"
    assert "event 3" in found.evidence
    assert again.summary.endswith("(END)")
    assert summaries(latency.judge(recording(log, slowdown=2.0))) == []


def test_latency_leaves_waits_for_an_object_to_no_hang() -> None:
    """Such waits have their own bound."""
    log = Log()
    log.start(duration_ns=3_000_000_000)
    log.add(Kind.WAIT, duration_ns=2_500_000_000)
    log.end()

    assert list(latency.judge(recording(log))) == []


def test_latency_is_measured_in_percentiles() -> None:
    """Within 4.4 %, the longest exactly; the result holds them."""
    log = Log()
    for number in range(1, 101):
        log.start(duration_ns=number * 1000_000)
    log.start(duration_ns=10**15, seq_exit=0)
    measured = latency.measure(recording(log))

    assert measured["max"] == 100_000
    for name, value in (("p50", 50_000), ("p90", 90_000), ("p99", 99_000)):
        assert value <= measured[name] <= value * 1.045
    assert latency.measure(recording()) == {}
    assert judging.judge(recording(log)).document()["latency_us"] == measured


def test_lockdep_that_went_off_without_a_word_is_a_finding() -> None:
    """-1 is a kernel without lockdep; a report on the console belongs to the clean log."""
    splat = [
        "[    2.1][  T100] BUG: MAX_LOCKDEP_ENTRIES too low!",
        "[    2.1][  T100] turning off the locking validator.",
    ]
    for before, after, found in (
        ({"debug_locks": 1}, {"debug_locks": 1}, []),
        ({"debug_locks": -1}, {"debug_locks": -1}, []),
        ({"debug_locks": 1}, {}, []),
        ({"debug_locks": 1}, {"debug_locks": 0}, ["lockdep switched itself off"]),
        ({"debug_locks": 0}, {"debug_locks": 0}, ["lockdep was off before the scenario began"]),
    ):
        assert summaries(end_state.judge(recording(before=before, after=after))) == found
    warned = recording(console=complaint(), before={"debug_locks": 1}, after={"debug_locks": 0})
    assert summaries(end_state.judge(warned)) == ["lockdep switched itself off"]
    loud = recording(console=splat, before={"debug_locks": 1}, after={"debug_locks": 0})
    assert [finding.oracle for finding in oracles.judge(loud)] == ["clean-log"]


def test_a_taint_without_a_report_is_a_finding() -> None:
    """The kernel warned, but the console does not show it; an out-of-tree module is no fault."""
    outside, warned = 1 << 12, 1 << 9
    assert summaries(end_state.judge(recording(before={"taint": warned}, after={"taint": warned | outside}))) == []
    before, after = {"taint": outside}, {"taint": outside | warned}
    silent, loud = (recording(console=console, before=before, after=after) for console in ([], complaint()))
    assert summaries(end_state.judge(silent)) == ["the kernel became tainted: W, warned"]
    assert summaries(end_state.judge(loud)) == []


# --- judging ------------------------------------------------------------------------------------------------------


def test_a_pass_needs_evidence() -> None:
    """Nothing bad in the log, and nothing exercised: inconclusive."""
    result = judging.judge(recording(Log(), plan=scenario({"callbacks": 1})))

    assert result.outcome is Outcome.INCONCLUSIVE
    assert result.reason == "callbacks: 0, at least 1 needed"


def test_a_finding_outweighs_missing_evidence() -> None:
    """Any finding → fail, even where little was exercised."""
    log = Log()
    log.start()

    assert judging.judge(recording(log, plan=scenario({"callbacks": 5}))).outcome is Outcome.FAIL


def test_an_expected_finding_is_set_off_and_its_absence_is_inconclusive() -> None:
    """A control scenario passes if and only if the fault that it provokes is found."""
    plan = scenario({"self_waits": 1}, [("no-hang", "its own task holds")])
    log = Log()
    log.add(Kind.WAIT, result=-errno.ETIMEDOUT, context=OWNER_IS_CURRENT | HAS_END, duration_ns=1)
    log.pair()

    assert judging.judge(recording(log, plan=plan)).outcome is Outcome.PASS
    assert judging.judge(recording(Log(), plan=plan)).outcome is Outcome.INCONCLUSIVE


def test_a_step_that_could_not_be_done_is_inconclusive() -> None:
    """The guest refused a command: nothing was proved."""
    result = judging.judge(recording(Log(), ended=Ended.STEP_FAILED))

    assert result.outcome is Outcome.INCONCLUSIVE


def test_a_failure_says_which_step_was_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """The findings can be due to that step; a failure in which every step was done has nothing to say."""
    monkeypatch.setattr("harness.oracles.judge", lambda *_: [Finding("no-hang", "waited until its bound", "")])
    stopped = dataclasses.replace(recording(Log(), ended=Ended.STEP_FAILED), detail="step 9: ended")

    assert judging.judge(stopped).outcome is Outcome.FAIL
    assert judging.judge(stopped).reason == "step 9: ended"
    assert judging.judge(dataclasses.replace(stopped, ended=Ended.COMPLETE)).reason == ""


def test_findings_have_stable_summaries() -> None:
    """The same fault at other addresses, pids and times has the same words."""
    first, second = Log(), Log()
    first.start(seq=1, pid=7, start=0x1000, end=0x2000, task=1)
    second.start(seq=9, pid=8, start=0x9000, end=0xA000, task=2)

    assert summaries(pairing.judge(recording(first))) == summaries(pairing.judge(recording(second)))


def test_a_finding_names_its_oracle() -> None:
    """The name in verdict.json is the file's."""
    assert set(oracles.catalogue()) >= {"pairing", "mayfail-gate", "no-hang", "clean-log", "integrity", "references"}
    assert Finding("pairing", "x").document() == {"oracle": "pairing", "summary": "x", "evidence": ""}


# --- coherence


def stale(log: Log, step: int, broken: int, pages: int = 1, at: int = 0x7F0000000000) -> None:
    """A comparison of the driver in which a run of pages turned out to be stale."""
    if not any(entry.kind == Kind.MARK for entry in log.events):
        log.add(Kind.MARK)
    comparison = log.add(Kind.COMPARE, flags=step, result=pages, subscriber=2)
    log.add(Kind.VIOLATION, result=broken, subscriber=2, start=at, end=at + pages * 0x1000)
    log.events.remove(comparison)
    log.events.append(comparison._replace(seq_exit=log.stamp()))


def test_coherence_names_the_step_the_pages_and_the_last_range_told_there() -> None:
    log = Log()
    log.add(Kind.INVALIDATE, subscriber=2, end=0x7F0000001000)
    log.add(Kind.MIRROR, subscriber=2, result=16)
    stale(log, 7, 13, 2)
    done = Answer(4, "protect", "held", "", "protect name=held prot=r", {"ok": True, "step": 7}, {}, 0.1)

    (finding,) = coherence.judge(recording(log, answers=[done]))

    assert finding.summary == "protect held: mirror #2 holds pages that are not mapped any more"
    assert "2 pages, 1 runs; first: [0x7f0000000000, 0x7f0000002000)" in finding.evidence
    assert "the last range told there: [0x7f0000000000, 0x7f0000001000), CLEAR, record 1" in finding.evidence
    assert "the mirror took the page table over after that" in finding.evidence
    assert judging.judge(recording(log, answers=[done])).outcome is Outcome.FAIL


def test_coherence_gives_no_step_of_the_driver_to_a_mirror_of_a_child_process() -> None:
    """A child counts its own lines: the driver's line of that number did something else."""
    log = Log()
    log.add(Kind.MARK)
    log.add(Kind.COMPARE, flags=7, result=1, subscriber=2, pid=200, tgid=200)
    log.add(Kind.VIOLATION, result=13, subscriber=2, pid=200, tgid=200)
    log.add(Kind.COMPARE, flags=7, result=1, subscriber=1)
    done = Answer(4, "protect", "held", "", "protect name=held prot=r", {"ok": True, "step": 7}, {}, 0.1)

    (finding,) = coherence.judge(recording(log, answers=[done]))

    assert finding.summary == "mirror #2 holds pages that are not mapped any more"
    assert "the step is not known" in finding.evidence


def test_coherence_sums_up_a_step_and_keeps_kinds_and_steps_apart() -> None:
    log = Log()
    stale(log, 3, 14, 4)
    stale(log, 3, 14, 4, 0x7F0000100000)
    stale(log, 3, 15)
    stale(log, 5, 14)

    found = list(coherence.judge(recording(log)))

    assert [finding.summary.partition(" holds ")[2] for finding in found] == [
        "pages in whose place others are mapped",
        "a permission to write that the page table has not",
        "pages in whose place others are mapped",
    ]
    assert found[0].evidence.startswith("8 pages, 2 runs;")
    assert "no range was told" in found[0].evidence


def test_coherence_tells_what_a_device_had_for_itself_from_what_it_shares() -> None:
    log = Log()
    stale(log, 3, 17)

    assert summaries(coherence.judge(recording(log))) == [
        "mirror #2 holds pages for itself alone that are mapped again"
    ]


def test_coherence_is_silent_where_nothing_was_stale_and_counts_where_the_log_overflowed() -> None:
    log = Log()
    log.add(Kind.MIRROR, subscriber=2, result=16)
    log.add(Kind.COMPARE, subscriber=2, result=16)

    assert list(coherence.judge(recording(log))) == []
    assert list(pairing.judge(recording(log))) == []
    assert summaries(coherence.judge(recording(log, lost=1, module={"broken_15": 3}))) == [
        "the log overflowed, and a mirror was seen to hold a permission to write that the page table has not"
    ]


# --- what was provoked and did not follow


def test_what_was_provoked_and_did_not_follow_is_a_failure_and_what_was_not_provoked_is_none() -> None:
    """Of the oracle that was to speak; too little evidence stays inconclusive."""
    plan = scenario({"mayfail": 1}, [("clean-log", "^WARNING in mn_")])
    log = Log()
    log.pair()

    swallowed = judging.judge(recording(log, plan=plan))
    idle = judging.judge(recording(Log(), plan=plan))
    lossy = judging.judge(recording(log, plan=plan, lost=1))

    assert swallowed.outcome is Outcome.FAIL
    assert [(finding.oracle, finding.summary) for finding in swallowed.findings] == [
        ("clean-log", "what this scenario provokes did not follow")
    ]
    assert (idle.outcome, lossy.outcome) == (Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE)
    assert {finding.oracle for finding in (*idle.findings, *lossy.findings)} == {"exercised"}


def test_what_is_tolerated_may_come_or_not() -> None:
    tolerated = (Expected("clean-log", "^WARNING in "),)
    plan = dataclasses.replace(scenario({"mayfail": 1}), tolerated=tolerated)
    log = Log()
    log.pair()

    for said in ([], complaint(function="elsewhere", site="mm/x.c:1")[1:]):
        assert judging.judge(recording(log, said, plan=plan)).outcome is Outcome.PASS


def test_what_is_owed_counts_only_where_all_else_happened() -> None:
    plan = dataclasses.replace(scenario({"mayfail": 2}), owed={"event_clear": 3})
    log, less = Log(), Log()
    for _ in range(2):
        log.pair()
    less.pair()

    assert summaries(owed.judge(recording(log, plan=plan))) == ["event_clear did not follow from what was done"]
    assert judging.judge(recording(log, plan=plan)).outcome is Outcome.FAIL
    assert judging.judge(recording(less, plan=plan)).outcome is Outcome.INCONCLUSIVE
    log.pair()
    assert judging.judge(recording(log, plan=plan)).outcome is Outcome.PASS


# --- young


def test_young_asks_for_whole_pages_a_lock_and_a_registration() -> None:
    held = {"event": Young.CLEAR, "flags": YOUNG_ATOMIC | YOUNG_COUNTED}
    good, bad = Log(), Log()
    for log in (good, bad):
        log.add(Kind.REGISTER)
        log.add(Kind.YOUNG, **held)
        # A kernel without CONFIG_PREEMPT_COUNT cannot tell.
        log.add(Kind.YOUNG, **held | {"flags": 0})
    bad.add(Kind.YOUNG, **held | {"end": 0x7F0000000000})
    bad.add(Kind.YOUNG, **held | {"end": 0x7F0000000800})
    bad.add(Kind.YOUNG, **held | {"flags": YOUNG_COUNTED})
    for log in (good, bad):
        log.add(Kind.RELEASE)
        log.add(Kind.UNREGISTER)
    bad.add(Kind.YOUNG, **held)

    found = {finding.summary: finding.evidence for finding in young.judge(recording(bad))}

    assert list(young.judge(recording(good))) == []
    assert [summary.partition(" is ")[2] for summary in found] == [
        "asked about something other than whole pages",
        "asked whether it accessed a page, and no lock of a page table is held",
    ]
    assert "subscriber #1 was called after it was unregistered" in summaries(lifetimes.judge(recording(bad)))
    assert list(lifetimes.judge(recording(good))) == []
    assert next(iter(found.values())).startswith("2 times; first: event 4,")
    assert pairing.NAME not in {finding.oracle for finding in oracles.judge(recording(good))}


def test_young_asks_every_device_while_it_is_registered() -> None:
    """What one says is not enough for another: its device goes on thinking that the page is in use."""
    good, bad = Log(), Log()
    for log in (good, bad):
        for number in (1, 2):
            log.add(Kind.REGISTER, subscriber=number, flags=SUB_YOUNG)
        for _ in range(100):
            log.add(Kind.YOUNG, subscriber=2, event=Young.CLEAR_FLUSH, flags=0)
            # Whether a page is young needs no more than one yes.
            log.add(Kind.YOUNG, subscriber=2, event=Young.TEST, flags=0)
            if log is good:
                log.add(Kind.YOUNG, subscriber=1, event=Young.CLEAR_FLUSH, flags=0)
        log.add(Kind.RELEASE, subscriber=1)
        for _ in range(100):
            log.add(Kind.YOUNG, subscriber=2, event=Young.CLEAR_FLUSH, flags=0)

    assert list(young.judge(recording(good))) == []
    (found,) = young.judge(recording(bad))
    assert found.summary == "subscriber #1 is not asked for what it accessed, and subscriber #2 is"
    assert found.evidence == "0 times, where the other was asked 100 times while both were registered"


# --- owed


def test_owed_is_an_event_where_the_callbacks_came_under_another_name() -> None:
    log = Log()
    for _ in range(2):
        log.pair(**MUNMAP | {"event": int(RangeEvent.CLEAR)})

    plan = scenario({"callbacks": 2, "event_unmap": 2})
    (found,) = owed.judge(recording(log, plan=plan))
    assert found.summary == "ranges came under another event than UNMAP"
    assert found.evidence == "scenario sample: event_unmap is 0, 2 are owed; event_clear 2"
    assert judging.judge(recording(log, plan=plan)).outcome is Outcome.FAIL

    for short in (
        {"callbacks": 3, "event_unmap": 2},
        {"eagain": 1, "callbacks": 2, "event_unmap": 2},
        {"event_unmap": 2},
    ):
        plan = scenario(short)
        assert list(owed.judge(recording(log, plan=plan))) == []
        assert judging.judge(recording(log, plan=plan)).outcome is Outcome.INCONCLUSIVE
