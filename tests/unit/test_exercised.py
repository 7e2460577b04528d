# SPDX-License-Identifier: GPL-2.0-only
"""What was counted, and what a scenario excludes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from unittest.mock import Mock

import pytest

from harness.model.event import BLOCKABLE, Kind, RangeEvent, Young
from harness.model.recording import Ended
from harness.model.vocabulary import COUNTERS
from harness.oracles import exercised, never
from harness.run import judging
from tests.unit.recordings import MUNMAP, RANGE, Log, recording, scenario


def test_every_kind_of_range_is_counted_by_its_name() -> None:
    """One for each MMU_NOTIFY_ event, for those that may not block, and for exits, which unregistering is not."""
    log = Log()
    log.pair(**MUNMAP)
    log.pair(**MUNMAP | {"event": int(RangeEvent.SOFT_DIRTY)})
    log.pair(flags=0, pf_flags=0, event=int(RangeEvent.UNMAP))
    log.add(Kind.INVALIDATE)
    log.add(Kind.RELEASE)
    log.add(Kind.UNREGISTER, subscriber=2)
    log.add(Kind.RELEASE, subscriber=2)

    counted = exercised.count(recording(log))

    assert (counted["event_unmap"], counted["event_soft_dirty"], counted["event_clear"]) == (2, 1, 0)
    assert (counted["nonblockable"], counted["exits"], counted["invalidates"]) == (1, 1, 1)


def test_an_end_that_a_mirror_was_waited_for_in_is_counted_and_no_other() -> None:
    log = Log()
    log.pair()
    log.add(Kind.END, result=1)
    log.add(Kind.FLUSH)

    counted = exercised.count(recording(log))
    assert (counted["awaited"], counted["flushes"]) == (1, 1)


def test_who_comes_and_goes_within_a_range_is_counted() -> None:
    """Not counted before its start, after its end, for another mm, or where a subscriber lost its end by leaving."""
    log = Log()
    log.add(Kind.REGISTER, subscriber=1)
    log.add(Kind.REGISTER, subscriber=2)
    log.start(subscriber=1)
    log.start(subscriber=2)
    log.add(Kind.REGISTER, subscriber=3)
    log.add(Kind.REGISTER, subscriber=4, mm=1)
    log.add(Kind.UNREGISTER, subscriber=2)
    log.end(subscriber=1)
    log.add(Kind.UNREGISTER, subscriber=3)
    log.add(Kind.UNREGISTER, subscriber=1)

    counted = exercised.count(recording(log, module={"aborted": 1}))

    assert (counted["registers_within"], counted["leaves_within"], counted["lost_ends"]) == (1, 1, 1)


def test_reclaim_within_another_range_of_its_task_is_nested() -> None:
    """Not after that range, and not in another task."""
    fork = {**MUNMAP, "event": int(RangeEvent.PROTECTION_PAGE), "range": RANGE + 64}
    log = Log()
    log.start(**fork)
    log.pair()
    log.pair(task=1)
    log.end(**fork)
    log.pair()

    assert exercised.count(recording(log))["nested"] == 1


def test_a_scenario_that_reports_ended_early_proves_nothing() -> None:
    """Each report may be one that the scenario is to provoke; what its last steps would have shown is not known."""
    whole = recording(Log())
    early = dataclasses.replace(whole, ended=Ended.EARLY, detail="stopped after 14 reports on the console")

    assert not list(exercised.judge(whole))
    assert [(finding.summary, finding.evidence) for finding in exercised.judge(early)] == [
        ("not all of the scenario's steps were done", "stopped after 14 reports on the console")
    ]


def test_never_speaks_of_what_happened_and_is_silent_otherwise() -> None:
    """The case: MAYFAIL in a scenario that excludes it."""
    log = Log()
    log.pair(**MUNMAP)
    plan = dataclasses.replace(scenario(), never=("mayfail",))
    assert list(never.judge(recording(log, plan=plan))) == []
    log.pair(flags=BLOCKABLE | 2)

    (found,) = never.judge(recording(log, plan=plan))

    assert found.summary == "mayfail happened, which this scenario excludes"


def test_each_counter_that_a_scenario_may_ask_for_is_counted() -> None:
    """A listed counter that is not counted would be 0 for ever, and each scenario that asks for it inconclusive."""
    source = Path(exercised.__file__).read_text(encoding="utf-8")
    named = {name for name in COUNTERS if f'"{name}"' in source}

    made = {f"event_{kind.name.lower()}" for kind in RangeEvent} | {f"young_{kind.name.lower()}" for kind in Young}
    assert set(COUNTERS) - named == made


def test_a_recording_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging, `never` and `exercised` share what was counted."""
    counting = Mock(wraps=exercised._counted)
    monkeypatch.setattr(exercised, "_counted", counting)

    judging.judge(recording(Log(), plan=dataclasses.replace(scenario({"callbacks": 1}), never=("eagain",))))

    assert counting.call_count == 1
