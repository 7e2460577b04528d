# SPDX-License-Identifier: GPL-2.0-only
"""Whether a series of figures is another from some point on. One bad sample is none; nor is what chance makes of many.

The test is that of Mann and Whitney (Ann. Math. Stat. 18 (1947), 50) with its exact distribution: it looks at ranks
alone, so that no sample counts more than another, however far out it is. Each split that is tried, and each series
that is looked at beside, makes a chance hit more likely and the limit stricter (Bonferroni), so that a whole report
on figures that have not changed tells a change with a probability of at most ALARM.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeVar

ALARM = 0.01
# How many samples there must be before a change and behind it, and how many are looked at.
LEAST_BEFORE, MOST_BEFORE = 8, 40
LEAST_AFTER, _MOST_AFTER = 3, 20
LEAST = LEAST_BEFORE + 2
# A change by less than this share is of no interest, however sure it is.
_SHARE = 1.2
# A scenario's figure is compared with those of at least so many others in its run.
_OTHERS = 2

Name = TypeVar("Name", bound=Hashable)


def median(values: Sequence[float]) -> float:
    """The median."""
    return float(statistics.median(values))


def paired(figures: Mapping[Name, Mapping[str, float]]) -> dict[Name, dict[str, float]]:
    """The logarithm of each time, less what the other scenarios of its run say of how fast the host was then.

    figures: name of a series → run → seconds. A run with too few scenarios says nothing of its host and is left out.
    """
    logs = {name: {run: math.log(value) for run, value in one.items() if value > 0} for name, one in figures.items()}
    usual = {name: median(list(one.values())) for name, one in logs.items() if one}
    runs: dict[str, dict[Name, float]] = defaultdict(dict)
    for name, one in logs.items():
        for run, value in one.items():
            runs[run][name] = value - usual[name]
    found: dict[Name, dict[str, float]] = {name: {} for name in figures}
    for name, one in logs.items():
        for run in one:
            others = [value for other, value in runs[run].items() if other != name]
            if len(others) >= _OTHERS:
                found[name][run] = runs[run][name] - median(others)
    return found


def splits(size: int) -> range:
    """The places of a series at which it may have become another."""
    return range(max(LEAST_BEFORE, size - _MOST_AFTER), size - LEAST_AFTER + 1)


@dataclass(frozen=True)
class Rule:
    """What counts as a change."""

    def find(self, values: Sequence[float], series: int) -> int | None:
        """The place at which a series became another, which it still is; None without one.

        series: how many are looked at beside each other.
        """
        size = len(values)
        places = splits(size)
        best: tuple[float, int] | None = None
        for at in places:
            before, after = values[max(0, at - MOST_BEFORE) : at], values[at:]
            if self.matters(median(before), median(after)):
                chance = luck(*self.order(before, after)) * len(places) * series
                best = min(best or (chance, at), (chance, at))
        return best[1] if best and best[0] <= ALARM else None

    def matters(self, before: float, after: float) -> bool:
        """Whether a change of medians is worth a line."""
        raise NotImplementedError

    def order(self, before: Sequence[float], after: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
        """What should be the smaller, and what should be the larger, if it is a change."""
        raise NotImplementedError


@dataclass(frozen=True)
class Slower(Rule):
    """Logarithms of times have become larger."""

    def matters(self, before: float, after: float) -> bool:
        """By a fifth."""
        return after - before >= math.log(_SHARE)

    def order(self, before: Sequence[float], after: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
        """Later ones are larger."""
        return before, after


@dataclass(frozen=True)
class Less(Rule):
    """Counts have become smaller."""

    def matters(self, before: float, after: float) -> bool:
        """By a sixth."""
        return after * _SHARE <= before and after < before

    def order(self, before: Sequence[float], after: Sequence[float]) -> tuple[Sequence[float], Sequence[float]]:
        """Earlier ones are larger."""
        return after, before

    def find(self, values: Sequence[float], series: int) -> int | None:
        """As for every rule; and when the last two are less than half of all before, which waits for no statistics."""
        before, last = values[:-2], values[-2:]
        if len(before) >= LEAST_BEFORE and 2 * max(last) < min(before):
            return len(values) - 2
        return super().find(values, series)


def luck(smaller: Sequence[float], larger: Sequence[float]) -> float:
    """How probable it is that as many pairs or more are in this order by chance. Equal ones count against it."""
    ranked = sorted(smaller)
    pairs = sum(bisect_left(ranked, value) for value in larger)
    return _tails(len(smaller), len(larger))[pairs]


def few(first: int, second: int, pairs: int) -> float:
    """How probable it is that at most so many pairs of so many samples are in an order by chance."""
    return _tails(first, second)[first * second - pairs]


@cache
def _tails(first: int, second: int) -> Sequence[float]:
    """For each number of pairs, how probable it or more are: the coefficients of a Gaussian binomial, summed up."""
    ways = [1] + [0] * (first * second)
    for step in range(1, second + 1):
        for at in range(len(ways) - 1, first + step - 1, -1):
            ways[at] -= ways[at - first - step]
        for at in range(step, len(ways)):
            ways[at] += ways[at - step]
    total, tails, left = math.comb(first + second, second), [], 0
    for count in reversed(ways):
        left += count
        tails.append(left / total)
    return tails[::-1]
