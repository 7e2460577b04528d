# SPDX-License-Identifier: GPL-2.0-only
"""A booted guest, frozen when it was ready; clones of it are fresh machines in a tenth of a second.

The guest's RAM is a file that every clone maps privately, so what a clone
does not write is shared by all; the state of the devices is a migration
without RAM (QEMU's x-ignore-shared). A clone gets the time of day, fresh
entropy and, with its first SSH session, keys of its own. Its monotonic clock goes on
where the snapshot stopped it, so no timer of the kernel sees a pause.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.guest import qemu, quirks, ready
from harness.guest.agent import GuestTimeout
from harness.guest.boot import Memory, Parts, boot, started, tsc_khz
from harness.guest.machine import Machine
from harness.guest.monitor import Event
from harness.guest.ready import Ready
from harness.host import collect, emulator, workspace
from harness.host.clock import Deadline
from harness.host.progress import QUIET, Progress
from harness.model.errors import GuestLost, MachineError
from harness.model.instrument import Instrument
from harness.model.shape import MachineShape

# Raise this when a snapshot's files, or the state a guest is frozen in, change without a change in its inputs.
_FORMAT = "4"
_MEMORY, _STATE, _CONSOLE, _RECORD = "memory", "state", "console.log", "snapshot.json"
# Of all kernels: a snapshot takes 40 MB, and in a campaign each of a hundred mutants leaves two that nobody asks for
# again.
_KEPT_BYTES = 8 << 30
# Seconds on an ordinary machine; under TCG saving takes 0.01 s and loading 0.03 s.
_SAVE_LIMIT_S = 5.0
_LOAD_LIMIT_S = 5.0
# How far the clock of a clone may be off after it was set: what an answer takes on a busy host.
_CLOCK_LIMIT_S = 2.0
# How much the rate of the time stamp counter may differ: its measurement is good to 0.01 %.
_TSC_TOLERANCE = 1e-3
_ENTROPY_BYTES = 64
_NO_RAM = [{"capability": "x-ignore-shared", "state": True}]


@dataclass(frozen=True)
class Snapshot:
    """A frozen guest. hello, console: what it had said. fresh: this call took it; ready_s: how long its boot took.

    made: what it had done already.
    """

    folder: Path
    hello: Mapping[str, str]
    console: bytes
    made: Ready = Ready()  # noqa: RUF009 - frozen
    fresh: bool = False
    ready_s: float = 0.0


def have(
    parts: Parts,
    shape: MachineShape,
    cache: Path,
    run_dir: Path,
    on_line: Callable[[str], None] = lambda _: None,
    progress: Progress = QUIET,
    look: Callable[[Machine, Path], object] | None = None,
    instrument: Instrument = Instrument(),  # noqa: B008 - frozen
) -> Snapshot:
    """The snapshot of a kernel, image, shape and accelerator: found and verified, or taken now.

    run_dir, on_line, look: for the boot, as in boot(). instrument: what the image carries. Raises
    BootFailed as boot() does, and MachineError when no snapshot can be taken.
    """
    folder = cache / "snapshots" / _key(parts, shape, instrument)
    with workspace.lock(folder.with_suffix(".lock"), progress, "snapshot"):
        if workspace.whole(folder, progress, "snapshot"):
            try:
                return _verified(folder, parts)
            except MachineError as error:
                progress.say(f"{error}; it is taken anew")
        taken = _take(parts, shape, folder, run_dir, on_line, look, instrument)
    collect.bound(cache, _KEPT_BYTES, kinds=("snapshots",))
    return taken


@contextlib.contextmanager
def clone(
    snapshot: Snapshot,
    parts: Parts,
    shape: MachineShape,
    *,
    run_dir: Path,
    on_line: Callable[[str], None] = lambda _: None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> Iterator[Machine]:
    """A machine that continues a snapshot and shares nothing that it writes; otherwise as boot() gives it.

    Raises MachineError when QEMU does not load the snapshot, GuestLost when
    the guest does not answer after that.
    """
    deadline = Deadline.scaled(_LOAD_LIMIT_S, parts.scale)
    memory = Memory(snapshot.folder / _MEMORY, snapshot.hello, snapshot.console)
    with started(parts, shape, run_dir, on_line, on_event, memory, deadline) as (machine, _):
        machine.cloned = True
        machine.was_made(snapshot.made.kept, snapshot.made.settings)
        with (snapshot.folder / _STATE).open("rb") as state:
            machine.monitor.execute("migrate-set-capabilities", capabilities=_NO_RAM)
            machine.monitor.execute("migrate-incoming", uri=_uri(machine, state))
        _renew(machine, deadline)
        machine.ready_s = deadline.elapsed_s
        yield machine


def _renew(machine: Machine, deadline: Deadline) -> None:
    """Make a clone differ from its siblings, and live in the present."""
    try:
        # The clock is late by what its answer takes, and the first answer waits for the guest to be
        # loaded (2.7 s on an emulated SVM): so the clock comes second.
        machine.agent.add_entropy(os.urandom(_ENTROPY_BYTES), deadline.remaining_s)
        shown_ns = machine.agent.set_clock(time.time_ns(), deadline.remaining_s)
    except GuestTimeout as late:
        said = machine.stderr().splitlines()
        raise GuestLost(f"the clone does not answer: {late}{': ' + said[-1] if said else ''}") from None
    except OSError as error:
        raise GuestLost(f"the clone cannot be made fresh: {error}") from error
    off_s = abs(time.time_ns() - shown_ns) / 1e9
    if off_s > _CLOCK_LIMIT_S:
        raise GuestLost(f"the clone's clock is {off_s:.1f} s off after it was set (limit {_CLOCK_LIMIT_S:g} s)")


def _take(
    parts: Parts,
    shape: MachineShape,
    folder: Path,
    run_dir: Path,
    on_line: Callable[[str], None],
    look: Callable[[Machine, Path], object] | None,
    instrument: Instrument,
) -> Snapshot:
    need = shape.memory_mib << 20
    folder.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder.parent).free
    if free < need:
        # A file that cannot grow under a mapping kills QEMU with SIGBUS.
        raise MachineError(f"{folder.parent}: {free >> 20} MiB free (a snapshot needs up to {need >> 20})")
    saved = threading.Event()
    status = ""

    def hear(event: Event) -> None:
        nonlocal status
        if event.name == "MIGRATION" and event.data.get("status") in ("completed", "failed"):
            status = event.data["status"]
            saved.set()

    with workspace.publishing(folder) as fresh:
        memory = Memory(fresh / _MEMORY)
        with boot(parts, shape, run_dir=run_dir, on_line=on_line, on_event=hear, memory=memory, look=look) as machine:
            made = ready.make(machine, instrument, parts.scale)
            machine.monitor.execute(
                "migrate-set-capabilities", capabilities=[*_NO_RAM, {"capability": "events", "state": True}]
            )
            deadline = Deadline.scaled(_SAVE_LIMIT_S, parts.scale)
            with (fresh / _STATE).open("wb") as state:
                machine.monitor.execute("migrate", uri=_uri(machine, state))
                saved.wait(deadline.remaining_s)
            if status != "completed":
                raise MachineError(f"QEMU's snapshot: {status or 'not done'} after {deadline}: {machine.stderr()}")
            hello, ready_s = machine.hello, machine.ready_s
        # QEMU has ended: the console is whole, and nothing writes to the memory any more.
        shutil.copyfile(run_dir / "console.log", fresh / _CONSOLE)
        record = {"hello": dict(hello), "tsc_khz": tsc_khz(parts.image.init), "ready": dataclasses.asdict(made)}
        workspace.write_atomic(fresh / _RECORD, json.dumps(record, indent=1))
    return Snapshot(folder, hello, (folder / _CONSOLE).read_bytes(), made, fresh=True, ready_s=ready_s)


def _uri(machine: Machine, state: IO[bytes]) -> str:
    """The name of an open file, for QEMU to keep the state of its devices in."""
    if quirks.version(machine.monitor) >= quirks.FILE_MIGRATION:
        return f"file:{machine.monitor.lend_file(state.fileno())}"
    machine.monitor.lend("state", state.fileno())
    return "fd:state"


def _verified(folder: Path, parts: Parts) -> Snapshot:
    """A snapshot of an earlier run, if the rate of its clock fits."""
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        hello, rate, made = record["hello"], record["tsc_khz"], Ready(**record["ready"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MachineError(f"snapshot {folder.name}: cannot be read: {error}") from error
    now = tsc_khz(parts.image.init)
    if abs(now - rate) > _TSC_TOLERANCE * rate:
        raise MachineError(f"snapshot {folder.name}: the host's time stamp counter ran at {rate} kHz, now at {now}")
    os.utime(folder)  # The time of the last use, by which the cache is bounded.
    return Snapshot(folder, hello, (folder / _CONSOLE).read_bytes(), made)


def _key(parts: Parts, shape: MachineShape, instrument: Instrument = Instrument()) -> str:  # noqa: B008 - frozen
    """A key over all that a frozen guest is made of: QEMU, its command line, the kernel, the image, the host."""
    program = emulator.find(parts.program)
    files = qemu.Files(parts.kernel, parts.image.path, console=0, terminal=0, agent=0, ssh=0, monitor=0)
    argv = qemu.command(program.words, shape, parts.accel, files)
    host = (platform.release(), _processor()) if parts.accel == "kvm" else ()
    return workspace.digest(
        _FORMAT,
        program.identity,
        *argv,
        *host,
        workspace.digest_file(parts.kernel),
        parts.image.key,
        instrument.quench,
    )


def _processor() -> str:
    """The host's CPU as far as a guest under KVM sees it: model and features of the first."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    return "\n".join(line for line in lines if line.startswith(("model", "stepping", "flags", "cpu family")))
