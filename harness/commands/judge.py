# SPDX-License-Identifier: GPL-2.0-only
"""Judge a run that ended from its directory alone, and write its reports again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from harness import pressures
from harness.model import ktap, scenario
from harness.model import recording as recordings
from harness.model.errors import UsageError
from harness.model.run import AccelFacts, KernelFacts, MachineFacts, RunVerdict
from harness.model.scenario import Scenario
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.report.write import write
from harness.run import judging


def judge(folder: Path) -> RunVerdict:
    """Every scenario whose recording is there is judged anew; one without keeps what verdict.json says of it."""
    try:
        document: dict[str, Any] = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
        results = tuple(_result(folder, entry) for entry in document["scenarios"])
        kernel, accel = document["kernel"], document["accel"]
        error = document.get("error", "")
        verdict = RunVerdict(
            source=document["source"],
            patches=tuple(document["patches"]),
            configs=tuple(document["configs"]),
            kernel=KernelFacts(kernel["release"], kernel["build_id"], kernel["cached"]),
            accel=AccelFacts(accel["requested"], accel["used"], accel["reason"]),
            scenarios=results,
            machines=_machines(document.get("machines", {})),
            skipped={entry["name"]: entry["reason"] for entry in document.get("skipped", [])},
            seconds=document["seconds"],
            noise=judging.known_noise(folder, [result.name for result in results]),
            error=error,
            forced=Outcome(document["verdict"]) if error else None,
        )
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise UsageError(f"{folder}: no run directory: {fault}", "name a folder that harness run wrote") from None
    write(verdict, folder)
    return verdict


def _machines(held: dict[str, str]) -> MachineFacts:
    return MachineFacts(held.get("reason", ""), held.get("from", "none"))


def _result(folder: Path, entry: dict[str, Any]) -> ScenarioResult:
    place = folder / entry["name"]
    if not (place / "record.json").exists():
        return ScenarioResult(
            entry["name"],
            Outcome(entry["verdict"]),
            tuple(Finding(**finding) for finding in entry["findings"]),
            entry["exercised"],
            entry["seconds"],
            entry.get("reason", ""),
            latency_us=entry.get("latency_us", {}),
            selftests={name: ktap.restore(held) for name, held in entry.get("selftests", {}).items()},
            tape=entry.get("tape", ""),
        )
    # What the machine took, how often it was tried, and its recording are no judgement: they are kept.
    return dataclasses.replace(
        judging.judge(recordings.read(place, scenario_of(place, entry["name"]))),
        phases=entry.get("phases", {}),
        attempts=entry.get("attempts", 1),
        tape=entry.get("tape", ""),
    )


def scenario_of(place: Path, name: str) -> Scenario:
    """The scenario that a folder of a run is the recording of."""
    keys = {pressure.name: pressure.keys for pressure in pressures.catalogue().values()}
    stem = place / "scenario.yaml"
    for found in scenario.load(stem, keys):
        suffix = found.name.removeprefix(stem.stem)
        if not suffix or name.partition(".")[0].endswith(suffix):
            return scenario.renamed(found, name)
    raise UsageError(f"{stem}: holds no scenario {name!r}")
