# SPDX-License-Identifier: GPL-2.0-only
"""Matrices whose jobs are a fake `harness`: what runs, what is taken over, and what all of it comes to."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.host import workspace
from harness.matrix import engine, merging, perform, result, summary
from harness.matrix.executor_local import Local
from harness.matrix.job import Expected, Job
from harness.matrix.perform import Work
from harness.matrix.plan import Plan
from harness.matrix.shard import Durations
from harness.matrix.summary import Summary
from harness.model.errors import UsageError
from harness.model.verdict import Outcome
from tests.unit.conftest import Said
from tests.unit.matrices import NamedKeys, calls, fake, plan_of, rule
from tests.unit.runs import run_directory

PASS, FAIL, INCONCLUSIVE, ERROR = Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.ERROR
AS_EXPECTED = (rule(FAIL, "mayfail-gate", words=["--patch none"]), rule(PASS))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engine, "Keys", NamedKeys)


class Night:
    """Matrices of one machine, night after night."""

    def __init__(self, tmp_path: Path, said: Said) -> None:
        self.root = tmp_path
        self.said = said
        self.plan: Plan = plan_of(tmp_path)

    def run(self, name: str, *rules: Mapping[str, Any], part: str = "", again: bool = False, jobs: int = 1) -> Summary:
        """Run the plan's matrix in a folder, or go on with it."""
        folder = self.root / name
        earlier = summary.read(folder) if folder.exists() else None
        folder.mkdir(exist_ok=True)
        cache = workspace.cache_dir()
        selected = engine.select(self.plan, part, cache, self.said, again=again, earlier=earlier)
        executor = Local(jobs, fake(self.root / "fake", *rules))
        return engine.Run(selected, folder, cache, self.said).run(executor, None)

    def calls(self, command: str = "run") -> int:
        """How many of the fake's calls there were since the last time."""
        found = len(calls(self.root / "fake", command))
        (self.root / "fake" / "calls").unlink(missing_ok=True)
        return found


@pytest.fixture
def night(tmp_path: Path, said: Said) -> Night:
    return Night(tmp_path, said)


def test_a_kernel_without_the_patch_passes_by_failing_as_it_must(night: Night) -> None:
    told = night.run("one", *AS_EXPECTED)

    assert [one.outcome for one in told.results] == [PASS, FAIL]
    assert told.outcome is PASS
    assert told.results[1].reason == "fail by mayfail-gate, as expected"
    written = summary.read(night.root / "one")
    assert written.document()["jobs"] == told.document()["jobs"]
    assert (night.root / "one" / "6.12_none_base_memcg-accept" / "verdict.json").exists()
    assert "as expected" in (night.root / "one" / "report.html").read_text()
    assert "2 pass; 1 of them by failing as expected" in (night.root / "one" / "summary.md").read_text()
    cases = (night.root / "one" / "junit.xml").read_text()
    assert (cases.count("<testcase"), cases.count("<failure"), cases.count("<error")) == (2, 0, 0)


@pytest.mark.parametrize(
    ("outcome", "oracles", "expected", "counted", "said"),
    [
        (PASS, [], (PASS,), PASS, ""),
        (FAIL, ["pairing"], (PASS,), FAIL, "[pairing] pairing saw it"),
        (INCONCLUSIVE, [], (PASS,), INCONCLUSIVE, "because"),
        (ERROR, [], (PASS,), ERROR, "because"),
        (FAIL, ["pairing"], (FAIL,), PASS, "fail, as expected"),
        (FAIL, ["pairing"], (FAIL, "pairing", "no-hang"), PASS, "fail by pairing or no-hang, as expected"),
        (FAIL, ["pairing"], (FAIL, "mayfail-gate"), FAIL, "failed otherwise than expected"),
        (PASS, [], (FAIL, "mayfail-gate"), FAIL, "ended with pass, where fail by mayfail-gate is expected"),
        (INCONCLUSIVE, [], (FAIL, "mayfail-gate"), INCONCLUSIVE, "because"),
        (ERROR, [], (FAIL, "mayfail-gate"), ERROR, "because"),
        (INCONCLUSIVE, [], (INCONCLUSIVE,), PASS, "inconclusive, as expected"),
        (PASS, [], (INCONCLUSIVE,), FAIL, "ended with pass, where inconclusive is expected"),
        (FAIL, ["pairing"], (INCONCLUSIVE,), FAIL, "ended with fail, where inconclusive is expected: [pairing]"),
        (ERROR, [], (INCONCLUSIVE,), ERROR, "because"),
    ],
)
def test_what_counts_is_what_was_expected(
    outcome: Outcome, oracles: list[str], expected: tuple[Any, ...], counted: Outcome, said: str, tmp_path: Path
) -> None:
    work = Work(Job(expected=Expected(expected[0], tuple(expected[1:]))), "", 60)
    program = fake(tmp_path / "fake", rule(outcome, *oracles))

    found = perform.run(work, tmp_path / "job", threading.Event(), lambda _: None, program)

    assert (found.outcome, found.counted) == (outcome, counted)
    assert said in found.reason


