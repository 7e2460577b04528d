# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import find, given, settings

from harness import pressures
from harness.cli import main
from harness.commands import explore
from harness.commands.explore import Hunt
from harness.host import workspace
from harness.host.progress import QUIET
from harness.model import scenario, strict_yaml
from harness.model.scenario import Scenario
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.run.planning import plan
from harness.variants import generated

KEYS = {name: pressure.keys for name, pressure in pressures.catalogue().items()}
NO_LAB: Any = None


def hunted(folder: Path, judge, seconds: float = 600.0, seed: int = 1) -> Hunt:
    return explore.explore(NO_LAB, folder, seconds, seed, QUIET, judge)


def verbs(item: Scenario) -> list[str]:
    return [step.verb for step in item.steps]


def verbs_of(hunt: Hunt) -> list[str]:
    assert hunt.path is not None
    (kept,) = scenario.load(hunt.path, KEYS)
    return verbs(kept)


def passes(item: Scenario) -> ScenarioResult:
    return ScenarioResult(item.name, Outcome.PASS)


def fails(item: Scenario) -> ScenarioResult:
    return ScenarioResult(item.name, Outcome.FAIL, (Finding("pairing", "broken", "event 1"),))


@given(document=generated.scenarios())
@settings(max_examples=200, deadline=None)
def test_whatever_is_drawn_is_a_scenario_with_a_plan(tmp_path_factory, document):
    path = tmp_path_factory.mktemp("drawn") / "drawn.yaml"
    path.write_text(strict_yaml.dump(document), encoding="utf-8")

    (item,) = scenario.load(path, KEYS)

    assert len(plan(item)) > len(item.steps)


def test_private_memory_may_be_in_huge_pages():
    def is_huge(document: generated.Document) -> bool:
        return any(buffer.get("thp") for buffer in document["buffers"].values())

    drawn = find(generated.scenarios(), is_huge, settings=settings(deadline=None, derandomize=True, database=None))

    assert [buffer for buffer in drawn["buffers"].values() if "thp" in buffer] == [
        {"kind": "anon", "size": "4M", "thp": True}
    ]


def test_a_failure_is_shrunk_and_kept_ready_to_commit(tmp_path):
    """The planted fault: the kernel breaks when a mapping is replaced while a device holds pages."""

    def judge(item: Scenario) -> ScenarioResult:
        seen = verbs(item)
        broken = "hold" in seen and "replace" in seen[seen.index("hold") :]
        return fails(item) if broken else passes(item)

    hunt = hunted(tmp_path, judge)

    assert explore.outcome(hunt) is Outcome.FAIL
    assert hunt.path is not None
    (kept,) = scenario.load(hunt.path, KEYS)
    assert verbs(kept) == ["touch", "hold", "replace"]
    assert "pairing: broken" in kept.summary
    assert "--seed 1" in kept.summary
    assert hunt.again == "3 of 3"
    assert "failed 3 of 3 times" in explore.lines(hunt)[-2]
    assert explore.document(hunt)["found"] == str(hunt.path)


def test_the_same_seed_finds_the_same(tmp_path):
    def judge(item: Scenario) -> ScenarioResult:
        return fails(item) if "fork" in verbs(item) else passes(item)

    one, two = (hunted(tmp_path / str(number), judge, seed=7) for number in (1, 2))

    assert (one.failing, one.examples) == (two.failing, two.examples)


def test_a_failure_that_never_comes_again_is_told_with_how_often_it_did(tmp_path):
    """It may be the failure in a thousand that everybody looks for: it is not thrown away."""
    seen: list[str] = []

    def judge(item: Scenario) -> ScenarioResult:
        seen.append(item.name)
        return fails(item) if len(seen) == 5 else passes(item)

    hunt = hunted(tmp_path, judge)

    assert hunt.path is not None
    assert hunt.again == "0 of 3"


def test_two_search_at_once_and_the_seed_that_is_told_finds_it_alone(tmp_path):
    both = threading.Barrier(2, timeout=60)

    def judge(item: Scenario) -> ScenarioResult:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait()
            both.abort()
        return fails(item) if "fork" in verbs(item) else passes(item)

    hunt = explore.explore(NO_LAB, tmp_path / "two", 600.0, 7, QUIET, judge, jobs=2)
    alone = hunted(
        tmp_path / "alone", lambda item: fails(item) if "fork" in verbs(item) else passes(item), seed=hunt.seed
    )

    assert hunt.seed in (7, 8)
    assert verbs_of(hunt) == verbs_of(alone)


def test_an_interrupt_loses_nothing_that_was_found(tmp_path):
    def judge(item: Scenario) -> ScenarioResult:
        if list((tmp_path / "examples").glob("example-5.yaml")):
            raise KeyboardInterrupt
        return fails(item)

    with pytest.raises(KeyboardInterrupt):
        hunted(tmp_path, judge)

    (kept,) = (tmp_path / "found").iterdir()
    assert scenario.load(kept, KEYS)


def test_time_ends_a_search_that_finds_nothing(tmp_path):
    hunt = hunted(tmp_path, passes, seconds=0.5)

    assert explore.outcome(hunt) is Outcome.PASS
    assert hunt.examples > 0
    assert not list((tmp_path / "examples").iterdir())


def test_a_search_that_judged_nothing_is_no_pass(tmp_path):
    def judge(item: Scenario) -> ScenarioResult:
        return ScenarioResult(item.name, Outcome.INCONCLUSIVE)

    assert explore.outcome(hunted(tmp_path, judge, seconds=0.2)) is Outcome.INCONCLUSIVE
    assert explore.outcome(Hunt(tmp_path, 1)) is Outcome.ERROR


class Reaching:
    """Stands for what guests count: a line for each verb of an example."""

    def __init__(self) -> None:
        self.verbs: dict[str, list[str]] = {}

    def judge(self, item: Scenario) -> ScenarioResult:
        """Run an example."""
        self.verbs[item.name] = verbs(item)
        return passes(item)

    def reached(self, name: str) -> frozenset[tuple[str, int]]:
        """The lines of an example."""
        return frozenset((verb, 1) for verb in self.verbs[name])


def test_towards_a_patch_the_first_example_that_reaches_a_line_is_kept(tmp_path):
    """Lines that few examples reach count for more, which is what Hypothesis is told to look for."""
    guests = Reaching()
    watch: Any = guests

    hunt = explore.explore(NO_LAB, tmp_path, 3.0, 1, QUIET, guests.judge, watch=watch)

    kept = [item for path in (tmp_path / "reached").iterdir() for item in scenario.load(path, KEYS)]
    assert {verb for item in kept for verb in verbs(item)} == {verb for verb, _ in hunt.hits}
    assert len(kept) <= len(hunt.hits) < hunt.hits.total()
    rare, common = min(hunt.hits, key=hunt.hits.__getitem__), max(hunt.hits, key=hunt.hits.__getitem__)
    hunt._reached |= {workspace.digest(strict_yaml.dump({"one": 1})): frozenset({rare})}
    hunt._reached |= {workspace.digest(strict_yaml.dump({"two": 2})): frozenset({common})}
    assert hunt.score({"one": 1}) > hunt.score({"two": 2}) > hunt.score({"none": 3}) == 0


def test_a_search_towards_a_patch_needs_one(capsys: pytest.CaptureFixture[str]):
    assert main(["explore", "--toward-patch", "--seconds", "1"]) == 129
    assert "--toward-patch: no patch of yours is given" in capsys.readouterr().err
