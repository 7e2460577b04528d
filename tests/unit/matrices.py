# SPDX-License-Identifier: GPL-2.0-only
"""Plans, and a `harness` for their jobs that takes milliseconds."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.host import workspace
from harness.matrix import plan as plans
from harness.matrix.job import Job
from harness.matrix.plan import Plan
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.report import document
from tests.unit.verdicts import run_of

FAKE = Path(__file__).resolve().parents[1] / "fakes" / "harness.py"
TWO = """\
kernels: [debian:6.12]
patches: [mayfail, none]
scenarios: [memcg-accept]
expect:
  - {patch: none, oracle: mayfail-gate}
"""


def plan_of(folder: Path, text: str = TWO) -> Plan:
    """The plan in a text."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "plan.yaml"
    path.write_text(text)
    return plans.read(path)


def verdict(outcome: Outcome, *oracles: str) -> str:
    """The verdict.json of a run with a scenario that ended so."""
    findings = tuple(Finding(oracle, f"{oracle} saw it", "line 1") for oracle in oracles)
    return document.render(run_of([ScenarioResult("memcg-accept", outcome, findings, reason="because")]))


def rule(outcome: Outcome, *oracles: str, words: Sequence[str] = (), **more: Any) -> Mapping[str, Any]:
    """What the fake does on a command line with these words."""
    told = {"words": list(words), "verdict": verdict(outcome, *oracles), "status": outcome.exit_code}
    return {**told, **more}


def fake(folder: Path, *rules: Mapping[str, Any]) -> list[str]:
    """The program to run in place of harness. calls(folder) tells how it was called."""
    folder.mkdir(parents=True, exist_ok=True)
    control = folder / "control.json"
    control.write_text(json.dumps(rules))
    return [sys.executable, "-S", "-E", str(FAKE), str(control)]


def calls(folder: Path, command: str) -> list[str]:
    """The calls of a command so far."""
    there = folder / "calls"
    return [line for line in there.read_text().splitlines() if line.split()[0] == command] if there.exists() else []


class NamedKeys:
    """Keys of jobs by their names alone; no source is looked at."""

    def __init__(self, *_: object, **__: object) -> None:
        """As harness.matrix.keys.Keys."""

    def of(self, job: Job) -> str:
        """20 hex digits."""
        return workspace.digest(job.name)
