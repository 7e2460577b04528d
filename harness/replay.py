# SPDX-License-Identifier: GPL-2.0-only
"""harness replay: the recorded machines of a run, repeated without the harness's part in it.

What they print and answer is compared with what was recorded: the same bytes
mean the same findings.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness import debugger, earlier
from harness.guest import tape as tapes
from harness.host.progress import Progress
from harness.model.errors import UsageError


@dataclass(frozen=True)
class Repetition:
    """How the repetition of one scenario went. difference: empty when it was exact, else where it parted."""

    name: str
    instructions: int
    console_bytes: int
    seconds: float
    recorded_s: float
    difference: str

    def document(self) -> dict[str, Any]:
        """As --json prints it."""
        return asdict(self)

    def line(self) -> str:
        """For people."""
        if self.difference:
            return f"differs      {self.name}: {self.difference}"
        same = f"{self.instructions:,} instructions, {self.console_bytes} bytes of console"
        return f"identical    {self.name}: {same}; {self.seconds:.1f} s (recorded in {self.recorded_s:.1f} s)"


def choose(run: Path, names: Sequence[str]) -> list[str]:
    """The scenarios to repeat: those named, else those that did not pass, else all that were recorded."""
    verdicts = earlier.read(run).verdicts
    recorded = {name: verdict for name, verdict in verdicts.items() if (run / name / tapes.RECORD).exists()}
    if not recorded:
        raise UsageError(f"{run}: was not recorded", "harness run --record records")
    for name in names:
        if name not in recorded:
            raise UsageError(f"{run}: no recording of {name!r}", f"there is {', '.join(recorded)}")
    return list(names) or [name for name, verdict in recorded.items() if verdict != "pass"] or list(recorded)


def debug(run: Path, name: str, instruction: int, progress: Progress) -> None:
    """Let gdb into a repetition that stands at an instruction, until QEMU ends or the user interrupts."""
    place = run / name
    tape = tapes.load(place)
    kernel = run / tapes.KERNEL
    module = earlier.module(run)
    with (
        tempfile.TemporaryDirectory(dir=place, prefix=".replay.") as folder,
        tapes.replay(place, tape, kernel, run / tapes.INITRD, Path(folder), stopped=True) as machine,
    ):
        if instruction:
            tapes.seek(machine, tape, instruction, lambda done: progress.advance(name, done, instruction))
        with debugger.attached(machine, kernel, module, tape.module) as line:
            progress.say(f"{name} stands at instruction {instruction:,} of {tape.instructions:,}; Ctrl-C ends it")
            # QEMU 7.2 hangs in a reverse-stepi of this machine: going back is a repetition, too.
            progress.say("in gdb, `monitor info replay` says at which one; to go back, start again with a smaller --at")
            progress.say(line)
            while machine.wait(1.0) is None:
                pass


def repeat(run: Path, name: str, progress: Progress) -> Repetition:
    """Repeat a scenario's machine to its end and compare. Raises UsageError and MachineError when that cannot be."""
    place = run / name
    tape = tapes.load(place)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=place, prefix=".replay.") as folder:
        scratch = Path(folder)
        with tapes.replay(place, tape, run / tapes.KERNEL, run / tapes.INITRD, scratch) as machine:
            count = tapes.wait(machine, tape, lambda done: progress.advance(name, done, tape.instructions))
            said = machine.stderr()
        difference = tapes.difference(place, tape, scratch)
        if difference and said:
            difference += f"; QEMU: {said.splitlines()[-1]}"
        size = (scratch / "console.log").stat().st_size
    return Repetition(name, tape.instructions or count, size, time.monotonic() - began, tape.seconds, difference)
