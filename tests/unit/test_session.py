# SPDX-License-Identifier: GPL-2.0-only
"""A session: where the recordings of its guests are."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.model.contract import Contract, ContractFacts
from harness.model.scenario import Scenario, unwritten
from harness.model.shape import MachineShape
from harness.model.verdict import Outcome, ScenarioResult
from harness.run import pipeline
from harness.run import session as sessions
from harness.run.pipeline import KernelRequest
from harness.run.session import Session
from harness.variants import instruments
from tests.unit.conftest import Said


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Said) -> Session:
    """A session whose guests only make their folder."""

    def judge_on(
        _lab: object, scenario: Scenario, folder: Path, _clock: object, *, contract: Contract
    ) -> tuple[ScenarioResult, None]:
        assert contract is Contract.STOCK
        (folder / scenario.name).mkdir()
        return ScenarioResult(scenario.name, Outcome.PASS), None

    def watched(_lab: object, folder: Path, *_: object, **_more: object) -> contextlib.AbstractContextManager[Path]:
        folder.mkdir()
        return contextlib.nullcontext(folder)

    monkeypatch.setattr(pipeline, "judge_on", judge_on)
    monkeypatch.setattr(sessions, "watched", watched)
    made = Session(KernelRequest(), instruments.NONE, "auto", said, tmp_path / "run")
    made.__dict__["_prepared"] = SimpleNamespace(contract=ContractFacts("auto", "stock", "made up"))
    made.__dict__["lab"] = cast("Any", SimpleNamespace(machine=lambda _, folder: watched(None, folder, None)))
    return made


def test_no_two_guests_share_a_folder(session: Session) -> None:
    """Whatever the scenarios are called, and however often one is judged; its result has its own name."""
    names = ["guest-1", "guest", "guest-2", "guest-1", "guest-1", "guest"]

    results = [session.judge(unwritten(name, MachineShape())) for name in names]
    with session.watched(), session.machine(), session.watched("named"):
        pass

    assert [result.name for result in results] == names
    found = sorted(place.name for place in session.folder.iterdir())
    assert found == sorted(
        ["guest-1", "guest-1.2", "guest-1.3", "guest-2", "guest", "guest.2", "guest_1", "guest_2", "named"]
    )


def test_known_noise_is_told_at_the_end(
    session: Session, said: Said, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = tmp_path / "noise.yaml"
    noise.write_text(
        "entries:\n  - {title: WARNING in shrink.*, reason: a bug, link: 'https://example.org', owner: A, "
        "expires: 2999-01-01}\n"
    )
    monkeypatch.setattr("harness.console.noise.DEFAULT", noise)
    with session.watched():
        pass
    (session.folder / "guest_1" / "console.log").write_bytes(
        b"[    1.0][    T1] WARNING: CPU: 0 PID: 1 at mm/vmscan.c:1 shrink_all+0x1/0x2\n"
    )

    session.close()

    assert [line for line in said.lines if "excused 1 reports until 2999-01-01: a bug" in line]
    assert said.lines[-1] == f"recordings: {session.folder}"
