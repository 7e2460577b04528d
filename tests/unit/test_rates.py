# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import pytest

from harness.model.rates import Rate, rates
from harness.model.verdict import Outcome
from harness.report import document, html, lines
from tests.unit.verdicts import run_of

FLAKY = {f"memcg-eagain.{number}": Outcome.FAIL if number == 7 else Outcome.PASS for number in range(1, 21)}


def test_what_fails_once_in_twenty_is_told_with_its_rate() -> None:
    run = run_of(FLAKY | {"exit.1": Outcome.FAIL, "exit.2": Outcome.FAIL, "munmap.1": Outcome.PASS})

    said = lines.summary(run, "/run", lambda outcome, word: word or outcome.value)
    (told,) = [line for line in said if line.startswith("now and then")]

    assert told.endswith("memcg-eagain failed in 1 of 20 rounds: 5% (between 0.9% and 23.6%, at 95%)")
    assert document.parse(document.render(run)).rates == run.rates == [Rate("memcg-eagain", 1, 20)]
    assert "What fails now and then" in html.render(run)


def test_rounds_that_proved_too_little_do_not_count() -> None:
    run = {"a.1": Outcome.FAIL, "a.2": Outcome.INCONCLUSIVE, "a.3": Outcome.ERROR, "b.1": Outcome.PASS}

    assert rates(run_of(run).scenarios) == []
    assert [rate.rounds for rate in rates(run_of(run | {"a.4": Outcome.PASS}).scenarios)] == [2]


@pytest.mark.parametrize(("failed", "rounds", "low", "high"), [(1, 2, 0.0945, 0.9055), (3, 100, 0.0103, 0.0845)])
def test_the_interval_is_wilsons(failed: int, rounds: int, low: float, high: float) -> None:
    """As published tables have it: R's binom.confint(method = "wilson")."""
    assert Rate("a", failed, rounds).interval == pytest.approx((low, high), abs=5e-5)
