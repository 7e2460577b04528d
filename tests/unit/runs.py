# SPDX-License-Identifier: GPL-2.0-only
"""A run directory made by hand: two scenarios as they are recorded, one of them with a tape."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

from harness.guest import tape as tapes
from harness.model import recording as recordings
from harness.model.postmortem import PostMortem
from harness.model.recording import Answer
from harness.model.run import KernelFacts, MachineFacts
from harness.model.shape import MachineShape
from harness.model.verdict import Outcome
from harness.report.write import write
from harness.run import earlier, judging
from tests.unit.recordings import Log, recording
from tests.unit.verdicts import run_of

SCENARIO = """\
summary: x
buffers: {held: {kind: anon, size: 16M}}
subscribers: {device: {buffer: held, policy: accept}}
steps:
  - {touch: held, seed: 1, expect: {majflt: 0}}
exercised: {callbacks: 1, mayfail: 1}
"""
ANSWERS = (
    Answer(0, "subscribe", "device", "", "subscribe name=device buffer=held", {"ok": True, "subscriber": 1}, {}, 0.1),
    Answer(1, "touch", "held", "", "touch name=held seed=1", {"ok": True, "majflt": 0}, {"majflt": 0}, 0.1),
    Answer(0, "selftest", "cow", "", "selftest name=cow", {"ok": True, "program": "cow", "pass": 3}, {}, 0.1),
)
SHAPE = MachineShape(cpus=1)
NAMES = ("quiet", "taped.2")


def run_directory(folder: Path) -> Path:
    """Make the directory of a run that passed."""
    for name in NAMES:
        log = Log()
        for _ in range(3):
            log.pair()
        place = folder / name
        place.mkdir(parents=True)
        (place / "scenario.yaml").write_text(SCENARIO, encoding="utf-8")
        plan = earlier.scenario_of(place, name)
        one = recording(log, answers=ANSWERS, plan=plan, before={"allocstall": 1}, after={"allocstall": 3})
        one = dataclasses.replace(one, postmortem=PostMortem("", [["pid 1 a", "pid 2 b"]]))
        (place / "console.log").write_bytes(one.console)
        (place / "postmortem.txt").write_text("nothing blocked\n", encoding="utf-8")
        (folder / "events").mkdir(exist_ok=True)
        (folder / "events" / f"{name}.bin").write_bytes(log.packed())
        record = recordings.document(one, recordings.digests(place, name))
        (place / "record.json").write_text(record, encoding="utf-8")
    facts = tapes.Tape("7.2", ["qemu"], SHAPE, "aa", "bb", "cc of 3 bytes", "0xffffffffa0000000", 1000, 1.0)
    (folder / NAMES[1] / tapes.RECORD).write_text(json.dumps(dataclasses.asdict(facts)), encoding="utf-8")
    (folder / NAMES[1] / tapes.TAPE).write_bytes(gzip.compress(b"tape", mtime=0))
    (folder / "kernel" / "modules").mkdir(parents=True)
    (folder / "kernel" / "modules" / "some.ko").write_bytes(b"\x7fELF")
    for name in ("vmlinux", "initrd.cpio"):
        (folder / "kernel" / name).write_bytes(name.encode())
    results = [
        judging.judge(recordings.read(folder / name, earlier.scenario_of(folder / name, name))) for name in NAMES
    ]
    assert {result.outcome for result in results} == {Outcome.PASS}
    write(
        run_of(
            results,
            kernel=KernelFacts("6.12.117", "ab" * 20, cached=True),
            machines=MachineFacts("no space", "boot"),
            skipped={"other": "does not apply"},
            seconds={"total": 1.0},
            noise=("known",),
        ),
        folder,
    )
    return folder
