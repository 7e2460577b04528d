# SPDX-License-Identifier: GPL-2.0-only
"""The search on simulated histories, whose culprit is known: wrong answers are rarer than was promised."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.bisect import search
from harness.bisect.search import Knowledge, Question, Search, Space, Tally, ancestry, line
from tests.unit import simulations
from tests.unit.simulations import CONFIDENCE, searched

# Of each kind of history; tests.unit.simulations takes more, for the tables in docs/how-to/bisect.md.
HISTORIES = 40


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
def test_the_share_of_wrong_answers_is_below_the_one_that_was_promised(rate: float) -> None:
    rng = random.Random(f"share {rate}")  # noqa: S311 - drawn, not secret
    wrong = 0
    for _ in range(HISTORIES):
        space = line([str(number) for number in range(rng.choice((2, 8, 16, 40)))])
        culprit = rng.randrange(len(space.candidates))
        found = searched(space, culprit, rate, rng).found
        assert found.bit_count() == 1
        wrong += found != 1 << culprit

    # One in forty is a chance of a third where 0.99 is kept; two would be one of 16.
    assert wrong <= max(1, HISTORIES * (1 - CONFIDENCE))


@pytest.mark.parametrize("rate", [0.2, 1.0])
def test_merges_are_searched_like_lines(rate: float) -> None:
    rng = random.Random(f"merges {rate}")  # noqa: S311 - drawn, not secret
    wrong = 0
    for _ in range(HISTORIES):
        space = merged(rng, rng.choice((5, 12, 30)))
        culprit = rng.randrange(len(space.candidates))
        wrong += searched(space, culprit, rate, rng).found != 1 << culprit

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
        ended = searched(space, culprit, rate, rng, untestable)
        # A state that cannot be tested leaves its candidate and the next one together.
        together = {culprit}
        while max(together) in untestable:
            together.add(max(together) + 1)
        while min(together) - 1 in untestable:
            together.add(min(together) - 1)
        wrong += ended.found != sum(1 << number for number in together)

    assert wrong <= max(1, HISTORIES * (1 - CONFIDENCE))


def test_a_failure_that_always_comes_takes_a_binary_search() -> None:
    rng = random.Random(1)  # noqa: S311 - drawn, not secret
    space = line([str(number) for number in range(64)])

    ended = searched(space, 37, 1.0, rng)

    assert ended.found == 1 << 37
    assert ended.steps <= 9
    assert ended.runs <= 40


@pytest.mark.parametrize("rate", [0.3, 1.0])
@pytest.mark.parametrize("lanes", [2, 4, 8])
def test_on_many_cpus_states_side_by_side_end_the_search_sooner_and_are_as_sure(lanes: int, rate: float) -> None:
    alone = wrong = together = 0.0
    for number in range(8):
        space = line([str(name) for name in range(48)])
        culprit = number * 6
        one, several = (
            searched(space, culprit, rate, random.Random(number), cpus=64, lanes=most, begun=most)  # noqa: S311 - drawn, not secret
            for most in (1, lanes)
        )
        alone, together = alone + one.seconds, together + several.seconds
        wrong += several.found != 1 << culprit
        assert 1 < several.most <= lanes

    assert together < alone
    assert wrong == 0


def test_on_two_cpus_states_take_turns() -> None:
    """A build takes both CPUs, and so do the runs of one state."""
    space = line([str(name) for name in range(48)])

    assert searched(space, 31, 1.0, random.Random(0), cpus=2, lanes=8, begun=8).most == 1  # noqa: S311 - drawn, not secret


@given(size=st.integers(2, 60), count=st.sampled_from([2, 4, 8]), skipped=st.sets(st.integers(0, 58), max_size=20))
@settings(max_examples=20, derandomize=True, deadline=None)
def test_questions_side_by_side_are_about_different_states_that_can_be_tested(
    size: int, count: int, skipped: set[int]
) -> None:
    space = line([str(name) for name in range(size)])
    known = Knowledge(space, skipped=frozenset(skipped - {size - 1})).plus(size - 1, Tally(8, 0))

    plans = Search(space).plans(known, lambda questions: (0.0, 1.0 / len(questions) ** 2), count)

    for plan in plans:
        states = [question.state for question in plan.questions]
        assert len(set(states)) == len(states) <= count
        assert not known.skipped & set(states)
        assert all(known.bad(state) < 1 for state in states)
    # More at once cost less here: as many are asked as there are states that tell anything.
    if plans and size - len(known.skipped) > count:
        assert len(plans[0].questions) == count


def test_two_questions_side_by_side_cut_the_history_into_thirds() -> None:
    space = line([str(name) for name in range(90)])
    known = Knowledge(space).plus(89, Tally(8, 0))

    plans = Search(space).plans(known, lambda _: (0.0, 1.0), 2)

    first, second = plans[0].questions
    assert abs(first.state - 29) <= 3
    assert abs(second.state - 59) <= 3


def test_what_more_work_trees_cost_to_begin_counts_against_them() -> None:
    space = line([str(name) for name in range(64)])
    known = Knowledge(space).plus(63, Tally(8, 0))

    def price(questions: Sequence[Question]) -> tuple[float, float]:
        return (begins if len(questions) > 1 else 0.0), 10.0

    begins = 10.0
    assert len(Search(space).plans(known, price, 4)[0].questions) == 4
    begins = 1000.0
    assert len(Search(space).plans(known, price, 4)[0].questions) == 1


def test_a_failure_contradicts_an_answer_that_was_too_hasty() -> None:
    """Passes of a bad state look like a good one, until a state before it fails."""
    space = line(["a", "b", "c", "d"])
    known = Knowledge(space).plus(3, Tally(8, 8)).plus(1, Tally(0, 12)).plus(2, Tally(1, 0))
    assert simulations.Ended(known, 0).found == 1 << 2

    known = known.plus(0, Tally(1, 30))

    assert simulations.Ended(known, 0).found == 1 << 0
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
    assert simulations.Ended(known, 0).found == 0b11


def test_fewer_failures_ask_for_more_passes() -> None:
    assert [search.needed(fails, 0, 0.0025, 1000) for fails in (1, 3, 8)] == [27, 8, 4]
