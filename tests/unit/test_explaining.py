# SPDX-License-Identifier: GPL-2.0-only
"""Why a scenario failed: the invariant, where to look, the events around it, and what to type next."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from harness.kernel.lines import Spot
from harness.model import event
from harness.model.errors import HarnessError, MachineError, UsageError
from harness.model.verdict import Finding, Outcome, ScenarioResult
from harness.report import document, meaning
from harness.run import explaining
from tests.unit.conftest import Said
from tests.unit.recordings import Log
from tests.unit.runs import run_directory

EAGAIN = Finding(
    "mayfail-gate",
    "direct reclaim came without MMU_NOTIFIER_RANGE_MAYFAIL",
    "scenario x: 4 of 4 callbacks in direct reclaim; the first is event 5: flags 0x1",
)


@pytest.mark.parametrize(
    ("oracle", "summary", "invariant", "look"),
    [
        ("pairing", "a start whose invalidate_range_end never came", "pair once for every", "an early `return`"),
        ("mayfail-gate", EAGAIN.summary, "tolerated under MAYFAIL", "try_to_unmap_one()"),
        ("pairing", "starts that failed were ended in two manners", "pair once for every", "c2655835fd8c"),
        ("pairing", "something that nobody ever said", "pair once for every", ""),
        ("never", "waits happened, which this scenario excludes", "did not happen", ""),
        ("no-such-oracle", "x", "", ""),
    ],
)
def test_the_page_of_findings_says_what_is_meant(oracle: str, summary: str, invariant: str, look: str) -> None:
    found = meaning.of(oracle, summary)

    assert invariant in found.invariant
    assert look in found.look
    assert bool(look) == bool(found.look)


def test_every_oracle_has_an_invariant_in_words() -> None:
    from harness import oracles

    assert all(meaning.of(name, "").invariant for name in oracles.catalogue())


def test_the_functions_of_a_text_are_found_once() -> None:
    assert meaning.functions("try_to_unmap_one() and f() after `try_to_unmap_one()`, not x(1)") == ["try_to_unmap_one"]


def a_log() -> event.EventLog:
    """A START of task 7 at 5, with its END, and what task 9 does meanwhile."""
    log = Log()
    log.add(event.Kind.MARK, seq=1, pid=7)
    log.start(seq=5, pid=7, time_ns=1_000_000, result=-11)
    log.start(seq=6, pid=9, time_ns=1_500_000)
    log.end(seq=8, pid=7, time_ns=3_000_000)
    log.end(seq=99, pid=7)
    return event.parse(log.packed())


@pytest.mark.parametrize("trouble", [False, True])
def test_a_failure_is_explained(trouble: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(_folder: Path, spots: set[Spot], *_: object) -> dict[Spot, tuple[str, ...]]:
        if trouble:
            raise MachineError("its kernel is not to be had")
        return {spot: ("mm/rmap.c:1672 (try_to_unmap_one)",) for spot in spots if spot.function == "try_to_unmap_one"}

    monkeypatch.setattr(explaining, "_found", found)
    monkeypatch.setattr(explaining, "_log", lambda *_: a_log())
    folder = run_directory(tmp_path / "run with a blank")
    verdict = document.read(folder)
    result = ScenarioResult("memcg-eagain.3", Outcome.FAIL, [EAGAIN, Finding("never", "\x1b[31mx", "at mm/x.c:12 now")])

    told = list(explaining.explain(folder, verdict, dataclasses.replace(result, tape="tape"), tmp_path, Said()))
    text = "\n".join(told)

    assert told[0] == "fail         memcg-eagain.3"
    assert "  the invariant  −EAGAIN is tolerated under MAYFAIL" in text
    assert "  look at        where the range is initialised" in text
    assert ("  in the source  mm/rmap.c:1672 (try_to_unmap_one)" in text) != trouble
    assert ("  in the source  not known: its kernel is not to be had" in text) == trouble
    assert "  in the source  mm/x.c:12" in text
    assert "  the events     " in text
    assert "\x1b" not in text
    assert told[-3].endswith(" memcg-eagain")
    assert f"harness replay --gdb '{folder}' memcg-eagain.3" in told[-2]
    assert f"harness shell --gdb '{folder}/memcg-eagain.3'" in told[-1]


def test_what_did_not_fail_is_not_explained(tmp_path: Path) -> None:
    folder = run_directory(tmp_path / "run")
    verdict = document.read(folder)
    passed = dataclasses.replace(verdict, scenarios=(ScenarioResult("good", Outcome.PASS),))

    with pytest.raises(UsageError, match="no scenario failed"):
        explaining.failed(passed, folder)
    with pytest.raises(HarnessError, match="no scenario 'god'") as caught:
        explaining.failed(passed, folder, "god")
    assert "good" in caught.value.hint
    assert explaining.failed(passed, folder, "good").name == "good"
