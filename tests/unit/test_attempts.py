# SPDX-License-Identifier: GPL-2.0-only
"""A scenario is tried again for what is no evidence against the kernel: a guest lost on the host, and chance."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.guest.lab import Lab
from harness.model.errors import GuestLost
from harness.model.postmortem import Hangs, PostMortem, Wait
from harness.model.recording import Ended
from harness.model.verdict import Outcome, ScenarioResult
from harness.run import pipeline
from harness.variants import catalogue

LOST = GuestLost("the host stopped QEMU")
WAIT = Wait(42, "pid 42 drive", ("try_to_unmap_one",))


@pytest.mark.parametrize(
    ("tries", "outcome", "attempts"),
    [
        ([Outcome.PASS], Outcome.PASS, 1),
        ([Outcome.FAIL], Outcome.FAIL, 1),
        ([Outcome.INCONCLUSIVE, Outcome.PASS], Outcome.PASS, 2),
        ([Outcome.INCONCLUSIVE, Outcome.FAIL], Outcome.FAIL, 2),
        ([Outcome.INCONCLUSIVE, Outcome.INCONCLUSIVE], Outcome.INCONCLUSIVE, 2),
        ([LOST, Outcome.PASS], Outcome.PASS, 2),
        ([LOST, Outcome.INCONCLUSIVE], Outcome.INCONCLUSIVE, 2),
        ([LOST, LOST], Outcome.ERROR, 2),
    ],
)
def test_chance_and_a_lost_guest_cost_one_more_try_and_a_finding_none(
    tries: list[Any], outcome: Outcome, attempts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(tries)
    (scenario,) = catalogue.choose(["memcg-eagain"])
    recording = SimpleNamespace(
        ended=Ended.COMPLETE, seconds=1.0, postmortem_s=0.0, postmortem=PostMortem(waits=[WAIT])
    )

    def record(*_: Any) -> Any:
        coming = next(left)
        if isinstance(coming, GuestLost):
            raise coming
        monkeypatch.setattr("harness.run.judging.judge", lambda _: ScenarioResult(scenario.name, coming))
        return recording, {"boot": 0.0}

    monkeypatch.setattr(pipeline, "_record", record)
    lab = cast(Lab, SimpleNamespace(hangs=Hangs()))

    result, _ = pipeline.judge_on(lab, scenario, tmp_path, pipeline.Clock())

    assert (result.outcome, result.attempts) == (outcome, attempts)
    assert next(left, None) is None
    assert lab.hangs.proved is (outcome is Outcome.FAIL), "what passes as it was to hang proves nothing of the kernel"