@pytest.mark.parametrize(
    ("changes", "outcome", "said"),
    [
        ({"status": 1, "verdict": ""}, ERROR, "something"),
        ({"status": 0, "verdict": ""}, ERROR, "something"),
        ({"status": 125, "verdict": ""}, INCONCLUSIVE, "something"),
        ({"status": 129, "verdict": "", "said": "harness: unknown scenario 'x'"}, ERROR, "unknown scenario 'x'"),
        ({"status": -9, "verdict": ""}, ERROR, ""),
        ({"status": 1}, ERROR, "ended with 1, but its verdict.json says pass"),
        ({"verdict": "{}"}, ERROR, ""),
        ({"verdict": "\0"}, ERROR, ""),
    ],
)
def test_only_a_verdict_makes_a_fail(changes: dict[str, Any], outcome: Outcome, said: str, tmp_path: Path) -> None:
    told = {**rule(PASS), "said": "harness: something", **changes}

    found = perform.run(
        Work(Job(), "", 60), tmp_path / "job", threading.Event(), lambda _: None, fake(tmp_path / "fake", told)
    )

    assert found.outcome is outcome
    assert said in found.reason


@pytest.mark.parametrize(("deaf", "verdict"), [(False, PASS), (True, PASS), (False, FAIL)])
def test_a_job_that_takes_too_long_is_ended_with_its_group(
    deaf: bool, verdict: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked to end, and killed if it does not; that is no fault of a kernel, unless one was seen."""
    monkeypatch.setattr("harness.matrix.supervise.GRACE_S", 0.5)
    folder = tmp_path / "job"
    program = fake(tmp_path / "fake", rule(PASS, takes=600, deaf=deaf))
    if verdict is FAIL:
        folder.mkdir()
        (folder / "run.json").write_text("{}")
        (folder / "verdict.json").write_text(str(rule(FAIL, "pairing")["verdict"]))

    found = perform.run(Work(Job(), "", 1.5), folder, threading.Event(), lambda _: None, program)

    assert found.outcome is (FAIL if verdict is FAIL else ERROR)
    assert (folder / "ended").exists() is not deaf
    if verdict is PASS:
        assert "limit 1.5 s" in found.reason
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)


def test_what_has_not_changed_is_taken_over_and_what_is_red_runs_again(night: Night) -> None:
    first = night.run("one", rule(FAIL, "pairing", words=["--patch none"]), rule(PASS))
    assert (first.outcome, night.calls()) == (FAIL, 2)

    second = night.run("two", *AS_EXPECTED)

    assert (second.outcome, night.calls()) == (PASS, 1)
    assert [bool(one.taken) for one in second.results] == [True, False]
    assert "1 taken over from earlier nights" in (night.root / "two" / "summary.md").read_text()
    assert (night.root / "two" / "6.12_mayfail_base_memcg-accept" / "verdict.json").exists()
    night.run("three", *AS_EXPECTED)
    assert night.calls("build") == 0
    night.run("four", *AS_EXPECTED, again=True)
    assert night.calls() == 2


def test_a_result_that_rotted_in_the_cache_is_not_believed(night: Night) -> None:
    night.run("one", *AS_EXPECTED)
    for kept in (workspace.cache_dir() / "results").glob("*/result.json"):
        kept.write_text(kept.read_text().replace("memcg-accept", "memcg-accepd"))
    night.calls()
    workspace._checked.whole.clear()

    assert night.run("two", *AS_EXPECTED).outcome is PASS
    assert night.calls() == 2


def test_an_error_is_never_kept_and_a_changed_expectation_is_judged_anew(night: Night, tmp_path: Path) -> None:
    night.run("one", rule(ERROR))
    assert night.run("two", *AS_EXPECTED).outcome is PASS
    night.calls()
    text = (tmp_path / "plan.yaml").read_text()
    night.plan = plan_of(tmp_path / "other", text.replace("mayfail-gate", "pairing"))

    assert night.run("three", *AS_EXPECTED).outcome is FAIL
    assert night.calls() == 1


def test_a_kernel_that_cannot_be_built_costs_its_jobs_alone(night: Night) -> None:
    broken = {**rule(PASS, words=["--patch none"]), "build": 125, "said": "harness: 0001.patch does not apply"}

    told = night.run("one", broken, rule(PASS))

    assert [one.counted for one in told.results] == [PASS, INCONCLUSIVE]
    assert told.results[1].reason == "0001.patch does not apply"
    assert told.outcome.exit_code == 125


def test_an_interrupted_matrix_goes_on_where_it_was(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting(Local):
        def _run(self, work: Work, folder: Path, stop: threading.Event, listener: Any) -> Any:
            if work.job.patch == ("none",):
                stop.set()
                raise KeyboardInterrupt
            return super()._run(work, folder, stop, listener)

    with monkeypatch.context() as patch:
        patch.setattr("tests.unit.test_matrix.Local", Interrupting)
        with pytest.raises(KeyboardInterrupt):
            night.run("one", rule(FAIL, "pairing"))
    half = summary.read(night.root / "one")
    assert [one.outcome for one in half.results] == [FAIL]
    assert list(half.not_run) == ["6.12_none_base_memcg-accept"]
    assert half.outcome is FAIL
    night.calls()

    whole = night.run("one", *AS_EXPECTED)

    # The red one is of this matrix, and is not run again in it.
    assert ([one.outcome for one in whole.results], night.calls()) == ([FAIL, FAIL], 1)
    assert not whole.not_run


def test_what_has_changed_since_is_not_gone_on_with(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder holds a run that is complete, of another harness."""
    night.run("one", *AS_EXPECTED)
    night.calls()
    monkeypatch.setattr(NamedKeys, "of", lambda _, job: workspace.digest("newer", job.name))

    assert night.run("one", rule(PASS)).outcome is FAIL
    made = calls(night.root / "fake", "run")
    assert len(made) == 2
    assert not [line for line in made if "--resume" in line]


def test_an_interrupt_ends_the_jobs_that_run_and_keeps_what_they_did(night: Night) -> None:
    folder = night.root / "job"
    stop = threading.Event()
    program = fake(night.root / "fake", rule(PASS, takes=600))

    def tell(line: str) -> None:
        if line.startswith("working"):
            stop.set()

    with pytest.raises(perform.Stopped):
        perform.run(Work(Job(), "", 600), folder, stop, tell, program)
    assert (folder / "ended").exists()

    found = perform.run(
        Work(Job(), "", 600), folder, threading.Event(), lambda _: None, fake(night.root / "fake", rule(PASS))
    )

    assert found.outcome is PASS
    assert "--resume" in calls(night.root / "fake", "run")[-1]


def test_jobs_run_side_by_side(night: Night) -> None:
    """Each waits for the other to begin."""
    folder = night.root / "one"
    names = [job.name for job in night.plan.jobs]
    rules = [
        rule(FAIL, "mayfail-gate", words=["--patch none"], takes=60, once=str(folder / names[0] / "pid")),
        rule(PASS, takes=60, once=str(folder / names[1] / "pid")),
    ]
    began = time.monotonic()

    assert night.run("one", *rules, jobs=2).outcome is PASS
    assert time.monotonic() - began < 60


def test_shards_merge_into_one_verdict(night: Night) -> None:
    parts = [night.run(f"part{number}", *AS_EXPECTED, part=f"{number}/2") for number in (1, 2)]
    assert [len(part.results) for part in parts] == [1, 1]
    folders = [night.root / "part1", night.root / "part2"]

    told, places = merging.merge(folders)
    merging.gather(places, night.root / "all")
    told.write(night.root / "all")

    assert told.outcome is PASS
    assert not told.not_run
    assert sorted(one.job.name for one in told.results) == sorted(job.name for job in night.plan.jobs)
    again = summary.read(night.root / "all")
    assert merging.merge([night.root / "all"])[0].results == again.results
    assert all((night.root / "all" / job.name / "verdict.json").exists() for job in night.plan.jobs)


def test_a_shard_that_is_missing_is_an_error(night: Night) -> None:
    night.run("part1", *AS_EXPECTED, part="1/2")

    told, _ = merging.merge([night.root / "part1"])

    assert told.outcome is ERROR
    assert len(told.not_run) == 1


def test_a_shard_without_a_job_has_nothing_against_it(night: Night) -> None:
    assert night.run("part3", *AS_EXPECTED, part="3/3").outcome is PASS


def test_of_a_job_that_ran_twice_the_worst_counts(night: Night) -> None:
    night.run("one", *AS_EXPECTED)
    night.run("two", rule(PASS), again=True)

    for order in (["one", "two"], ["two", "one"]):
        told, _ = merging.merge([night.root / name for name in order])
        assert told.outcome is FAIL


def test_a_plain_run_is_merged_as_a_job(night: Night) -> None:
    night.run("one", *AS_EXPECTED)
    run_directory(night.root / "20260101-000000")
    run_directory(night.root / "copy" / "20260101-000000")

    told, places = merging.merge([night.root / name for name in ("one", "20260101-000000", "copy/20260101-000000")])

    assert len(told.results) == 4
    assert len({one.job.name for one in told.results}) == 4
    merging.gather(places, night.root / "all")


def test_shards_of_different_plans_do_not_merge(night: Night, tmp_path: Path) -> None:
    night.run("one", *AS_EXPECTED)
    night.plan = plan_of(tmp_path / "other", "kernels: [debian:6.1]")
    night.run("two", rule(PASS))

    with pytest.raises(UsageError, match="different plans"):
        merging.merge([night.root / "one", night.root / "two"])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda told: told["jobs"][0].update(name="../../etc"),
        lambda told: told["jobs"][0].update(name="other"),
        lambda told: told["jobs"][0]["job"].update(kernel="/etc"),
        lambda told: told["jobs"][0].update(seconds=-1),
        lambda told: told.update(not_run={"../x": ""}),
        lambda told: told.update(schema=2),
        lambda told: told.update(code="x; rm -rf /"),
        lambda told: told.pop("jobs"),
    ],
)
def test_a_document_that_somebody_changed_is_refused(wrong: Any, night: Night) -> None:
    night.run("one", *AS_EXPECTED)
    place = night.root / "one" / "matrix.json"
    told = json.loads(place.read_text())
    wrong(told)
    place.write_text(json.dumps(told))

    with pytest.raises(UsageError, match=r"matrix"):
        merging.merge([night.root / "one"])


