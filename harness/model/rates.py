# SPDX-License-Identifier: GPL-2.0-only
"""How often a scenario fails that does not always: of the rounds of a run that were judged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

from harness.model.verdict import Outcome, ScenarioResult

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """A scenario that failed in some of its rounds, and passed in others."""

    scenario: str
    failed: int
    rounds: int

    @property
    def interval(self) -> tuple[float, float]:
        """Between which shares the true one lies, at 95 %: Wilson, J. Am. Stat. Assoc. 22 (1927), 209."""
        z = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2)
        share, number = self.failed / self.rounds, self.rounds
        middle = (share + z * z / (2 * number)) / (1 + z * z / number)
        reach = z / (1 + z * z / number) * sqrt(share * (1 - share) / number + z * z / (4 * number * number))
        return max(0.0, middle - reach), min(1.0, middle + reach)

    @property
    def sentence(self) -> str:
        """In words."""
        low, high = self.interval
        return (
            f"{self.scenario} failed in {self.failed} of {self.rounds} rounds: {self.failed / self.rounds:.0%} "
            f"(between {low:.1%} and {high:.1%}, at {_CONFIDENCE:.0%})"
        )

    def document(self) -> dict[str, Any]:
        """As verdict.json holds it."""
        low, high = self.interval
        return {
            "scenario": self.scenario,
            "failed": self.failed,
            "rounds": self.rounds,
            "low": round(low, 4),
            "high": round(high, 4),
        }


def rates(results: Iterable[ScenarioResult]) -> list[Rate]:
    """The rates of a run with --repeat, for what failed now and then. Rounds that proved too little do not count."""
    passed: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for result in results:
        counts = {Outcome.PASS: passed, Outcome.FAIL: failed}.get(result.outcome)
        if counts is not None:
            counts[result.name.partition(".")[0]] += 1
    return [Rate(name, number, number + passed[name]) for name, number in failed.items() if passed[name]]
