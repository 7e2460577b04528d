# SPDX-License-Identifier: GPL-2.0-only
"""The raw results, in results.json: a figure that is measured again replaces only its own entry."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.host import workspace


@dataclass(frozen=True)
class Spread:
    """The median, the least and the most of some samples."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Over at least one value."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Result:
    """One figure as it was measured last: its samples by quantity, where and when, or the reason why there are none."""

    samples: Mapping[str, Sequence[float]]
    rounds: int
    environment: Mapping[str, str]
    error: str = ""

    def spread(self, quantity: str) -> Spread | None:
        """Of a quantity; None when it was not measured."""
        values = self.samples.get(quantity)
        return Spread.of(values) if values else None


def read(path: Path) -> dict[str, Result]:
    """Every result by its figure; none when there is no file."""
    if not path.exists():
        return {}
    return {name: Result(**entry) for name, entry in json.loads(path.read_text(encoding="utf-8")).items()}


def write(path: Path, results: Mapping[str, Result]) -> None:
    """Write the results, with samples to four digits after the point."""
    document = {
        name: dataclasses.asdict(result)
        | {"samples": {quantity: [round(value, 4) for value in values] for quantity, values in result.samples.items()}}
        for name, result in sorted(results.items())
    }
    workspace.write_atomic(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
