# SPDX-License-Identifier: GPL-2.0-only
"""What the runs of a kernel mean for a search: the same finding, another one, too little, or a host that failed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.bisect import kernels
from harness.bisect.ask import Target
from harness.bisect.kernels import How, KernelTest
from harness.host.progress import QUIET
from harness.model.errors import CannotTest, MachineError
from harness.model.instrument import Instrument
from harness.model.run import AccelFacts, KernelFacts, RunVerdict
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.run import pipeline
from harness.run.pipeline import KernelRequest, RunRequest
from harness.variants import catalogue

ONE = Finding("mayfail-gate", "a range is not marked; it was not tolerated: WARN at mm/a.c:12")
AGAIN = Finding("mayfail-gate", "a range is not marked")
OTHER = Finding("clean-log", "WARNING in somewhere")
HANG = Finding("no-hang", "the guest no longer answers", "a+0x1/0x2\nb+0x1/0x2\nc+0x1/0x2")
LITTLE = Finding("exercised", "direct_reclaim: too few", "12 of 4000")
TARGET = Target("abc", KernelRequest())


def passed(name: str, seconds: float = 1.0) -> ScenarioResult:
    return ScenarioResult(name, Outcome.PASS, seconds=seconds)


def failed(name: str, *findings: Finding, seconds: float = 1.0) -> ScenarioResult:
    return ScenarioResult(name, Outcome.FAIL, findings, seconds=seconds)


def little(name: str) -> ScenarioResult:
    return ScenarioResult(name, Outcome.INCONCLUSIVE, (LITTLE,), reason="12 of 4000")


class Runs:
    """In the place of harness run: answers with what was prepared, and remembers what was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Sequence[ScenarioResult]) -> None:
        self.answers = list(answers)
        self.asked: list[RunRequest] = []
        self.forced: Outcome | None = None
        self.error = ""
        monkeypatch.setattr(pipeline, "run", self.run)
        monkeypatch.setattr(KernelTest, "request", lambda _, target: target.kernel)

    def run(self, request: RunRequest, *_: object) -> tuple[RunVerdict, Path]:
        """One `harness run`."""
        assert request.out is not None
        request.out.mkdir(parents=True)
        self.asked.append(request)
        facts = KernelFacts("6.12", "", cached=True), AccelFacts("auto", "tcg", "")
        verdict = RunVerdict("x", (), (), *facts, self.answers.pop(0), error=self.error, forced=self.forced)
        return verdict, request.out


def tried(match: str = "") -> KernelTest:
    chosen = catalogue.choose(["memcg-eagain", "signals-storm"])
    return KernelTest(chosen, How(Instrument(), match=match), (), Path("/nowhere"), QUIET)


def test_the_finding_that_tells_most_is_sought_in_the_scenario_that_shows_it_fastest(monkeypatch, tmp_path) -> None:
    runs = Runs(
        monkeypatch,
        [passed("memcg-eagain"), passed("signals-storm")],
        [failed("memcg-eagain.1", ONE, seconds=9), failed("signals-storm.1", ONE, OTHER), passed("signals-storm.2")],
        [passed("signals-storm.1"), failed("signals-storm.2", AGAIN)],
    )
    test = tried()

    sought, ran = test.seek(TARGET, 100, tmp_path)

    assert sought is not None
    assert (sought["oracle"], sought["scenario"]) == ("mayfail-gate", "signals-storm")
    assert (ran.fails, ran.passes, ran.void) == (1, 2, 0)
    again = test.run(TARGET, 2, tmp_path / "run")
    assert (again.fails, again.passes) == (1, 1)
    assert [len(request.scenarios) for request in runs.asked] == [2, 2, 1]
    assert runs.asked[-1].maxfail == 1
    assert {request.coverage for request in runs.asked} == {None}, "what changed is the question, not whether it ran"


