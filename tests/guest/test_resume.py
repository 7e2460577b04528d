# SPDX-License-Identifier: GPL-2.0-only
"""A run that is killed at any moment loses nothing that was judged, and its rest ends in the verdict of the whole."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.guest.command import ROOT, argv, environment, harness
from tests.guest.test_failures import GONE_LIMIT_S, descendants, gone

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]


def essence(document: dict[str, Any]) -> dict[str, Any]:
    """What a verdict says of the kernel; counters and seconds differ from run to run."""
    results = {
        entry["name"]: (entry["verdict"], sorted((found["oracle"], found["summary"]) for found in entry["findings"]))
        for entry in document["scenarios"]
    }
    kept = ("verdict", "error", "interrupted", "not_run", "source", "patches", "configs", "skipped")
    return {"results": results, "build_id": document["kernel"]["build_id"]} | {name: document[name] for name in kept}


def test_a_killed_run_is_judged_and_gone_on_with(tmp_path: Path) -> None:
    """SIGKILL when the first result was told; what was recorded until then is not run again."""
    run, words = tmp_path / "run", ["exit", "--repeat", "2"]
    child = subprocess.Popen(
        argv("run", "--out", run, *words), env=environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    assert child.stderr is not None
    assert any(line.startswith("pass ") for line in child.stderr)
    below = descendants(child.pid)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate(timeout=GONE_LIMIT_S)
    assert gone(below)
    recorded = {path: path.stat().st_ino for path in run.glob("*/record.json")}

    judged = harness("judge", run, "--json")
    ended = harness("run", "--resume", run, "--json")
    again = harness("run", "--resume", run, "--json")

    assert judged.status == 128, judged.stderr
    assert judged.document["interrupted"]
    assert 0 < len(judged.document["scenarios"]) == len(recorded) < 6
    assert ended.status == 0, ended.stderr
    assert ended.document == json.loads((run / "verdict.json").read_text())
    told = essence(ended.document)
    assert (len(told["results"]), told["not_run"], told["interrupted"]) == (6, [], False)
    assert recorded == {path: path.stat().st_ino for path in recorded}
    assert (again.status, again.document) == (0, ended.document)


@pytest.mark.nightly
@pytest.mark.parametrize(
    "words", [["--patch", "none"], ["--patch", "none", "-x"], ["--record", "exit"], ["--jobs", "1"]], ids=" ".join
)
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path: Path, words: list[str]) -> None:
    """At random moments, also while it begins and while it writes its verdict, and by each signal."""
    expected = harness("run", "--out", tmp_path / "whole", "--json", *words)
    run, dice = tmp_path / "run", random.Random(" ".join(words))  # noqa: S311 - the same moments each time
    status, said, number = -1, b"", 0
    while status not in (expected.status, 128, 129):
        # Longer and longer, because a scenario that hangs needs its time.
        number += 1
        resumed = ["--resume", str(run)] if (run / "run.json").exists() else ["--out", str(run), *words]
        child = subprocess.Popen(argv("run", *resumed, "--json"), env=environment(), cwd=ROOT, stdout=subprocess.PIPE)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(dice.uniform(0.2, 4 + number))
        below = descendants(child.pid)
        child.send_signal(dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        said = child.communicate(timeout=GONE_LIMIT_S)[0]
        status = child.returncode
        assert gone(below)

    assert status == expected.status, number
    assert essence(json.loads(said)) == essence(expected.document)
