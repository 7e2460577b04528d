# SPDX-License-Identifier: GPL-2.0-only
"""A machine on tape: all that came to it from outside, kept so that QEMU can replay it instruction by instruction.

::

    FOLDER/tape.gz      QEMU's own recording
    FOLDER/tape.json    what else a replay needs, and what it must come to

What all machines of a run share is kept once, in the folder kernel of the run.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import shutil
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from harness.guest import qemu
from harness.guest.agent import GuestTimeout
from harness.guest.boot import BOOT_LIMIT_S, Parts, boot, started
from harness.guest.image import GuestImage
from harness.guest.machine import Machine
from harness.host import emulator, workspace
from harness.host.clock import Deadline
from harness.model import documents
from harness.model.errors import LaunchError, MachineError, UsageError, unreadable
from harness.model.shape import Board, MachineShape

TAPE, RECORD = "tape.gz", "tape.json"
# In a run's folder.
KERNEL, INITRD = "kernel/vmlinux", "kernel/initrd.cpio"
# Of a compressed tape. A second takes 30 KB, a flood on the console more (QEMU 7.2).
_LIMIT_BYTES = 256 << 20
# A tape packs to a fiftieth (4.6 MB to 99 KB).
_UNPACKED_LIMIT_BYTES = 64 * _LIMIT_BYTES
# How many times longer a guest takes on tape at most, and how many times longer than that its replay takes (1.8 and 4
# measured).
_SLOWER = 4.0
_REPEATED_SLOWER = 10.0
# A replay that runs no instruction for so long never will: QEMU waits at the same instruction each time.
STILL_S = 30.0


@dataclass(frozen=True)
class Tape:
    """What tape.json holds.

    qemu: its version. command: its command line, with placeholders for what
    differs from one start to the next. instructions: how many were run, 0 when
    QEMU had ended before it could be asked. seconds: of wall time. kernel,
    initrd: digests of the files. answers: digest of all that the guest said to
    the harness. module: where the guest's kernel put the code of its module.
    """

    qemu: str
    command: list[str]
    shape: MachineShape
    kernel: str
    initrd: str
    answers: str
    module: str
    instructions: int
    seconds: float


def keep(run: Path, kernel: Path, initrd: Path) -> None:
    """Keep the files that the tapes of a run were made with, should the cache lose them."""
    for source, name in ((kernel, KERNEL), (initrd, INITRD)):
        workspace.link(source, run / name)


def version() -> str:
    """The version of QEMU and of its package: another version may not replay what this one recorded."""
    return emulator.find().version


@contextlib.contextmanager
def record(
    parts: Parts,
    shape: MachineShape,
    *,
    run_dir: Path,
    on_line: Callable[[str], None] = lambda _: None,
    text: str = "",
) -> Iterator[Machine]:
    """A machine as boot() gives it, with one CPU; its tape is in run_dir once QEMU has come to an end.

    text: the file in the guest that tells where its kernel put a module.
    Raises what boot() does; a kernel that does not boot has a tape, too.
    """
    shape = replace(shape, cpus=1)
    (run_dir / TAPE).unlink(missing_ok=True)
    run_dir.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    instructions, module = 0, ""
    with workspace.space(run_dir), tempfile.TemporaryDirectory(dir=run_dir, prefix=".tape.") as scratch:
        tape = qemu.Tape(Path(scratch, "tape"), Path(scratch, "answers"))
        try:
            with boot(
                parts, shape, run_dir=run_dir, on_line=on_line, limit_s=BOOT_LIMIT_S * _SLOWER, tape=tape
            ) as machine:
                # A CPU that sleeps learns of a finished disk request when its next timer is due: 176 ms for a page
                # from swap (QEMU 7.2), 95 s for memcg-eagain instead of 3 s.
                machine.agent.start(["/init", "spin"])
                with contextlib.suppress(OSError, GuestTimeout):
                    module = machine.agent.read_file(text).decode("ascii", "backslashreplace").strip() if text else ""
                try:
                    yield machine
                finally:
                    instructions = executed(machine)
        finally:
            _keep(tape, parts, shape, run_dir, (module, instructions, time.monotonic() - began))


def executed(machine: Machine) -> int:
    """How many instructions a taped machine has run; 0 when it can no longer be asked."""
    with contextlib.suppress(MachineError):
        return int(machine.monitor.execute("query-replay")["icount"])
    return 0


def _keep(tape: qemu.Tape, parts: Parts, shape: MachineShape, folder: Path, seen: tuple[str, int, float]) -> None:
    """Compress the tape and write down what belongs to it; a tape that QEMU did not end is useless."""
    try:
        with tape.path.open("rb") as raw:
            # QEMU writes the header, the format's version, last.
            if not any(raw.read(4)):
                return
            raw.seek(0)
            with gzip.open(folder / TAPE, "wb", compresslevel=1) as packed:
                shutil.copyfileobj(raw, packed, 1 << 20)
    except FileNotFoundError:  # QEMU never started
        return
    if (folder / TAPE).stat().st_size > _LIMIT_BYTES:
        # The record is written all the same, so that load() can say so.
        (folder / TAPE).unlink()
    facts = Tape(
        version(),
        _command(shape),
        shape,
        workspace.digest_file(parts.kernel),
        workspace.digest_file(parts.image.path),
        _digest(tape.answers),
        *seen,
    )
    workspace.write_atomic(folder / RECORD, json.dumps(asdict(facts), indent=1))


def _command(shape: MachineShape) -> list[str]:
    """QEMU's command line without what differs from one start to the next."""
    files = qemu.Files(
        Path("vmlinux"), Path("initrd"), console=0, terminal=0, agent=0, ssh=0, monitor=0,
        swap=0 if shape.swap_mib else -1, tape=qemu.Tape(Path("tape"), Path("answers")),
    )  # fmt: skip
    return qemu.command([emulator.PROGRAM], shape, "tcg", files)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return f"{hashlib.file_digest(stream, 'sha256').hexdigest()} of {path.stat().st_size} bytes"


