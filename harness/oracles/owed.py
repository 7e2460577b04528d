# SPDX-License-Identifier: GPL-2.0-only
"""What follows from what a scenario exercised did follow: a range for each page table that was taken away."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding
from harness.oracles import exercised

NAME = "owed"


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each counter under the scenario's `owed` that fell short though all else happened."""
    scenario = recording.scenario
    if not scenario.owed or recording.ended is not Ended.COMPLETE or not exercised.enough(recording):
        return
    counted = exercised.count(recording)
    for counter, least in recording.contract.demanded(scenario.owed, scenario.policies).items():
        if counted[counter] < least:
            yield Finding(
                NAME,
                f"{counter} did not follow from what was done",
                f"scenario {scenario.name}: {counter} is {counted[counter]}, {least} are owed for "
                + ", ".join(f"{name} {counted[name]}" for name in scenario.exercised),
            )
