# SPDX-License-Identifier: GPL-2.0-only
"""One file of figures/ = one figure; the folder lists itself.

Each file has `ROWS`, the rows of the table, and `measuring(bench)`, a
context in which its sides can be measured. `ROUNDS` is the number of rounds, if not 5.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from benchmarks import figures
from benchmarks.bench import Bench

# Measures once: quantity → value. A quantity's name ends with its unit, as in boot_s or clone_pss_mib, or is a count.
Side = Callable[[], Mapping[str, float]]

ROUNDS = 5


@dataclass(frozen=True)
class Faster:
    """The peer takes at least this many times as long as we do."""

    times: float

    def reached(self, ours: float, peer: float) -> bool:
        """Whether the medians say so."""
        return peer >= self.times * ours


@dataclass(frozen=True)
class AtMost:
    """Ours is at most this, in the unit of the quantity."""

    limit: float

    def reached(self, ours: float, peer: float) -> bool:  # noqa: ARG002 - a target is asked about both
        """Whether the median says so."""
        return ours <= self.limit


@dataclass(frozen=True)
class AtLeast:
    """Ours is at least this, in the unit of the quantity."""

    least: float

    def reached(self, ours: float, peer: float) -> bool:  # noqa: ARG002 - a target is asked about both
        """Whether the median says so."""
        return ours >= self.least


@dataclass(frozen=True)
class AtMostTimes:
    """Ours is at most this many times the peer's."""

    factor: float

    def reached(self, ours: float, peer: float) -> bool:
        """Whether the medians say so."""
        return ours <= self.factor * peer


Target = Faster | AtLeast | AtMost | AtMostTimes


@dataclass(frozen=True)
class Row:
    """A line of the table: what it is about, our quantity, the target if there is one, the peer's quantity."""

    text: str
    ours: str
    target: Target | None = None
    peer: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.target, (Faster, AtMostTimes)) and not self.peer:
            raise ValueError(f"{self.text}: a ratio needs a peer")


@dataclass(frozen=True)
class Figure:
    """One figure: its name, its summary, its rows, and how it is measured."""

    name: str
    summary: str
    rows: Sequence[Row]
    rounds: int
    measuring: Callable[[Bench], AbstractContextManager[Sequence[Side]]]


def catalogue() -> Mapping[str, Figure]:
    """Every figure by name."""
    found = {}
    for info in sorted(pkgutil.iter_modules(figures.__path__), key=lambda info: info.name):
        module = importlib.import_module(f"{figures.__name__}.{info.name}")
        name = info.name.replace("_", "-")
        summary = (module.__doc__ or "").strip().splitlines()[0]
        found[name] = Figure(name, summary, module.ROWS, getattr(module, "ROUNDS", ROUNDS), module.measuring)
    return found