@pytest.mark.parametrize("inside", ["link", "folder"])
def test_a_link_in_a_shard_is_not_followed(inside: str, night: Night) -> None:
    night.run("one", *AS_EXPECTED)
    secret = night.root / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    place = night.root / "one" / "6.12_none_base_memcg-accept"
    if inside == "link":
        (place / "leak").symlink_to(secret / "key")
    else:
        (place / "leak").symlink_to(secret)

    told, places = merging.merge([night.root / "one"])
    with pytest.raises(UsageError, match="not a regular file"):
        merging.gather(places, night.root / "all")
    assert not list((night.root / "all").rglob("key"))
    assert told.outcome is PASS


def test_what_is_worse_than_the_night_before_is_new_and_is_searched(night: Night) -> None:
    before = dataclasses.replace(night.run("one", *AS_EXPECTED), code="a" * 40)
    now = night.run("two", rule(FAIL, "pairing"), again=True)

    told = dataclasses.replace(now, code="b" * 40).compared(before)

    assert told.new == tuple(job.name for job in night.plan.jobs)
    # The one that must fail does so otherwise, and is bad at both ends.
    assert len(told.searches) == 1
    assert f"--good {'a' * 40} --bad {'b' * 40}" in told.searches[0]
    assert "run --source debian:6.12" in told.searches[0]
    told.write(night.root / "two")
    assert told.searches[0] in (night.root / "two" / "bisect.sh").read_text()
    assert dataclasses.replace(now, code="a" * 40).compared(before).searches == ()


