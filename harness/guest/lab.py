# SPDX-License-Identifier: GPL-2.0-only
"""Where the machines of one kernel come from: cloned from one boot per shape, or booted where QEMU cannot clone."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from harness.guest import snapshot as snapshots
from harness.guest import tape as tapes
from harness.guest.boot import BootFailed, Parts, boot
from harness.guest.image import GuestImage
from harness.guest.machine import Machine, Pace
from harness.guest.snapshot import Snapshot
from harness.host.accelerator import Choice
from harness.host.progress import QUIET, Progress
from harness.kernel.build import KernelBuild
from harness.model.errors import MachineError
from harness.model.instrument import Instrument
from harness.model.postmortem import Hangs
from harness.model.shape import MachineShape

# How long a measurement of the host's pace is valid, in seconds.
_PACE_S = 20.0


@dataclass
class _Origin:
    """What is known about one shape's snapshot: nothing yet, the snapshot, or why this kernel does not boot."""

    guard: threading.Lock = field(default_factory=threading.Lock)
    snapshot: Snapshot | None = None
    failed: BootFailed | None = None
    console: bytes = b""


class Lab:
    """Gives machines that nobody has used. Any thread may ask; a machine belongs to the thread that asked for it."""

    def __init__(
        self,
        kernel: KernelBuild,
        image: GuestImage,
        choice: Choice,
        cache: Path,
        progress: Progress = QUIET,
        *,
        instrument: Instrument = Instrument(),  # noqa: B008 - frozen
        record: bool = False,
    ) -> None:
        """instrument: what the image contains. record: each machine boots, and is recorded on tape."""
        self.instrument = instrument
        self.kernel = kernel
        self.image = image
        self.choice = choice
        self.parts = Parts(image, kernel.image, choice.used, choice.slowdown)
        # Called with a machine that panicked at boot and its folder, before QEMU ends.
        self.look: Callable[[Machine, Path], object] | None = None
        # How the latest machine was made: "clone" or "boot"; "none" before the first one.
        self.came = "none"
        # Why machines are booted and not cloned; empty while they are cloned.
        self.refused = "a recording begins with the boot" if record else ""
        self.cache = cache
        self.hangs = Hangs()
        self._record = record
        self._progress = progress
        self._paced: Pace | None = None
        self._measured_s = 0.0
        self._origins: dict[MachineShape, _Origin] = {}
        self._guard = threading.Lock()
        self._pace = threading.Lock()

    def boot(
        self, shape: MachineShape, folder: Path, on_line: Callable[[str], None] = lambda _: None
    ) -> AbstractContextManager[Machine]:
        """A machine that booted; its console goes to folder/console.log and to on_line."""
        if self._record:
            return tapes.record(self.parts, shape, run_dir=folder, on_line=on_line, text=self.instrument.text)
        return boot(self.parts, shape, run_dir=folder, on_line=on_line, look=self.look)

    @contextlib.contextmanager
    def machine(
        self, shape: MachineShape, folder: Path, on_line: Callable[[str], None] = lambda _: None
    ) -> Iterator[Machine]:
        """A clone, or a machine that booted when QEMU cannot clone here; `refused` then says why.

        Raises BootFailed and LaunchError as boot() does.
        """
        with contextlib.ExitStack() as stack:
            machine = self._cloned(stack, shape, folder, on_line)
            if machine is None:
                machine = stack.enter_context(self.boot(shape, folder, on_line))
            self.came = "clone" if machine.cloned else "boot"
            yield machine

    def pace(self, machine: Machine) -> Pace:
        """How fast guests are now; measured every 20 s, which takes 0.3 s."""
        with self._pace:
            if time.monotonic() - self._measured_s > _PACE_S or self._paced is None:
                self._paced = machine.pace()
                self._measured_s = time.monotonic()
            return self._paced

    def slowdown(self, machine: Machine) -> float:
        """How many times slower guests are than an ordinary machine now."""
        return self.pace(machine).slowdown

    def _cloned(
        self, stack: contextlib.ExitStack, shape: MachineShape, folder: Path, on_line: Callable[[str], None]
    ) -> Machine | None:
        if self.refused:
            return None
        try:
            snapshot = self._snapshot(shape, folder)
            return stack.enter_context(snapshots.clone(snapshot, self.parts, shape, run_dir=folder, on_line=on_line))
        except MachineError as error:
            self.refused = error.message
            self._progress.say(f"machines are booted, not cloned: {error.message}")
            return None

    def _snapshot(self, shape: MachineShape, folder: Path) -> Snapshot:
        """The shape's snapshot, taken or verified by the first caller; a kernel that does not boot is tried once."""
        with self._guard:
            origin = self._origins.setdefault(shape, _Origin())
        with origin.guard:
            if origin.failed is not None:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "console.log").write_bytes(origin.console)
                raise origin.failed
            if origin.snapshot is None:
                try:
                    origin.snapshot = snapshots.have(
                        self.parts,
                        shape,
                        self.cache,
                        folder,
                        progress=self._progress,
                        look=self.look,
                        instrument=self.instrument,
                    )
                except BootFailed as failed:
                    origin.failed = failed
                    origin.console = (folder / "console.log").read_bytes()
                    raise
            return origin.snapshot