def _known(kind: type, content: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a document that are fields of a dataclass."""
    return {field.name: content[field.name] for field in fields(kind)}


def load(folder: Path) -> Tape:
    """Read tape.json. Raises UsageError for a folder without a tape."""
    try:
        content = documents.read(folder / RECORD, "tape")
        shape = _known(MachineShape, content["shape"])
        shape |= {"board": Board(shape["board"]), "cmdline": tuple(shape["cmdline"])}
        tape = Tape(**{**_known(Tape, content), "shape": MachineShape(**shape)})
    except FileNotFoundError:
        raise UsageError(f"{folder}: was not recorded", "harness run --record records") from None
    except (OSError, ValueError) as fault:
        raise unreadable(fault, f"{folder / RECORD}: no recording: {fault}", "harness run --record records") from None
    if not (folder / TAPE).exists():
        raise UsageError(
            f"{folder / TAPE}: is missing; one larger than {_LIMIT_BYTES >> 20} MiB is not kept",
            "harness run --record with a smaller scenario",
        )
    return tape


@contextlib.contextmanager
def replay(
    folder: Path, tape: Tape, kernel: Path, initrd: Path, scratch: Path, *, stopped: bool = False
) -> Iterator[Machine]:
    """The machine of a tape, running through it again; its guest cannot be asked anything.

    Its console is scratch/console.log. stopped: it waits before its first
    instruction, and stops after its last one instead of ending. Raises UsageError and LaunchError for
    what is no longer as it was at the recording.
    """
    _same(tape, kernel, initrd)
    reel = qemu.Tape(scratch / "tape", scratch / "answers", replay=True, stopped=stopped)
    with workspace.space(scratch), gzip.open(folder / TAPE) as packed, reel.path.open("wb") as raw:
        try:
            while part := packed.read(1 << 20):
                if raw.tell() > _UNPACKED_LIMIT_BYTES:
                    raise UsageError(f"{folder / TAPE}: unpacks to more than {_UNPACKED_LIMIT_BYTES >> 20} MiB (limit)")
                raw.write(part)
        except (EOFError, gzip.BadGzipFile, zlib.error) as fault:
            raise MachineError(f"{folder / TAPE}: is damaged: {fault}", "copy the run again") from None
    parts = Parts(GuestImage(initrd, initrd, tape.initrd, 0.0), kernel, "tcg")
    limit = Deadline.scaled(BOOT_LIMIT_S * _SLOWER, parts.scale)
    with started(parts, tape.shape, scratch, _ignore, _ignore, None, limit, reel) as (machine, _):
        if stopped:
            machine.look_at_the_end(threading.Event().wait)
        yield machine


def _ignore(_: object) -> None:
    pass


def _same(tape: Tape, kernel: Path, initrd: Path) -> None:
    """Raise an error for what is no longer as it was when the tape was made."""
    now = version()
    if now != tape.qemu:
        raise LaunchError(f"recorded with QEMU {tape.qemu}, this is {now}", f"{emulator.VARIABLE} names another QEMU")
    if _command(tape.shape) != tape.command:
        raise UsageError("recorded by a harness that started QEMU in another way", "harness run --record records again")
    for path, digest in ((kernel, tape.kernel), (initrd, tape.initrd)):
        if not path.exists():
            raise UsageError(f"{path}: is missing", "harness run --record keeps it")
        if workspace.digest_file(path) != digest:
            raise UsageError(f"{path}: is not the one that was recorded", "harness run --record keeps it")


def wait(machine: Machine, tape: Tape, advance: Callable[[int], None]) -> int:
    """Let a replay run to the end of its tape; returns how many instructions it ran.

    advance: gets that number as it grows. Raises MachineError when the tape does not come to an end.
    """
    deadline = Deadline(60.0 + tape.seconds * _REPEATED_SLOWER)
    still = Deadline(STILL_S)
    count = 0
    while machine.wait(0.5) is None:
        now = executed(machine)
        if now > count or not now:
            count, still = max(count, now), Deadline(STILL_S)
        advance(count)
        if deadline.expired:
            raise MachineError(f"the replay is not done after {deadline}: {count} instructions were run")
        if still.expired:
            raise MachineError(
                f"the replay stands still: no instruction in {STILL_S:.0f} s after {count:,} of {tape.instructions:,}; "
                f"QEMU {tape.qemu} cannot repeat this recording",
                "harness run --record records again",
            )
    machine.mind_the_host()
    return count


def seek(machine: Machine, tape: Tape, instruction: int, advance: Callable[[int], None]) -> None:
    """Run a stopped replay up to an instruction. Raises UsageError if the tape ends before, MachineError if late."""
    deadline = Deadline(60.0 + tape.seconds * _REPEATED_SLOWER)
    machine.monitor.execute("replay-break", icount=instruction)
    machine.monitor.execute("cont")
    while machine.wait(0.1) is None and not deadline.expired:
        status = machine.monitor.execute("query-status")["status"]
        count = executed(machine)
        advance(count)
        if count >= instruction and status != "running":
            return
        if status in ("shutdown", "paused", "internal-error"):
            raise UsageError(f"the tape ends at instruction {count}, before {instruction}")
    machine.mind_the_host()
    raise MachineError(f"instruction {instruction} was not reached after {deadline}: {machine.stderr()}")


def difference(folder: Path, tape: Tape, scratch: Path) -> str:
    """Where a replay departed from its tape, as a sentence; empty when console and answers are the same bytes."""
    then, now = (folder / "console.log").read_bytes(), (scratch / "console.log").read_bytes()
    if then != now:
        at = next((i for i, (a, b) in enumerate(zip(then, now, strict=False)) if a != b), min(len(then), len(now)))
        line = then.count(b"\n", 0, at) + 1
        return f"the console differs from byte {at} on (line {line}; {len(then)} bytes recorded, {len(now)} repeated)"
    answers = _digest(scratch / "answers")
    if answers != tape.answers:
        return f"the guest's answers differ ({tape.answers} recorded, {answers} repeated)"
    return ""
