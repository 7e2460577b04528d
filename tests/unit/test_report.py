# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml

from harness.host import workspace
from harness.model.coverage import ChangedLine, PatchCoverage
from harness.model.errors import UsageError
from harness.model.ktap import Results
from harness.model.run import KernelFacts, MachineFacts, RunVerdict
from harness.model.verdict import Finding, Outcome, ScenarioResult, worst
from harness.report import document, html, junit, ktap, lines
from harness.report.text import one_line, plain
from harness.report.write import write
from harness.variants import catalogue
from tests.unit.verdicts import run_of

HOSTILE = "\x1b]0;owned\x07<script>alert(1)</script>\x00\u202e\x9b2J\nsecond"


def verdict(**changes) -> RunVerdict:
    """A run with one scenario of each outcome, and hostile text in every field that a guest can fill."""
    results = [
        ScenarioResult("good", Outcome.PASS, (), {"callbacks": 4096}, 1.5),
        ScenarioResult("bad", Outcome.FAIL, (Finding("clean-log", HOSTILE, HOSTILE),), {}, 2.0),
        ScenarioResult("empty", Outcome.INCONCLUSIVE, (), {}, 0.5, reason=HOSTILE),
        ScenarioResult("lost", Outcome.ERROR, (), {}, 0.5, reason="the guest went away"),
    ]
    fields = {"results": results, "skipped": {"other": "does not apply"}, "seconds": {"total": 3.14159}}
    return run_of(**(fields | changes))


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
    stopped = verdict(results=(), error="no space", forced=Outcome.ERROR)

    assert stopped.outcome is Outcome.ERROR
    assert stopped.document()["error"] == "no space"


def test_a_revision_is_named_by_its_commit_wherever_a_run_is() -> None:
    """Not by git:.@HEAD alone, which is another one tomorrow; what the commit says is anybody's."""
    facts = KernelFacts("6.12.1", "abc", cached=True, commit="0123456789ab mm: <b>\x1b[1m")
    run = verdict(source="git:.@HEAD", kernel=facts)

    title = run.title
    assert title.startswith("git:.@HEAD (0123456789ab mm: <b>")
    assert any("git:.@HEAD (0123456789ab mm: <b>" in line for line in lines.summary(run, "/run", lambda _, word: word))
    assert not any("\x1b" in line for line in lines.summary(run, "/run", lambda _, word: word))
    assert "(0123456789ab mm: &lt;b&gt;" in html.render(run)
    assert b"0123456789ab mm: &lt;b&gt;" in junit.render(run)
    assert document.parse(document.render(run)).kernel.commit == facts.commit


def test_the_document_has_all_fields_of_schema_1(tmp_path: Path) -> None:
    """The names are an interface."""
    write(verdict(), tmp_path)

    document = json.loads((tmp_path / "verdict.json").read_text())

    assert document["schema"] == 1
    assert document["verdict"] == "fail"
    assert document["kernel"] == {"release": "6.12.117", "build_id": "abc", "cached": True, "commit": ""}
    assert document["accel"] == {"requested": "auto", "used": "tcg", "reason": "no /dev/kvm"}
    assert set(document["seconds"]) >= {"source", "build", "image", "boot", "restore", "scenarios", "total"}
    assert set(document["scenarios"][0]) >= {"name", "verdict", "findings", "exercised", "seconds"}
    assert set(document["scenarios"][1]["findings"][0]) == {"oracle", "summary", "evidence"}
    assert {path.name for path in tmp_path.iterdir()} == {
        "verdict.json", "manifest.json", "junit.xml", "results.ktap", "report.html",
    }  # fmt: skip


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """Every field that counts is kept: judging again, replaying and merging see the same run."""
    written = verdict(machines=MachineFacts("no space", "boot"), noise=("WARNING in x: known",))
    stopped = verdict(error="no space left", forced=Outcome.ERROR)

    for one in (written, stopped):
        write(one, tmp_path)
        assert document.read(tmp_path).document() == one.document()
        assert document.read(tmp_path).outcome is one.outcome


def test_a_pass_of_the_default_set_says_how_much_it_did_not_try() -> None:
    """The page's example is of this catalogue, so that the number is not forgotten."""
    every, chosen = catalogue.scenarios(), catalogue.choose([])
    result = ScenarioResult("good", Outcome.PASS, (), {"callbacks": 4096}, 1.5)
    passed = verdict(results=[dataclasses.replace(result, name=one.name) for one in chosen])

    last = [*lines.summary(passed, "f", lambda _, word: word, len(every) - len(chosen))][-1]

    said = f"{len(chosen)} pass; {len(every) - len(chosen)} more scenarios did not run: harness run all"
    assert last.endswith(f": {said}")
    assert said in (workspace.ROOT / "README.md").read_text("utf-8")


def test_what_rotted_in_the_cache_is_told_and_kept() -> None:
    rotten = verdict(cache=("kernel 6.12: vmlinux in the cache is damaged",))

    assert "made again   kernel 6.12: vmlinux in the cache is damaged" in lines.summary(
        rotten, "f", lambda _, word: word
    )
    assert document.parse(document.render(rotten)).cache == rotten.cache


def test_a_verdict_of_an_earlier_version_lacks_what_was_not_there() -> None:
    """Fields were added since schema 1 began; none was renamed."""
    held = verdict().document()
    for name in ("error", "machines", "skipped", "noise", "cache"):
        del held[name]
    for entry in held["scenarios"]:
        for name in ("reason", "phases", "attempts", "latency_us", "selftests", "tape"):
            del entry[name]

    assert document.parse(json.dumps(held)).outcome is Outcome.FAIL


