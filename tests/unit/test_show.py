# SPDX-License-Identifier: GPL-2.0-only
"""harness show, harness list, and the short names of runs."""

from __future__ import annotations

import json
import string
from pathlib import Path

import pytest

from harness.cli import main, parse
from harness.commands import list as listing
from harness.commands import shell, show
from harness.guest.agent import GuestResult
from harness.host.workspace import cache_dir
from harness.model import story, vocabulary
from harness.model.errors import UsageError
from harness.model.verdict import Outcome
from harness.report.write import write
from harness.run import runs
from harness.variants import catalogue
from tests.unit.runs import NAMES, run_directory
from tests.unit.verdicts import run_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with two runs, of which the newer failed."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path))
    for name, outcome in (("20260101-120000", Outcome.PASS), ("20260102-130001", Outcome.FAIL)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        write(run_of({"memcg-eagain": outcome}), folder)
    return cache_dir()


def test_every_verb_has_a_sentence_that_names_only_what_the_verb_has() -> None:
    assert story.SENTENCES.keys() == vocabulary.VERBS.keys()
    for verb, sentence in story.SENTENCES.items():
        named = {name for _, name, _, _ in string.Formatter().parse(sentence) if name}
        assert named <= {"target", *vocabulary.VERBS[verb][1]}, verb


def test_every_scenario_is_told() -> None:
    """No line is a Python object, and no argument is forgotten or missing."""
    for scenario in catalogue.scenarios().values():
        said = "\n".join(line for _, lines in story.chapters(scenario) for line in lines)
        assert not any(sign in said for sign in ("…", "{'", "frozenset", "Step(")), said
        for step in scenario.steps:
            told = story.told(step)
            given = [str(value) for key, value in step.arguments.items() if key not in story.YES]
            assert all(value in told for value in given), told


def test_a_step_is_told_with_who_does_it_and_what_must_come_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["show", "memcg-eagain"])

    said = " ".join(capsys.readouterr().out.split())
    assert "4. memory pressure: memcg-charge: size 40M" in said
    assert "8. the process checks the content of held: content 2; must be: majflt = 0" in said
    assert "fail after 0.0 s on debian:6.12 + mayfail, run 20260102-130001" in said


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("exit", "scenario"),
        ("kasan", "configuration"),
        ("mayfail", "patch"),
        ("pairing", "oracle"),
        ("unmarked", "mutant"),
    ],
)
def test_everything_that_is_listed_is_shown(name: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert any(entry["kind"].startswith(kind) for entry in found)
    assert all(entry["file"] and entry["chapters"] for entry in found)


@pytest.mark.parametrize(
    ("name", "hint"), [("memcg-egain", "did you mean 'memcg-eagain'?"), ("*", "harness list"), ("../x\n", "harness")]
)
def test_a_name_that_nothing_has_is_one_line_and_a_hint(
    name: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", name]) == 129

    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("harness: unknown name ")
    assert hint in second


def test_a_line_for_each_file_of_scenarios_cut_at_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "scenarios"]) == 0

    said = capsys.readouterr().out.splitlines()
    assert len(said) == len({scenario.path for scenario in catalogue.scenarios().values()})
    entries = list(listing.files(catalogue.listing("scenarios")))
    assert all(len(line) <= 80 for line in listing.lines(entries, 80))
    (line,) = [line for line in said if line.startswith("exit ")]
    assert line.split(maxsplit=1)[1].startswith("3 variants, 1 default ")


def test_runs_are_listed_the_newest_first(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cache / "runs" / "20260103-000000").mkdir()
    (cache / "runs" / "20260103-000000" / "run.json").write_text("{")

    assert main(["list", "runs"]) == 0

    said = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert said == [["20260103-000000", "unfinished"], ["20260102-130001", "fail"], ["20260101-120000", "pass"]]


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("last", "20260102-130001"),
        ("last/memcg-eagain", "20260102-130001/memcg-eagain"),
        ("20260101-120000", "20260101-120000"),
        ("120000", "20260101-120000"),
        ("130001/x", "20260102-130001/x"),
    ],
)
def test_a_run_has_a_short_name(cache: Path, word: str, found: str) -> None:
    assert runs.find(word, cache) == cache / "runs" / found


@pytest.mark.parametrize("word", ["", "nonesuch", "/nonesuch/last", "x" * 5000, "../last", "a\0b", "999999", "12"])
def test_what_is_no_short_name_is_a_path(cache: Path, word: str) -> None:
    assert runs.find(word, cache) == Path(word)


def test_a_path_comes_before_a_name(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "last").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")

    assert runs.find("last", cache) == Path("last")


def test_a_name_that_two_runs_have_is_refused(cache: Path) -> None:
    again = cache / "runs" / "20260105-120000"
    again.mkdir()
    write(run_of({"x": Outcome.PASS}), again)

    with pytest.raises(UsageError, match="120000: 2 runs end so"):
        runs.find("120000", cache)


def test_last_of_no_run_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run") as caught:
        runs.find("last", tmp_path / "empty")
    assert caught.value.hint == "harness run"


@pytest.mark.parametrize("words", [["judge"], ["report"], ["decode"], ["replay"], ["run", "--resume"]])
def test_every_command_that_takes_a_run_takes_its_short_name(cache: Path, words: list[str]) -> None:
    told = vars(parse([*words, "last"]))

    assert cache / "runs" / "20260102-130001" in (told.get("run"), told.get("resume"), *told.get("runs", ()))


def test_a_shell_takes_the_short_name_of_a_run_and_of_its_scenario(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / "runs" / "20260102-130001" / "memcg-eagain").mkdir()
    asked: list[str] = []
    monkeypatch.setattr(shell, "_visit", lambda _, named, __: asked.append(named))
    monkeypatch.setattr(shell, "execute", lambda _, words: shell.Executed(GuestResult(tuple(words), 7, b"", b"", 0)))

    assert [main(["shell", word, "true"]) for word in ("last", "last/memcg-eagain")] == [7, 7]

    assert asked == [str(cache / "runs" / name) for name in ("20260102-130001", "20260102-130001/memcg-eagain")]


def test_a_folder_of_the_host_is_no_command_of_a_shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shell", str(tmp_path)]) == 129

    assert f"{tmp_path}: a folder of this machine, and no run" in capsys.readouterr().err


def test_lines_are_wrapped_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    entry = {"name": "x", "kind": "scenario", "file": "f", "summary": "word " * 50, "chapters": {"a": ["b " * 60]}}

    assert max(map(len, show.lines(entry))) <= 60


def test_a_run_is_explained_and_a_scenario_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = run_directory(tmp_path / "run")

    assert main(["show", str(run / NAMES[0])]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"pass         {NAMES[0]}")
    assert "  again          harness run --source " in said
    assert main(["show", str(run / "nothing")]) == 129
