# SPDX-License-Identifier: GPL-2.0-only
"""The search on simulated histories, whose culprit is known: wrong answers are rarer than was promised."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Collection

import pytest

from harness.bisect import search
from harness.bisect.search import Knowledge, Search, Space, Tally, ancestry, line

CONFIDENCE = 0.99
# Of each kind of history. HARNESS_SIMULATIONS=2000 gives the curve in docs/bisect.md.
HISTORIES = int(os.environ.get("HARNESS_SIMULATIONS", "40"))


def drawn(rng: random.Random, rate: float, runs: int) -> Tally:
    """The runs of a bad state up to its first failure."""
    if rate >= 1:
        return Tally(1, 0)
    passes = int(math.log(1 - rng.random()) / math.log1p(-rate))
    return Tally(1, passes) if passes < runs else Tally(0, runs)


def searched(
    space: Space, culprit: int, rate: float, rng: random.Random, untestable: Collection[int] = ()
) -> tuple[Knowledge, int, int]:
    """What is known when a search has ended, and how many runs and steps that took."""
    known = Knowledge(space)
    while known.tallies.get(space.end, Tally()).fails < search.MEASURED:
        known = known.plus(space.end, drawn(rng, rate, 10**9))
    steps, asks = 0, Search(space, CONFIDENCE)
    while (question := asks.next(known)) is not None:
        steps += 1
        assert steps < 500
        assert question.state not in known.skipped
        if question.state in untestable:
            known = known.without(question.state)
            continue
        bad = space.holds[question.state] >> culprit & 1
        known = known.plus(question.state, drawn(rng, rate, question.runs) if bad else Tally(0, question.runs))
    return known, sum(tally.runs for tally in known.tallies.values()), steps


def found(known: Knowledge) -> int:
    return known.likely(1 - (1 - CONFIDENCE) / 2)


def merged(rng: random.Random, size: int) -> Space:
    """A history with merges: each commit has one or two parents among the few before it."""
    names = [str(number) for number in range(size)]
    parents: dict[str, list[str]] = {"0": []}
    for number in range(1, size):
        window = range(max(0, number - 4), number)
        parents[names[number]] = [
            names[parent] for parent in rng.sample(window, min(len(window), rng.choice((1, 1, 2))))
        ]
    # The bad end is the last commit; what does not lead to it is not between the ends.
    holds = ancestry(names, parents, names)
    inside = [name for name in names if holds[names[-1]] >> int(name) & 1]
    holds = ancestry(names, parents, inside)
    return Space(tuple(inside), tuple(inside), tuple(holds[name] for name in inside))


@pytest.mark.parametrize("rate", [0.02, 0.05, 0.1, 0.3, 0.5, 0.9, 1.0])
def test_the_share_of_wrong_answers_is_below_the_one_that_was_promised(rate: float, record_property) -> None:
    rng = random.Random(f"share {rate}")  # noqa: S311 - drawn, not secret
    wrong = runs = 0
    for _ in range(HISTORIES):
        space = line([str(number) for number in range(rng.choice((2, 8, 16, 40)))])
        culprit = rng.randrange(len(space.candidates))
        known, spent, _ = searched(space, culprit, rate, rng)
        assert found(known).bit_count() == 1
        wrong += not found(known) >> culprit & 1
        runs += spent
    record_property("rate", f"{rate}: {wrong} of {HISTORIES} wrong, {runs / HISTORIES:.0f} runs each")

    # One in forty is a chance of a third where 0.99 is kept; two would be one of 16.
    assert wrong <= max(1, HISTORIES * (1 - CONFIDENCE))


@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_merges_are_searched_like_lines(rate: float) -> None:
    rng = random.Random(f"merges {rate}")  # noqa: S311 - drawn, not secret
    wrong = 0
    for _ in range(HISTORIES):
        space = merged(rng, rng.choice((5, 12, 30)))
        culprit = rng.randrange(len(space.candidates))
        known, _, _ = searched(space, culprit, rate, rng)
        wrong += found(known) != 1 << culprit

    assert wrong <= max(1, HISTORIES * (1 - CONFIDENCE))


@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_where_states_cannot_be_tested_the_answer_is_the_smallest_range(rate: float) -> None:
    rng = random.Random(f"ranges {rate}")  # noqa: S311 - drawn, not secret
    wrong = 0
    for _ in range(HISTORIES):
        size = rng.choice((6, 20, 40))
        space = line([str(number) for number in range(size)])
        culprit = rng.randrange(size)
        first = rng.randrange(size - 1)
        untestable = range(first, min(size - 1, first + rng.choice((1, 3, 9))))
        known, _, _ = searched(space, culprit, rate, rng, untestable)
        # A state that cannot be tested leaves its candidate and the next one together.
        together = {culprit}
        while max(together) in untestable:
            together.add(max(together) + 1)
        while min(together) - 1 in untestable:
            together.add(min(together) - 1)
        wrong += found(known) != sum(1 << number for number in together)

    assert wrong <= max(1, HISTORIES * (1 - CONFIDENCE))


def test_a_failure_that_always_comes_takes_a_binary_search() -> None:
    rng = random.Random(1)  # noqa: S311 - drawn, not secret
    space = line([str(number) for number in range(64)])

    known, runs, steps = searched(space, 37, 1.0, rng)

    assert found(known) == 1 << 37
    assert steps <= 9
    assert runs <= 40


def test_a_failure_contradicts_an_answer_that_was_too_hasty() -> None:
    """Passes of a bad state look like a good one, until a state before it fails."""
    space = line(["a", "b", "c", "d"])
    known = Knowledge(space).plus(3, Tally(8, 8)).plus(1, Tally(0, 12)).plus(2, Tally(1, 0))
    assert found(known) == 1 << 2

    known = known.plus(0, Tally(1, 30))

    assert found(known) == 1 << 0
    assert not known.contradiction


def test_failures_of_two_causes_are_a_contradiction() -> None:
    space = Space(("left", "right"), ("left", "right", "end"), (0b01, 0b10, 0b11))
    known = Knowledge(space).plus(2, Tally(8, 0)).plus(0, Tally(3, 0)).plus(1, Tally(3, 0))

    assert known.contradiction
    assert Search(space).next(known) is None


def test_states_that_are_the_same_to_the_bit_clear_what_is_between_them() -> None:
    space = line(["a", "b", "c", "d"])
    known = Knowledge(space).plus(3, Tally(8, 0)).same(0, 2)

    assert space.named(known.likely(1.0)) == ["a", "d"]
    assert space.named(known.clean(0).likely(1.0)) == ["d"]
    assert Search(space).next(known.clean(0)) is None


def test_a_state_that_costs_less_is_asked_before_one_that_tells_a_little_more() -> None:
    space = line([str(number) for number in range(20)])
    known = Knowledge(space).plus(19, Tally(8, 0))

    dear = Search(space).next(known, lambda state: 1.0 if state == 7 else 60.0)
    equal = Search(space).next(known, lambda _: 60.0)

    assert dear is not None
    assert dear.state == 7
    assert equal is not None
    assert equal.state in (9, 10)


def test_no_state_is_run_more_often_than_its_limit() -> None:
    space = line(["a", "b"])
    known = Knowledge(space).plus(1, Tally(8, 200))
    asks = Search(space, limit=30)

    question = asks.next(known)
    assert question is not None
    assert question.runs == 30
    known = known.plus(0, Tally(0, 30))

    assert asks.next(known) is None
    assert found(known) == 0b11


def test_fewer_failures_ask_for_more_passes() -> None:
    assert [search.needed(fails, 0, 0.0025, 1000) for fails in (1, 3, 8)] == [27, 8, 4]
