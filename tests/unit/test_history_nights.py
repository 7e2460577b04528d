# SPDX-License-Identifier: GPL-2.0-only
"""What is told of series whose truth is known: new, fixed, flaky, slower, exercised less; and what is only luck."""

from __future__ import annotations

import itertools
import math
import random
import shlex
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.history import change, nights
from harness.history.record import Entry, Result
from tests.unit.fuzzing import fuzz
from tests.unit.test_history_store import entry

NOW, DAY = 1e9, 86400.0
OTHERS = ("a", "b", "c", "d", "e", "f", "g", "h")


def bad(name: str = "one", summary: str = "an end is missing 7") -> Result:
    return Result(name, "fail", 1.0, {}, "", "pairing", summary.replace("7", "N"), summary)


def good(name: str = "one", seconds: float = 1.0, **exercised: int) -> Result:
    return Result(name, "pass", seconds, exercised)


def made(results: Iterable[Sequence[Result]], build: str = "", job: str = "--source a", first: int = 0) -> list[Entry]:
    """A run each day, the last one today. build: of all of them; each has its own without it."""
    found = [tuple(one) for one in results]
    return [
        entry(
            first + at,
            began_s=NOW - (len(found) - at - 0.5) * DAY,
            results=one,
            build_id=build or f"{first + at:x}",
            job=job,
            seq=first + at,
            live=True,
        )
        for at, one in enumerate(found)
    ]


def told(found: Sequence[Entry], since_s: float = NOW - DAY) -> nights.Night:
    return nights.night(found, since_s, NOW)


def causes(pattern: str, build: str = "") -> list[tuple[str, bool]]:
    """What is told of a scenario that failed (F), passed (.), or failed otherwise (x), one night each."""
    results = {"F": bad(), ".": good(), "x": bad(summary="another"), "i": Result("one", "inconclusive")}
    night = told(made([(results[letter],) for letter in pattern], build))
    return [(one.state, one.flaky) for one in night.causes if one.key == bad().cause]


@pytest.mark.parametrize(
    ("pattern", "state"),
    [
        ("F", "new"),
        ("...F", "new"),
        ("..FF", "still"),
        ("FFFFFFFFFFFFFFFFFFFF.", "fixed"),
        ("F...", "fixed"),
        # It came twice in a row: one pass may be luck, and two are told once.
        ("..FF.", ""),
        ("..FF..", "fixed"),
        ("..FF...", ""),
        ("F.", ""),
        ("....", ""),
        # What failed otherwise, or proved too little, tells nothing of it.
        ("FFFFxxx", ""),
        ("FFFFFFFFFFFFFFFFFFFFi", ""),
    ],
)
def test_what_became_of_a_failure(pattern: str, state: str) -> None:
    assert causes(pattern) == ([(state, False)] if state else [])


def test_a_failure_that_comes_and_goes_has_a_rate() -> None:
    assert causes("F.F..F") == [("still", True)]
    # On one kernel, nothing is fixed, and the passes before the first failure count.
    assert causes("..........F", build="same") == [("new", True)]
    assert causes("F....................", build="same") == []
    (one,) = told(made([(good(),)] * 9 + [(bad(),)], build="same")).causes
    assert (one.rate.failed, one.rate.rounds) == (1, 10)
    assert one.rate.interval == pytest.approx((0.0179, 0.4042), abs=1e-3)


def test_rounds_of_one_run_make_a_rate() -> None:
    results = [good("one.1"), bad("one.2"), good("one.3"), good("one.4")]
    (one,) = told(made([results])).causes

    assert (one.state, one.flaky, one.rate.failed, one.rate.rounds) == ("new", True, 1, 4)


def test_one_cause_in_twenty_jobs_is_one_entry() -> None:
    found = []
    for job in range(20):
        summary = f"an end is missing {job}7"
        found += made([(good(),), (bad(summary=summary.replace(f"{job}7", "7")),)], job=f"--job {job}", first=100 * job)
    (one,) = told(found).causes

    assert (one.state, len(one.jobs), len(one.seen), one.count) == ("new", 20, 20, 20)


def test_a_cause_that_was_seen_in_another_job_is_not_new() -> None:
    found = made([(bad(),)] * 3, job="--job 1") + made([(good(),), (bad(),)], job="--job 2", first=100)

    (one,) = told(found).causes
    assert one.state == "still"
    assert nights.night(found[-1:], NOW - DAY, NOW, {("pairing", bad().cause): 5.0}).causes[0].state == "still"


def test_a_job_that_runs_no_more_hinders_no_fix() -> None:
    old = [entry(at, began_s=NOW - 50 * DAY, results=(bad(),), job="--job old", seq=at) for at in range(3)]
    found = old + made([(bad(),)] * 20 + [(good(),)], first=100)

    assert [one.state for one in told(found).causes] == ["fixed"]


def test_false_fixes_are_rare() -> None:
    """A failure that comes in a third of the runs, on a new kernel each night, for two hundred nights."""
    rng = chance(1)
    wrong = days = 0
    for _ in range(10):
        nightly = [(bad() if rng.random() < 1 / 3 else good(),) for _ in range(40)]
        for day in range(10, 40):
            days += 1
            wrong += any(one.state == "fixed" for one in told(made(nightly[:day])).causes)

    assert wrong / days <= 0.05


# --- slower, exercised less


def chance(seed: int) -> random.Random:
    """Always the same."""
    return random.Random(seed)  # noqa: S311 - no secret


