# SPDX-License-Identifier: GPL-2.0-only
"""harness replay: the recorded machines of a run, repeated without the harness's part in it.

What they print and answer is compared with what was recorded: the same bytes
mean the same findings.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.commands import _slow
from harness.guest import tape as tapes
from harness.guest.machine import Machine
from harness.guest.tape import Tape
from harness.host.progress import Progress
from harness.model.errors import UsageError
from harness.model.verdict import Outcome
from harness.report import manifest
from harness.run import debugger, earlier
from harness.run.debugger import Desk


@dataclass(frozen=True)
class Repetition:
    """How the repetition of one scenario went. difference: empty when it was exact, else where it diverged."""

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


options = _slow.OPTIONS["replay"]


def main(arguments: argparse.Namespace) -> int:
    """Repeat a run; 128 when a repetition differs."""
    from harness.terminal import Terminal

    names = choose(arguments.run, arguments.scenarios)
    with Terminal() as terminal:
        terminal.lines(manifest.doubts(arguments.run))
    if arguments.gdb:
        if len(names) > 1:
            raise UsageError(f"--gdb takes one scenario, not {len(names)}", f"name one of {', '.join(names)}")
        with Terminal() as terminal:
            debug(arguments.run, names[0], arguments.at, terminal)
        return 0
    exact = True
    with Terminal() as terminal:
        for name in names:
            done = repeat(arguments.run, name, terminal)
            terminal.say(done.line())
            if arguments.json:
                print(json.dumps(done.document()))
            exact = exact and not done.difference
    return 0 if exact else 128


def choose(run: Path, names: Sequence[str]) -> list[str]:
    """The scenarios to repeat: those named, else those that did not pass, else all that were recorded."""
    verdicts = earlier.read(run).verdicts
    recorded = {name: verdict for name, verdict in verdicts.items() if (run / name / tapes.RECORD).exists()}
    if not recorded:
        raise UsageError(f"{run}: was not recorded", "harness run --record records")
    for name in names:
        if name not in recorded:
            raise UsageError(f"{run}: no recording of {name!r}", f"there is {', '.join(recorded)}")
    return list(names) or [name for name, verdict in recorded.items() if verdict is not Outcome.PASS] or list(recorded)


def debug(run: Path, name: str, instruction: int, progress: Progress) -> None:
    """Let gdb into a repetition that stands at an instruction, until QEMU ends or the user interrupts.

    gdb's `goto` and `back` end the repetition and start another that stands where they say.
    """
    place = run / name
    tape = tapes.load(place)
    vmlinux, initrd = run / tapes.KERNEL, run / tapes.INITRD

    def advance(done: int) -> None:
        progress.advance(name, done, tape.instructions)

    with debugger.desk() as desk:
        wanted: int | None = instruction
        again = False
        while wanted is not None:
            with (
                tempfile.TemporaryDirectory(dir=place, prefix=".replay.") as folder,
                tapes.replay(place, tape, vmlinux, initrd, Path(folder), stopped=True) as machine,
            ):
                if wanted:
                    tapes.seek(machine, tape, wanted, advance)
                desk.serve(machine)
                progress.say(f"{name} stands at instruction {wanted:,} of {tape.instructions:,}; Ctrl-C ends it")
                if again:
                    desk.tell(f"instruction {wanted:,}")
                else:
                    progress.say("in gdb, `monitor info replay` says at which one; `goto N` and `back N` go elsewhere")
                    progress.say(desk.line(vmlinux, earlier.module(run), tape.module, moves=True))
                wanted, again = _wanted(desk, machine, tape), True


def _wanted(desk: Desk, machine: Machine, tape: Tape) -> int | None:
    """The instruction that gdb asks for; None when QEMU ended."""
    while said := desk.asked(machine):
        # Behind the last instruction of the tape, QEMU counts on; the last is the one to go back from.
        there = min(tapes.executed(machine), tape.instructions)
        try:
            wanted = there + int(said) if said.startswith("-") else int(said)
        except ValueError:
            wanted = -1
        if 0 <= wanted <= tape.instructions:
            return wanted
        desk.tell(f"{said}: no instruction of this run, which has {tape.instructions:,}; it stands at {there:,}")
    return None


def repeat(run: Path, name: str, progress: Progress) -> Repetition:
    """Repeat a scenario's machine to its end and compare. Raises UsageError and MachineError when that fails."""
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
