# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml

from harness.model.run import AccelFacts, KernelFacts, RunVerdict
from harness.model.verdict import Finding, Outcome, ScenarioResult, worst
from harness.report import html, junit, ktap
from harness.report.text import one_line, plain
from harness.report.write import write

HOSTILE = "\x1b]0;owned\x07<script>alert(1)</script>\x00\u202e\x9b2J\nsecond"


def verdict(**changes) -> RunVerdict:
    """A run with one scenario of each outcome, and hostile text in every field that a guest can fill."""
    results = [
        ScenarioResult("good", Outcome.PASS, (), {"callbacks": 4096}, 1.5),
        ScenarioResult("bad", Outcome.FAIL, (Finding("clean-log", HOSTILE, HOSTILE),), {}, 2.0),
        ScenarioResult("empty", Outcome.INCONCLUSIVE, (), {}, 0.5, reason=HOSTILE),
        ScenarioResult("lost", Outcome.ERROR, (), {}, 0.5, reason="the guest went away"),
    ]
    fields: dict[str, Any] = {
        "source": "debian:6.12",
        "patches": ("mayfail",),
        "configs": ("base",),
        "kernel": KernelFacts("6.12.117", "abc", cached=True),
        "accel": AccelFacts("auto", "tcg", "no /dev/kvm"),
        "scenarios": tuple(results),
        "skipped": {"other": "does not apply"},
        "seconds": {"total": 3.14159},
    }
    return RunVerdict(**(fields | changes))


def test_a_finding_outweighs_everything_else() -> None:
    """Fail, then error, then inconclusive, then pass; nothing at all proves nothing."""
    order = [Outcome.FAIL, Outcome.ERROR, Outcome.INCONCLUSIVE, Outcome.PASS]
    for number, expected in enumerate(order):
        assert worst(order[number:]) is expected
    assert worst([]) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(("outcome", "code"), [("pass", 0), ("fail", 1), ("inconclusive", 125), ("error", 128)])
def test_exit_codes_are_what_git_bisect_expects(outcome, code) -> None:
    """0 good, 1 bad, 125 skip, 128 stop."""
    assert Outcome(outcome).exit_code == code


def test_what_stopped_a_run_is_in_its_verdict() -> None:
    """A build that failed leaves no scenario, and is no pass."""
    stopped = verdict(scenarios=(), error="no space", forced=Outcome.ERROR)

    assert stopped.outcome is Outcome.ERROR
    assert stopped.document()["error"] == "no space"


def test_the_document_has_all_fields_of_schema_1(tmp_path: Path) -> None:
    """Names are interface."""
    write(verdict(), tmp_path)

    document = json.loads((tmp_path / "verdict.json").read_text())

    assert document["schema"] == 1
    assert document["verdict"] == "fail"
    assert document["kernel"] == {"release": "6.12.117", "build_id": "abc", "cached": True}
    assert document["accel"] == {"requested": "auto", "used": "tcg", "reason": "no /dev/kvm"}
    assert set(document["seconds"]) >= {"source", "build", "image", "boot", "restore", "scenarios", "total"}
    assert set(document["scenarios"][0]) >= {"name", "verdict", "findings", "exercised", "seconds"}
    assert set(document["scenarios"][1]["findings"][0]) == {"oracle", "summary", "evidence"}
    assert {path.name for path in tmp_path.iterdir()} == {"verdict.json", "junit.xml", "results.ktap", "report.html"}


def test_hostile_text_reaches_no_terminal_and_no_page() -> None:
    """Escape sequences, markup, NUL, direction marks: written out, never obeyed."""
    page, tap, xml = html.render(verdict()), ktap.render(verdict()), junit.render(verdict()).decode()

    for text in (page, tap, xml, plain(HOSTILE)):
        assert not any(mark in text for mark in "\x1b\x07\x00\u202e\x9b")
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert one_line(HOSTILE).count("\n") == 0
    assert len(one_line("x" * 1000)) == 300


def test_junit_shows_only_passes_as_green() -> None:
    """Failure for a finding, error for what proves nothing, skipped for what does not apply."""
    (suite,) = JUnitXml.fromstring(junit.render(verdict()))

    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (5, 1, 2, 1)


def test_ktap_numbers_every_scenario() -> None:
    """The plan's count and the results agree."""
    lines = ktap.render(verdict()).splitlines()

    assert lines[:2] == ["KTAP version 1", "1..5"]
    assert next(line for line in lines if line.startswith(("ok", "not ok"))) == "ok 1 good"
    assert "not ok 2 bad" in lines
    assert "ok 5 other # SKIP does not apply" in lines