def changed(**fields: object) -> str:
    """The text of a verdict document in which some fields are of another type."""
    held = verdict().document()
    held["scenarios"][0] |= {name: value for name, value in fields.items() if name in held["scenarios"][0]}
    return json.dumps(held | {name: value for name, value in fields.items() if name not in held["scenarios"][0]})


WRONG = (
    changed(exercised=[]), changed(findings=[3]), changed(seconds="x"), changed(phases=[]), changed(verdict="good"),
    changed(kernel=None), changed(patches=7), changed(skipped=[1]), changed(machines=[]),
)  # fmt: skip


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", '{"scenarios": 3}', "null", *WRONG])
def test_what_is_no_verdict_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "verdict.json").write_text(text)

    with pytest.raises(UsageError, match="not a run directory"):
        document.read(tmp_path)


def test_hostile_text_reaches_no_terminal_and_no_page() -> None:
    """Escape sequences, markup, NUL, direction marks: written out, never obeyed."""
    page, tap, xml = html.render(verdict()), ktap.render(verdict()), junit.render(verdict()).decode()

    for text in (page, tap, xml, plain(HOSTILE)):
        assert not any(mark in text for mark in "\x1b\x07\x00\u202e\x9b")
    assert page.count("<script>") == 1, "our own"
    assert "&lt;script&gt;" in page
    assert one_line(HOSTILE).count("\n") == 0
    assert len(one_line("x" * 1000)) == 300


CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
EVERYWHERE = f"{HOSTILE}\r\tok 1 \u2028# SKIP\ud800\u2066\x85\x0c%"


def hostile(value: Any) -> Any:
    """A value with hostile text in place of each text in it, and in each name of an entry."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return dataclasses.replace(value, **{name: hostile(getattr(value, name)) for name in names})
    if isinstance(value, Outcome) or not isinstance(value, str | tuple | dict):
        return value
    if isinstance(value, dict):
        return {f"{EVERYWHERE}{key}": hostile(entry) for key, entry in value.items()}
    return EVERYWHERE if isinstance(value, str) else tuple(map(hostile, value))


@pytest.fixture
def everywhere() -> RunVerdict:
    """A verdict with hostile text in every field that is text, as no file of ours can hold."""
    results = [
        ScenarioResult(
            "name",
            outcome,
            (Finding("oracle", "summary", "evidence"),),
            {"callbacks": 1},
            1.0,
            "reason",
            phases={"boot": 1.0},
            latency_us={"p50": 1},
            tape="tape.gz",
            selftests={"cow": Results(1, 1, 1, ("a failure",), (("a reason", 1),))},
        )
        for outcome in Outcome
    ]
    machines = MachineFacts("refused", "boot")
    coverage = PatchCoverage((ChangedLine("file", 1, {"name": 1}),), 1, {"file": "why"}, ("name",), "reason")
    fields = {"machines": machines, "noise": ("noise",), "error": "error", "forced": Outcome.ERROR}
    fields["coverage"] = coverage
    made: RunVerdict = hostile(verdict(results=results, **fields))
    return made


def test_hostile_text_in_any_field_is_harmless_wherever_it_is_shown(everywhere: RunVerdict) -> None:
    shown = [*lines.summary(everywhere, EVERYWHERE, lambda _, word: word)]
    for result in everywhere.scenarios:
        shown += lines.result(result, lambda _, word: word)
    page, tap, xml = html.render(everywhere), ktap.render(everywhere), junit.render(everywhere).decode()

    assert not [text for text in (*shown, tap) if CONTROLS.search(text)]
    assert not [text for text in shown if set(text) & set("\n\t")]
    assert not CONTROLS.search(page)
    assert page.count("<script>") == 1, "our own"
    assert not CONTROLS.search(xml)
    (suite,) = JUnitXml.fromstring(xml.encode())
    assert suite.tests == len(everywhere.scenarios) + len(everywhere.skipped) + 1


def test_hostile_text_adds_no_line_and_no_directive_to_ktap(everywhere: RunVerdict) -> None:
    read = ktap.render(everywhere).splitlines()

    tests = [line for line in read if not line.startswith("#")]
    assert tests[:2] == ["KTAP version 1", "1..5"]
    assert [line.split(" ")[0] for line in tests[2:]] == ["ok", "not", "not", "not", "ok", "Bail"]
    directives = [re.findall(r"(?<!\\)# *(\w+)", line) for line in tests[2:7]]
    assert [found[:1] for found in directives] == [[], [], ["inconclusive"], ["error"], ["SKIP"]]


def test_junit_shows_only_passes_as_green() -> None:
    """A finding is a failure; a scenario that proves nothing is an error; one that does not apply is skipped."""
    (suite,) = JUnitXml.fromstring(junit.render(verdict()))

    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (5, 1, 2, 1)


def test_ktap_numbers_every_scenario() -> None:
    """The plan's count and the results agree."""
    lines = ktap.render(verdict()).splitlines()

    assert lines[:2] == ["KTAP version 1", "1..5"]
    assert next(line for line in lines if line.startswith(("ok", "not ok"))) == "ok 1 good"
    assert "not ok 2 bad" in lines
    assert "ok 5 other # SKIP does not apply" in lines