def test_another_failure_and_too_little_are_void_and_told(monkeypatch, tmp_path) -> None:
    Runs(
        monkeypatch,
        [failed("memcg-eagain", ONE)],
        [failed("memcg-eagain.1", OTHER), failed("memcg-eagain.2", HANG), passed("memcg-eagain.3")],
        [little("memcg-eagain")],
    )
    test = tried()
    test.seek(TARGET, 1, tmp_path)

    ran = test.run(TARGET, 3, tmp_path / "a")
    assert (ran.fails, ran.passes, ran.void) == (0, 1, 2)
    assert ran.note == "another failure: [clean-log] WARNING in somewhere"

    ran = test.run(TARGET, 1, tmp_path / "b")
    assert (ran.fails, ran.passes, ran.void, ran.note) == (0, 0, 1, "too little happened: 12 of 4000")


def test_another_hang_is_another_failure(monkeypatch, tmp_path) -> None:
    elsewhere = dataclasses.replace(HANG, evidence="x+0x1/0x2\ny+0x1/0x2\nz+0x1/0x2")
    Runs(
        monkeypatch,
        [failed("memcg-eagain", HANG)],
        [failed("memcg-eagain.1", HANG), failed("memcg-eagain.2", elsewhere)],
    )
    test = tried()
    test.seek(TARGET, 1, tmp_path)

    ran = test.run(TARGET, 2, tmp_path / "a")

    assert (ran.fails, ran.void) == (1, 1)


def test_what_happens_too_rarely_is_sought_where_nothing_fails(monkeypatch, tmp_path) -> None:
    Runs(
        monkeypatch,
        [little("memcg-eagain"), passed("signals-storm")],
        [little("memcg-eagain"), passed("memcg-eagain.2")],
    )
    test = tried()

    sought, ran = test.seek(TARGET, 9, tmp_path)

    assert sought is not None
    assert (sought["oracle"], sought["kind"]) == ("exercised", "inconclusive")
    assert ran.fails == 1
    ran = test.run(TARGET, 2, tmp_path / "a")
    assert (ran.fails, ran.passes) == (1, 1)


def test_a_class_of_findings_is_sought_by_what_they_say(monkeypatch, tmp_path) -> None:
    Runs(
        monkeypatch,
        [failed("memcg-eagain", ONE, OTHER)],
        [failed("memcg-eagain.1", ONE), failed("memcg-eagain.2", OTHER)],
    )
    test = tried("clean-log: WARNING")

    sought, _ = test.seek(TARGET, 1, tmp_path)
    ran = test.run(TARGET, 2, tmp_path / "a")

    assert sought is not None
    assert sought["oracle"] == "clean-log"
    assert (ran.fails, ran.void) == (1, 1)


def test_a_host_that_fails_blames_no_kernel(monkeypatch, tmp_path) -> None:
    lost = ScenarioResult("memcg-eagain", Outcome.ERROR, reason="QEMU died")
    runs = Runs(monkeypatch, [failed("memcg-eagain", ONE)], [lost], [lost, passed("memcg-eagain.2")], [])
    test = tried()
    test.seek(TARGET, 1, tmp_path)

    with pytest.raises(MachineError, match="QEMU died"):
        test.run(TARGET, 1, tmp_path / "a")
    ran = test.run(TARGET, 2, tmp_path / "b")
    assert (ran.passes, ran.void, ran.note) == (1, 1, "QEMU died")
    runs.forced, runs.error = Outcome.INCONCLUSIVE, "the build failed"
    with pytest.raises(CannotTest, match="the build failed"):
        test.run(TARGET, 1, tmp_path / "c")


def test_passes_leave_no_files_and_failures_do(monkeypatch, tmp_path) -> None:
    Runs(monkeypatch, [failed("memcg-eagain", ONE)], [passed("memcg-eagain")], [failed("memcg-eagain", ONE)])
    test = tried()
    test.seek(TARGET, 1, tmp_path)

    assert test.run(TARGET, 1, tmp_path / "a").folder == ""
    assert test.run(TARGET, 1, tmp_path / "b").folder == str(tmp_path / "b")
    assert not (tmp_path / "a").exists()
    assert kernels.claim(ONE) == kernels.claim(AGAIN)
