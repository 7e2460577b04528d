# SPDX-License-Identifier: GPL-2.0-only
"""What report.html tells of a scenario beside its result: its timeline and its console."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.model.recording import Recording
from harness.model.verdict import Outcome, ScenarioResult
from harness.report import console, timeline
from harness.report.console import Part
from harness.report.timeline import Timeline

# So many passes, and so many others, of a run: no page holds more.
_KEPT = 300


@dataclass(frozen=True)
class Detail:
    """A scenario's timeline, and the parts of its console."""

    timeline: Timeline = field(default_factory=Timeline)
    console: Sequence[Part] = ()


class Details:
    """The details of a run's scenarios, by name; they come from any thread, while other scenarios still run."""

    def __init__(self) -> None:
        self._found: dict[str, Detail] = {}
        self._counts = {True: 0, False: 0}
        self._guard = threading.Lock()

    def add(self, recording: Recording, result: ScenarioResult) -> None:
        """Take those of a scenario that was judged, unless there are enough."""
        passed = result.outcome is Outcome.PASS
        with self._guard:
            self._counts[passed] += 1
            if self._counts[passed] > _KEPT:
                return
        detail = Detail(timeline.of(recording, result.findings), console.parts(recording))
        with self._guard:
            self._found[result.name] = detail

    @property
    def found(self) -> Mapping[str, Detail]:
        """Scenario → its details."""
        return self._found