def test_a_kernel_of_a_repository_is_searched_in_its_history(night: Night, tmp_path: Path) -> None:
    job = Job(kernel=f"git:{tmp_path}@HEAD", patch=("none",), scenarios=("memcg-eagain",))
    cause = result.Cause("pairing", "x", ("memcg-eagain.3",))
    good = result.Result(job, PASS, PASS, commit=f"{'a' * 40} one", release="6.12.1")
    bad = result.Result(job, FAIL, FAIL, commit=f"{'b' * 40} two", release="6.12.1", causes=(cause,))
    one = night.run("one", *AS_EXPECTED)

    told = dataclasses.replace(one, results=(bad,)).compared(dataclasses.replace(one, results=(good,)))

    (command,) = told.searches
    assert f"bisect --tree {tmp_path} --good {'a' * 40} --bad {'b' * 40} --patch none memcg-eagain" in command


def test_hostile_text_stays_text(night: Night) -> None:
    evil = "`</code><script>alert(1)</script>|\x1b[2J\n# x @all ]]>"
    one = night.run("one", *AS_EXPECTED)
    bad = [dataclasses.replace(found, counted=FAIL, outcome=FAIL, reason=evil) for found in one.results]
    causes = (result.Cause("pairing", evil, (evil,)),)
    told = dataclasses.replace(one, plan=evil, about=evil, results=tuple(
        dataclasses.replace(found, causes=causes, host=evil) for found in bad
    ))  # fmt: skip

    told.write(night.root / "one")

    for name in ("report.html", "summary.md"):
        text = (night.root / "one" / name).read_text()
        assert "<script>alert" not in text
        assert "\x1b" not in text
    for line in (night.root / "one" / "summary.md").read_text().splitlines():
        assert line.count("`") % 2 == 0
        assert not line.startswith("# x")


def test_a_limit_comes_from_a_job_s_own_history() -> None:
    job = Job(minutes=2)

    assert engine.limit_s(job, Durations()) == 120
    assert engine.limit_s(job, Durations({job.name: [10, 100, 20]})) == 600
