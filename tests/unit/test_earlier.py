# SPDX-License-Identifier: GPL-2.0-only
"""Runs that ended, and the point where a shell resumes one of their scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli import main
from harness.commands import shell
from harness.guest import tape as tapes
from harness.model import recording as recordings
from harness.model.errors import UsageError
from harness.model.event import EMPTY
from harness.model.recording import Ended, Recording
from harness.model.run import KernelFacts
from harness.model.verdict import Outcome
from harness.report import manifest
from harness.report.write import write
from harness.run import earlier, planning
from harness.run.pipeline import KernelRequest
from harness.variants import catalogue
from tests.unit.verdicts import run_of


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of three scenarios, of which the second failed."""
    verdicts = {"one": Outcome.PASS, "two": Outcome.FAIL, "three": Outcome.FAIL}
    kernel = KernelFacts("6.12.117", "aa" * 20, cached=True)
    write(run_of(verdicts, kernel=kernel, configs=("base", "lockdep")), tmp_path)
    for name in verdicts:
        (tmp_path / name).mkdir()
    return tmp_path


def test_a_run_tells_what_it_ran_on_and_what_failed_first(run: Path):
    told = earlier.read(run)

    assert told.request == KernelRequest("debian:6.12", ("mayfail",), ("lockdep",))
    assert told.scenario() == "two"


def test_a_word_names_a_run_one_of_its_scenarios_or_neither(run: Path):
    assert earlier.named(str(run)) == (run, "")
    assert earlier.named(str(run / "three")) == (run, "three")
    assert earlier.named(str(run / "four")) is None
    assert earlier.named("dmesg") is None


@pytest.mark.parametrize(
    ("ended", "answered", "more", "unanswered"),
    [
        (Ended.NO_PROGRESS, 8, 1, True),
        (Ended.PANIC, 0, 1, True),
        (Ended.STEP_FAILED, 8, 0, False),
    ],
)
def test_a_scenario_is_done_again_up_to_where_it_stopped(tmp_path: Path, ended, answered, more, unanswered):
    scene = kept(tmp_path, ended, answered)

    assert scene.unanswered is unanswered
    assert scene.commands == planning.plan(scene.scenario)[: answered + more]


def test_one_that_went_to_its_end_stops_before_anything_is_taken_down(tmp_path: Path):
    scene = kept(tmp_path, Ended.COMPLETE, 28)

    assert scene.commands[-1].text.startswith("user-check ")
    assert not scene.unanswered


def test_one_that_hung_while_it_was_taken_down_is_brought_there(tmp_path: Path):
    """In a command of the harness's own, or in the end of its driver, where the kernel takes down the rest."""
    [scenario] = catalogue.choose(["memcg-eagain"])
    commands = planning.plan(scenario)
    last = kept(tmp_path, Ended.NO_PROGRESS, len(commands))
    (tmp_path / "again").mkdir()
    before = kept(tmp_path / "again", Ended.NO_PROGRESS, len(commands) - 1)

    assert (last.commands, last.unanswered, last.quits) == (commands, False, True)
    assert (before.commands, before.unanswered, before.quits) == (commands, True, False)


def kept(folder: Path, ended: Ended, answered: int) -> shell.Scene:
    """The scene of memcg-eagain, recorded as it ended after some answers."""
    [scenario] = catalogue.choose(["memcg-eagain"])
    answers = [command.answered({"ok": True}, 0.0) for command in planning.plan(scenario)[:answered]]
    recording = Recording(scenario, ended, "", 1.0, answers, {}, {}, {}, EMPTY, b"")
    place = folder / scenario.name
    place.mkdir()
    (place / "scenario.yaml").write_bytes(scenario.path.read_bytes())
    (place / "console.log").touch()
    (place / "record.json").write_text(
        recordings.document(recording, recordings.digests(place, place.name)), encoding="utf-8"
    )
    return shell.scene(place, scenario.name)


def test_gdb_is_let_into_one_scenario_at_a_time(run: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("two", "three"):
        (run / name / tapes.RECORD).write_text("{}", encoding="utf-8")
    (run / manifest.NAME).unlink()

    assert main(["replay", "--gdb", str(run)]) == 129
    said = capsys.readouterr().err
    assert f"unverified   {run}: has no manifest.json" in said
    assert "--gdb takes one scenario, not 2\n  try: name one of two, three\n" in said


def test_a_folder_that_is_no_run_is_bad_input(tmp_path: Path):
    with pytest.raises(UsageError, match="not a run directory"):
        earlier.read(tmp_path)
