# SPDX-License-Identifier: GPL-2.0-only
"""A recorded machine is repeated from its tape alone."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from harness.guest import tape as tapes
from harness.report import manifest
from tests.guest.command import LIMIT_S, ROOT, Ended, argv, environment, harness

pytestmark = [pytest.mark.guest, pytest.mark.kernel_build]

FIRST, SECOND = "memcg-eagain.1", "memcg-eagain.2"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that failed twice."""
    return tmp_path_factory.mktemp("recorded") / "run"


@pytest.fixture(scope="module")
def recorded(run: Path) -> Ended:
    """The result of the run."""
    words = ("run", "--record", "--patch", "none", "--json", "--repeat", "2", "--out", run, "memcg-eagain")
    return harness(*words)


def test_a_failure_that_was_recorded_is_there_for_good(run: Path, recorded: Ended) -> None:
    """Its console and all its answers come again to the byte; another recording has other times in its log."""
    assert recorded.status == 1, recorded.stderr
    assert [entry["tape"] for entry in recorded.document["scenarios"]] == [tapes.TAPE] * 2
    assert {finding["oracle"] for finding in recorded.findings()} == {"mayfail-gate"}
    first, second = ((run / name / "console.log").read_bytes() for name in (FIRST, SECOND))
    assert b"WARNING: " in first
    assert first != second

    repeated = harness("replay", "--json", run, FIRST)

    assert repeated.status == 0, repeated.stderr
    done = json.loads(repeated.stdout)
    assert (done["difference"], done["console_bytes"]) == ("", (run / FIRST / "console.log").stat().st_size)
    assert done["instructions"] > 1e8
    assert list((run / FIRST).glob(".*")) == []


def test_a_repetition_is_held_against_its_recording(run: Path, recorded: Ended) -> None:
    console = run / SECOND / "console.log"
    text = console.read_bytes()
    console.write_bytes(text.replace(b"WARNING", b"warning", 1))

    damaged = harness("replay", run, SECOND)
    (run / manifest.NAME).unlink()
    ended = harness("replay", run, SECOND)

    assert recorded.status == 1
    assert (damaged.status, ended.status) == (128, 128)
    assert f"{console}: is damaged" in damaged.stderr
    assert f"the console differs from byte {text.index(b'WARNING')} on" in ended.stderr


@pytest.mark.nightly
@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_gdb_goes_back_to_where_it_stepped_before(run: Path, recorded: Ended) -> None:
    """It returns to the same registers from later in the run. QEMU decides what one step counts: one, or two."""
    instruction = tapes.load(run / FIRST).instructions // 10

    before = debugged(run, instruction - 1, "stepi")
    stepped = int(before.partition("instruction count = ")[2].split()[0])
    there = debugged(run, 0, f"goto {stepped + 1000}", "goto nowhere", "back 1000")

    assert recorded.status == 1
    assert stepped in (instruction, instruction + 1)
    assert f"instruction {stepped + 1000:,}\n" in there
    assert "nowhere: no instruction of this run" in there
    assert f"instruction count = {stepped}" in there
    registers = ("rip", "rsp", "rax")
    assert [line for line in before.splitlines() if line.startswith(registers)] == [
        line for line in there.splitlines() if line.startswith(registers)
    ]


def debugged(run: Path, instruction: int, *commands: str) -> str:
    """What gdb says in a repetition that stands at an instruction, after some commands."""
    with subprocess.Popen(
        argv("replay", "--gdb", "--at", str(instruction), run, FIRST),
        env=environment(),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    ) as replay:
        assert replay.stderr is not None
        line = next(line for line in replay.stderr if line.startswith("gdb "))
        look = [word for command in (*commands, "info registers", "monitor info replay") for word in ("-ex", command)]
        debugger = subprocess.run(
            [*shlex.split(line), "-nx", "-batch", *look], capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        replay.send_signal(signal.SIGINT)
        replay.stderr.read()
    assert debugger.returncode == 0, debugger.stderr
    return debugger.stdout + debugger.stderr
