# SPDX-License-Identifier: GPL-2.0-only
"""What follows from what a scenario exercised did follow: a range for each page table that was taken away.

So does its event: a scenario that demands `callbacks` and an event of theirs is owed
the event when the callbacks came. They came under another name, then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from harness.model.recording import Ended, Recording
from harness.model.verdict import Finding
from harness.oracles import exercised

NAME = "owed"


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each counter under the scenario's `owed` that fell short though all else happened."""
    scenario = recording.scenario
    yield from _called_otherwise(recording)
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


def _called_otherwise(recording: Recording) -> Iterator[Finding]:
    """Events that fell short, though all else that was demanded, and as many callbacks, came."""
    demanded = exercised.demanded(recording)
    if "callbacks" not in demanded or not exercised.enough(recording, without=_is_event):
        return
    counted = exercised.count(recording)
    for counter, least in demanded.items():
        if _is_event(counter) and counted[counter] < least:
            yield Finding(
                NAME,
                f"ranges came under another event than {counter.removeprefix('event_').upper()}",
                f"scenario {recording.scenario.name}: {counter} is {counted[counter]}, {least} are owed; "
                + _events(counted),
            )


def _is_event(counter: str) -> bool:
    return counter.startswith("event_")


def _events(counted: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {times}" for name, times in counted.items() if times and _is_event(name))
