# SPDX-License-Identifier: GPL-2.0-only
"""Whether everything is slower: not one scenario beside the others of its run, but all of them, in all jobs.

A host that does other work makes everything slower, too. What tells them apart is the loop of arithmetic that each
guest does (guest-modules/init/calibrate.c): the kernel adds nothing to it. How much of a slower host a scenario
feels is learned from runs that followed each other; nights are compared only where hosts were about as fast on both
sides, as nothing is known of other hosts. Jobs of one night share their hosts, so that a night counts once, however
many jobs it has.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.history import change
from harness.history.change import median

# Hosts that differ by no more than this are equally fast.
_NEAR = math.log(1.1)
_SHARE = 0.95
# Nothing feels more of a slower host than that.
_FELT_MOST = 2.0
# Of what is larger there is no float.
_LOG_MOST = 700.0


@dataclass(frozen=True)
class Run:
    """A run. night: its number, counted from the time since which is told; before that, it is below 0."""

    job: str
    kernel: str
    folder: str
    at_s: float
    night: int


@dataclass(frozen=True)
class Paced:
    """How long the scenarios of a run took, and how slow its host was: logarithms, beside what is usual for each."""

    run: Run
    took: float
    host: float


@dataclass(frozen=True)
class Shift:
    """Jobs have become slower by a factor, which lies between low and high at 95 %. run: the first one."""

    factor: float
    low: float
    high: float
    jobs: int
    since_s: float
    run: str


@dataclass(frozen=True)
class _Night:
    number: int
    took: float
    host: float


def paced(series: Iterable[Iterable[tuple[Run, float, float]]]) -> list[Paced]:
    """Each run with the median over its scenarios.

    series: of each scenario of each job the runs, with seconds, and milliseconds of the loop. Where that was not
    measured, nothing is known of the host, and it is left out.
    """
    runs: dict[Run, list[tuple[float, float]]] = defaultdict(list)
    for found in series:
        # A store may be anybody's.
        known = [
            (run, math.log(seconds), math.log(loop_ms))
            for run, seconds, loop_ms in found
            if 0 < seconds < math.inf and 0 < loop_ms < math.inf
        ]
        if not known:
            continue
        usual, usual_host = median([took for _, took, _ in known]), median([host for _, _, host in known])
        for run, took, host in known:
            runs[run].append((took - usual, host - usual_host))
    return [Paced(run, median([took for took, _ in of]), median([host for _, host in of])) for run, of in runs.items()]


def slower(runs: Sequence[Paced], groups: int = 1) -> Shift | None:
    """Whether the jobs of these runs have become slower, in the last of their nights, too.

    groups: how many are looked at beside each other.
    """
    feel = _felt(runs)
    jobs = _nights_of_jobs(runs, feel)
    nights = _nights(jobs)
    at = _split(nights, groups) if nights and nights[-1].number >= 0 else None
    if at is None:
        return None
    before, after = _sides(nights, at)
    ratios = sorted(late.took - early.took for late in after for early in before)
    outside = _outside(len(before), len(after))
    first = nights[at].number
    begun = min((one.run for one in runs if one.run.night == first), key=lambda run: run.at_s)
    both = [one for one in jobs.values() if min(one) < first <= max(one)]
    return Shift(
        factor=_factor(median(ratios)),
        low=_factor(ratios[outside]),
        high=_factor(ratios[-1 - outside]),
        jobs=len(both),
        since_s=begun.at_s,
        run=begun.folder,
    )


def factor(runs: Sequence[Paced], since_s: float) -> float | None:
    """By how much these runs became slower at a time, sure or not; None where there is nothing to compare."""
    nights = _nights(_nights_of_jobs(runs, _felt(runs)))
    first = min((one.run.night for one in runs if one.run.at_s >= since_s), default=None)
    early = [one.took for one in nights if first is not None and one.number < first]
    late = [one.took for one in nights if first is not None and one.number >= first]
    return _factor(median(late) - median(early)) if early and late else None


def _factor(logarithm: float) -> float:
    return math.exp(min(logarithm, _LOG_MOST))


def _felt(runs: Iterable[Paced]) -> float:
    """How much of a slower host is felt: 1 for all of it.

    The slope between runs of a job that followed each other, weighted by how different their hosts were. One change
    of the kernel lies between two of them alone.
    """
    jobs: dict[str, list[Paced]] = defaultdict(list)
    for one in sorted(runs, key=lambda one: one.run.at_s):
        jobs[one.run.job].append(one)
    slopes = sorted(
        ((late.took - early.took) / (late.host - early.host), abs(late.host - early.host))
        for found in jobs.values()
        for early, late in pairwise(found)
        if abs(late.host - early.host) > _NEAR
    )
    half = sum(weight for _, weight in slopes) / 2
    for slope, weight in slopes:
        half -= weight
        if half <= 0:
            return min(_FELT_MOST, max(0.0, slope))
    return 1.0


def _nights_of_jobs(runs: Iterable[Paced], feel: float) -> dict[str, dict[int, _Night]]:
    """Job → night → what its runs took on a host that is as fast as usual."""
    found: dict[str, dict[int, list[Paced]]] = defaultdict(lambda: defaultdict(list))
    for one in runs:
        found[one.run.job][one.run.night].append(one)
    return {
        job: {
            night: _Night(night, median([one.took - feel * one.host for one in of]), median([one.host for one in of]))
            for night, of in nights.items()
        }
        for job, nights in found.items()
    }


def _nights(jobs: Mapping[str, Mapping[int, _Night]]) -> list[_Night]:
    """Each night with the median over its jobs, each beside its own. A job with few nights has no usual one."""
    found: dict[int, list[_Night]] = defaultdict(list)
    for nights in jobs.values():
        if len(nights) < change.LEAST:
            continue
        usual = median([one.took for one in nights.values()])
        for number, one in nights.items():
            found[number].append(_Night(number, one.took - usual, one.host))
    return [
        _Night(number, median([one.took for one in of]), median([one.host for one in of]))
        for number, of in sorted(found.items())
    ]


def _split(nights: Sequence[_Night], groups: int) -> int | None:
    """The place of the first night since which all took longer than before; None without one."""
    rule = change.Slower()
    best: tuple[float, int] | None = None
    splits = change.splits(len(nights))
    for at in splits:
        before, after = _sides(nights, at)
        if len(before) < change.LEAST_BEFORE or len(after) < change.LEAST_AFTER or after[-1] != nights[-1]:
            continue
        early, late = [one.took for one in before], [one.took for one in after]
        if rule.matters(median(early), median(late)):
            chance = change.luck(early, late) * len(splits) * groups
            best = min(best or (chance, at), (chance, at))
    return best[1] if best and best[0] <= change.ALARM else None


def _sides(nights: Sequence[_Night], at: int) -> tuple[Sequence[_Night], Sequence[_Night]]:
    """The nights before a place and behind it: of each side those whose hosts were as fast as some of the other."""
    before = nights[max(0, at - change.MOST_BEFORE) : at]
    after = _near(nights[at:], before)
    return _near(before, after), after


def _near(nights: Sequence[_Night], others: Sequence[_Night]) -> list[_Night]:
    hosts = [one.host for one in others]
    return [one for one in nights if hosts and min(hosts) - _NEAR <= one.host <= max(hosts) + _NEAR]


def _outside(before: int, after: int) -> int:
    """How many of the ratios of all pairs lie outside the interval on each side (Mann and Whitney, as in change.py)."""
    count = 0
    while count + 1 < before * after // 2 and change.few(before, after, count + 1) <= (1 - _SHARE) / 2:
        count += 1
    return count
