# SPDX-License-Identifier: GPL-2.0-only
"""What was seen, and what follows from it: findings, scenario results, the verdict document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from harness.model import ktap
from harness.model.ktap import Results


class Outcome(StrEnum):
    """How a scenario or a run ended."""

    PASS = "pass"  # noqa: S105 - a verdict, no password
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"

    @property
    def exit_code(self) -> int:
        """What the process exits with: git bisect reads 1 as bad, 125 as skip, 128 as stop."""
        return {"pass": 0, "fail": 1, "inconclusive": 125, "error": 128}[self.value]


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The verdict over several outcomes: any fail decides, then error, then inconclusive."""
    seen = set(outcomes)
    for outcome in (Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE, Outcome.PASS):
        if outcome in seen:
            return outcome
    return Outcome.INCONCLUSIVE


def rounded(seconds: float) -> float:
    """A time as documents hold it; the difference of two clocks may be below 0 by nothing."""
    return round(max(0.0, seconds), 2)


@dataclass(frozen=True)
class Finding:
    """One claim of an oracle, and what it rests on.

    summary is stable across runs of the same fault: no addresses, pids or
    offsets. evidence points at events and log lines and may differ.
    """

    oracle: str
    summary: str
    evidence: str = ""

    def document(self) -> dict[str, str]:
        """As verdict.json holds it."""
        return {"oracle": self.oracle, "summary": self.summary, "evidence": self.evidence}


@dataclass(frozen=True)
class ScenarioResult:
    """What one scenario came to."""

    name: str
    outcome: Outcome
    findings: Sequence[Finding] = ()
    exercised: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = ""
    phases: Mapping[str, float] = field(default_factory=dict)
    attempts: int = 1
    # How long callbacks took, in µs: percentiles, and the longest.
    latency_us: Mapping[str, int] = field(default_factory=dict)
    # The file in the scenario's folder from which harness replay repeats it; empty when it was not recorded.
    tape: str = ""
    # The results of the kernel's own tests, by program.
    selftests: Mapping[str, Results] = field(default_factory=dict)
    # What a loop of arithmetic took in the guest: how fast the host was. 0: not measured.
    loop_ms: float = 0.0

    @property
    def counted(self) -> str:
        """What happened, and the results of the kernel's own tests, in one line."""
        tests = [f"{name}: {results}" for name, results in self.selftests.items()]
        return ", ".join([*tests, *(f"{key} {value}" for key, value in self.exercised.items() if value)])

    def document(self) -> dict[str, Any]:
        """As verdict.json holds it."""
        return {
            "name": self.name,
            "verdict": self.outcome.value,
            "reason": self.reason,
            "findings": [finding.document() for finding in self.findings],
            "exercised": dict(self.exercised),
            "seconds": rounded(self.seconds),
            "loop_ms": round(self.loop_ms, 3),
            "phases": {name: rounded(seconds) for name, seconds in self.phases.items()},
            "attempts": self.attempts,
            "latency_us": dict(self.latency_us),
            "selftests": {name: results.document() for name, results in self.selftests.items()},
            "tape": self.tape,
        }

    @classmethod
    def restore(cls, entry: Mapping[str, Any]) -> ScenarioResult:
        """What document() wrote, now or in an earlier version, once it fits the schema."""
        return cls(
            name=str(entry["name"]),
            outcome=Outcome(entry["verdict"]),
            findings=tuple(
                Finding(str(finding["oracle"]), str(finding["summary"]), str(finding["evidence"]))
                for finding in entry["findings"]
            ),
            exercised={str(name): int(count) for name, count in entry["exercised"].items()},
            seconds=float(entry["seconds"]),
            loop_ms=float(entry.get("loop_ms", 0.0)),
            reason=str(entry.get("reason", "")),
            phases={str(name): float(seconds) for name, seconds in entry.get("phases", {}).items()},
            attempts=int(entry.get("attempts", 1)),
            latency_us={str(name): int(spent) for name, spent in entry.get("latency_us", {}).items()},
            tape=str(entry.get("tape", "")),
            selftests={str(name): ktap.restore(held) for name, held in entry.get("selftests", {}).items()},
        )
