# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.kernel.patches import Patch, PatchSeries
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.run import order
from harness.variants import catalogue

NAMES = ["memcg-eagain", "memcg-accept", "exit-eagain", "exit-accept"]


@pytest.fixture
def scenarios() -> list[Any]:
    return [SimpleNamespace(name=name) for name in NAMES]


def kernel(*files: str, own: bool = True, names: tuple[str, ...] = ("mine.patch",)) -> Any:
    """A kernel with a patch that changes files."""
    text = "".join(f"--- a/{file}\n+++ b/{file}\n" for file in files).encode()
    series = PatchSeries(names, (Patch("mine.patch", text, builtin=not own),))
    return SimpleNamespace(recipe=SimpleNamespace(series=series))


def result(name: str, seconds: float, outcome: Outcome = Outcome.PASS) -> ScenarioResult:
    findings = (Finding("no-hang", "it hangs", "why"),) if outcome is Outcome.FAIL else ()
    return ScenarioResult(name, outcome, findings, phases={"boot": 9.0, "restore": 0.1, "scenario": seconds})


def names(found: list[Any]) -> list[str]:
    return [scenario.name for scenario in found]


def test_without_an_earlier_run_the_order_stays(scenarios: list[Any], tmp_path: Path) -> None:
    assert names(order.order(scenarios, kernel("mm/rmap.c"), "debian:6.12", tmp_path)) == NAMES


def test_the_quick_come_first_and_the_longest_of_the_rest_begin_first(scenarios: list[Any], tmp_path: Path) -> None:
    took = dict(zip(NAMES, (3.0, 1.0, 9.0, 0.5), strict=True))
    order.remember([result(name, s) for name, s in took.items()], (), kernel("a.c"), "debian:6.12", tmp_path)

    found = names(order.order(scenarios, kernel("mm/rmap.c"), "debian:6.12", tmp_path))

    assert found == ["exit-accept", "memcg-accept", "exit-eagain", "memcg-eagain"]


def test_what_failed_and_what_ran_changed_lines_come_first_for_the_same_files(
    scenarios: list[Any], tmp_path: Path
) -> None:
    """An edited patch changes the same files; a patch to another file is another matter."""
    results = [result("exit-eagain", 9.0, Outcome.FAIL), result("memcg-eagain", 1.0)]
    order.remember(results, ["memcg-accept.2", "exit-eagain.1"], kernel("mm/rmap.c"), "debian:6.12", tmp_path)

    again = order.order(scenarios, kernel("mm/rmap.c", names=("v2.patch",)), "debian:6.1", tmp_path)
    other = order.order(scenarios, kernel("mm/vmscan.c"), "debian:6.12", tmp_path)

    assert names(again) == ["exit-eagain", "memcg-accept", "memcg-eagain", "exit-accept"]
    assert names(other) == NAMES


def test_a_tree_without_a_patch_of_the_users_is_known_by_its_name(scenarios: list[Any], tmp_path: Path) -> None:
    ours = kernel("mm/rmap.c", own=False, names=("mayfail",))
    order.remember([result("exit-accept", 1.0, Outcome.FAIL)], (), ours, "git:.@HEAD", tmp_path)

    assert names(order.order(scenarios, ours, "git:.@HEAD", tmp_path))[0] == "exit-accept"
    assert names(order.order(scenarios, ours, "debian:6.12", tmp_path)) == NAMES


def test_a_run_that_ended_early_forgets_no_failure(scenarios: list[Any], tmp_path: Path) -> None:
    mine = kernel("mm/rmap.c")
    failed = [result("exit-eagain", 9.0, Outcome.FAIL), result("exit-accept", 9.0, Outcome.FAIL)]
    order.remember(failed, (), mine, "debian:6.12", tmp_path)
    order.remember([result("exit-eagain", 1.0)], (), mine, "debian:6.12", tmp_path)

    assert names(order.order(scenarios, mine, "debian:6.12", tmp_path)) == [
        "exit-accept", "exit-eagain", "memcg-eagain", "memcg-accept",
    ]  # fmt: skip


def test_what_was_kept_and_is_damaged_is_nothing(tmp_path: Path) -> None:
    scenarios = catalogue.choose(["memcg-eagain", "memcg-accept"])
    order.remember([result("memcg-accept", 1.0, Outcome.FAIL)], (), kernel("a.c"), "debian:6.12", tmp_path)
    for kept in (tmp_path / "order").iterdir():
        kept.write_text("[damaged")

    assert order.order(scenarios, kernel("a.c"), "debian:6.12", tmp_path) == scenarios
