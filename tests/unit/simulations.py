# SPDX-License-Identifier: GPL-2.0-only
"""Searches of histories whose culprit is known; as a program, the tables of docs/how-to/bisect.md.

    python -m tests.unit.simulations 2000 100

2000 histories for each rate, and 100 for each machine and number of lanes: half an hour.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.bisect import search
from harness.bisect.search import Cost, Knowledge, Question, Search, Space, Tally, line

CONFIDENCE = 0.99
RATES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
# A step of a search that goes on in mm/, as it was measured: a few files and the link; a boot and a scenario.
BUILD, COLD, RUN_S = Cost(8.0, 20.0), Cost(40.0, 120.0), 10.0
MACHINES = (2, 16, 64)
LANES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Ended:
    """A search that has ended. seconds: what one waits for it, from the first step after the ends on."""

    known: Knowledge
    steps: int
    seconds: float = 0.0
    most: int = 1

    @property
    def found(self) -> int:
        """What is to blame, as bits."""
        return self.known.likely(1 - (1 - CONFIDENCE) / 2)

    @property
    def runs(self) -> int:
        """All runs together."""
        return sum(tally.runs for tally in self.known.tallies.values())


def drawn(rng: random.Random, rate: float, runs: int) -> Tally:
    """The runs of a bad state up to its first failure."""
    if rate >= 1:
        return Tally(1, 0)
    passes = int(math.log(1 - rng.random()) / math.log1p(-rate))
    return Tally(1, passes) if passes < runs else Tally(0, runs)


def searched(
    space: Space,
    culprit: int,
    rate: float,
    rng: random.Random,
    untestable: Collection[int] = (),
    *,
    cpus: int = 2,
    lanes: int = 1,
    begun: int = 1,
) -> Ended:
    """Search, with at most so many states side by side on so many CPUs. begun: so many work trees are there."""
    known = Knowledge(space)
    while known.tallies.get(space.end, Tally()).fails < search.MEASURED:
        known = known.plus(space.end, drawn(rng, rate, 10**9))
    asks = Search(space, CONFIDENCE)
    steps, seconds, most = 0, 0.0, 1

    def price(questions: Sequence[Question]) -> tuple[float, float]:
        return _once(len(questions), begun, cpus), max(
            _seconds(len(questions), cpus, question.runs) for question in questions
        )

    while plans := asks.plans(known, price, lanes):
        steps += 1
        assert steps < 500
        questions = plans[0].questions
        most = max(most, len(questions))
        seconds += _once(len(questions), begun, cpus)
        begun = max(begun, len(questions))
        took = []
        for question in questions:
            assert question.state not in known.skipped
            if question.state in untestable:
                known = known.without(question.state)
                took.append(_seconds(len(questions), cpus, 0))
                continue
            bad = space.holds[question.state] >> culprit & 1
            tally = drawn(rng, rate, question.runs) if bad else Tally(0, question.runs)
            known = known.plus(question.state, tally)
            took.append(_seconds(len(questions), cpus, tally.runs))
        seconds += max(took)
    return Ended(known, steps, seconds, most)


def _once(lanes: int, begun: int, cpus: int) -> float:
    return COLD.seconds(cpus / lanes) if lanes > begun else 0.0


def _seconds(lanes: int, cpus: int, runs: int) -> float:
    return BUILD.seconds(cpus / lanes) + math.ceil(runs / max(1, cpus // lanes)) * RUN_S


def rates(count: int) -> str:
    """How often the answer is wrong, and how many runs it takes."""
    rows = ["| the failure comes in | wrong answers | runs for a whole search |", "|---|---|---|"]
    for rate in RATES:
        ended = _histories(count, rate, (8, 16, 40, 100), 2, 1)
        rows.append(f"| {rate:.0%} of the runs | {_wrong(ended)} | {_mean([one.runs for one, _ in ended]):.0f} |")
    return "\n".join(rows)


def machines(count: int) -> str:
    """What one waits for a search, by the number of states that may be tried side by side."""
    heads = ["CPUs", "the failure comes in", "one at a time", *(f"at most {lanes}" for lanes in LANES[1:])]
    heads += [f"at most {LANES[-1]}, to be begun", "wrong answers"]
    rows = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for cpus in MACHINES:
        for rate in (1.0, 0.3):
            each = [_histories(count, rate, (16, 64), cpus, lanes, lanes) for lanes in LANES]
            each.append(_histories(count, rate, (16, 64), cpus, LANES[-1], 1))
            told = [f"{_mean([one.seconds for one, _ in ended]):.0f} s" for ended in each]
            everything = [one for ended in each[1:] for one in ended]
            rows.append(f"| {cpus} | {rate:.0%} of the runs | {' | '.join(told)} | {_wrong(everything)} |")
    return "\n".join(rows)


def _histories(
    count: int, rate: float, sizes: Sequence[int], cpus: int, lanes: int, begun: int = 1
) -> list[tuple[Ended, int]]:
    """Searches, each with its culprit; the histories are the same for each number of lanes."""
    found = []
    for number in range(count):
        rng = random.Random(f"{rate} {cpus} {number}")  # noqa: S311 - drawn, not secret
        size = rng.choice(sizes)
        culprit = rng.randrange(size)
        space = line([str(name) for name in range(size)])
        # More than there are CPUs are never asked for.
        ended = searched(space, culprit, rate, rng, cpus=cpus, lanes=min(lanes, cpus), begun=begun)
        found.append((ended, culprit))
    return found


def _wrong(ended: Sequence[tuple[Ended, int]]) -> str:
    return f"{_mean([one.found != 1 << culprit for one, culprit in ended]):.2%}"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    for table, histories in zip((rates, machines), sys.argv[1:], strict=True):
        sys.stdout.write(f"{table(int(histories))}\n\n")
        sys.stdout.flush()
