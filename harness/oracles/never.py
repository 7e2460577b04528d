# SPDX-License-Identifier: GPL-2.0-only
"""What a scenario excludes did not happen, such as MAYFAIL in a munmap or a callback for pages that stay."""

from __future__ import annotations

from collections.abc import Iterator

from harness.model.recording import Recording
from harness.model.verdict import Finding
from harness.oracles import exercised

NAME = "never"


def judge(recording: Recording) -> Iterator[Finding]:
    """One finding for each counter under the scenario's `never` that is not 0."""
    if not recording.scenario.never:
        return
    counted = exercised.count(recording)
    for counter in recording.scenario.never:
        if counted[counter]:
            yield Finding(
                NAME,
                f"{counter} happened, which this scenario excludes",
                f"scenario {recording.scenario.name}: {counter} is {counted[counter]}",
            )
