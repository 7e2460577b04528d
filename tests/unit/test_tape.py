# SPDX-License-Identifier: GPL-2.0-only
from __future__ import annotations

import gzip
import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.cli import main
from harness.commands import replay
from harness.guest import tape as tapes
from harness.host import workspace
from harness.model.errors import LaunchError, MachineError, UsageError
from harness.model.shape import MachineShape
from harness.model.verdict import Outcome
from harness.report import manifest
from harness.report.write import write
from tests.unit.verdicts import run_of

SHAPE = MachineShape(cpus=1)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A scenario of a run, with a tape that fits this host; QEMU's version is 7.2."""
    monkeypatch.setattr(tapes, "version", lambda: "7.2")
    run = tmp_path / "run"
    kernel, initrd = tmp_path / "kernel", tmp_path / "initrd"
    kernel.write_bytes(b"kernel")
    initrd.write_bytes(b"initrd")
    tapes.keep(run, kernel, initrd)
    folder = run / "scenario"
    folder.mkdir()
    (folder / "console.log").write_bytes(b"one\ntwo\n")
    (tmp_path / "answers").write_bytes(b"answers")
    facts = tapes.Tape(
        "7.2",
        tapes._command(SHAPE),
        SHAPE,
        workspace.digest_file(kernel),
        workspace.digest_file(initrd),
        tapes._digest(tmp_path / "answers"),
        "0xffffffffa0000000",
        1000,
        1.0,
    )
    (folder / tapes.RECORD).write_text(json.dumps(asdict(facts)), encoding="utf-8")
    (folder / tapes.TAPE).write_bytes(gzip.compress(b"tape"))
    write(run_of({"scenario": Outcome.PASS, "other": Outcome.FAIL}), run)
    return folder


def started(place: Path, tape: tapes.Tape, scratch: Path) -> None:
    """Start a repetition."""
    with tapes.replay(place, tape, place.parent / tapes.KERNEL, place.parent / tapes.INITRD, scratch):
        pass


def test_a_tape_is_read_as_it_was_written(place: Path):
    tape = tapes.load(place)

    assert (tape.shape, tape.instructions) == (SHAPE, 1000)
    assert replay.choose(place.parent, []) == ["scenario"]


def test_what_was_not_recorded_is_told(place: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"no recording of 'other'.*there is scenario"):
        replay.choose(place.parent, ["other"])
    with pytest.raises(UsageError, match="not a run directory"):
        replay.choose(tmp_path, [])
    (place / tapes.TAPE).unlink()
    with pytest.raises(UsageError, match=r"tape\.gz: is missing"):
        tapes.load(place)
    (place / tapes.RECORD).write_text("[]", encoding="utf-8")
    with pytest.raises(UsageError, match=r"tape\.json: no recording"):
        tapes.load(place)
    (place / tapes.RECORD).unlink()
    (place.parent / manifest.NAME).unlink()
    with pytest.raises(UsageError, match="was not recorded"):
        replay.choose(place.parent, [])


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"qemu": "8.0"}, LaunchError, "recorded with QEMU 8.0, this is 7.2"),
        ({"command": ["qemu"]}, UsageError, "started QEMU in another way"),
        ({"kernel": "?"}, UsageError, "vmlinux: is not the one"),
        ({"initrd": "?"}, UsageError, r"initrd\.cpio: is not the one"),
    ],
)
def test_what_is_not_as_it_was_is_told_before_qemu_starts(place: Path, tmp_path: Path, change, error, words):
    with pytest.raises(error, match=words):
        started(place, replace(tapes.load(place), **change), tmp_path)


def test_a_tape_that_does_not_end_is_refused(place: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tapes, "_UNPACKED_LIMIT_BYTES", 2 << 20)
    (place / tapes.TAPE).write_bytes(gzip.compress(bytes(64 << 20)))

    with pytest.raises(UsageError, match=r"unpacks to more than 2 MiB \(limit\)"):
        started(place, tapes.load(place), tmp_path)


@pytest.mark.parametrize("damage", [lambda packed: packed[:-10], lambda packed: packed[:12] + b"\xff" + packed[13:]])
def test_a_lost_kernel_and_a_damaged_tape_are_told(place: Path, tmp_path: Path, damage):
    (place / tapes.TAPE).write_bytes(damage(gzip.compress(bytes(range(256)) * 40)))
    with pytest.raises(MachineError, match="is damaged"):
        started(place, tapes.load(place), tmp_path)
    (place.parent / tapes.KERNEL).unlink()
    with pytest.raises(UsageError, match="vmlinux: is missing"):
        started(place, tapes.load(place), tmp_path)


@pytest.mark.parametrize(
    ("console", "answers", "words"),
    [
        (b"one\ntwo\n", b"answers", ""),
        (b"one\ntwx\n", b"answers", r"console differs from byte 6 on \(line 2; 8 bytes recorded, 8 repeated\)"),
        (b"one\n", b"answers", "console differs from byte 4 on"),
        (b"one\ntwo\n", b"Answers", "the guest's answers differ"),
    ],
)
def test_where_a_repetition_parts_from_its_tape_is_said(place: Path, tmp_path: Path, console, answers, words):
    (tmp_path / "console.log").write_bytes(console)
    (tmp_path / "answers").write_bytes(answers)

    said = tapes.difference(place, tapes.load(place), tmp_path)

    assert re.search(words or "^$", said), said


def test_kvm_cannot_be_recorded(capsys: pytest.CaptureFixture[str]):
    assert main(["run", "--record", "--accel", "kvm", "memcg-eagain"]) == 129
    assert "QEMU records no guest on KVM" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("stands", "said", "wanted"), [(50, "-10", 40), (50, "70", 70), (120, "-10", 90), (100, "-101", None)]
)
def test_gdb_goes_back_from_the_end_of_the_tape_too(
    stands: int, said: str, wanted: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QEMU counts on behind the last instruction, where no repetition can be taken to."""
    asked = iter([said, ""])
    told: list[str] = []
    desk = SimpleNamespace(asked=lambda _: next(asked), tell=told.append)
    monkeypatch.setattr(tapes, "executed", lambda _: stands)

    found = replay._wanted(cast("Any", desk), cast("Any", None), cast("Any", SimpleNamespace(instructions=100)))

    assert found == wanted
    assert bool(told) == (wanted is None)


def test_a_replay_that_stands_still_is_not_waited_for(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be asked does not stand still."""
    counts = iter([0, 5, 9, 9, None, 9, 9, 9])

    def execute(_: str) -> dict[str, int]:
        count = next(counts)
        if count is None:
            raise MachineError("no answer")
        return {"icount": count}

    class Still:
        def __init__(self, limit_s: float) -> None:
            self.asked = 0 if limit_s == tapes.STILL_S else -1000

        @property
        def expired(self) -> bool:
            self.asked += 1
            return self.asked > 2

    monkeypatch.setattr(tapes, "Deadline", Still)
    machine = cast("Any", SimpleNamespace(wait=lambda _: None, monitor=SimpleNamespace(execute=execute)))
    seen: list[int] = []

    with pytest.raises(MachineError, match=r"stands still: .* after 9 of [\d,]+; QEMU 7\.2 cannot") as caught:
        tapes.wait(machine, tapes.load(place), seen.append)

    assert seen == [0, 5, 9, 9, 9, 9, 9]
    assert "--record" in caught.value.hint
