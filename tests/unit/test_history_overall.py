# SPDX-License-Identifier: GPL-2.0-only
"""Whether everything is slower is told on simulated nights: of a slower kernel, and not of a busy host."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator

import pytest

from harness.history import nights, overall, text
from harness.history.record import Entry, Result
from tests.unit.test_history_nights import DAY, NOW, chance, told
from tests.unit.test_history_store import entry

NIGHTS = 30
# By what everything takes longer in a night, by its number, counted back from the last one, which is 0.
Course = Callable[[int], float]


def always(_: int) -> float:
    """Nothing changes."""
    return 1.0


def lately(factor: float, since: int = 6) -> Course:
    """The last nights are different."""
    return lambda back: factor if back < since else 1.0


def simulated(
    rng: random.Random,
    kernel: Course = always,
    host: Course = always,
    *,
    jobs: int = 10,
    scenarios: int = 5,
    load: float = 0.7,
    feel: float = 1.0,
    only: str = "",
) -> Iterator[Entry]:
    """Nights of jobs on two kernels. load: how much the nights' hosts differ, as a deviation of the logarithm.

    feel: how much of a slower host a scenario feels. only: the kernel that the course is of, if not of both.
    """
    usual = [math.exp(rng.gauss(0, 1)) for _ in range(scenarios)]
    for night in range(NIGHTS):
        back = NIGHTS - 1 - night
        shared = host(back) * math.exp(rng.gauss(0, load))
        for job in range(jobs):
            source = f"kernel-{job % 2}"
            # Jobs of one night share a host, and have their own luck on it.
            speed = shared * math.exp(rng.gauss(0, 0.1))
            slow = kernel(back) if only in ("", source) else 1.0
            results = tuple(
                Result(
                    f"s{at}",
                    "pass",
                    seconds * slow * speed**feel * math.exp(rng.gauss(0, 0.15)),
                    loop_ms=5 * speed * math.exp(rng.gauss(0, 0.05)),
                )
                for at, seconds in enumerate(usual)
            )
            number = night * jobs + job
            began_s = NOW - (back + 0.5) * DAY + job
            yield entry(
                number, began_s=began_s, results=results, job=f"--job {job}", source=source, seq=number, live=True
            )


def found(entries: Iterator[Entry]) -> list[nights.Overall]:
    """What is told of them, whatever else is told."""
    series: dict[tuple[str, str], list[nights._Point]] = {}
    for one in entries:
        for result in one.results:
            series.setdefault((one.job, result.scenario), []).append(nights._Point(one.began_s, one, result))
    return list(nights._overall(series, NOW - DAY))


def test_a_slower_kernel_is_one_line_over_all_jobs() -> None:
    night = told(list(simulated(chance(1), lately(1.31), jobs=40, load=0.2)))

    (one,) = night.overall
    assert (one.kernel, one.jobs) == ("", 40)
    assert one.low <= 1.31 <= one.high
    assert one.factor == pytest.approx(1.31, rel=0.05)
    assert one.since_s == NOW - 5.5 * DAY
    assert night.slower == []
    (line,) = [line for line in text.lines(night) if line.startswith("slower")]
    assert f"everything is slower: ×{one.factor:.2f} over 40 jobs (between ×{one.low:.2f} and ×" in line
    assert f"; everything is slower: ×{one.factor:.2f} over 40 jobs" in text.mail(night)


def test_of_several_kernels_the_slower_one_is_named() -> None:
    (one,) = found(simulated(chance(2), lately(1.5), only="kernel-1"))

    assert (one.kernel, one.jobs) == ("kernel-1", 5)


def test_it_is_told_after_few_nights() -> None:
    """How few depends on how many there were before, and on how much the nights differ."""
    after = {
        since: sum(bool(found(simulated(chance(seed), lately(1.31, since)))) for seed in range(10))
        for since in (2, 4, 6)
    }

    assert after[2] == 0, "two nights are none"
    assert 5 <= after[4] <= after[6]
    assert after[6] >= 9


def test_the_interval_holds_the_truth() -> None:
    held = [one for seed in range(60) for one in found(simulated(chance(seed), lately(1.5, 10), jobs=4, scenarios=3))]

    assert len(held) >= 50
    assert sum(one.low <= 1.5 <= one.high for one in held) >= 0.9 * len(held)


@pytest.mark.parametrize("feel", [0.3, 0.7, 1.0, 1.2])
@pytest.mark.parametrize("load", [0.0, 0.1, 0.3, 0.7])
@pytest.mark.parametrize("host", [1.0, 0.25, 0.6, 1.5, 2.5, 6.0])
def test_a_busy_host_makes_nothing_slower(host: float, load: float, feel: float) -> None:
    """Nor one that is faster than before; whatever the nights before were like, and however much is felt of it."""
    alarms = [
        seed
        for seed in range(4)
        if found(simulated(chance(seed), host=lately(host), load=load, feel=feel, jobs=4, scenarios=3))
    ]

    assert alarms == []


def test_false_alarms_are_rare() -> None:
    """The limit is one report in a hundred."""
    assert sum(bool(found(simulated(chance(seed), jobs=4, scenarios=3))) for seed in range(100, 300)) <= 3


def test_one_slow_night_is_no_change() -> None:
    assert found(simulated(chance(5), lately(5.0, 1))) == []


def test_what_was_slower_and_is_no_more_is_not_told() -> None:
    assert found(simulated(chance(6), lambda back: 2.0 if 4 <= back < 9 else 1.0)) == []


def test_without_a_look_at_the_host_nothing_is_known() -> None:
    """An earlier version measured none."""
    entries = [
        Entry(**(vars(one) | {"results": tuple(Result(r.name, r.verdict, r.seconds) for r in one.results)}))
        for one in simulated(chance(7), lately(3.0))
    ]

    assert found(iter(entries)) == []


def test_a_job_that_is_new_says_nothing() -> None:
    """It has no nights before, and would hide what the others say."""
    old = list(simulated(chance(8), lately(1.5), jobs=3))
    new = [
        Entry(**(vars(one) | {"job": f"{one.job} new", "id": f"{at:032x}"}))
        for at, one in enumerate(old, 1 << 20)
        if one.began_s > NOW - 6 * DAY
    ]

    (one,) = found(iter([*old, *new]))
    assert one.jobs == 3


def test_it_has_to_be_so_since_the_time() -> None:
    entries = [one for one in simulated(chance(9), lately(1.5)) if one.began_s < NOW - 1.1 * DAY]

    assert found(iter(entries)) == []


def test_how_much_of_a_busy_host_is_felt_is_learned() -> None:
    series = [
        [
            (
                overall.Run("a", "k", f"/{night}", night * DAY, night),
                (2.0 if night % 2 else 1.0) ** 0.6,
                5.0 * (night % 2 + 1),
            )
            for night in range(20)
        ]
    ]

    assert overall._felt(overall.paced(series)) == pytest.approx(0.6)
