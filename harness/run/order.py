# SPDX-License-Identifier: GPL-2.0-only
"""Bad news first: in which order the scenarios of a run are run, from what earlier runs showed.

What failed the last time that the same files were changed is run first, then
what executed the changed lines then, each with the quickest in front; then all
else that is quick. The longest of the rest begin first, so that no core is
idle at the end.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.host import workspace
from harness.kernel.build import KernelBuild
from harness.kernel.patches import PatchSeries, touched
from harness.model.scenario import Scenario
from harness.model.verdict import Outcome, ScenarioResult

# Seconds. What takes no longer comes before what does.
_QUICK_S = 2.0


def order(scenarios: Sequence[Scenario], kernel: KernelBuild, source: str, cache: Path) -> list[Scenario]:
    """Scenarios in the order in which they are best run; source: as --source names it."""
    took, last = seconds(cache), _recall(_last(kernel, source, cache))

    def place(scenario: Scenario) -> tuple[int, float]:
        name = scenario.name
        took_s = took.get(name, _QUICK_S)
        for rank, kind in enumerate(("failed", "ran")):
            if name in last.get(kind, ()):
                return rank, took_s
        return (2, took_s) if took_s <= _QUICK_S else (3, -took_s)

    return sorted(scenarios, key=place)


def seconds(cache: Path) -> Mapping[str, float]:
    """Scenario → what it took the last time that it passed."""
    return _recall(_seconds(cache))


def remember(
    results: Sequence[ScenarioResult], ran: Collection[str], kernel: KernelBuild, source: str, cache: Path
) -> None:
    """Keep what a run showed for the next one. ran: the names of what executed changed lines."""
    took = {plain(result.name): round(_took_s(result), 2) for result in results if _took_s(result)}
    workspace.remember(_seconds(cache), json.dumps({**seconds(cache), **took}))
    judged = {plain(result.name) for result in results}
    failed = [plain(result.name) for result in results if result.outcome is Outcome.FAIL]
    # What had no turn this time, too.
    failed += [name for name in _recall(_last(kernel, source, cache)).get("failed", ()) if name not in judged]
    shown = {"failed": list(dict.fromkeys(failed)), "ran": list(dict.fromkeys(map(plain, ran)))}
    workspace.remember(_last(kernel, source, cache), json.dumps(shown))


def plain(name: str) -> str:
    """The scenario of a round."""
    return name.partition(".")[0]


def _took_s(result: ScenarioResult) -> float:
    """What a scenario that passed cost, without a boot that others share."""
    passed = result.outcome is Outcome.PASS
    return sum(seconds for phase, seconds in result.phases.items() if phase != "boot") if passed else 0.0


def _seconds(cache: Path) -> Path:
    return cache / "order" / "seconds.json"


def _last(kernel: KernelBuild, source: str, cache: Path) -> Path:
    """By the files that the user's patches change, because patches are edited; else by the names of what is run."""
    series: PatchSeries = kernel.recipe.series
    files = sorted({path for patch in series.patches if not patch.builtin for path in touched(patch)})
    return cache / "order" / f"{workspace.digest(*(files or (source, *series.names)))}.json"


def _recall(path: Path) -> dict[str, Any]:
    known = workspace.recall(path)
    found: Mapping[str, Any] = json.loads(known) if known else {}
    return dict(found)
