# SPDX-License-Identifier: GPL-2.0-only
"""Searches as a user makes them, on histories of kernels of which a table knows what a run of each comes to."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from harness.bisect.ask import Made, Target
from harness.bisect.engine import Answer, Bisection
from harness.bisect.journal import Journal
from harness.bisect.kernels import How, KernelTest
from harness.host.progress import QUIET
from harness.model.errors import BuildError
from harness.model.instrument import Instrument
from harness.model.run import AccelFacts, KernelFacts, RunVerdict
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.run import pipeline
from harness.run.pipeline import RunRequest
from harness.variants import catalogue
from tests.unit.test_bisect_engine import GOOD, WITHOUT, Table

GATE = Finding("mayfail-gate", "a range is not marked")
LITTLE = Finding("exercised", "direct_reclaim: too few", "12 of 4000")
PANIC = Finding("clean-log", "kernel panic: not today")
CRASH = Finding("clean-log", "BUG: unable to handle page fault in somewhere_else")
COUNT, CULPRIT = 20, 13

# What a run of a state comes to: findings, none for a pass; None for a kernel that does not build.
Runs = Callable[[int], Sequence[Finding] | None]


class Kernels(KernelTest):
    """Kernels that a table knows."""

    def __init__(self, runs: Runs) -> None:
        chosen = catalogue.choose(["memcg-eagain", "signals-storm"])
        super().__init__(chosen, How(Instrument(), jobs=2), (), Path("/nowhere"), QUIET)
        self.runs = runs

    def make(self, target: Target) -> Made:
        """Build what can be built."""
        if self.of(target) is None:
            raise BuildError("mm/rmap.c:3: does not compile")
        return Made(target.name, stored=False)

    def of(self, target: Target) -> Sequence[Finding] | None:
        """What a run comes to; the bad end without the culprit is good."""
        if target.name == GOOD or target.name.startswith(WITHOUT):
            return self.runs(0)
        return self.runs(int(target.name))


@pytest.fixture
def search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Runs], Answer]:
    """Search a table."""

    def call(runs: Runs) -> Answer:
        test = Kernels(runs)
        now: list[Target] = []

        def request(_: KernelTest, target: Target) -> pipeline.KernelRequest:
            now[:] = [target]
            return target.kernel

        def run(request: RunRequest, *_: object) -> tuple[RunVerdict, Path]:
            assert request.out is not None
            request.out.mkdir(parents=True)
            results = []
            for scenario, one in request.rounds:
                # Only the first of the two scenarios shows anything.
                shown = test.of(now[0]) if scenario.name == "memcg-eagain" else ()
                assert shown is not None
                outcome = Outcome.INCONCLUSIVE if LITTLE in shown else Outcome.FAIL if shown else Outcome.PASS
                results.append(ScenarioResult(one.name, outcome, shown, reason="12 of 4000"))
                if shown and request.maxfail:
                    break
            facts = KernelFacts("6.12", "", cached=True), AccelFacts("auto", "tcg", "")
            return RunVerdict("x", (), (), *facts, results), request.out

        monkeypatch.setattr(KernelTest, "request", request)
        monkeypatch.setattr(pipeline, "run", run)
        return Bisection(Table(COUNT), test, Journal(tmp_path / "journal"), tmp_path, QUIET).run()

    return call


def from_(number: int, *findings: Finding, otherwise: Sequence[Finding] = ()) -> Runs:
    """Every state from a number on shows findings."""
    return lambda state: findings if state >= number else otherwise


def verdicts(answer: Answer) -> dict[str, str]:
    return {step.name: step.verdict for step in answer.steps}


def test_a_change_after_which_too_little_happens_is_found(search) -> None:
    """It removes a range, so nothing fails, and nothing is proved any more."""
    answer = search(from_(CULPRIT, LITTLE))

    assert answer.first_bad == str(CULPRIT)
    assert answer.sought is not None
    assert (answer.sought["oracle"], answer.sought["kind"]) == ("exercised", "inconclusive")
    assert answer.verified is True


def test_too_little_elsewhere_is_not_the_failure_that_is_searched(search) -> None:
    answer = search(lambda state: (GATE,) if state >= CULPRIT else (LITTLE,) if 8 <= state < 11 else ())

    assert answer.first_bad == str(CULPRIT)
    asked = {name: verdict for name, verdict in verdicts(answer).items() if name in ("8", "9", "10")}
    assert set(asked.values()) <= {"skip"}


@pytest.mark.parametrize("between", [(PANIC,), (CRASH,), None], ids=["does not boot", "crashes", "does not build"])
def test_states_that_fail_in_another_way_are_skipped_and_never_blamed(search, between) -> None:
    def runs(state: int) -> Sequence[Finding] | None:
        return between if 7 <= state < 12 else from_(CULPRIT, GATE)(state)

    answer = search(runs)

    assert answer.first_bad == str(CULPRIT)
    skipped = {name for name, verdict in verdicts(answer).items() if verdict == "skip"}
    assert skipped
    assert skipped <= {str(number) for number in range(7, 12)}
    why = next(step.reason for step in answer.steps if step.verdict == "skip")
    assert (between[0].summary if between else "does not compile") in why


def test_states_that_fail_in_another_way_beside_the_culprit_make_a_range(search) -> None:
    answer = search(lambda state: (PANIC,) if CULPRIT - 2 <= state < CULPRIT else from_(CULPRIT, GATE)(state))

    assert answer.candidates == [str(number) for number in range(CULPRIT - 2, CULPRIT + 1)]
    assert all(PANIC.summary in why for why in answer.narrow.values())


def test_a_crash_now_and_then_skips_no_state(search) -> None:
    """One run in six ends in another failure, before and after the culprit."""
    dice = random.Random(6)  # noqa: S311 - drawn, not secret

    def runs(state: int) -> Sequence[Finding]:
        return (CRASH,) if dice.random() < 1 / 6 else (GATE,) if state >= CULPRIT else ()

    answer = search(runs)

    assert answer.first_bad == str(CULPRIT)
    assert "skip" not in verdicts(answer).values()


@pytest.mark.parametrize("rate", [0.5, 0.2])
def test_a_failure_that_comes_now_and_then_is_found(search, rate: float) -> None:
    dice = random.Random(f"{rate}")  # noqa: S311 - drawn, not secret

    answer = search(lambda state: (GATE,) if state >= CULPRIT and dice.random() < rate else ())

    assert answer.first_bad == str(CULPRIT)
    assert answer.rate == pytest.approx(rate, abs=0.25)