def hosts(rng: random.Random, runs: int, slow: float = 1.0, since: int = 0, noise: float = 0.2) -> list[list[Result]]:
    """Runs of nine scenarios on a host that is now fast, now slow; the first is slower from some run on."""
    found = []
    for run in range(runs):
        host = math.exp(rng.gauss(0, 0.7))
        times = {name: 2 * host * math.exp(rng.gauss(0, noise)) for name in ("one", *OTHERS)}
        times["one"] *= slow if run >= since else 1
        found.append([good(name, seconds) for name, seconds in times.items()])
    return found


def test_a_scenario_that_is_slower_is_told_however_busy_the_host_is() -> None:
    (one,) = told(made(hosts(chance(2), 40, slow=2.0, since=32))).slower

    assert (one.scenario, one.what) == ("one", "seconds")
    assert "/runs/30" <= one.run <= "/runs/34"


def test_a_busy_host_makes_nothing_slower() -> None:
    found = hosts(chance(3), 40)
    found[-6:] = [[good(one.name, 5 * one.seconds) for one in run] for run in found[-6:]]

    assert told(made(found)).slower == []


def test_one_bad_sample_is_no_change() -> None:
    found = hosts(chance(4), 40)
    found[-1] = [good(one.name, 100 * one.seconds if one.name == "one" else one.seconds) for one in found[-1]]

    assert told(made(found)).slower == []


def test_a_run_of_one_scenario_says_nothing_of_its_host() -> None:
    found = [[good(seconds=1.0 if day < 30 else 9.0)] for day in range(40)]

    assert told(made(found)).slower == []


def test_false_alarms_are_rare() -> None:
    """Each report looks at nine series; the limit is one report in a hundred, and its dependence is left out."""
    alarms = sum(bool(told(made(hosts(chance(seed), 30))).slower) for seed in range(40))

    assert alarms <= 2


def test_a_counter_that_falls_is_told_before_it_is_too_little() -> None:
    found = made(
        [[good(eagain=4096 - day, callbacks=5000)] for day in range(20)] + [[good(eagain=12, callbacks=5000)]] * 2
    )

    assert [(one.what, one.before, one.after) for one in told(found).less] == [("eagain", 4086.5, 12.0)]
    assert told(found[:-1]).less == [], "one bad sample is no change"


def test_a_counter_that_falls_by_a_little_takes_some_more_runs() -> None:
    rng = chance(5)
    counts = [rng.randint(3900, 4100) for _ in range(30)] + [rng.randint(2900, 3100) for _ in range(6)]

    (one,) = told(made([[good(eagain=count)] for count in counts])).less
    assert one.run == "/runs/30"


def test_counters_that_only_scatter_are_not_told() -> None:
    alarms = 0
    for seed in range(60):
        rng = chance(seed)
        counts = [rng.choice((1010, 2036, 2036, 2036, 4096)) for _ in range(40)]
        alarms += bool(told(made([[good(kswapd=count)] for count in counts])).less)

    assert alarms <= 1


def test_a_scenario_that_is_skipped_or_proves_too_little_from_now_on_is_gone() -> None:
    skip, little = Result("one", "skip", reason="needs X"), Result("one", "inconclusive", reason="callbacks: 0")

    for last in (skip, little):
        (one,) = told(made([[good()], [good()], [last]])).gone
        assert (one.scenario, one.verdict, one.reason) == ("one", last.verdict, last.reason)
    assert told(made([[skip]] * 5)).gone == [], "it never ran"
    assert told(made([[good()], [skip], [good()]])).gone == []


@given(
    st.lists(st.floats(-100, 100), max_size=70), st.integers(1, 1000), st.sampled_from([change.Slower(), change.Less()])
)
@fuzz(100)
def test_any_series_is_looked_at(values: list[float], series: int, rule: change.Rule) -> None:
    at = rule.find(values, series)

    assert at is None or 8 <= at <= len(values) - 2


@pytest.mark.parametrize(("first", "second"), [(3, 2), (5, 4), (2, 6), (8, 3)])
def test_the_exact_distribution_is_that_of_all_orders(first: int, second: int) -> None:
    orders = list(itertools.combinations(range(first + second), second))
    pairs = [
        sum(other < one for one in order for other in range(first + second) if other not in order) for order in orders
    ]

    for count in range(first * second + 1):
        assert change._tails(first, second)[count] == pytest.approx(sum(one >= count for one in pairs) / len(orders))


# --- the clock


def test_a_clock_that_jumps_back_loses_nothing() -> None:
    """A run that tells 1970, and one that tells 2099, count as of the run before them, and are named."""
    found = made([[good()]] * 5 + [[bad()]] * 3)
    wrong = {6: 5.0, 7: NOW + 1e9}
    found = [entry(at, **(vars(one) | {"began_s": wrong.get(at, one.began_s)})) for at, one in enumerate(found)]

    night = told(found, NOW - 4 * DAY)

    assert night.misplaced == ["/runs/6", "/runs/7"]
    assert [one.folder for _, one in night.points] == [f"/runs/{at}" for at in range(8)]
    (one,) = night.causes
    assert (one.state, one.count) == ("new", 3)
    assert one.last_s <= NOW


def test_a_run_that_was_taken_in_late_is_where_it_belongs() -> None:
    """It was not entered as it ended, so that its time is believed."""
    found = made([[good()]] * 5)
    late = entry(99, began_s=found[1].began_s + 1, seq=99, live=False)

    points, wrong = nights.placed([*found, late], NOW)

    assert [one.seq for _, one in points] == [0, 1, 99, 2, 3, 4]
    assert wrong == []


def test_a_job_is_a_command_line() -> None:
    assert shlex.split(entry().job) == ["--source", "a"]
