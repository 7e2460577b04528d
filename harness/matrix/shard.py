# SPDX-License-Identifier: GPL-2.0-only
"""The order in which jobs run, and the parts of a plan that several machines run: what is longest comes first.

A pure function of the plan and the durations, so that each machine finds the
same parts by itself.
"""

from __future__ import annotations

import functools
import heapq
import math
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.matrix.job import Job
from harness.model.errors import UsageError
from harness.variants import catalogue

_SHARD = re.compile(r"([0-9]{1,5})/([0-9]{1,5})")
# Of what was never run: a kernel on two CPUs without ccache; a run's own start, and each scenario under TCG.
_BUILD_S, _START_S, _SCENARIO_S = 240.0, 20.0, 1.5


@dataclass(frozen=True)
class Durations:
    """What jobs took, by name, the latest last; and what building a kernel took. In seconds."""

    jobs: Mapping[str, Sequence[float]] = field(default_factory=dict)
    builds: Mapping[str, float] = field(default_factory=dict)

    def of(self, job: Job) -> float:
        """How long a job is likely to take: the median of what it took; else of those with the same scenarios."""
        return statistics.median(self.jobs[job.name]) if self.jobs.get(job.name) else _guess(job)

    def longest(self, job: Job) -> float:
        """The longest that a job took; 0 for one that never ran."""
        return max(self.jobs.get(job.name, ()), default=0.0)

    def build(self, job: Job) -> float:
        """How long its kernel is likely to take."""
        return self.builds.get(job.build, _BUILD_S)


def _guess(job: Job) -> float:
    return _START_S + _SCENARIO_S * _count(job.scenarios) * job.repeat


@functools.cache
def _count(scenarios: tuple[str, ...]) -> int:
    return len(catalogue.choose(scenarios))


@dataclass(frozen=True)
class Group:
    """Jobs that share a kernel, or a part of them; the longest first. seconds: with the building of the kernel."""

    jobs: tuple[Job, ...]
    seconds: float


def parse(text: str) -> tuple[int, int]:
    """I and N of I/N. Raises UsageError."""
    found = _SHARD.fullmatch(text)
    number, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"--shard {text}: is not I/N with 1 ≤ I ≤ N", "--shard 1/4")
    return number, count


def groups(jobs: Sequence[Job], durations: Durations) -> list[Group]:
    """The jobs by their kernels, in the order in which they run: the longest group first, and in it the longest job."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.build, []).append(job)
    return sorted((_group(members, durations) for members in found.values()), key=_longest)


def parts(jobs: Sequence[Job], durations: Durations, count: int) -> list[list[Job]]:
    """The jobs of each of so many shards.

    A kernel's jobs stay together, unless they alone are more than a shard's even part: then each part builds it again.
    """
    whole = groups(jobs, durations)
    even = sum(group.seconds for group in whole) / count
    pieces = [piece for group in whole for piece in _split(group, durations, even)]
    filled: list[list[Job]] = [[] for _ in range(count)]
    loads = [(0.0, number) for number in range(count)]
    for piece in sorted(pieces, key=_longest):
        load, number = heapq.heappop(loads)
        filled[number] += piece.jobs
        heapq.heappush(loads, (load + piece.seconds, number))
    return filled


def seconds(jobs: Sequence[Job], durations: Durations) -> float:
    """How long some jobs take one after another, kernels included."""
    return sum(group.seconds for group in groups(jobs, durations))


def _group(jobs: Sequence[Job], durations: Durations) -> Group:
    ordered = sorted(jobs, key=lambda job: (-durations.of(job), job.name))
    return Group(tuple(ordered), durations.build(ordered[0]) + sum(map(durations.of, ordered)))


def _longest(group: Group) -> tuple[float, str]:
    return -group.seconds, group.jobs[0].name


def _split(group: Group, durations: Durations, even: float) -> list[Group]:
    build = durations.build(group.jobs[0])
    # Each part has the building on top; what is left of an even part is for jobs.
    room = max(even - build, even / 4)
    wanted = math.ceil((group.seconds - build) / room) if group.seconds > even > 0 else 1
    count = max(1, min(len(group.jobs), wanted))
    filled: list[list[Job]] = [[] for _ in range(count)]
    loads = [(0.0, number) for number in range(count)]
    for job in group.jobs:
        load, number = heapq.heappop(loads)
        filled[number].append(job)
        heapq.heappush(loads, (load + durations.of(job), number))
    return [_group(jobs, durations) for jobs in filled]
