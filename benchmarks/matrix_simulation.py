# SPDX-License-Identifier: GPL-2.0-only
"""How a cluster gets through large matrices, by simulation; the figures of docs/nightly.md.

    python -m benchmarks.matrix_simulation

Jobs and kernels are started as harness.matrix does it: the kernel whose jobs take longest first, and a job as soon as
its kernel is built and a host is free. A host that is lost takes what runs on it along, and that runs again elsewhere.
What a task costs the scheduler is a parameter; the table says which one was used.
"""

from __future__ import annotations

import heapq
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

# What one task costs the scheduler and the network, and moving a kernel of 20 MB over 1 Gbit/s, once for each host.
TASK_S, MOVE_S = 0.05, 0.2
# A run under KVM: a log-normal spread, the longest tens of times the median, as the times of scenarios are.
MEDIAN_S, SPREAD = 60.0, 0.8
BUILD_S = 240.0
SEED = 1


@dataclass(frozen=True)
class Outcome:
    """What a simulated night came to, in seconds."""

    took: float
    work: float
    critical: float
    overhead: float
    again: int


@dataclass
class _Task:
    """A build or a job. after: the kernel that it waits for."""

    name: int
    seconds: float
    kernel: int
    is_build: bool = False
    tries: int = 0


@dataclass
class _Hosts:
    """Which are free, and which will be lost, and when."""

    free: list[int]
    lost_at: dict[int, float] = field(default_factory=dict)
    has: dict[int, set[int]] = field(default_factory=dict)


def night(jobs: int, hosts: int, kernels: int, *, lost: int = 0, seed: int = SEED) -> Outcome:
    """A night of so many jobs over so many hosts. lost: hosts that die, at times spread over it."""
    chance = random.Random(seed)  # noqa: S311 - a simulation, no secret
    tasks = [_Task(n, chance.lognormvariate(0, SPREAD) * MEDIAN_S, n % kernels) for n in range(jobs)]
    each: list[float] = [0.0] * kernels
    for task in tasks:
        each[task.kernel] += task.seconds
    builds = [_Task(jobs + kernel, BUILD_S, kernel, is_build=True) for kernel in range(kernels)]
    work = sum(task.seconds for task in [*tasks, *builds])
    # The longest chain: a kernel and its longest job.
    critical = BUILD_S + max(task.seconds for task in tasks)
    state = _Hosts(list(range(hosts)))
    about = work / hosts
    state.lost_at = {host: about * (host + 1) / (lost + 1) for host in range(lost)}
    took, overhead, again = _run(tasks, builds, each, state)
    return Outcome(took, work, critical, overhead / jobs, again)


def _run(
    tasks: Sequence[_Task], builds: Sequence[_Task], each: Sequence[float], state: _Hosts
) -> tuple[float, float, int]:
    """The end of the last job, what was spent beside jobs and builds, and how many tasks ran again."""
    order = {kernel: place for place, kernel in enumerate(sorted(range(len(each)), key=lambda one: -each[one]))}
    ready = [(order[task.kernel], 0, -task.seconds, task.name, task) for task in builds]
    heapq.heapify(ready)
    waiting: dict[int, list[_Task]] = {}
    for task in tasks:
        waiting.setdefault(task.kernel, []).append(task)
    running: list[tuple[float, int, int, bool, _Task]] = []
    now = overhead = 0.0
    scheduler = 0.0
    again = 0
    while ready or running:
        while ready and state.free:
            *_, task = heapq.heappop(ready)
            host = state.free.pop()
            # The scheduler handles one task at a time.
            scheduler = max(scheduler, now) + TASK_S
            cost = scheduler - now
            if not task.is_build and task.kernel not in state.has.setdefault(host, set()):
                state.has[host].add(task.kernel)
                cost += MOVE_S
            overhead += cost
            end = now + cost + task.seconds
            dies = state.lost_at.get(host, float("inf"))
            heapq.heappush(running, (min(end, dies), task.name, host, dies < end, task))
        now, _, host, died, task = heapq.heappop(running)
        if died:
            task.tries += 1
            again += 1
            heapq.heappush(ready, (order[task.kernel], int(not task.is_build), -task.seconds, task.name, task))
            continue
        if now < state.lost_at.get(host, float("inf")):
            state.free.append(host)
        if task.is_build:
            for one in waiting.pop(task.kernel, ()):
                heapq.heappush(ready, (order[one.kernel], 1, -one.seconds, one.name, one))
    return now, overhead, again


def table() -> str:
    """The figures as Markdown."""
    lines = [
        "| jobs | hosts | kernels | hosts lost | time | even share | critical path | overhead per job | run again |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for jobs, hosts, kernels, losses in ((500, 8, 24, (0, 1, 2)), (50_000, 200, 240, (0, 10, 40))):
        for lost in losses:
            found = night(jobs, hosts, kernels, lost=lost)
            times = [f"{seconds / 60:.0f} min" for seconds in (found.took, found.work / hosts, found.critical)]
            counts = [f"{jobs:,}", str(hosts), str(kernels), str(lost)]
            lines.append(f"| {' | '.join([*counts, *times, f'{found.overhead:.2f} s', str(found.again)])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
